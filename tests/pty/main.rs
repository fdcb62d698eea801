//! `setup` as somebody at a terminal meets it: asked in a pseudo-terminal, on the doubles.

#[path = "../common/binary.rs"]
mod binary;
mod consent;
mod desk;
mod leaving;
mod refused;
#[path = "../common/ssh_host.rs"]
mod ssh_host;
mod terminals;
mod wizard;
