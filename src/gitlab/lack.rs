//! What an access token lacks for a call: a scope, or a permission of a fine-grained one.

use reqwest::Url;
use serde_json::Value;

use crate::base::error::{Command, Failure, Hint};
use crate::gitlab::permissions::{self, Permission};

/// What a token lacks, told by a 403.
#[derive(Clone, Debug, Default)]
pub struct Lack {
    /// The scopes that would do, where GitLab names them.
    scopes: String,
    /// Whether it is a permission that a fine-grained token has not, or not there.
    granular: bool,
    /// That permission, where it is known.
    pub permission: Option<&'static Permission>,
    /// The path that GitLab lives under, if the call is refused for that.
    root: String,
}

impl Lack {
    /// Reads the body of a 403; none where it is about something else (`lib/api/api_guard.rb`).
    pub(super) fn read(body: &Value) -> Option<Self> {
        let granular = match body["error"].as_str()? {
            "insufficient_scope" => false,
            "insufficient_granular_scope" => true,
            _ => return None,
        };
        let scopes = body["scope"].as_str().unwrap_or_default().to_owned();
        Some(Self { scopes, granular, ..Self::default() })
    }

    /// Notes what was asked for: which permission that takes, and whether it is refused for the path that
    /// GitLab lives under. The scope `manage_runner` counts for `/api/v4/runners/…` alone, to which such a path
    /// does not belong (`lib/api/ci/runners.rb`).
    pub(super) fn note(&mut self, method: &str, segments: &[&str], base: &Url) {
        let of_runner = segments.len() > 1 && segments[0] == "runners" && segments[1] != "all";
        if self.granular {
            self.permission = permissions::of(method, segments);
        } else if of_runner {
            base.path().trim_end_matches('/').clone_into(&mut self.root);
        }
    }

    /// The name of what would do: a permission, scopes, or nothing that is known.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.permission.map_or_else(|| self.scopes.clone(), |permission| permission.name.to_owned())
    }

    /// What the token has too little of.
    pub(super) fn noun(&self) -> &'static str {
        if self.granular { "permissions" } else { "scopes" }
    }

    /// The scope to use, where GitLab refuses what its own words call sufficient.
    pub(super) fn below_root(&self) -> Option<String> {
        let root = Some(&self.root).filter(|root| !root.is_empty())?;
        Some(format!("GitLab below {root} accepts manage_runner for nothing: use a token with the scope api"))
    }

    /// Adds what would do, and the next thing to do.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let failure = match self.permission {
            Some(permission) => failure.detail(
                "permission that does",
                format!("{} (boundary: {})", permission.name, permission.boundary),
            ),
            None if !self.scopes.is_empty() => failure.detail("scopes that do", self.scopes.clone()),
            None => failure,
        };
        let usual = if self.granular {
            Hint::new(
                "use a token with that permission; all that outrigger needs",
                Command::outrigger("help gitlab-token"),
            )
        } else {
            "use a token with the scope api; create_runner and manage_runner are enough to make a runner in a project given by its numeric id".into()
        };
        failure.hint(self.below_root().map_or(usual, Hint::from))
    }
}
