//! General building blocks without domain knowledge: errors, files, requests, secrets, text. Imports no
//! other room.

pub mod address;
pub mod answer;
pub mod body;
pub mod cancel;
pub mod catalogue;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod files;
pub mod hint;
pub mod job_log;
pub mod message;
pub mod proxy;
pub mod request;
pub mod secret;
pub mod template;
pub mod text;
pub mod wait;
pub mod yaml;
