//! Who is in a project or group, and what that allows.

use serde_json::json;

use super::answer::{self, Answer, Outcome};
use super::options::Role;
use super::runner_lists::lies_in;
use super::runners::Scope;
use super::state::State;

/// A group whose members are let into another group or a project.
#[derive(Clone, Debug)]
pub(crate) struct Invitation {
    /// The path of the group.
    pub(crate) group: String,
    /// The path of what they are let into.
    pub(crate) into: String,
    /// The most that they may there.
    pub(crate) most: Role,
}

impl State {
    /// The role of a row that is somebody's own: at a path, or in a group above it.
    fn own_role(&self, user: &str, path: &str) -> Option<Role> {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path]);
        above.filter_map(|path| self.roles.get(&(user.to_owned(), path.to_owned())).copied()).max()
    }

    /// What somebody is a member as: by himself, through a group above, or through an invited group.
    pub(crate) fn membership_role(&self, user: &str, path: &str) -> Option<Role> {
        let invited = self.invitations.iter().filter(|one| path == one.into || lies_in(path, &one.into));
        let invited = invited.filter_map(|one| Some(self.own_role(user, &one.group)?.min(one.most)));
        self.own_role(user, path).into_iter().chain(invited).max()
    }

    /// What somebody may at a path; administrators may all.
    pub(crate) fn role(&self, user: &str, path: &str) -> Option<Role> {
        if self.is_admin(user) { Some(Role::Owner) } else { self.membership_role(user, path) }
    }

    /// Whether somebody's own role at a path, or above it, has the ability `admin_runners` added.
    fn has_custom_role(&self, user: &str, path: &str) -> bool {
        self.custom_roles.iter().any(|(whose, at)| whose == user && (at == path || lies_in(path, at)))
    }

    /// Whether somebody sees a group: as a member, or as one of anything in it.
    pub(crate) fn sees_group(&self, user: &str, path: &str) -> bool {
        let inside = |(member, at): &(String, String)| member == user && lies_in(at, path);
        self.role(user, path).is_some() || self.roles.keys().any(inside)
    }

    /// Whether somebody administers the runners of a place: maintainers those of projects, owners those of
    /// groups, administrators all.
    pub(crate) fn may_administer(&self, user: &str, scope: &Scope) -> bool {
        let has = |path: Option<&String>, least: Role| {
            path.is_some_and(|path| self.role(user, path) >= Some(least) || self.has_custom_role(user, path))
        };
        match scope {
            _ if self.is_admin(user) => true,
            Scope::Instance => false,
            Scope::Group(id) => has(self.groups.get(id).map(|group| &group.path), Role::Owner),
            Scope::Projects(ids) => ids
                .iter()
                .any(|id| has(self.projects.get(id).map(|project| &project.spec.path), Role::Maintainer)),
        }
    }

    /// Whether somebody may create a runner there: an administrator can keep that from members.
    pub(crate) fn may_create(&self, user: &str, scope: &Scope) -> bool {
        self.may_administer(user, scope) && (self.options.members_create_runners || self.is_admin(user))
    }
}

/// `GET /projects/:id/members/all/:user_id` and the same of a group: with what is inherited from the groups
/// above and what comes through invited groups.
pub(crate) fn show(state: &State, path: &str, user: &str) -> Outcome {
    let id: u64 = user.parse().map_err(|_| answer::parameters(&["user_id is invalid".to_owned()]))?;
    let (name, user) = state.users.iter().find(|(_, known)| known.id == id).ok_or_else(answer::no_row)?;
    let role = state.membership_role(name, path).ok_or_else(answer::no_row)?;
    let mut shown = json!({
        "id": user.id, "username": name, "public_email": "", "name": name, "state": "active", "locked": false,
        "avatar_url": null, "web_url": format!("{}/{name}", state.url), "access_level": role as u8,
        "created_at": "2025-01-01T00:00:00.000Z", "expires_at": null, "membership_state": "active",
    });
    if state.options.enterprise {
        shown["group_saml_identity"] = serde_json::Value::Null;
        shown["member_role"] = serde_json::Value::Null;
    }
    if state.has_custom_role(name, path) {
        shown["member_role"] = json!({
            "id": 12, "group_id": null, "name": "Runner admin", "description": "", "base_access_level": role as u8,
            "admin_runners": true,
        });
    }
    Ok(Answer::json(200, &shown))
}
