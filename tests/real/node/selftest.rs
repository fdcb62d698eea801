//! x
/// s
pub const SERVE: &str = "OUTRIGGER_TEST_SERVE";
