//! What a GitLab can be told to be like, and who and what is in it.

use std::time::Duration;

use crate::wire::Identity;

/// How a GitLab is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether it speaks TLS, with a certificate of its own CA; plain HTTP otherwise.
    pub tls: bool,
    /// The certificates it shows instead, of which [`super::FakeGitlab::ca_pem`] then knows nothing.
    pub identity: Option<Identity>,
    /// The path it lives under, such as `/gitlab`; empty for none.
    pub relative_root: String,
    /// The server's version.
    pub version: String,
    /// Whether it is licensed: only then a runner's token can be given an end at creation.
    pub enterprise: bool,
    /// Whether runners can be registered by registration tokens; 410 if not.
    pub registration_allowed: bool,
    /// The instance's own prefix of tokens (`acme` makes `acme-glrt-…`); empty for none.
    pub token_prefix: String,
    /// Whether runner tokens have the mark of their partition (`t1_`, `t2_`, `t3_`).
    pub partitioned_tokens: bool,
    /// Whether runner tokens end in a routing part (`….01.1a2b3c4d5`).
    pub routable_tokens: bool,
    /// How long what was just made is not found: a read goes to a replica that lags.
    pub replica_lag: Duration,
    /// How many requests a caller has in a minute of the server's clock; no limit if nothing.
    pub throttle: Option<u32>,
    /// What the throttle answers; GitLab's administrators can change the text.
    pub throttle_text: String,
    /// Whether answers tell about the throttle by `RateLimit-*` headers.
    pub rate_limit_headers: bool,
    /// The most that a page holds, whatever is asked for.
    pub per_page_cap: usize,
    /// From so many rows on, totals and the link to the last page are left out.
    pub total_cap: usize,
    /// The server's own idea of its address, in links and locations; where it listens if nothing.
    pub external_url: Option<String>,
    /// Whether a proxy before it decodes `%2F` in paths, so that nothing is found by an encoded path.
    pub proxy_decodes_slashes: bool,
    /// How long the tokens of new runners live by the administrator's will.
    pub runner_token_lifetime: Option<Duration>,
    /// Whether members may create runners: an administrator can keep that to administrators.
    pub members_create_runners: bool,
    /// Whether a runner's machines can be asked for (`GET /runners/:id/managers`), as in newer versions.
    pub managers_route: bool,
    /// Whether the tokens of registered runners begin with `glrtr-`, as in newer versions.
    pub legacy_token_prefix: bool,
    /// How many lints a caller has in a minute of the server's clock; no limit if nothing.
    pub lint_limit: Option<u32>,
    /// What every request waits before it is looked at.
    pub delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: true,
            identity: None,
            relative_root: String::new(),
            version: "19.4.1".to_owned(),
            enterprise: false,
            registration_allowed: false,
            token_prefix: String::new(),
            partitioned_tokens: true,
            routable_tokens: false,
            replica_lag: Duration::ZERO,
            throttle: None,
            throttle_text: "Retry later\n".to_owned(),
            rate_limit_headers: false,
            per_page_cap: 100,
            total_cap: 10_000,
            external_url: None,
            proxy_decodes_slashes: false,
            runner_token_lifetime: None,
            members_create_runners: true,
            managers_route: true,
            legacy_token_prefix: true,
            lint_limit: None,
            delay: Duration::ZERO,
        }
    }
}

/// What a member of a project or group may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees little.
    Guest = 10,
    /// Sees all.
    Reporter = 20,
    /// Pushes to branches that are not protected.
    Developer = 30,
    /// Also administers runners of projects, and pushes to protected branches.
    Maintainer = 40,
    /// Also administers runners of groups.
    Owner = 50,
}

/// What a token is, which decides where it is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenKind {
    /// A personal access token.
    #[default]
    Pat,
    /// A project access token; its user is a bot.
    Project,
    /// A group access token; its user is a bot.
    Group,
    /// An OAuth access token: only as bearer.
    Oauth,
    /// A CI job token: refused by everything that is served here.
    Job,
    /// A deploy token: refused by the REST API.
    Deploy,
    /// A fine-grained personal access token: its scopes are permissions (`create_runner`, `read_runner`,
    /// `update_runner`, `delete_runner`, `read_project`, …), as the table of routes names them.
    FineGrained,
}

/// A token to be made.
#[derive(Clone, Debug, Default)]
pub struct TokenSpec {
    /// Its name, by which tests ask for it.
    pub name: String,
    /// The paths of groups and projects that a fine-grained one is limited to; no limit if empty. Permissions
    /// of the user himself and of the instance are not limited by it.
    pub within: Vec<String>,
    /// Whose it is; somebody new if not known.
    pub user: String,
    /// Its scopes, or the permissions of a fine-grained one.
    pub scopes: Vec<String>,
    /// The day (`2027-01-31`) on which it no longer works.
    pub expires_at: Option<String>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// What it is.
    pub kind: TokenKind,
    /// Whether it works only with proof of possession, which no plain client can give.
    pub dpop: bool,
    /// Whether the caller's address is blocked.
    pub ip_blocked: bool,
}

impl TokenSpec {
    /// A personal access token.
    #[must_use]
    pub fn pat(name: &str, user: &str, scopes: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            user: user.to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            ..Self::default()
        }
    }
}

/// A project to be made.
#[derive(Clone, Debug)]
pub struct ProjectSpec {
    /// Its full path; the groups in it are made.
    pub path: String,
    /// The branch that stands for all; nothing makes an empty repository.
    pub default_branch: Option<String>,
    /// Whether it is archived: nothing can be written.
    pub archived: bool,
    /// The protected branches: pushed to by maintainers only. `*` may end a name.
    pub protected_branches: Vec<String>,
    /// Where its pipelines are described, if not in `.gitlab-ci.yml`.
    pub ci_config_path: Option<String>,
    /// The path it had before.
    pub moved_from: Option<String>,
    /// Whether it has a container registry.
    pub registry_enabled: bool,
    /// Whether everybody sees it.
    pub public: bool,
    /// Whether it has pipelines at all.
    pub builds_enabled: bool,
    /// Whether the instance's runners are at its service.
    pub shared_runners: bool,
    /// The files on its default branch.
    pub files: Vec<(String, String)>,
    /// What commit messages must begin with: a push rule.
    pub commit_message_prefix: Option<String>,
}

impl ProjectSpec {
    /// A private project with a protected branch `main` and a readme in it.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            default_branch: Some("main".to_owned()),
            archived: false,
            protected_branches: vec!["main".to_owned()],
            ci_config_path: None,
            moved_from: None,
            registry_enabled: true,
            public: false,
            builds_enabled: true,
            shared_runners: true,
            files: vec![("README.md".to_owned(), "# Read me\n".to_owned())],
            commit_message_prefix: None,
        }
    }

    /// A project whose repository has no commit yet.
    #[must_use]
    pub fn empty(path: &str) -> Self {
        Self { default_branch: None, files: Vec::new(), ..Self::new(path) }
    }
}
