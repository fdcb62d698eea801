//! What the API server's audit log says of one user.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use outrigger::internal::rights::Right;
use serde_json::Value;

/// The requests of a user in one namespace.
#[derive(Debug, Default)]
pub struct Audit {
    /// What was called, as a Role would grant it.
    pub used: BTreeSet<Right>,
    /// The calls that were refused, as the log has them.
    pub refused: Vec<String>,
}

/// Reads what `user` did since the log had `from` bytes, but for outrigger itself, which tries with the
/// runner's token what must be refused. Reviews of what one may do are no use of a right.
pub fn read(log: &Path, from: u64, user: &str) -> Audit {
    let bytes = fs::read(log).expect("the API server writes an audit log");
    let from = usize::try_from(from).expect("a log fits into memory");
    let mut audit = Audit::default();
    for line in String::from_utf8_lossy(&bytes[from..]).lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let agent = event["userAgent"].as_str().unwrap_or_default();
        if event["user"]["username"] != user || agent.starts_with("outrigger/") {
            continue;
        }
        let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
        if matches!(code, 401 | 403) {
            audit.refused.push(line.to_owned());
        }
        let object = &event["objectRef"];
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        if object.is_null() || text("resource").ends_with("reviews") {
            continue;
        }
        let resource = match text("subresource") {
            "" => text("resource").to_owned(),
            subresource => format!("{}/{subresource}", text("resource")),
        };
        let verb = event["verb"].as_str().unwrap_or_default();
        audit.used.insert(Right::new(text("apiGroup"), &resource, verb));
    }
    audit
}

/// How long the log is now.
pub fn mark(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |metadata| metadata.len())
}
