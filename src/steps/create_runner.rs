//! The runner at GitLab: created with its tags and limits, since registering cannot set them any more.

use serde_json::{Value, json};

use super::{Done, Pending, Step};
use crate::base::error::{Failure, Id, Result};
use crate::base::files;
use crate::deployment::names;
use crate::deployment::plan::{Act, Decision, Line};
use crate::gitlab::Route;
use crate::gitlab::facts::{self, Purpose, instance};
use crate::gitlab::runner::{self, Found, Ours, Verdict};
use crate::settings::{Need, shell_word};
use crate::steps::context::Context;

/// See the module.
pub struct CreateRunner;

impl Step for CreateRunner {
    fn name(&self) -> &'static str {
        "create-runner"
    }
    fn about(&self) -> &'static str {
        "Create the runner at GitLab, or use one that exists"
    }
    fn long(&self) -> &'static str {
        "Creates a project runner (or a group or instance runner) through GitLab's API: locked, for tagged jobs only. \
         It is found again by the mark at the end of its description, which names the ServiceAccount, so that a second one is never made. \
         GitLab shows its token once: setup puts it into the launch script; by itself this command writes it to \
         --runner-token-out FILE. With --runner-token-file a runner that exists is used, and never changed."
    }
    fn keys(&self) -> &'static [&'static str] {
        &[
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
        ]
    }
    fn gitlab(&self) -> Need {
        Need::Runner
    }

    fn undo_needs_cluster(&self) -> bool {
        false
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let mut lines = decide(cx, runner::verdict(cx).await?);
            if lines.iter().any(|line| line.decision.is_change()) {
                if cx.gitlab.client.is_some() {
                    lines.extend(
                        facts::obstacles(instance(cx).await?, Purpose::Runner).into_iter().map(Line::refuse),
                    );
                }
                lines.extend(token_out(cx, runner::verdict(cx).await?)?);
            }
            Ok(lines)
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let mut texts = Vec::new();
            for line in lines {
                match &line.act {
                    Act::CreateRunner(body) => texts.push(runner::create(cx, body).await?),
                    Act::RegisterRunner(body) => texts.push(runner::register(cx, body).await?),
                    Act::UpdateRunner(id, body) => {
                        let id = id.to_string();
                        let what = format!("change runner {id}");
                        cx.gitlab()?.put(&what, &Route::of(&["runners", &id]), body).await?;
                        texts.push(format!("changed runner {id}"));
                    }
                    Act::MarkRunner(id) => {
                        runner::mark_anew(cx, *id).await?;
                        texts.push(format!("marked runner {id} anew"));
                    }
                    Act::ResetRunner(id) => {
                        runner::reset(cx, *id).await?;
                        texts.push(format!("runner {id} has a new token"));
                    }
                    _ => {}
                }
            }
            if texts.is_empty() {
                let text = lines.first().map(|line| line.text.clone()).unwrap_or_default();
                return Ok(Done { changed: false, text });
            }
            if cx.facts.alone.get() {
                hand_over(cx).await?;
            }
            Ok(Done { changed: true, text: texts.join("; ") })
        })
    }

    fn undo_plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let recorded = cx.record.borrow().gitlab.clone();
            if cx.options.gitlab_gone {
                return Ok(recorded
                    .runner
                    .map(|runner| {
                        Line::keep(format!(
                            "runner {} at {} (--gitlab-gone: not read back)",
                            runner.id, recorded.url
                        ))
                    })
                    .into_iter()
                    .collect());
            }
            Ok(match runner::find(cx).await? {
                Found::None if recorded.is_empty() => Vec::new(),
                Found::None => vec![Line::keep("the runner at GitLab (already gone)")],
                Found::Ours(ours) => {
                    let text = format!("runner {} ({})", ours.runner.id, runner::condition(cx, &ours));
                    vec![Line::new(Decision::Remove, text, Act::DeleteRunner(ours.runner.id))]
                }
                Found::NotLooked(why) => vec![Line::refuse(unreachable(cx, &why))],
            })
        })
    }

    fn settle<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Option<String>> {
        Box::pin(async move {
            for line in lines {
                if let Act::DeleteRunner(id) = line.act {
                    return runner::settle(cx, id).await;
                }
            }
            Ok(None)
        })
    }

    fn undo<'a>(&'a self, cx: &'a Context, lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async move {
            let gitlab = cx.gitlab()?;
            let mut texts = Vec::new();
            for line in lines {
                let Act::DeleteRunner(id) = line.act else { continue };
                runner::delete(gitlab, id).await?;
                cx.record.borrow_mut().gitlab.runner = None;
                cx.record.borrow_mut().gitlab.intent = None;
                cx.save()?;
                texts.push(format!("deleted runner {id}, read back: gone"));
            }
            Ok(Done { changed: !texts.is_empty(), text: texts.join("; ") })
        })
    }
}

fn decide(cx: &Context, verdict: &Verdict) -> Vec<Line> {
    let tags = cx.settings.tags.value.join(",");
    match verdict {
        Verdict::Given => vec![Line::new(
            Decision::NotNeeded,
            "not needed: the runner exists, its token is given; tags as set in GitLab, not checked",
            Act::None,
        )],
        Verdict::NotLooked(why) => vec![Line::not_looked(format!("not looked at: {why}"))],
        Verdict::Legacy(Found::Ours(ours)) => {
            vec![Line::keep(format!("kept: runner {}, {}", ours.runner.id, runner::condition(cx, ours)))]
        }
        Verdict::Legacy(_) if cx.record.borrow().gitlab.runner.is_some() => {
            vec![Line::not_looked("registered earlier; not looked at without a GitLab token")]
        }
        Verdict::Legacy(_) => {
            let body = json!({
                "tag_list": tags, "run_untagged": false, "locked": true,
            });
            let line = Line::new(
                Decision::Create,
                format!("runner registered the article's way: locked, only jobs tagged {tags}"),
                Act::RegisterRunner(body),
            );
            vec![line
                .detail("registration tokens are on their way out (GitLab 20.0), and anybody who has one can add runners")
                .detail("without --gitlab-token-file the runner can be neither looked at nor deleted from here")]
        }
        Verdict::Create(body) => {
            let noun = match body["runner_type"].as_str() {
                Some("group_type") => "group runner",
                Some("instance_type") => "instance runner",
                _ => "project runner",
            };
            let place = cx
                .facts
                .instance
                .get()
                .and_then(|instance| instance.project.as_ref())
                .filter(|_| noun == "project runner")
                .map(|project| format!(" in {}", project.shown()))
                .unwrap_or_default();
            vec![Line::new(
                Decision::Create,
                format!("{noun}{place}: locked, only jobs tagged {tags}"),
                Act::CreateRunner(body.clone()),
            )]
        }
        Verdict::Keep { ours, update, differs, reset } => keep(cx, ours, update, differs, reset.as_deref()),
    }
}

fn keep(cx: &Context, ours: &Ours, update: &Value, differs: &[String], reset: Option<&str>) -> Vec<Line> {
    let id = ours.runner.id;
    let mut lines = Vec::new();
    if !differs.is_empty() {
        // The pipeline's jobs ask for the tags: both change together, and one line says so.
        let both = update["tag_list"].is_array() && cx.is_selected("commit-pipeline");
        let what = if both { format!("runner {id} and the pipeline file") } else { format!("runner {id}") };
        let mut line = Line::new(
            Decision::Update,
            format!("{what}: {}", differs.join("; ")),
            Act::UpdateRunner(id, update.clone()),
        );
        if update["tag_list"].is_array() && !both {
            line = line
                .detail("jobs ask for tags in the pipeline file, which stays as it is (--commit-pipeline)");
        }
        lines.push(line);
    }
    if ours.outdated_mark {
        lines.push(
            Line::new(Decision::Update, format!("runner {id}: its mark"), Act::MarkRunner(id))
                .detail("it is to name the ServiceAccount as it is now, at the end of the description"),
        );
    }
    if let Some(why) = reset {
        let line = Line::new(Decision::Replace, format!("runner {id}: {why}"), Act::ResetRunner(id));
        lines.push(if ours.managers.is_empty() && ours.runner.never_contacted() {
            line
        } else {
            line.detail(format!("stops until the new script has run there: {}", runner::hosts(ours)))
        });
    }
    if lines.is_empty() {
        let line = Line::keep(format!("kept: runner {id}, {}", runner::condition(cx, ours)));
        lines.push(if ours.runner.paused {
            Line { notable: true, ..line }
                .detail("it takes no jobs while it is paused: resume it in GitLab (Settings, CI/CD, Runners)")
        } else {
            line
        });
    }
    lines
}

/// By itself the step has nowhere to put the token but a file that is named.
fn token_out(cx: &Context, verdict: &Verdict) -> Result<Option<Line>> {
    if !cx.facts.alone.get() || !verdict.brings_token() {
        return Ok(None);
    }
    let Some(path) = &cx.settings.runner_token_out else {
        return Ok(Some(Line::refuse(
            Failure::new(
                Id::MissingInput,
                "GitLab shows the runner's token once, and nothing is there to take it",
            )
            .hint(
                "name a file for it with --runner-token-out FILE, or let setup put it into the launch script",
            ),
        )));
    };
    files::check_target(&path.value)?;
    files::check_place(&path.value)?;
    Ok(None)
}

/// Writes the token where it was asked for, and notes the runner on the anchor.
async fn hand_over(cx: &Context) -> Result<()> {
    if let (Some(path), Some(token)) =
        (&cx.settings.runner_token_out, cx.facts.runner_token.borrow().as_ref())
    {
        files::write_private(&path.value, format!("{}\n", token.expose()).as_bytes())?;
        {
            let gitlab = &mut cx.record.borrow_mut().gitlab;
            gitlab.token_lost = false;
            gitlab.handed_over = true;
        }
        cx.save()?;
    }
    note(cx).await
}

/// Notes the runner's id on the anchor, for machines without the record.
async fn note(cx: &Context) -> Result<()> {
    let Some(id) = cx.record.borrow().gitlab.runner.as_ref().map(|runner| runner.id.to_string()) else {
        return Ok(());
    };
    let account = cx.names.account();
    let Some(live) = cx.anchor().await else { return Ok(()) };
    if live.annotation(names::RUNNER) == Some(id.as_str()) {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": live.uid(), "annotations": {names::RUNNER: id}}});
    let live = cx.cluster.merge(&account, &patch).await.map_err(Failure::from)?;
    cx.changed(&account, Some(live));
    Ok(())
}

fn unreachable(cx: &Context, why: &str) -> Failure {
    let gitlab = cx.record.borrow().gitlab.clone();
    let runner =
        gitlab.runner.map_or_else(|| "a runner".to_owned(), |runner| format!("runner {}", runner.id));
    let place = if gitlab.url.is_empty() { String::new() } else { format!(" at {}", gitlab.url) };
    let deployment = shell_word(&cx.names.deployment);
    Failure::new(Id::MissingInput, format!("setup made {runner}{place}, which cannot be looked at"))
        .detail("because", why)
        .hint(format!("outrigger teardown --deployment {deployment} --gitlab-token-file PATH"))
        .hint("if that GitLab no longer exists: --gitlab-gone; to leave the runner for now: --skip create-runner")
}
