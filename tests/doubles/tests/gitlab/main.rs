//! The GitLab double against what GitLab was seen to do, and what its source says.

mod access;
mod client;
mod jobs;
mod lists;
mod machine;
mod repository;
mod runners;
mod wire;
