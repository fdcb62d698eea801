//! The permissions that a fine-grained access token needs, by the names in GitLab's user interface; for refusals and
//! `outrigger help gitlab-token`.
//!
//! Source: GitLab's `doc/auth/tokens/fine_grained_access_tokens_rest.md` (19.x).

use std::fmt::Write as _;

/// A permission of a fine-grained token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Resource and action, as GitLab shows them: `Runner: Create`.
    pub name: &'static str,
    /// The level at which it is granted: user, project, group or instance.
    pub boundary: &'static str,
    /// Its use by outrigger.
    pub purpose: &'static str,
    /// Method and path of the calls; a part that begins with a colon is a wildcard.
    calls: &'static [(&'static str, &'static str)],
}

const fn permission(
    name: &'static str,
    boundary: &'static str,
    purpose: &'static str,
    calls: &'static [(&'static str, &'static str)],
) -> Permission {
    Permission { name, boundary, purpose, calls }
}

static RUNNER: &[Permission] = &[
    permission("Runner: Create", "User", "create the runner", &[("POST", "user/runners")]),
    permission(
        "Runner: Read",
        "Project, Group or Instance",
        "find it, see its machines and running jobs",
        &[
            ("GET", "runners/all"),
            ("GET", "runners/:id"),
            ("GET", "runners/:id/managers"),
            ("GET", "runners/:id/jobs"),
            ("GET", "projects/:id/runners"),
            ("GET", "groups/:id/runners"),
        ],
    ),
    permission(
        "Runner: Update",
        "Project, Group or Instance",
        "change its tags, pause it, renew its token",
        &[("PUT", "runners/:id"), ("POST", "runners/:id/reset_authentication_token")],
    ),
    permission(
        "Runner: Delete",
        "Project, Group or Instance",
        "delete it in teardown",
        &[("DELETE", "runners/:id")],
    ),
];

static OPTIONAL: &[Permission] = &[
    permission(
        "Project: Read",
        "Project",
        "find the project by its path (not for a numeric id)",
        &[("GET", "projects/:id")],
    ),
    permission(
        "Group: Read",
        "Group",
        "find the group by its path (not for a numeric id)",
        &[("GET", "groups/:id")],
    ),
    permission("User: Read", "User", "identify your user", &[("GET", "user")]),
    permission(
        "Member: Read",
        "Project or Group",
        "check your role before any change",
        &[("GET", "projects/:id/members/all/:user_id"), ("GET", "groups/:id/members/all/:user_id")],
    ),
    permission(
        "Personal Access Token: Read",
        "User",
        "show when the token expires",
        &[("GET", "personal_access_tokens/self")],
    ),
    permission(
        "Metadata: Read",
        "Instance",
        "compare GitLab's version with the runner's",
        &[("GET", "metadata")],
    ),
    permission(
        "CI Config: Validate",
        "Project",
        "notice maintenance mode before any change",
        &[("POST", "projects/:id/ci/lint")],
    ),
];

static PIPELINE: &[Permission] = &[
    permission(
        "CI Config: Validate",
        "Project",
        "check the pipeline file",
        &[("POST", "projects/:id/ci/lint")],
    ),
    permission(
        "Repository: Read",
        "Project",
        "read the existing pipeline file",
        &[("GET", "projects/:id/repository/files/:file_path")],
    ),
    permission(
        "Branch: Read",
        "Project",
        "see whether the branch exists and is protected",
        &[("GET", "projects/:id/repository/branches/:branch")],
    ),
    permission(
        "Commit: Create",
        "Project",
        "commit the pipeline file, revert the commit",
        &[("POST", "projects/:id/repository/commits")],
    ),
    permission("Pipeline: Create", "Project", "start a pipeline", &[("POST", "projects/:id/pipeline")]),
    permission(
        "Pipeline: Read",
        "Project",
        "follow it and its jobs",
        &[
            ("GET", "projects/:id/pipelines"),
            ("GET", "projects/:id/pipelines/:pipeline_id"),
            ("GET", "projects/:id/pipelines/:pipeline_id/jobs"),
        ],
    ),
    permission(
        "Job: Read",
        "Project",
        "show the job's log",
        &[("GET", "projects/:id/jobs/:job_id"), ("GET", "projects/:id/jobs/:job_id/trace")],
    ),
];

/// All permissions, in the order of the page.
pub fn all() -> impl Iterator<Item = &'static Permission> {
    RUNNER.iter().chain(OPTIONAL).chain(PIPELINE)
}

/// The permission for a call, its path below `/api/v4` as segments.
pub fn of(method: &str, segments: &[&str]) -> Option<&'static Permission> {
    let fits = |path: &str| {
        let mut wanted = path.split('/');
        let all = |part: &&str| wanted.next().is_some_and(|want| want.starts_with(':') || want == *part);
        segments.iter().all(all) && wanted.next().is_none()
    };
    all().find(|one| one.calls.iter().any(|(call, path)| *call == method && fits(path)))
}

/// The page `outrigger help gitlab-token`.
pub fn page() -> String {
    let mut page = String::from(
        "\
GitLab token
  --gitlab-token-file PATH names a file with a personal, project, group or OAuth access token (such as
  glab's login); GITLAB_TOKEN works as well.

Scopes
  api                            everything
  create_runner, manage_runner   only the runner, its project or group given by numeric id
  read_api                       with those two: find the project by its path, and a runner after an
                                 interrupted creation
  GitLab under a relative URL root (https://host/gitlab) does not accept manage_runner: use api there.

Role
  Maintainer for a project runner, Owner for a group runner, administrator for an instance runner; a custom
  role with the permission to manage runners is enough. Commits and pipelines need Developer, or Maintainer
  if the branch is protected. An administrator or group owner can disable runner creation by members.

Fine-grained tokens (GitLab 18.10 and later) have permissions instead of scopes
",
    );
    for (title, rows) in
        [("the runner", RUNNER), ("optional", OPTIONAL), ("--commit-pipeline and --run-pipeline", PIPELINE)]
    {
        let _ = writeln!(page, "\n  {title}");
        for row in rows {
            let _ = writeln!(page, "    {:<28} {:<27} {}", row.name, row.boundary, row.purpose);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::{of, page};

    #[test]
    fn calls_have_the_names_that_gitlab_shows() {
        for (method, path, name) in [
            ("POST", "user/runners", Some("Runner: Create")),
            ("GET", "runners/7", Some("Runner: Read")),
            ("DELETE", "runners/7", Some("Runner: Delete")),
            ("POST", "runners/7/reset_authentication_token", Some("Runner: Update")),
            ("GET", "projects/a", Some("Project: Read")),
            ("GET", "projects/a/pipelines/1/jobs", Some("Pipeline: Read")),
            ("GET", "projects/a/jobs/1/trace", Some("Job: Read")),
            ("POST", "projects/a/ci/lint", Some("CI Config: Validate")),
            ("POST", "runners", None),
            ("GET", "runners/7/managers/more", None),
        ] {
            let segments: Vec<&str> = path.split('/').collect();
            assert_eq!(of(method, &segments).map(|one| one.name), name, "{method} {path}");
        }
        assert!(page().contains("Runner: Create               User  "), "{}", page());
    }
}
