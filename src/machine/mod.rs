//! The runner's machine: the launch script, its contents and its delivery.

pub mod cache;
pub mod commands;
pub mod config_entry;
pub mod global_section;
pub mod install;
pub mod launch_script;
pub mod lightsail;
pub mod placement;
pub mod proxy;
pub mod runner_config;
pub mod script_files;
pub mod secrets_file;
pub mod ssh;
pub mod target;
pub mod uninstall;
pub mod view;
pub mod vm;

pub use config_entry::Entry;
pub use global_section::GlobalSection;
pub use install::{Installer, Method};
pub use launch_script::{LaunchScript, ScriptSecrets, is_ours};
pub use proxy::Proxy;
