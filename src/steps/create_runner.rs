//! The runner in GitLab, created with its tags and limits.

use serde_json::{Value, json};

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::files;
use crate::deployment::names;
use crate::deployment::notes::Notes;
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::record::{RunnerNote, TokenPlace};
use crate::deployment::run::{Part, Run};
use crate::gitlab::facts::{self, Purpose as For, instance};
use crate::gitlab::runner::{self, Condition, Found, Ours, Verdict};
use crate::gitlab::view::RunnerToken;
use crate::settings::{Need, Reissue};
use crate::steps::contract::{Decided, Deciding, Info, Outcome, Purpose, Reads, Step, Writes};

pub struct CreateRunner;

pub enum Seen {
    Setup {
        verdict: Verdict,
        /// The project's name for the plan.
        project: Option<String>,
        /// Obstacles to a change.
        obstacles: Vec<Failure>,
        /// The state of the deployment's runner.
        condition: Condition,
    },
    /// The runner and its state.
    Teardown(Found, Condition),
    /// `--gitlab-gone`.
    Gone,
}

/// Requests to GitLab, with the runner's id and the body.
#[derive(Clone)]
pub enum Act {
    Create(Value),
    /// With the registration token.
    Register(Value),
    Update(u64, Value),
    /// Update the mark in the description.
    Mark(u64),
    /// Reset the token.
    Reset(u64),
}

/// Deletes the runner with this id.
#[derive(Clone)]
pub struct Delete {
    id: u64,
    /// Somebody or an earlier teardown paused it.
    is_paused: bool,
}

impl Step for CreateRunner {
    const INFO: Info = Info {
        name: "create-runner",
        about: "Create the runner in GitLab, or use an existing one",
        long: "Creates a project runner (or a group or instance runner) through GitLab's API: locked, for tagged jobs only. \
         Later runs find it by the mark at the end of its description, which names the ServiceAccount. \
         GitLab shows its token once: setup puts it into the launch script; this command alone writes it to \
         --runner-token-out FILE. With --runner-token-file an existing runner is used and never changed.",
        keys: &[
            "gitlabUrl",
            "gitlabTokenFile",
            "gitlabCaFile",
            "project",
            "group",
            "instanceRunner",
            "runnerTokenOut",
            "legacyRegistrationTokenFile",
            "tags",
            "reissue",
        ],
        gitlab: Need::Runner,
        gitlab_again: true,
        part: Some(Part::Runner),
        undo_needs_cluster: false,
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = Act;
    type Undo = Delete;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        if why == Purpose::Teardown {
            if r.run.options.gitlab_gone {
                return Ok(Seen::Gone);
            }
            let found = runner::find(r.gitlab).await?;
            let condition = match &found {
                Found::Ours(ours) => runner::condition(r.gitlab, ours),
                Found::None | Found::Skipped(_) => Condition::default(),
            };
            return Ok(Seen::Teardown(found, condition));
        }
        let verdict = runner::verdict(r.gitlab).await?.clone();
        let condition = match &verdict {
            Verdict::Keep { ours, .. } | Verdict::Legacy(Found::Ours(ours)) => {
                runner::condition(r.gitlab, ours)
            }
            _ => Condition::default(),
        };
        let mut obstacles = Vec::new();
        if decide(r.run, r.notes, &verdict, None, &condition).iter().any(|line| line.decision.is_change()) {
            if r.gitlab.is_connected() {
                obstacles = facts::obstacles(instance(r.gitlab).await?, For::Runner);
            }
            obstacles.extend(token_out(r.run, &verdict)?);
        }
        let project = r.gitlab.known().and_then(|instance| instance.project.as_ref());
        let project = project.map(crate::gitlab::Project::shown);
        Ok(Seen::Setup { verdict, project, obstacles, condition })
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<Act> {
        let Seen::Setup { verdict, project, obstacles, condition } = seen else {
            return Decided::lines(Vec::new());
        };
        if d.run.rotates(Reissue::Runner) && !matches!(verdict, Verdict::Keep { .. }) {
            let failure =
                Failure::new(Id::MissingPrerequisite, "this deployment has no runner of its own in GitLab")
                    .detail("because", "only the token of a runner that outrigger created can be rotated");
            return Line::refuse(failure.hint(Command::outrigger("setup"))).into();
        }
        let mut lines = decide(d.run, d.notes, verdict, project.as_deref(), condition);
        let tags = |act: &Act| matches!(act, Act::Update(_, body) if body["tag_list"].is_array());
        let changes_tags = lines.iter().filter_map(|line| line.act.as_ref()).any(tags);
        lines.extend(obstacles.iter().cloned().map(Line::refuse));
        let mut decided = Decided::lines(lines);
        decided.forecast.tags_announced = changes_tags;
        decided
    }

    async fn apply(&self, w: Writes<'_>, act: Act) -> Result<Outcome<Delete>> {
        let text = match act {
            Act::Create(body) => {
                let made = runner::create(w.gitlab, &body).await?;
                pass_on(w, made.token).await?;
                made.text
            }
            Act::Register(body) => {
                let path = w.run.settings.legacy_registration_token_file.as_ref();
                let path = path.map(|path| path.value.clone()).unwrap_or_default();
                let made = runner::register(w.gitlab, &body, &path).await?;
                pass_on(w, made.token).await?;
                made.text
            }
            Act::Update(id, body) => {
                runner::update(w.gitlab, id, &body).await?;
                note(w).await?;
                format!("updated runner {id}")
            }
            Act::Mark(id) => {
                runner::mark_anew(w.gitlab, id).await?;
                note(w).await?;
                format!("updated the mark of runner {id}")
            }
            Act::Reset(id) => {
                // The old token ends with the reset: only when nothing keeps the new one from the host.
                if w.run.includes(Part::Host) {
                    w.machine.reserve().await?;
                }
                let token = runner::reset(w.gitlab, id).await?;
                pass_on(w, token).await?;
                format!("reset the token of runner {id}")
            }
        };
        Ok(text.into())
    }

    fn decide_undo(&self, d: &Deciding<'_>, seen: &Seen) -> Vec<Line<Delete>> {
        let recorded = d.notes.record().gitlab.clone();
        match seen {
            Seen::Setup { .. } => Vec::new(),
            Seen::Gone => {
                let (runner, url) = (recorded.owned(), &recorded.url);
                let text = |id| format!("runner {id} at {url} (--gitlab-gone: not read back)");
                runner.map(|runner| Line::keep(text(runner.id))).into_iter().collect()
            }
            Seen::Teardown(Found::None, _) if recorded.is_empty() => Vec::new(),
            Seen::Teardown(Found::None, _) => vec![Line::keep("the runner in GitLab (already gone)")],
            Seen::Teardown(Found::Ours(ours), condition) => {
                let (id, is_paused) = (ours.runner.id, ours.runner.paused);
                let text = format!("runner {id} ({})", condition.text);
                let line = Line::new(Decision::Remove, text, Delete { id, is_paused });
                vec![line.about(Target::Runner(id))]
            }
            Seen::Teardown(Found::Skipped(why), _) => vec![Line::refuse(unreachable(d.notes, why))],
        }
    }

    async fn settle(&self, w: Writes<'_>, acts: &[Delete]) -> Result<Option<String>> {
        let mut said = None;
        for Delete { id, is_paused } in acts {
            said = runner::settle(w.gitlab, *id, *is_paused).await?;
        }
        Ok(said)
    }

    async fn undo(&self, w: Writes<'_>, acts: Vec<Delete>) -> Result<String> {
        let mut texts = Vec::new();
        for Delete { id, .. } in acts {
            runner::delete(w.gitlab, id).await?;
            w.journal.write(|record| {
                record.gitlab.runner = RunnerNote::None;
            })?;
            texts.push(format!("deleted runner {id}, read back: gone"));
        }
        Ok(texts.join("; "))
    }
}

fn decide(
    run: &Run,
    notes: &Notes,
    verdict: &Verdict,
    project: Option<&str>,
    condition: &Condition,
) -> Vec<Line<Act>> {
    let tags = run.settings.tags.value.join(",");
    match verdict {
        Verdict::Given => vec![Line::not_needed(
            "not needed: the runner exists, its token is given; tags as set in GitLab, not checked",
        )],
        Verdict::Skipped(why) => vec![Line::not_checked(why)],
        Verdict::Legacy(Found::Ours(ours)) => in_place(ours.runner.id, condition),
        Verdict::Legacy(_) if notes.record().gitlab.owned().is_some() => {
            vec![Line::not_checked("the runner was registered earlier, and reading it takes a GitLab token")]
        }
        Verdict::Legacy(_) => {
            let text = format!("runner registered the article's way: locked, only jobs tagged {tags}");
            let body = json!({"tag_list": tags, "run_untagged": false, "locked": true});
            vec![Line::new(Decision::Create, text, Act::Register(body))
                .detail("registration tokens will be removed in GitLab 20.0, and anyone with the token can add runners")
                .detail("without --gitlab-token-file outrigger can neither read nor delete the runner")]
        }
        Verdict::Create(body) => {
            let noun = match body["runner_type"].as_str() {
                Some("group_type") => "group runner",
                Some("instance_type") => "instance runner",
                _ => "project runner",
            };
            let place = project.filter(|_| noun == "project runner");
            let place = place.map(|project| format!(" in {project}")).unwrap_or_default();
            let text = format!("{noun}{place}: locked, only jobs tagged {tags}");
            let line = Line::new(Decision::Create, text, Act::Create(body.clone()));
            let gone = notes.record().gitlab.owned().map(|gone| gone.id);
            vec![gone.into_iter().fold(line, |line, id| {
                line.detail(format!("runner {id}, which setup created, no longer exists in GitLab"))
            })]
        }
        Verdict::Keep { ours, update, differs, reset } => {
            kept(run, ours, update, differs, reset.as_deref(), condition)
        }
    }
}

fn kept(
    run: &Run,
    ours: &Ours,
    update: &Value,
    differs: &[String],
    reset: Option<&str>,
    condition: &Condition,
) -> Vec<Line<Act>> {
    let id = ours.runner.id;
    let mut lines = Vec::new();
    if !differs.is_empty() {
        // The pipeline file requires the tags: one line for both changes.
        let (tags, commits) = (update["tag_list"].is_array(), run.includes(Part::Commit));
        let file = if tags && commits { " and the pipeline file" } else { "" };
        let text = format!("runner {id}{file}: {}", differs.join("; "));
        let line = Line::new(Decision::Update, text, Act::Update(id, update.clone()));
        lines.push(if tags && !commits {
            line.detail("the tags in the pipeline file stay unchanged (--commit-pipeline updates them)")
        } else {
            line
        });
    }
    if ours.outdated_mark {
        let text = format!("runner {id}: the mark in its description");
        lines.push(
            Line::new(Decision::Update, text, Act::Mark(id))
                .detail("the mark must name the current ServiceAccount"),
        );
    }
    if let Some(why) = reset {
        let line = Line::new(Decision::Replace, format!("runner {id}: {why}"), Act::Reset(id));
        lines.push(if ours.managers.is_empty() && ours.runner.never_contacted() {
            line
        } else {
            line.detail(if run.includes(Part::Host) {
                "jobs queue from the reset until the host has the new token, which follows at once".to_owned()
            } else {
                format!("stops until the new script has run there: {}", runner::hosts(ours))
            })
        });
    }
    if lines.is_empty() {
        return in_place(id, condition);
    }
    // A reset stops the machine anyway.
    if reset.is_none() {
        lines.extend(problems(condition));
    }
    lines
}

/// A runner that needs no change, and what keeps it from taking jobs.
fn in_place(id: u64, condition: &Condition) -> Vec<Line<Act>> {
    let kept = Line::keep(format!("kept: runner {id}, {}", condition.text));
    std::iter::once(kept).chain(problems(condition)).collect()
}

fn problems(condition: &Condition) -> impl Iterator<Item = Line<Act>> {
    condition.problems.iter().map(|(text, what)| Line::unhealthy(text.as_str()).detail(*what))
}

/// Checks `--runner-token-out`, which is required for a new token if the step runs alone.
fn token_out(run: &Run, verdict: &Verdict) -> Result<Option<Failure>> {
    if !run.alone || !verdict.brings_token() {
        return Ok(None);
    }
    let Some(path) = &run.settings.runner_token_out else {
        let message = "GitLab shows the runner's token once, and --runner-token-out is not set";
        let hint = "set --runner-token-out FILE, or let setup put the token into the launch script";
        return Ok(Some(Failure::new(Id::MissingInput, message).hint(hint)));
    };
    files::check_target(&path.value)?;
    files::check_place(&path.value)?;
    Ok(None)
}

/// Passes the token to later steps; if the step runs alone, writes it to `--runner-token-out` as well.
async fn pass_on(w: Writes<'_>, token: RunnerToken) -> Result<()> {
    if w.run.alone
        && let Some(path) = &w.run.settings.runner_token_out
    {
        files::write_private(&path.value, format!("{}\n", token.token.expose()).as_bytes())?;
        w.journal.write(|record| record.gitlab.token_is(TokenPlace::InFile))?;
    }
    let _ = w.products.runner_token.set(token);
    note(w).await
}

/// If the step runs alone: annotates the ServiceAccount with the runner's id, for machines without the record.
async fn note(w: Writes<'_>) -> Result<()> {
    if !w.run.alone {
        return Ok(());
    }
    let Some(id) = w.notes.record().gitlab.owned().map(|runner| runner.id.to_string()) else {
        return Ok(());
    };
    if w.notes.noted(names::RUNNER).as_ref() == Some(&id) {
        return Ok(());
    }
    w.cluster.annotate(json!({names::RUNNER: id})).await
}

fn unreachable(notes: &Notes, why: &str) -> Failure {
    let gitlab = notes.record().gitlab.clone();
    let runner =
        gitlab.owned().map_or_else(|| "a runner".to_owned(), |runner| format!("runner {}", runner.id));
    let place = if gitlab.url.is_empty() { String::new() } else { format!(" at {}", gitlab.url) };
    Failure::new(Id::MissingInput, format!("cannot read {runner}{place}, which setup created"))
        .detail("because", why)
        .hint(("with the file of your GitLab access token for PATH", Command::teardown("--gitlab-token-file PATH")))
        .hint("if that GitLab no longer exists: --gitlab-gone; to keep the runner for now: --skip create-runner")
}

#[cfg(test)]
#[path = "create_runner_tests.rs"]
mod tests;
