//! The permissions that a fine-grained access token needs, by the names in GitLab's user interface. Used by
//! refusals and `outrigger help gitlab-token`.
//!
//! Source: GitLab's `doc/auth/tokens/fine_grained_access_tokens_rest.md` (19.x).

use std::fmt::Write as _;

/// A permission of a fine-grained token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Resource and action, as GitLab shows them: `Runner: Create`.
    pub name: &'static str,
    /// Where it is granted: user, project, group or instance.
    pub boundary: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Method and path of the calls; a part that begins with a colon is a wildcard.
    calls: &'static [(&'static str, &'static str)],
}

static RUNNER: &[Permission] = &[
    Permission {
        name: "Runner: Create",
        boundary: "User",
        purpose: "create the runner",
        calls: &[("POST", "user/runners")],
    },
    Permission {
        name: "Runner: Read",
        boundary: "Project, Group or Instance",
        purpose: "find it, see its machines and running jobs",
        calls: &[
            ("GET", "runners/all"),
            ("GET", "runners/:id"),
            ("GET", "runners/:id/managers"),
            ("GET", "runners/:id/jobs"),
            ("GET", "projects/:id/runners"),
            ("GET", "groups/:id/runners"),
        ],
    },
    Permission {
        name: "Runner: Update",
        boundary: "Project, Group or Instance",
        purpose: "change its tags, pause it, renew its token",
        calls: &[("PUT", "runners/:id"), ("POST", "runners/:id/reset_authentication_token")],
    },
    Permission {
        name: "Runner: Delete",
        boundary: "Project, Group or Instance",
        purpose: "delete it in teardown",
        calls: &[("DELETE", "runners/:id")],
    },
];

static OPTIONAL: &[Permission] = &[
    Permission {
        name: "Project: Read",
        boundary: "Project",
        purpose: "find the project by its path (not for a numeric id)",
        calls: &[("GET", "projects/:id")],
    },
    Permission {
        name: "Group: Read",
        boundary: "Group",
        purpose: "find the group by its path (not for a numeric id)",
        calls: &[("GET", "groups/:id")],
    },
    Permission {
        name: "User: Read",
        boundary: "User",
        purpose: "identify your user",
        calls: &[("GET", "user")],
    },
    Permission {
        name: "Member: Read",
        boundary: "Project or Group",
        purpose: "check your role before any change",
        calls: &[("GET", "projects/:id/members/all/:user_id"), ("GET", "groups/:id/members/all/:user_id")],
    },
    Permission {
        name: "Personal Access Token: Read",
        boundary: "User",
        purpose: "show when the token expires",
        calls: &[("GET", "personal_access_tokens/self")],
    },
    Permission {
        name: "Metadata: Read",
        boundary: "Instance",
        purpose: "compare GitLab's version with the runner's",
        calls: &[("GET", "metadata")],
    },
    Permission {
        name: "CI Config: Validate",
        boundary: "Project",
        purpose: "notice maintenance mode before any change",
        calls: &[("POST", "projects/:id/ci/lint")],
    },
];

static PIPELINE: &[Permission] = &[
    Permission {
        name: "CI Config: Validate",
        boundary: "Project",
        purpose: "check the pipeline file",
        calls: &[("POST", "projects/:id/ci/lint")],
    },
    Permission {
        name: "Repository: Read",
        boundary: "Project",
        purpose: "read the existing pipeline file",
        calls: &[("GET", "projects/:id/repository/files/:file_path")],
    },
    Permission {
        name: "Branch: Read",
        boundary: "Project",
        purpose: "see whether the branch exists and is protected",
        calls: &[
            ("GET", "projects/:id/repository/branches"),
            ("GET", "projects/:id/repository/branches/:branch"),
        ],
    },
    Permission {
        name: "Branch: Delete",
        boundary: "Project",
        purpose: "delete the created branch in teardown",
        calls: &[("DELETE", "projects/:id/repository/branches/:branch")],
    },
    Permission {
        name: "Commit: Read",
        boundary: "Project",
        purpose: "see the branch's commits",
        calls: &[("GET", "projects/:id/repository/commits"), ("GET", "projects/:id/repository/commits/:sha")],
    },
    Permission {
        name: "Commit: Create",
        boundary: "Project",
        purpose: "commit the pipeline file, revert the commit",
        calls: &[
            ("POST", "projects/:id/repository/commits"),
            ("POST", "projects/:id/repository/commits/:sha/revert"),
        ],
    },
    Permission {
        name: "Pipeline: Create",
        boundary: "Project",
        purpose: "start a pipeline",
        calls: &[("POST", "projects/:id/pipeline")],
    },
    Permission {
        name: "Pipeline: Read",
        boundary: "Project",
        purpose: "follow it and its jobs",
        calls: &[
            ("GET", "projects/:id/pipelines"),
            ("GET", "projects/:id/pipelines/:pipeline_id"),
            ("GET", "projects/:id/pipelines/:pipeline_id/jobs"),
        ],
    },
    Permission {
        name: "Job: Read",
        boundary: "Project",
        purpose: "show the job's log",
        calls: &[("GET", "projects/:id/jobs/:job_id"), ("GET", "projects/:id/jobs/:job_id/trace")],
    },
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
