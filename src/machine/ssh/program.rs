//! The programs that run on the host: what `sh -s` reads on its stdin.
//!
//! Every line of a program that is meant for outrigger carries the nonce of the run, so that nothing else that the
//! host prints is taken for it: a login's greeting, or what an earlier run left.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::context;
use sha2::{Digest as _, Sha256};

use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::base::template::{hex, rendered};

const PARTS: &[(&str, &str)] = &[
    ("follow.sh", include_str!("../../../templates/remote/follow.sh")),
    ("hold.sh", include_str!("../../../templates/remote/hold.sh")),
    ("id.sh", include_str!("../../../templates/remote/id.sh")),
    ("state.sh", include_str!("../../../templates/remote/state.sh")),
    ("entries.awk", include_str!("../../../templates/launch/entries.awk")),
];

/// A deployment on its host, in a run.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Part of the names of files: only letters, digits, `.`, `_` and `-`.
    pub deployment: &'a str,
    /// Hex digits that nobody else knows.
    pub nonce: &'a str,
    /// The one who may use a reservation; empty if this machine has made none.
    pub reserver: &'a str,
}

impl Place<'_> {
    /// What is on tmpfs while a script runs begins with this path.
    fn base(&self) -> String {
        format!("/run/outrigger-{}", self.deployment)
    }

    /// The launch script's own files begin with this path.
    fn state(&self) -> String {
        format!("/var/lib/outrigger/{}", self.deployment)
    }

    fn render(&self, name: &str, text: &str, more: minijinja::Value) -> Result<String> {
        let values = context! {
            nonce => self.nonce, reserver => self.reserver, base => self.base(), state => self.state(), ..more
        };
        rendered(name, text, PARTS, values)
    }

    /// Tells what is on the host. Needs no root rights, and says whether there are any. The deployment's entry has this
    /// GitLab URL (empty: it is not looked for) and this API server.
    pub fn look(&self, url: &str, host: &str) -> Result<String> {
        let values = context! {
            deployment => self.deployment, name => self.deployment, url => url, host => host,
            undo => false, looks => true,
        };
        self.render("look.sh", include_str!("../../../templates/remote/look.sh"), values)
    }

    /// Runs `script` as root, with the file of its secrets as its argument, and follows it. One function, called on the
    /// last line, and only after both were compared with their hashes: a part of the program runs nothing.
    pub fn run(&self, script: &Secret, secrets: Option<&Secret>) -> Result<Secret> {
        let bytes = [script.expose(), secrets.map_or("", Secret::expose)].map(str::as_bytes);
        let [script, secrets] = bytes.map(|bytes| STANDARD.encode(bytes));
        let sums = bytes.map(|bytes| format!("{}  -", hex(&Sha256::digest(bytes)))).concat();
        let values = context! { script => script, secrets => secrets, sums => sums };
        self.render("run.sh", include_str!("../../../templates/remote/run.sh"), values).map(Secret::new)
    }

    /// Reserves the host for this many seconds at most, or until the next delivery: nobody else's script starts there.
    pub fn reserve(&self, seconds: u64) -> Result<String> {
        let values = context! { seconds => seconds };
        self.render("reserve.sh", include_str!("../../../templates/remote/reserve.sh"), values)
    }

    /// Follows a script that runs, from a byte of its output on.
    pub fn resume(&self, from: usize) -> Result<String> {
        let values = context! { from => from.to_string() };
        self.render("resume.sh", include_str!("../../../templates/remote/resume.sh"), values)
    }
}
