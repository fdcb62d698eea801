//! The runner's cluster token.

pub mod claims;
pub mod extra_rights;
pub mod proof;
pub mod renewal;
pub mod revocation;
