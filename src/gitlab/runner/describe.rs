//! A runner's state as text.

use super::Ours;
use crate::gitlab::Manager;
use crate::gitlab::view::View;

/// The machines that use a runner's token, as text.
pub fn hosts(ours: &Ours) -> String {
    let managers = &ours.managers;
    if managers.is_empty() {
        let contacted = !ours.runner.never_contacted();
        return if contacted { "a machine that GitLab does not show" } else { "no machine yet" }.to_owned();
    }
    let one = |manager: &Manager| {
        let address = manager.address.as_deref().map(|address| format!(" at {address}")).unwrap_or_default();
        format!("{}{address}", manager.system_id)
    };
    managers.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The time since an event, such as `40 s ago`.
pub fn ago(time: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let seconds = u64::try_from(now.as_second() - time.as_second()).unwrap_or(0);
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// For example "last contact 40 s ago" or "paused, no contact yet".
pub fn condition(view: &View, ours: &Ours) -> String {
    let now = view.now();
    let contact =
        ours.managers.iter().filter_map(|manager| manager.contacted).chain(ours.runner.contacted).max();
    let contact = match contact {
        Some(time) => format!("last contact {}", ago(time, now)),
        None => "no contact yet".to_owned(),
    };
    let version = ours.managers.iter().filter_map(|manager| manager.version.clone()).max();
    let version = version.map(|version| format!(", gitlab-runner {version}")).unwrap_or_default();
    let paused = if ours.runner.paused { "paused, " } else { "" };
    format!("{paused}{contact}{version}")
}
