//! Output to the user: events as text and as JSON lines, and the explain pages.

pub mod explain;
mod human;
mod json;
mod shown;
pub mod ui;

pub use human::Human;
pub(crate) use human::ascii;
pub use json::render as json_line;
pub(crate) use json::{data as json_data, document as json_document, page as json_page, plan_fields};

#[cfg(test)]
mod tests;
