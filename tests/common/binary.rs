//! The program under test.

use std::sync::LazyLock;

/// The path of the program that cargo built with the tests, or `OUTRIGGER_TEST_BINARY`: CI names the release build
/// there, so that what people get is what is tested.
pub fn outrigger() -> &'static str {
    static PROGRAM: LazyLock<String> = LazyLock::new(|| {
        std::env::var("OUTRIGGER_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_outrigger").to_owned())
    });
    &PROGRAM
}
