//! The routes that are served, each with what it wants of a token.
//!
//! Scopes are those of `lib/api/api.rb` and of the routes themselves; permissions of fine-grained tokens and
//! their boundaries are those of `doc/auth/tokens/fine_grained_access_tokens_rest.md` and
//! `route_setting :authorization` (19.x).

use super::state::State;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    RegisterRunner,
    DeleteByToken,
    Verify,
    DeleteManager,
    ResetByToken,
    Discovery,
    RequestJob,
    UpdateJob,
    AppendTrace,
    CreateRunner,
    User,
    Version,
    Metadata,
    Token,
    Associations,
    OwnedRunners,
    AllRunners,
    Runner,
    Managers,
    RunnerJobs,
    UpdateRunner,
    DeleteRunner,
    ResetRunner,
    Group,
    GroupMember,
    GroupRunners,
    Project,
    ProjectMember,
    ProjectRunners,
    File,
    Branches,
    Branch,
    DeleteBranch,
    Commits,
    Commit,
    CreateCommit,
    RevertCommit,
    Pipelines,
    Pipeline,
    PipelineJobs,
    CreatePipeline,
    CancelPipeline,
    Job,
    Trace,
    LintCommitted,
    Lint,
}

/// Of what a permission of a fine-grained token must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boundary {
    /// The token's own user.
    User,
    /// The whole instance.
    Instance,
    /// The project or group of the path.
    Place,
    /// Whatever the runner of the path serves.
    Runner,
}

/// What a route wants of a token: any of these scopes beside `api` (and `read_api` where it reads), or this
/// permission of a fine-grained one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    pub(crate) scopes: &'static [&'static str],
    pub(crate) permission: &'static str,
    pub(crate) boundary: Boundary,
}

/// Any scope will do.
pub(crate) const ANY: &str = "*";

/// A route; parts of its path that begin with a colon stand for anything.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) to: To,
    /// None where the token of a runner or a job counts instead.
    pub(crate) gate: Option<Gate>,
}

const fn open(method: &'static str, path: &'static str, to: To) -> Route {
    Route { method, path, to, gate: None }
}

const fn gated(
    method: &'static str,
    path: &'static str,
    to: To,
    scopes: &'static [&'static str],
    permission: &'static str,
    boundary: Boundary,
) -> Route {
    Route { method, path, to, gate: Some(Gate { scopes, permission, boundary }) }
}

use Boundary::{Instance, Place, User};

const MANAGE: &[&str] = &["manage_runner"];
const USER: &[&str] = &["read_user"];
const REPOSITORY: &[&str] = &["read_repository"];

/// All of them; of two that fit, the first counts.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    open("POST", "/runners", To::RegisterRunner),
    open("DELETE", "/runners", To::DeleteByToken),
    open("POST", "/runners/verify", To::Verify),
    open("DELETE", "/runners/managers", To::DeleteManager),
    open("POST", "/runners/reset_authentication_token", To::ResetByToken),
    open("GET", "/runners/router/discovery", To::Discovery),
    open("POST", "/jobs/request", To::RequestJob),
    open("PUT", "/jobs/:id", To::UpdateJob),
    open("PATCH", "/jobs/:id/trace", To::AppendTrace),
    gated("POST", "/user/runners", To::CreateRunner, &["create_runner"], "create_runner", User),
    gated("GET", "/user", To::User, USER, "read_user", User),
    gated("GET", "/version", To::Version, USER, "read_metadata", Instance),
    gated("GET", "/metadata", To::Metadata, USER, "read_metadata", Instance),
    gated("GET", "/personal_access_tokens/self", To::Token, &[ANY], "read_personal_access_token", User),
    gated("GET", "/personal_access_tokens/self/associations", To::Associations, &[ANY], "read_personal_access_token", User),
    gated("GET", "/runners", To::OwnedRunners, &[], "read_runner", User),
    gated("GET", "/runners/all", To::AllRunners, &[], "read_runner", Instance),
    gated("GET", "/runners/:id", To::Runner, MANAGE, "read_runner", Boundary::Runner),
    gated("GET", "/runners/:id/managers", To::Managers, MANAGE, "read_runner", Boundary::Runner),
    gated("GET", "/runners/:id/jobs", To::RunnerJobs, MANAGE, "read_runner", Boundary::Runner),
    gated("PUT", "/runners/:id", To::UpdateRunner, MANAGE, "update_runner", Boundary::Runner),
    gated("DELETE", "/runners/:id", To::DeleteRunner, MANAGE, "delete_runner", Boundary::Runner),
    gated("POST", "/runners/:id/reset_authentication_token", To::ResetRunner, MANAGE, "update_runner", Boundary::Runner),
    gated("GET", "/groups/:id", To::Group, &[], "read_group", Place),
    gated("GET", "/groups/:id/members/all/:user_id", To::GroupMember, &[], "read_member", Place),
    gated("GET", "/groups/:id/runners", To::GroupRunners, &[], "read_runner", Place),
    gated("GET", "/projects/:id", To::Project, &[], "read_project", Place),
    gated("GET", "/projects/:id/members/all/:user_id", To::ProjectMember, &[], "read_member", Place),
    gated("GET", "/projects/:id/runners", To::ProjectRunners, &[], "read_runner", Place),
    gated("GET", "/projects/:id/repository/files/:file_path", To::File, REPOSITORY, "read_repository_file", Place),
    gated("HEAD", "/projects/:id/repository/files/:file_path", To::File, REPOSITORY, "read_repository_file", Place),
    gated("GET", "/projects/:id/repository/branches", To::Branches, &[], "read_branch", Place),
    gated("GET", "/projects/:id/repository/branches/:branch", To::Branch, &[], "read_branch", Place),
    gated("DELETE", "/projects/:id/repository/branches/:branch", To::DeleteBranch, &[], "delete_branch", Place),
    gated("GET", "/projects/:id/repository/commits", To::Commits, &[], "read_commit", Place),
    gated("GET", "/projects/:id/repository/commits/:sha", To::Commit, &[], "read_commit", Place),
    gated("POST", "/projects/:id/repository/commits", To::CreateCommit, &[], "create_commit", Place),
    gated("POST", "/projects/:id/repository/commits/:sha/revert", To::RevertCommit, &[], "create_commit", Place),
    gated("GET", "/projects/:id/pipelines", To::Pipelines, &[], "read_pipeline", Place),
    gated("GET", "/projects/:id/pipelines/:pipeline_id", To::Pipeline, &[], "read_pipeline", Place),
    gated("GET", "/projects/:id/pipelines/:pipeline_id/jobs", To::PipelineJobs, &[], "read_pipeline_job", Place),
    gated("POST", "/projects/:id/pipeline", To::CreatePipeline, &[], "create_pipeline", Place),
    gated("POST", "/projects/:id/pipelines/:pipeline_id/cancel", To::CancelPipeline, &[], "update_pipeline", Place),
    gated("GET", "/projects/:id/jobs/:job_id", To::Job, &[], "read_job", Place),
    gated("GET", "/projects/:id/jobs/:job_id/trace", To::Trace, &[], "read_job", Place),
    gated("GET", "/projects/:id/ci/lint", To::LintCommitted, &[], "read_ci_config", Place),
    gated("POST", "/projects/:id/ci/lint", To::Lint, &[], "validate_ci_config", Place),
];

fn fits(pattern: &str, parts: &[&str]) -> bool {
    let mut wanted = pattern.trim_start_matches('/').split('/');
    let all =
        parts.iter().all(|part| wanted.next().is_some_and(|want| want.starts_with(':') || want == *part));
    all && wanted.next().is_none()
}

/// The route of a request; what has none for HEAD is answered as GET.
pub(crate) fn find(method: &str, parts: &[&str]) -> Option<&'static Route> {
    let by = |method: &str| ROUTES.iter().find(|route| route.method == method && fits(route.path, parts));
    by(method).or_else(|| by("GET").filter(|_| method == "HEAD"))
}

impl State {
    /// Whether this GitLab has a route: those for a runner's machines are younger than others.
    pub(crate) fn has(&self, route: &Route) -> bool {
        route.to != To::Managers || self.options.managers_route
    }
}
