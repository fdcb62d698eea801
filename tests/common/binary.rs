//! The program under test.

use std::sync::LazyLock;

/// The variable in which CI names the release build, so that what people get is what is tested.
pub const PROGRAM: &str = "OUTRIGGER_TEST_BINARY";

/// The path of that program, or of the one that cargo built with the tests.
pub fn outrigger() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        std::env::var(PROGRAM).unwrap_or_else(|_| env!("CARGO_BIN_EXE_outrigger").to_owned())
    });
    &PATH
}
