//! The launch script: rendered, linted, and run under every shell at hand in a directory of its own,
//! with stand-ins for the commands that would change the machine. (A booted machine runs it in the
//! tier `vm`.)
// A test that cannot go on should stop; what was not run is said on stdout.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod config;
mod global;
mod hostile;
mod install;
mod machine;
mod network;
mod proof;
mod sample;
mod uninstall;
mod words;
