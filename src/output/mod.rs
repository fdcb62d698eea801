//! What a user sees: events as text for people and as JSON lines for programs.

pub mod explain;
mod human;
mod json;
mod shown;
pub mod ui;

pub use human::Human;
pub(crate) use json::data as json_data;
pub use json::render as json_line;

#[cfg(test)]
mod tests;
