//! The cluster double against what real API servers were seen to do.

mod answers;
mod client;
mod options;
