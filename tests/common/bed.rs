//! The bed: a cluster that scenarios run on, real or not.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use outrigger_doubles::cluster::Rule;

use super::admin::Admin;

/// Who runs outrigger. The rights are those of the manifests of `outrigger_doubles::cluster::seed_rbac`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// In `system:masters`: nothing is refused.
    Admin,
    /// May make everything, may not grant the Role, may bind `edit` to himself.
    Binder,
    /// Like the binder, but may bind nothing.
    Limited,
    /// Authenticated, and no more.
    Nobody,
    /// The same, with a name that means something to a shell.
    Odd,
    /// The same, with a name that steers a terminal.
    Hostile,
}

impl User {
    /// The name that the server knows him by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            User::Admin => "kubernetes-admin",
            User::Binder => "binder@example.com",
            User::Limited => "limited@example.com",
            User::Nobody => "nobody@example.com",
            User::Odd => "o'brien \"dev\" $(reboot) `id` \\ ; {é} @example.com",
            User::Hostile => "eve\u{1b}[31m\u{202e}@example.com",
        }
    }
}

/// One request as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query without the question mark, empty if there is none.
    pub query: String,
    /// Who it was authenticated as, empty if nobody.
    pub user: String,
    /// Answer.
    pub status: u16,
}

impl Logged {
    /// Whether the request was meant to change something that lasts: reviews and dry runs are not.
    #[must_use]
    pub fn writes(&self) -> bool {
        let changing = matches!(self.method.as_str(), "POST" | "PUT" | "PATCH" | "DELETE");
        changing && !self.path.ends_with("reviews") && !self.query.contains("dryRun=")
    }
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.query.is_empty() { "" } else { "?" };
        write!(f, "{} {}{mark}{} {} by {}", self.method, self.path, self.query, self.status, self.user)
    }
}

/// A cluster on which scenarios run one after the other.
pub trait Bed: Sync {
    /// The tier's name, as the test list shows it.
    fn name(&self) -> &'static str;
    /// Where the API server listens.
    fn url(&self) -> String;
    /// The CA that signed its certificate.
    fn ca_pem(&self) -> String;
    /// A kubeconfig (YAML) with one context, for one user.
    fn kubeconfig(&self, user: User) -> String;
    /// The harness's own hands: what a scenario seeds and changes goes through here.
    fn admin(&self) -> &Admin;
    /// Forgets the requests so far.
    fn mark(&self);
    /// The requests since the mark that outrigger made (in the operator's or the runner's name).
    fn requests(&self) -> Vec<Logged>;
    /// Whether requests may be counted exactly: on a real server polls and retries vary.
    fn counts_exactly(&self) -> bool;
    /// Another cluster (a kubeconfig for [`User::Admin`]), if the bed has one at hand.
    fn elsewhere(&self) -> Option<String>;
    /// A cluster whose token controller has no key and that grants no token longer than a day (a
    /// kubeconfig for [`User::Admin`]), if the bed has one at hand.
    fn without_token_controller(&self) -> Option<String>;
    /// Sets the rules that the cluster's policies and webhooks have about creations, in place of those so
    /// far, and waits until they count. `probe` meets them all: it passes none.
    fn set_rules(&self, rules: &[Rule], probe: &serde_json::Value);
    /// The real kubectl, if the bed has one at hand.
    fn kubectl(&self) -> Option<std::path::PathBuf> {
        None
    }
    /// A name that no other scenario uses, so that scenarios never meet. All are of one length, so that lines break at
    /// the same place in every run.
    fn fresh_deployment(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1001);
        format!("acme-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A kubeconfig with one cluster, one user and one current context.
#[must_use]
pub fn kubeconfig_yaml(cluster: &str, url: &str, ca_pem: &str, user: &str, token: &str) -> String {
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": cluster,
        "clusters": [{"name": cluster, "cluster": {
            "server": url,
            "certificate-authority-data": STANDARD.encode(ca_pem),
        }}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
    });
    serde_yaml::to_string(&value).expect("a kubeconfig is plain data")
}

/// The tokens in a kubeconfig: canaries, as none may ever be shown.
#[must_use]
pub fn tokens_in(kubeconfig: &str) -> Vec<String> {
    let value: serde_json::Value = serde_yaml::from_str(kubeconfig).expect("kubeconfigs of the tests parse");
    let users = value["users"].as_array().cloned().unwrap_or_default();
    users.iter().filter_map(|user| user["user"]["token"].as_str().map(str::to_owned)).collect()
}
