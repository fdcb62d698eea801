//! All answers on one page, with their sources, before the plan.

use std::fmt::Write as _;

use super::ask;
use super::questions::{Question, Questions, unreached};
use crate::base::error::Result;
use crate::base::text::{pad, width};
use crate::gitlab::credentials;
use crate::machine::target;
use crate::settings::{Place, Source, Sourced};

/// A row of the page: its question, label, value and source.
type Row = (Question, &'static str, String, String);

/// Shows the page; returns the question to change, or `None` to go on.
pub async fn ask(questions: &mut Questions<'_, '_>) -> Result<Option<Question>> {
    let rows = rows(questions).await?;
    let label = rows.iter().map(|row| width(row.1)).max().unwrap_or(0);
    let mut text = "Review".to_owned();
    for (number, (_, name, value, source)) in rows.iter().enumerate() {
        let _ = write!(text, "\n  {:>2}) {}  {value}", number + 1, pad(name, label));
        if !source.is_empty() {
            let _ = write!(text, "  ({source})");
        }
    }
    questions.say(&text).await?;
    let most = rows.len();
    let valid = |text: &str| match text.parse::<usize>() {
        _ if text.is_empty() => Ok(None),
        Ok(number) if (1..=most).contains(&number) => Ok(Some(number - 1)),
        _ => Err(format!("type a number from 1 to {most}, or Enter")),
    };
    let prompt = "Number of an answer to change, or Enter to show the plan";
    let answer = questions.outside.asking(|ask| ask::input(ask, prompt, Some(""), valid)).await?;
    Ok(answer.and_then(|at| rows.get(at)).map(|row| row.0))
}

fn add(rows: &mut Vec<Row>, question: Question, label: &'static str, value: String, source: &impl ToString) {
    rows.push((question, label, value, source.to_string()));
}

async fn rows(questions: &Questions<'_, '_>) -> Result<Vec<Row>> {
    let settings = questions.settings();
    let endpoint = questions.endpoint().await?;
    let mut rows: Vec<Row> = Vec::new();
    add(
        &mut rows,
        Question::Deployment,
        "deployment",
        settings.deployment.value.clone(),
        &settings.deployment.source,
    );
    let (_, current) = questions.outside.contexts(settings).await?;
    match &settings.context {
        Some(context) => add(&mut rows, Question::Context, "context", context.value.clone(), &context.source),
        None => add(
            &mut rows,
            Question::Context,
            "context",
            current.unwrap_or_default(),
            &"kubeconfig, current context",
        ),
    }
    let note = unreached(&endpoint).map(|why| format!("; {why}")).unwrap_or_default();
    match &settings.kubernetes_host {
        Some(host) => {
            add(&mut rows, Question::Endpoint, "API server", format!("{}{note}", host.value), &host.source);
        }
        None => {
            add(
                &mut rows,
                Question::Endpoint,
                "API server",
                format!("{}{note}", endpoint.url),
                &"kubeconfig",
            );
        }
    }
    if let Some(Sourced { value, source }) = &settings.gitlab_url {
        add(&mut rows, Question::Url, "GitLab", value.clone(), source);
    }
    let exists = questions.exists == Some(true);
    // Otherwise other settings decide.
    if questions.was_put(Question::Runner) {
        let value = if exists { "an existing one" } else { "a new one" };
        add(&mut rows, Question::Runner, "runner", value.to_owned(), &Source::Asked);
    }
    if let Some(file) = &settings.runner_token_file {
        let shown = if file.value.as_os_str() == "-" {
            "typed, not shown".to_owned()
        } else {
            file.value.display().to_string()
        };
        add(&mut rows, Question::RunnerToken, "runner token", shown, &file.source);
    }
    if let Some(caller) = &questions.caller {
        let source = match (&questions.outside.typed, &settings.gitlab_token_file) {
            (Some(_), _) => "typed".to_owned(),
            (None, Some(file)) => format!("{}, {}", file.value.display(), file.source),
            (None, None) => credentials::from_env(questions.outside.env)
                .map(|(name, _)| name.to_owned())
                .unwrap_or_default(),
        };
        add(&mut rows, Question::Token, "GitLab token", caller.clone(), &source);
    }
    if let Some(project) = &settings.project {
        add(&mut rows, Question::Project, "project", project.value.clone(), &project.source);
    }
    if !exists {
        add(&mut rows, Question::Tags, "tags", settings.tags.value.join(","), &settings.tags.source);
    }
    if settings.create_vm {
        let source = settings.sources.get("createVm").cloned().unwrap_or(Source::Default);
        add(&mut rows, Question::Target, "machine", "a new VM on Amazon Lightsail".to_owned(), &source);
        let (region, source) = match &settings.vm_region {
            Some(region) => (region.value.clone(), region.source.to_string()),
            None => ("the one of AWS's settings".to_owned(), String::new()),
        };
        add(&mut rows, Question::Region, "AWS region", region, &source);
    } else {
        let machine = target::of(settings.target.value).title.to_owned();
        add(&mut rows, Question::Target, "machine", machine, &settings.target.source);
    }
    if settings.target.value == Place::Ssh && questions.runs_scripts()? {
        let (host, source) = match &settings.host {
            Some(host) => (host.value.clone(), host.source.to_string()),
            None => ("none: you run the script".to_owned(), String::new()),
        };
        add(&mut rows, Question::Host, "SSH host", host, &source);
    }
    Ok(rows)
}
