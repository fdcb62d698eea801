//! Whose a token is and where it may create runners, as the wizard shows it.

use crate::base::error::Result;
use crate::gitlab::facts;
use crate::gitlab::{Access, AccessToken, Class, Gitlab, Project, Route};

/// The user of a token, and GitLab's description of the token.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user name, if the token may read it.
    pub name: Option<String>,
    /// `None` if GitLab does not describe the token.
    pub token: Option<AccessToken>,
    /// GitLab's version, if the token may read it.
    pub version: Option<String>,
}

/// Fails with exit 4 for a rejected token, and where GitLab does not respond as GitLab.
pub async fn caller(gitlab: &Gitlab) -> Result<Caller> {
    let route = Route::of(&["user"]);
    let (token, user, version) = tokio::join!(
        facts::own_token(gitlab),
        gitlab.get("read its own user", &route),
        facts::version(gitlab),
    );
    let name = match user {
        Ok(user) => user["username"].as_str().map(str::to_owned),
        Err(refusal) if matches!(refusal.class, Class::Scope | Class::Forbidden | Class::NotFound) => None,
        Err(refusal) => return Err(refusal.into()),
    };
    Ok(Caller { name, token: token?.unwrap_or_default(), version: version.unwrap_or_default() })
}

/// The projects where the token's user has at least the role that creates runners, by path; empty where GitLab does
/// not list them: `GET /personal_access_tokens/self/associations` exists since GitLab 17.4 and for access tokens only.
pub async fn projects(gitlab: &Gitlab) -> Vec<String> {
    let least = Access::MAINTAINER.0.to_string();
    let segments = ["personal_access_tokens", "self", "associations"];
    let route = Route::of(&segments).with("min_access_level", &least);
    let Ok(found) = gitlab.get("list its projects", &route).await else { return Vec::new() };
    let listed = found["projects"].as_array().into_iter().flatten();
    let mut paths: Vec<String> = listed.filter_map(|project| Project::read(project)?.path).collect();
    paths.sort();
    paths
}

impl Caller {
    /// One line: user, scopes, expiry, version.
    pub fn text(&self) -> String {
        let mut parts = vec![match &self.name {
            Some(name) => format!("the token is {name}'s"),
            None => "the token may not read whose it is".to_owned(),
        }];
        match &self.token {
            Some(token) => {
                parts.push(if token.granular {
                    "fine-grained".to_owned()
                } else {
                    format!("scopes {}", token.scopes.join(", "))
                });
                parts.push(match &token.expires {
                    Some(day) => format!("expires {day}"),
                    None => "does not expire".to_owned(),
                });
            }
            None => parts.push("GitLab does not tell its scopes and expiry".to_owned()),
        }
        if let Some(version) = &self.version {
            parts.push(format!("GitLab {version}"));
        }
        parts.join("; ")
    }
}
