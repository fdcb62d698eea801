//! The scope, or permission of a fine-grained token, that a refused call requires.

use reqwest::Url;
use serde_json::Value;

use crate::base::error::{Command, Failure, Hint};
use crate::gitlab::permissions::{self, Permission};

/// The missing scope or permission of a token, from a 403.
#[derive(Clone, Debug, Default)]
pub struct Lack {
    /// The sufficient scopes, if GitLab names them.
    scopes: String,
    /// Whether the token is a fine-grained one.
    granular: bool,
    /// Its missing permission, if known.
    pub permission: Option<&'static Permission>,
    /// GitLab's relative URL root, if it is the reason for the refusal.
    root: String,
}

impl Lack {
    /// Reads the body of a 403; `None` for other reasons (`lib/api/api_guard.rb`).
    pub(super) fn read(body: &Value) -> Option<Self> {
        let granular = match body["error"].as_str()? {
            "insufficient_scope" => false,
            "insufficient_granular_scope" => true,
            _ => return None,
        };
        let scopes = body["scope"].as_str().unwrap_or_default().to_owned();
        Some(Self { scopes, granular, ..Self::default() })
    }

    /// Adds the permission for this call, or the relative URL root: the scope `manage_runner` is valid only for
    /// `/api/v4/runners/…`, without a root in front (`lib/api/ci/runners.rb`).
    pub(super) fn note(&mut self, method: &str, segments: &[&str], base: &Url) {
        let of_runner = segments.len() > 1 && segments[0] == "runners" && segments[1] != "all";
        if self.granular {
            self.permission = permissions::of(method, segments);
        } else if of_runner {
            base.path().trim_end_matches('/').clone_into(&mut self.root);
        }
    }

    /// The missing permission or the sufficient scopes; empty if unknown.
    pub fn remedy(&self) -> String {
        self.permission.map_or_else(|| self.scopes.clone(), |permission| permission.name.to_owned())
    }

    pub(super) fn noun(&self) -> &'static str {
        if self.granular { "permissions" } else { "scopes" }
    }

    /// The advice for a relative URL root, for which GitLab's message names an insufficient scope.
    pub(super) fn below_root(&self) -> Option<String> {
        let root = Some(&self.root).filter(|root| !root.is_empty())?;
        Some(format!(
            "GitLab under {root} does not accept the scope manage_runner: use a token with the scope api"
        ))
    }

    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let failure = match self.permission {
            Some(permission) => failure.detail(
                "required permission",
                format!("{} (boundary: {})", permission.name, permission.boundary),
            ),
            None if !self.scopes.is_empty() => failure.detail("sufficient scopes", self.scopes.clone()),
            None => failure,
        };
        let usual = if self.granular {
            Hint::new(
                "use a token with that permission; to list all permissions that outrigger needs",
                Command::page("help gitlab-token"),
            )
        } else {
            "use a token with the scope api; create_runner and manage_runner are enough for a runner in a project given by its numeric id".into()
        };
        failure.hint(self.below_root().map_or(usual, Hint::from))
    }
}
