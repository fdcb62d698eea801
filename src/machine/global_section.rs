//! The settings of gitlab-runner as a whole: the global section of `config.toml`, and the address of its metrics.
//!
//! They are set on a machine where the script installed gitlab-runner. Where another gitlab-runner is installed, they
//! belong to its owner: the script leaves them as they are and says so.

use std::time::Duration;

use crate::base::template::toml_string;
use crate::settings::{LISTEN_OFF, Settings};

/// `None` leaves the key as it is on the machine; only `concurrent` is always set, by default to the job limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalSection<'a> {
    /// Jobs at once, of all entries.
    pub concurrent: Option<u32>,
    /// Time between two requests for jobs; zero for gitlab-runner's default.
    pub check_interval: Option<Duration>,
    /// `error`, `warning`, …
    pub log_level: Option<&'static str>,
    /// Time for a forceful shutdown; zero for gitlab-runner's default.
    pub shutdown_timeout: Option<Duration>,
    /// Address of the metrics server, `host:port`.
    pub listen_address: Option<&'a str>,
}

impl<'a> GlobalSection<'a> {
    /// The values of the settings.
    pub fn of(settings: &'a Settings) -> Self {
        let listen = settings.listen_address.as_ref().map(|address| address.value.as_str());
        Self {
            concurrent: settings.concurrent.as_ref().map(|number| number.value).filter(|number| *number > 0),
            check_interval: settings.check_interval.as_ref().map(|interval| interval.value),
            log_level: settings.log_level.as_ref().map(|level| level.word()),
            shutdown_timeout: settings.shutdown_timeout.as_ref().map(|timeout| timeout.value),
            listen_address: listen.filter(|address| *address != LISTEN_OFF),
        }
    }

    /// The keys of `config.toml` that are given, with their values in TOML.
    pub fn given(&self) -> Vec<(&'static str, String)> {
        let seconds = |time: Duration| time.as_secs().to_string();
        [
            ("concurrent", self.concurrent.map(|number| number.to_string())),
            ("check_interval", self.check_interval.map(seconds)),
            ("log_level", self.log_level.map(toml_string)),
            ("shutdown_timeout", self.shutdown_timeout.map(seconds)),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
    }

    /// The keys to write: those given, and `concurrent` in any case.
    pub(super) fn written(&self, job_limit: u32) -> Vec<(&'static str, String)> {
        let concurrent = self.concurrent.unwrap_or(job_limit);
        Self { concurrent: Some(concurrent), ..*self }.given()
    }
}

/// Lines of TOML without a newline at the end.
pub(super) fn lines(pairs: &[(&'static str, String)]) -> String {
    let lines: Vec<_> = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    lines.join("\n")
}
