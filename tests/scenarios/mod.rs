//! The behaviours that must hold on every bed, each a function of its own.
//!
//! The doubles and the real control plane run the same table.

mod administrator;
mod admission;
mod again;
pub mod bed;
mod believed;
mod bindings;
mod certificates;
mod credentials;
pub mod disk;
mod drift;
mod elsewhere;
mod endpoints;
mod foreign;
mod git_applied;
mod gitlab;
pub mod host;
mod input;
mod interrupted;
mod leaving;
pub mod lifecycle;
mod login;
mod options;
mod output;
mod pasted;
mod preflight;
mod remains;
pub mod rotate;
mod script;
mod targets;
mod trust;
pub mod vm;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::Scenario;
use crate::common::bed::{Bed, Logged, User};
use crate::common::run::{Cli, Home, Output};

/// Every scenario by name; first those that let a timeout of most of a minute run out.
pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("nothing_is_applied_without_consent", input::consent),
    ("mistyped_deployment_is_refused", input::mistyped_deployment),
    ("teardown_knows_a_held_namespace_until_it_is_gone", remains::namespaces),
    ("teardown_knows_held_objects_until_they_are_gone", remains::objects),
    ("teardown_waits_for_held_objects_in_used_namespaces", remains::in_used_namespaces),
    ("teardown_names_what_is_held_inside_a_namespace", remains::content),
    ("teardown_says_that_a_held_temporary_binding_grants_its_rights", remains::temporary_binding),
    ("teardown_takes_away_what_earlier_settings_left", remains::moved),
    ("setup_does_not_take_an_object_for_kept_that_is_being_deleted", remains::leaving_objects),
    ("teardown_heeds_its_timeout_with_a_dead_api_that_holds_nothing", remains::dead_metrics),
    ("teardown_names_a_dead_api", remains::dead_api),
    ("teardown_with_generated_objects", remains::generated),
    ("bed_knows_its_users", bed::users),
    ("bed_refuses_escalation", bed::escalation),
    ("bed_never_creates_by_apply", bed::apply),
    ("bed_comes_to_rest", bed::rest),
    ("bed_has_a_crippled_cluster", bed::crippled),
    ("bed_has_the_built_in_roles", bed::roles),
    ("bed_serves_the_kinds_of_a_real_server", bed::kinds),
    ("bed_keeps_what_finalizers_hold", bed::finalizers),
    ("bed_knows_an_api_that_does_not_answer", bed::dead_api),
    ("whole_way_as_admin", lifecycle::as_admin),
    ("whole_way_as_binder", lifecycle::as_binder),
    ("whole_way_as_binder_with_cluster_admin", lifecycle::as_binder_with_cluster_admin),
    ("whole_way_as_limited_with_an_administrators_help", lifecycle::as_limited),
    ("administrator_applies_the_manifests", administrator::manifests),
    ("administrator_applies_what_is_rendered", administrator::rendered),
    ("git_applied_plan_is_a_document", git_applied::plan_as_a_document),
    ("git_applied_manifests_are_set_up", git_applied::rendered_and_set_up),
    ("administrator_grants_edit", administrator::temporary_edit),
    ("administrator_grants_edit_to_an_odd_name", administrator::odd_user_name),
    ("administrator_and_a_namespace_of_others", administrator::used_namespace),
    ("admission_of_a_policy", admission::policy),
    ("admission_of_a_policy_that_says_forbidden", admission::forbidding_policy),
    ("admission_of_a_webhook", admission::webhook),
    ("admission_of_a_webhook_that_is_down", admission::webhook_down),
    ("admission_of_token_secrets", admission::token_secrets),
    ("admission_of_everything_inside", admission::inside),
    ("admission_by_a_quota", admission::quota),
    ("admission_of_jobs", admission::jobs),
    ("admission_labels_are_kept", admission::labels),
    ("admission_by_project_requests", admission::self_provisioner),
    ("nobody_is_refused", lifecycle::as_nobody),
    ("status_and_teardown_without_the_record", lifecycle::without_the_record),
    ("namespace_with_something_foreign_stays", lifecycle::foreign_inside),
    ("teardown_of_nothing", lifecycle::nothing_to_tear_down),
    ("running_jobs_are_waited_for", lifecycle::running_jobs),
    ("leaving_the_namespaces", leaving::keep_namespaces),
    ("leaving_with_running_jobs_unseen", leaving::running_jobs),
    ("leaving_others_jobs_alone", leaving::others_jobs),
    ("leaving_what_is_foreign", leaving::foreign_in_both),
    ("leaving_what_may_not_be_seen", leaving::hidden),
    ("leaving_a_requested_token", leaving::requested_token),
    ("leaving_an_unreachable_cluster", leaving::unreachable),
    ("second_setup_writes_nothing", again::unchanged),
    ("second_setup_without_the_script", again::script_deleted),
    ("second_setup_from_another_state_folder", again::another_state_folder),
    ("deployments_live_side_by_side", again::side_by_side),
    ("foreign_namespace", foreign::namespace),
    ("foreign_service_account", foreign::service_account),
    ("foreign_role_binding", foreign::role_binding),
    ("foreign_secret", foreign::secret),
    ("foreign_role", foreign::role),
    ("foreign_job_service_account", foreign::job_service_account),
    ("foreign_look_alike", foreign::look_alike),
    ("foreign_object_with_our_labels", foreign::with_our_labels),
    ("trust_squatted_namespaces_give_no_consent", trust::squatted_namespaces),
    ("trust_a_patched_anchor_aims_nothing", trust::patched_anchor),
    ("trust_a_replayed_id_reaches_no_runner", trust::replayed_id),
    ("trust_a_mark_counts_in_the_named_project_alone", trust::mark_in_another_project),
    ("trust_the_mark_or_the_uid_confirms", trust::confirmed_owner),
    ("trust_marks_are_renewed", trust::marks_are_renewed),
    ("trust_a_mark_that_cannot_be_told", trust::unreadable_kube_system),
    ("trust_a_record_that_is_out_of_date", trust::record_out_of_date),
    ("trust_words_on_the_anchor_are_not_printed", trust::words_on_the_anchor),
    ("trust_a_marked_runner_is_not_given", trust::runner_noted_as_given),
    ("trust_a_replayed_id_and_an_old_mark", trust::replayed_id_and_an_old_mark),
    ("trust_a_used_namespace_is_named_again", trust::used_namespace_is_named_again),
    ("trust_consent_comes_by_flag", trust::consent_by_flag),
    ("role_widened_is_mended", drift::widened),
    ("role_narrowed_is_kept", drift::narrowed),
    ("stricter_pod_security_is_kept", drift::stricter_namespace),
    ("pending_changes_and_missing_values_are_both_told", drift::pending_and_unchecked),
    ("role_binding_deleted_is_made_again", drift::binding_deleted),
    ("cluster_switched_is_refused", elsewhere::switched),
    ("cluster_context_of_the_record_comes_first", elsewhere::recorded_context),
    ("cluster_rebuilt_is_refused", elsewhere::rebuilt),
    ("token_controller_without_key", drift::token_never_filled),
    ("shortened_token_lifetime", drift::shortened_lifetime),
    ("rights_that_everybody_has", credentials::everybodys_right),
    ("rights_that_nobody_should_have", credentials::everybodys_critical_right),
    ("rights_given_to_the_runner_by_others", credentials::the_runners_own_further_right),
    ("binding_unknown_until_there_is_a_namespace", bindings::unknown),
    ("binding_that_could_not_be_taken_back", bindings::irrevocable),
    ("binding_kept_on_request", bindings::kept),
    ("binding_for_create_role_alone", bindings::create_role_alone),
    ("preflight_passes", preflight::all_well),
    ("preflight_says_everything_at_once", preflight::everything_at_once),
    ("preflight_names_missing_rights", preflight::rights_are_named),
    ("preflight_of_nothing", preflight::unreachable),
    ("killed_while_bound", interrupted::killed_while_bound),
    ("leftover_binding_is_a_difference", interrupted::leftover),
    ("two_runs_at_once", interrupted::two_at_once),
    ("stopped_by_a_signal", interrupted::interrupt),
    ("stopped_by_a_second_signal", interrupted::twice),
    ("kubeconfig_list_with_a_missing_member", input::missing_member),
    ("exec_plugin_gets_nothing_of_ours", login::plugin_gets_nothing_of_ours),
    ("exec_plugin_cannot_read_its_parent", login::plugin_cannot_read_its_parent),
    ("exec_plugin_that_fails_while_printing_a_secret", login::plugin_that_fails),
    ("exec_plugin_that_hangs", login::plugin_that_hangs),
    ("exec_plugin_with_credentials_that_cannot_be_used", login::plugin_with_odd_credentials),
    ("odd_tokens_in_the_kubeconfig", login::odd_tokens),
    ("server_that_is_not_to_be_verified", login::unverified_server),
    ("user_names_that_are_odd", login::odd_user_names),
    ("output_path_that_is_no_file_of_ours", input::odd_outputs),
    ("record_that_others_could_have_written", believed::record_of_others),
    ("record_that_names_what_is_not_ours", believed::record_of_other_objects),
    ("place_where_others_write", believed::place_of_others),
    ("tokens_that_others_can_read", believed::tokens_that_others_read),
    ("inputs_through_pipes_are_read_once", believed::inputs_through_pipes),
    ("inputs_too_large_to_read", believed::inputs_too_large),
    ("teardown_wants_yes", input::teardown_wants_yes),
    ("dry_run_writes_nothing", output::dry_run),
    ("json_lines", output::json),
    ("json_result_has_what_a_script_needs", output::results),
    ("json_failures_and_usage_errors", output::failures),
    ("reports_are_on_stdout", output::streams),
    ("steps_in_place_are_folded", output::folded),
    ("published_schema_names_every_step", output::schema_names_every_step),
    ("looking_leaves_no_file_behind", output::looking_leaves_nothing),
    ("no_effect_leaves_no_file_behind", output::no_effect_leaves_nothing),
    ("verbose_and_log_file_show_requests_without_secrets", output::requests),
    ("list_is_a_table_names_or_an_array", output::list),
    ("canaries_at_highest_verbosity", output::verbose),
    ("script_is_readable_by_the_owner_only", output::script_mode),
    ("manifests_on_stdout", output::print_manifests),
    ("options_moved_namespace", options::moved_namespace),
    ("options_moved_namespace_and_tag", options::moved_with_another_tag),
    ("options_reissue", options::reissued_token),
    ("options_use_namespace", options::used_namespace),
    ("options_use_both_namespaces", options::used_namespaces),
    ("options_kubernetes_host", options::another_endpoint),
    ("endpoint_that_the_runner_refuses", endpoints::refused_by_the_runner),
    ("endpoint_that_the_runner_accepts", endpoints::as_the_runner),
    ("endpoint_that_only_the_runner_accepts", endpoints::only_the_runner),
    ("endpoint_with_an_odd_bundle", endpoints::odd_bundles),
    ("endpoint_with_a_path", endpoints::path),
    ("endpoint_with_a_public_certificate", endpoints::public),
    ("endpoint_of_the_runners_own", endpoints::another),
    ("endpoint_through_a_proxy", endpoints::proxied),
    ("certificate_of_gitlab_that_the_runner_accepts", certificates::accepted),
    ("certificate_of_gitlab_that_the_runner_refuses", certificates::refuses),
    ("certificate_of_gitlab_that_only_the_runner_accepts", certificates::only_the_runner),
    ("certificate_of_gitlab_with_a_given_runner", certificates::with_a_given_runner),
    ("certificate_bundle_of_many", certificates::bundles),
    ("certificate_bundle_of_many_for_gitlab", certificates::gitlab_bundles),
    ("script_without_secrets_updates_the_host", script::update_form),
    ("script_after_reissue", script::reissues),
    ("script_by_itself", script::by_itself),
    ("script_with_a_token_that_ends", script::token_that_ends),
    ("script_that_is_too_long", script::too_long),
    ("script_digest_on_the_anchor", script::digest),
    ("script_and_installation", script::installation),
    ("script_and_the_whole_runner", script::whole_runner),
    ("script_with_cache_and_proxy", script::cache_and_proxy),
    ("script_with_secrets_of_the_runner_config", script::runner_config_secrets),
    ("script_installer_is_kept", script::installer_is_kept),
    ("script_and_what_is_not_the_users", script::foreign_keys),
    ("targets_in_the_plan", targets::plans),
    ("targets_and_their_commands", targets::printed_commands),
    ("targets_and_the_way_back", targets::uninstall),
    ("targets_and_what_they_cannot_take", targets::impossible),
    ("targets_with_secrets_apart", targets::separate),
    ("targets_and_secrets_left_over", targets::left_over),
    ("targets_moved", targets::moved),
    ("targets_with_a_document", targets::document),
    ("options_cluster_gone", options::cluster_gone),
    ("options_list", options::listed),
    ("gitlab_whole_way", gitlab::whole_way),
    ("gitlab_two_clusters_one_project", gitlab::two_clusters_one_project),
    ("gitlab_token_of_the_runner_that_ends", gitlab::token_that_ends),
    ("gitlab_again_without_a_token", gitlab::again_without_a_token),
    ("gitlab_from_another_machine", gitlab::from_another_machine),
    ("gitlab_tags_move_together", gitlab::tags_move_together),
    ("gitlab_branches", gitlab::branches),
    ("gitlab_step_by_step", gitlab::step_by_step),
    ("pasted_after_setup_with_a_given_runner", pasted::given_runner),
    ("pasted_after_setup_that_creates_the_runner", pasted::created_runner),
    ("pasted_with_impersonated_groups", pasted::impersonated),
    ("pasted_after_failures", pasted::after_failures),
    ("pasted_renewal_of_a_token", pasted::renewal),
    ("pasted_after_teardowns", pasted::teardowns),
    ("pasted_after_teardowns_of_gitlab", pasted::teardowns_of_gitlab),
    ("pasted_pipelines", pasted::pipelines),
    ("pasted_after_refusals_of_the_cluster", pasted::refused_by_the_cluster),
    ("pasted_inspection_with_kubectl", pasted::inspected),
];

/// Scenarios that end before the bed's API server answers anything, or that never ask it: a real one makes no
/// difference, so the doubles alone run them.
#[allow(dead_code, reason = "the other tiers run none of them")]
pub const FRONT_END: &[(&str, Scenario)] = &[
    ("nothing_given", input::nothing_given),
    ("invalid_and_missing", input::invalid_and_missing),
    ("no_kubeconfig", input::no_kubeconfig),
    ("unknown_context", input::unknown_context),
    ("server_without_tls", input::plain_http),
    ("server_that_is_not_there", input::unreachable),
    ("server_that_hangs", input::hangs),
    ("server_that_hangs_up", input::hangs_up),
    ("bad_names", input::bad_names),
    ("settings_that_are_refused", input::refused_settings),
    ("bad_runner_token", input::bad_runner_token),
    ("tokens_in_the_wrong_place", input::tokens_in_the_wrong_place),
    ("record_and_lock_that_are_no_files", input::odd_state),
    ("pipes_without_a_writer_end_on_a_signal", believed::pipes_without_a_writer),
    ("explained_in_any_width", output::explained),
    ("pasted_pages", pasted::pages),
];

/// Scenarios with a stand-in for ssh: the doubles alone run them.
#[allow(dead_code, reason = "the other tiers run none of them")]
pub const HOST: &[(&str, Scenario)] = &[
    ("host_gets_the_script_and_loses_it_again", host::delivered),
    ("host_that_ssh_refuses", host::refused),
    ("host_that_cannot_be_used", host::unusable),
    ("host_whose_connection_is_cut", host::cut),
    ("host_on_which_the_script_fails", host::failed),
    ("host_on_which_a_script_runs", host::running),
    ("host_is_seen_by_gitlab", host::in_gitlab),
    ("host_that_is_gone", host::gone),
    ("host_that_was_installed_again", host::installed_again),
    ("vm_is_made_used_and_deleted", vm::made),
    ("vm_is_waited_for", vm::slow),
    ("vm_with_lost_answers", vm::lost_answers),
    ("vm_killed_at_each_request", vm::killed),
    ("vm_of_others_is_left_alone", vm::foreign),
    ("vm_with_other_host_keys", vm::host_keys),
    ("vm_refused_by_aws", vm::refusals),
    ("vm_gets_new_tokens", vm::rotated),
    ("vm_without_a_login_at_aws", vm::logins),
    ("vm_with_a_port_that_stays_open", vm::ports_left),
    ("vm_by_the_printed_policies", vm::policies),
    ("vm_named_on_another_machine", vm::elsewhere),
    ("vm_that_is_gone_is_made_again", vm::made_again),
    ("vm_that_appears_late_is_found", vm::late),
    ("vm_that_was_replaced_is_left_alone", vm::replaced),
    ("vm_with_a_static_ip", vm::static_ip),
    ("vm_interrupted_is_closed", vm::interrupted),
    ("vm_without_a_way_to_the_cluster", vm::without_network),
    ("rotate_cluster_token_while_a_job_runs", rotate::cluster_token),
    ("rotate_runner_token_of_a_reserved_host", rotate::runner_token_of_a_host),
    ("rotate_runner_token_killed_in_the_gap", rotate::killed_in_the_gap),
    ("rotate_finished_from_another_machine", rotate::finished_elsewhere),
    ("rotate_by_hand_in_two_commands", rotate::by_hand),
    ("rotate_from_another_machine", rotate::another_machine),
    ("rotate_refusals", rotate::refusals),
    ("rotate_all_by_hand_on_a_vm", rotate::all_by_hand),
    ("upgrade_while_no_job_runs", rotate::upgrade),
    ("upgrade_waits_for_a_canceled_job", rotate::upgrade_after_a_canceled_job),
    ("upgrade_that_is_interrupted", rotate::upgrade_interrupted),
    ("rotate_with_a_forged_annotation", rotate::forged_slots),
];

/// Scenarios that need a disk of their own: see [`disk::available`].
pub const DISK: &[(&str, Scenario)] = &[
    ("disk_is_read_only", disk::read_only),
    ("disk_is_full", disk::full),
    ("disk_of_the_script", disk::script),
    ("disk_of_the_receipt", disk::receipt),
    ("output_path_of_somebody_else", disk::somebody_elses),
];

/// The last line of `status` before the launch script has run on a machine.
pub const NO_MACHINE: &str = "The deployment matches the plan; 1 problem";

/// A deployment of one scenario, with a home of its own and a user who operates it.
pub struct Scene<'a> {
    /// The cluster.
    pub bed: &'a dyn Bed,
    /// The machine that outrigger runs on.
    pub home: Home,
    /// The deployment's name, which no other scenario uses.
    pub deployment: String,
    user: User,
    knows_uid: bool,
}

impl<'a> Scene<'a> {
    /// A fresh deployment, a fresh home.
    pub fn new(bed: &'a dyn Bed, user: User) -> Self {
        Self { bed, home: Home::new(), deployment: bed.fresh_deployment(), user, knows_uid: false }
    }

    /// The same deployment, seen by another user from another machine, where the ServiceAccount's uid is known.
    pub fn elsewhere(&self, user: User) -> Scene<'a> {
        Scene { knows_uid: true, ..self.stranger(user) }
    }

    /// The same deployment, seen by another user from another machine, where nothing is known of it. That user comes
    /// after GitLab's replicas show what was made before.
    pub fn stranger(&self, user: User) -> Scene<'a> {
        crate::common::site::settle();
        Scene {
            bed: self.bed,
            home: Home::new(),
            deployment: self.deployment.clone(),
            user,
            knows_uid: false,
        }
    }

    /// The uid of the deployment's ServiceAccount, if there is one.
    pub fn anchor_uid(&self) -> Option<String> {
        let anchor = self.bed.admin().get(&self.path("ServiceAccount"))?;
        anchor["metadata"]["uid"].as_str().map(str::to_owned)
    }

    /// The same deployment, another user on the same machine.
    pub fn switch(&mut self, user: User) {
        self.user = user;
    }

    /// The kubeconfig of the current user.
    pub fn kubeconfig(&self) -> PathBuf {
        let file = format!("{:?}.kubeconfig", self.user);
        self.home.kubeconfig(&file, &self.bed.kubeconfig(self.user))
    }

    /// A command on this deployment.
    pub fn command(&self, subcommand: &str) -> Cli<'_> {
        let command = self
            .home
            .outrigger(subcommand)
            .arg("--non-interactive")
            .flag("--deployment", &self.deployment)
            .flag("--kubeconfig", self.kubeconfig());
        let uid = if self.knows_uid { self.anchor_uid() } else { None };
        match uid {
            Some(uid) => command
                .env("OUTRIGGER_ANCHOR_UID", &uid)
                .env("OUTRIGGER_GITLAB_URL", "https://gitlab.example.com"),
            None => command,
        }
    }

    /// `setup` with all it needs.
    pub fn setup(&self) -> Cli<'_> {
        self.command("setup")
            .flag("--gitlab-url", "https://gitlab.example.com")
            .flag("--runner-token-file", self.home.runner_token())
    }

    /// `status`.
    pub fn status(&self) -> Cli<'_> {
        self.command("status")
    }

    /// `teardown`, consented to.
    pub fn teardown(&self) -> Cli<'_> {
        self.command("teardown").arg("--yes")
    }

    /// Runs `setup`, which must succeed; what it got becomes a canary.
    pub fn set_up(&self) -> Output {
        let output = self.setup().run().code(0);
        self.watch_cluster_token();
        output
    }

    /// From now on the account's token must not show up anywhere.
    pub fn watch_cluster_token(&self) {
        use base64::Engine as _;
        let secret = self.bed.admin().get(&self.path("Secret")).expect("the token Secret exists");
        let token = secret["data"]["token"].as_str().expect("the token Secret is filled");
        let token = base64::engine::general_purpose::STANDARD.decode(token).expect("Secrets are base64");
        self.home.canary(&String::from_utf8(token).expect("a JWT is ASCII"));
    }

    /// The runner's namespace.
    pub fn runner_namespace(&self) -> String {
        self.deployment.clone()
    }

    /// The namespace of the job pods.
    pub fn job_namespace(&self) -> String {
        format!("{}-jobs", self.deployment)
    }

    /// Where one of our objects lives.
    pub fn path(&self, kind: &str) -> String {
        let (name, jobs) = (&self.deployment, self.job_namespace());
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        match kind {
            "ServiceAccount" => format!("/api/v1/namespaces/{name}/serviceaccounts/{name}"),
            "Secret" => format!("/api/v1/namespaces/{name}/secrets/{name}-token"),
            "Role" => format!("{rbac}/namespaces/{jobs}/roles/{name}"),
            "RoleBinding" => format!("{rbac}/namespaces/{jobs}/rolebindings/{name}"),
            "RoleBindings" => format!("{rbac}/namespaces/{jobs}/rolebindings"),
            "runner Namespace" => format!("/api/v1/namespaces/{name}"),
            "job Namespace" => format!("/api/v1/namespaces/{jobs}"),
            other => panic!("no path for {other}"),
        }
    }

    /// The temporary bindings that exist now.
    pub fn temporary_bindings(&self) -> Vec<String> {
        let prefix = format!("{}-admin-", self.deployment);
        let names = |path: &str| -> Vec<String> {
            let list = self.bed.admin().get(path).unwrap_or_default();
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let names = items.iter().filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned));
            names.filter(|name| name.starts_with(&prefix)).collect()
        };
        let mut all = names(&self.path("RoleBindings"));
        all.extend(names("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"));
        all
    }

    /// What outrigger puts on every object: seen by others, so anybody can put it on theirs.
    pub fn our_metadata(&self, id: &str) -> Value {
        json!({
            "labels": {
                "app.kubernetes.io/name": "outrigger",
                "app.kubernetes.io/instance": self.deployment,
                "app.kubernetes.io/managed-by": "outrigger",
                "app.kubernetes.io/part-of": "outrigger",
            },
            "annotations": {"outrigger.dev/deployment": self.deployment, "outrigger.dev/id": id},
        })
    }
}

/// The requests that were meant to change something that lasts.
pub fn writes(bed: &dyn Bed) -> Vec<Logged> {
    bed.requests().into_iter().filter(Logged::writes).collect()
}

/// How many of the writes had this method and a path with this end.
pub fn count(requests: &[Logged], method: &str, path_end: &str) -> usize {
    requests.iter().filter(|r| r.writes() && r.method == method && r.path.ends_with(path_end)).count()
}

/// Requests one a line, for messages.
pub fn listing(requests: &[Logged]) -> String {
    requests.iter().fold(String::new(), |text, request| text + &format!("  {request}\n"))
}
