//! The data of a deployment: names, objects, ownership, record, plan and run.

pub mod mark;
pub mod names;
pub mod notes;
pub mod object;
pub mod ownership;
pub mod plan;
pub mod record;
pub mod run;
