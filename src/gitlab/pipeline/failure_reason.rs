//! GitLab's `failure_reason` of a job in words, and what to do about it.

use crate::base::error::{Command, Hint};

/// What a failed job needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Another script.
    Script,
    /// A cluster in which the runner can start and end pods.
    Cluster,
    /// A runner that is in contact and takes the job.
    Runner,
    /// Nothing but another run.
    Again,
    /// A change in GitLab or in the pipeline file.
    Gitlab,
}

use Remedy::{Again, Cluster, Gitlab, Runner, Script};

/// The reasons of GitLab 19.5 (`app/models/concerns/enums/ci/commit_status.rb`, with the meanings of
/// `app/presenters/commit_status_presenter.rb`), and two of gitlab-runner that older versions of GitLab store as sent.
const REASONS: &[(&str, &str, Remedy)] = &[
    ("unknown_failure", "GitLab does not know why", Gitlab),
    ("script_failure", "a command of its script failed", Script),
    ("api_failure", "GitLab's API failed", Again),
    ("stuck_or_timeout_failure", "no runner took it in time, or the runner went silent", Runner),
    ("runner_system_failure", "the runner could not run it in the cluster", Cluster),
    (
        "runner_configuration_error",
        "the configuration of the job or of the runner does not allow it",
        Cluster,
    ),
    ("configuration_error", "the configuration of the job or of the runner does not allow it", Cluster),
    (
        "runner_external_dependency_failure",
        "the runner could not reach something that it needs, such as a registry",
        Cluster,
    ),
    ("image_pull_failure", "its image could not be pulled", Cluster),
    ("runner_interrupted", "gitlab-runner was stopped while the job ran", Again),
    ("missing_dependency_failure", "artifacts of an earlier job are missing", Gitlab),
    ("runner_unsupported", "the runner lacks a feature that the job needs", Gitlab),
    ("stale_schedule", "its delayed start was missed", Again),
    ("job_execution_timeout", "it ran longer than its timeout", Script),
    ("job_execution_server_timeout", "it ran longer than its timeout", Script),
    ("server_timeout_running", "it ran longer than its timeout", Script),
    ("server_timeout_canceling", "it was canceled and did not end before its timeout", Again),
    ("stuck_pending_with_matching_runners", "no runner took it in time, although one has its tags", Runner),
    ("stuck_pending_no_matching_runners", "no runner has its tags", Runner),
    ("no_matching_runner", "no runner has its tags", Runner),
    ("no_updates_running", "the runner went silent while the job ran", Runner),
    ("no_updates_canceling", "it was canceled, and the runner went silent", Runner),
    ("archived_failure", "it is archived", Gitlab),
    ("unmet_prerequisites", "what GitLab prepares for it failed", Gitlab),
    ("scheduler_failure", "GitLab could not assign it to a runner", Again),
    ("job_router_failure", "GitLab could not assign it to a runner", Again),
    ("data_integrity_failure", "its data in GitLab is not consistent", Gitlab),
    ("forward_deployment_failure", "a newer deployment job has succeeded", Gitlab),
    ("failed_outdated_deployment_job", "a newer deployment job exists", Gitlab),
    ("deployment_rejected", "its deployment was rejected", Gitlab),
    ("environment_creation_failure", "its environment is not valid", Gitlab),
    ("protected_environment_failure", "you may not deploy to its protected environment", Gitlab),
    ("user_blocked", "the user who started it is blocked", Gitlab),
    ("project_deleted", "its project was deleted", Gitlab),
    ("builds_disabled", "CI/CD is disabled in the project", Gitlab),
    ("ci_quota_exceeded", "no compute minutes are left", Gitlab),
    ("trace_size_exceeded", "its log exceeded GitLab's limit", Script),
    ("job_token_expired", "its CI job token expired", Script),
    ("ip_restriction_failure", "the group does not allow the runner's IP address", Gitlab),
    ("id_token_burned_project_path", "GitLab issues no ID tokens for the project's path", Gitlab),
    ("secrets_provider_not_found", "its secrets provider is not configured", Gitlab),
    ("secrets_manager_access_denied", "the group may not use GitLab Secrets Manager", Gitlab),
    ("duo_workflow_not_allowed", "the runner may not run Duo jobs", Gitlab),
    ("duo_workflow_connection_failure", "the runner could not reach the Duo Agent Platform", Gitlab),
    ("pipeline_loop_detected", "its pipelines would start each other without end", Gitlab),
    ("insufficient_bridge_permissions", "you may not start its downstream pipeline", Gitlab),
    ("downstream_bridge_project_not_found", "its downstream project was not found", Gitlab),
    ("invalid_bridge_trigger", "the trigger of its downstream pipeline is not valid", Gitlab),
    ("upstream_bridge_project_not_found", "its upstream project was not found", Gitlab),
    ("insufficient_upstream_permissions", "you may not read its upstream project", Gitlab),
    ("bridge_pipeline_is_child_pipeline", "a child pipeline may not start a pipeline", Gitlab),
    ("downstream_pipeline_creation_failed", "its downstream pipeline could not be created", Gitlab),
    ("downstream_project_trigger_resolved_to_empty", "its trigger names no project", Gitlab),
    ("reached_max_descendant_pipelines_depth", "its child pipelines are nested too deeply", Gitlab),
    ("reached_max_pipeline_hierarchy_size", "its tree of downstream pipelines is too large", Gitlab),
    ("reached_downstream_pipeline_trigger_rate_limit", "too many downstream pipelines were started", Again),
];

fn find(reason: &str) -> Option<&'static (&'static str, &'static str, Remedy)> {
    REASONS.iter().find(|(name, ..)| *name == reason)
}

/// The reason in words, which continue "job test failed: "; `None` for a reason that is not known here.
pub fn words(reason: &str) -> Option<&'static str> {
    find(reason).map(|(_, words, _)| *words)
}

/// What to do, with commands. `is_shown`: whether the job's log was shown.
pub fn hints(reason: Option<&str>, is_shown: bool) -> Vec<Hint> {
    let again = || Command::outrigger("run-pipeline");
    let status = || Command::outrigger("status");
    let log = if is_shown { "its log above" } else { "its log in GitLab" };
    match reason.and_then(find).map(|(.., remedy)| *remedy) {
        Some(Script) => vec![(format!("correct the job; {log} shows its commands. Then"), again()).into()],
        Some(Cluster) => vec![
            (format!("{log} names the cause; to check the runner's permissions"), status()).into(),
            ("once it is corrected", again()).into(),
        ],
        Some(Runner) => vec![
            ("to see the runner's last contact", status()).into(),
            ("once the runner is in contact", again()).into(),
        ],
        Some(Again) => vec![("nothing needs to be changed first", again()).into()],
        Some(Gitlab) | None => vec![(format!("see {log}; once it is corrected"), again()).into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_listed_once_and_continues_the_sentence() {
        for (at, (name, words, _)) in REASONS.iter().enumerate() {
            assert!(REASONS[..at].iter().all(|(other, ..)| other != name), "{name} twice");
            assert!(!words.ends_with('.') && !words.contains(name), "{words}");
        }
        assert_eq!(words("of_a_later_version"), None);
    }

    #[test]
    fn hints_fit_the_reason_and_the_log() {
        let of = |reason, is_shown| {
            let hints = hints(reason, is_shown);
            hints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
        };
        let again = "outrigger run-pipeline";
        for (reason, is_shown, says, silent) in [
            (Some("script_failure"), true, "its log above", "status"),
            (Some("runner_system_failure"), true, "outrigger status", "in GitLab"),
            (Some("runner_system_failure"), false, "its log in GitLab", "above"),
            (Some("stuck_pending_no_matching_runners"), false, "outrigger status", "log"),
            (Some("scheduler_failure"), false, "nothing needs to be changed", "log"),
            (Some("ci_quota_exceeded"), false, "in GitLab", "status"),
            (Some("of_a_later_version"), true, "its log above", "status"),
            (None, true, "its log above", "status"),
        ] {
            let hints = of(reason, is_shown);
            assert!(hints.contains(says) && !hints.contains(silent), "{reason:?}: {hints}");
            assert!(hints.ends_with(again), "{reason:?}: {hints}");
        }
    }
}
