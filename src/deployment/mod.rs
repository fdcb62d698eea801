//! What a deployment is, and what is remembered of it.

pub mod mark;
pub mod names;
pub mod notes;
pub mod object;
pub mod ownership;
pub mod plan;
pub mod record;
pub mod run;
