//! In-process stand-ins for the servers that outrigger talks to: strict where the real ones are, and
//! with a log of every request.

pub mod cluster;
pub mod gitlab;
pub mod http;
pub mod lightsail;
pub mod webhook;
pub mod wire;
