//! Which runner at GitLab is this deployment's, and what is to become of it. Asked and decided once per
//! run, because several steps build on it.
//!
//! A runner is ours if GitLab's own copy carries the deployment's mark ([`crate::deployment::mark`]) at the end of its
//! description, and is of the type and for the project that the settings name. What record and anchor say
//! are hints for finding it.

mod create;
mod delete;
mod describe;
mod find;

pub use create::{Made, create, register, reset};
pub use delete::{delete, settle};
pub use describe::{ago, condition, hosts};
pub use find::{Stands, by_mark, find, stands};

use serde_json::{Value, json};

use crate::base::error::{Command, Failure, Id, Result};
use crate::deployment::mark::Marked;
use crate::deployment::record::{RunnerNote, TokenPlace};
use crate::gitlab::facts::{Instance, instance};
use crate::gitlab::view::{Hand, View};
use crate::gitlab::{Manager, Route, Runner, Scope};
use crate::settings::{Reissue, Source};

/// A runner of ours and the machines that use it.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    /// As GitLab keeps it.
    pub runner: Runner,
    /// Who used its token; empty where that cannot be seen.
    pub managers: Vec<Manager>,
    /// Its description names a ServiceAccount that is no longer there, or is an earlier outrigger's.
    pub outdated_mark: bool,
}

/// What was found.
#[derive(Clone, Debug)]
pub enum Found {
    /// None that carries our mark.
    None,
    /// Ours.
    Ours(Box<Ours>),
    /// It could not be looked for; the reason.
    NotLooked(String),
}

/// What is to become of it.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It exists and its token was given: nothing of ours.
    Given,
    /// A registration token was given, the article's way.
    Legacy(Found),
    /// It is to be made, with this body.
    Create(Value),
    /// It stays; with what differs from the settings, as the body of an update and as text.
    Keep {
        /// The runner.
        ours: Box<Ours>,
        /// What to set; null if nothing.
        update: Value,
        /// The differences, for the reader.
        differs: Vec<String>,
        /// Its token has to be made anew, and why.
        reset: Option<String>,
    },
    /// It cannot be looked at from here, and nothing has to be done about it.
    NotLooked(String),
}

impl Verdict {
    /// Whether this run will have a token of the runner that no script has yet.
    #[must_use]
    pub fn brings_token(&self) -> bool {
        match self {
            Verdict::Create(_) | Verdict::Legacy(Found::None) => true,
            Verdict::Keep { reset, .. } => reset.is_some(),
            _ => false,
        }
    }
}

/// What people see, with the mark at its end: of the ServiceAccount as it is when this is asked for.
pub fn description(view: &View) -> String {
    let context = crate::base::message::text(&view.notes.record().cluster.context);
    let short: String = context.chars().take(80).collect();
    format!("{} on {short}, {}", view.run.names.deployment, view.notes.marks(&view.run).written())
}

/// Writes the mark of the ServiceAccount as it is now onto the runner with this id, behind what its
/// description says otherwise.
///
/// # Errors
/// GitLab's refusal; OR0703 (exit 7) where somebody changed the mark meanwhile.
pub async fn mark_anew(hand: &Hand, id: u64) -> Result<()> {
    let gitlab = hand.client()?;
    let number = id.to_string();
    let route = Route::of(&["runners", &number]);
    let live = gitlab.get_opt(&format!("look at runner {id}"), &route).await?;
    let Some(runner) = live.as_ref().and_then(Runner::read) else { return Ok(()) };
    let marks = hand.notes.marks(&hand.run);
    match marks.judge(&runner.description) {
        Marked::Current => Ok(()),
        Marked::Earlier => {
            let body = json!({"description": marks.renewed(&runner.description)});
            gitlab.put(&format!("mark runner {id} anew"), &route, &body).await?;
            Ok(())
        }
        Marked::No => Err(find::foreign(&format!("runner {id} no longer carries this deployment's mark"))
            .detail("its description is", runner.description)),
    }
}

/// Sets this on the runner with this id.
///
/// # Errors
/// GitLab's refusal.
pub async fn update(hand: &Hand, id: u64, body: &Value) -> Result<()> {
    let id = id.to_string();
    hand.client()?.put(&format!("change runner {id}"), &Route::of(&["runners", &id]), body).await?;
    Ok(())
}

/// The verdict, once per run.
///
/// # Errors
/// OR0703 (exit 7) for two runners with our mark or one that somebody else made; OR0415 (exit 4) where
/// an unfinished creation cannot be looked into.
pub async fn verdict(view: &View) -> Result<&Verdict> {
    view.runner.get_or_try_init(|| decide(view)).await
}

async fn decide(view: &View) -> Result<Verdict> {
    let settings = &view.run.settings;
    if settings.runner_token_file.is_some() {
        return Ok(Verdict::Given);
    }
    if settings.legacy_registration_token_file.is_some() {
        let found = if view.notes.record().gitlab.owned().is_some() && view.access.client.is_some() {
            find(view).await?
        } else {
            Found::None
        };
        return Ok(Verdict::Legacy(found));
    }
    let asked = settings.reissue.contains(&Reissue::Runner);
    if find::trace(view).given && !asked {
        return Ok(Verdict::Given);
    }
    let written = view.notes.script_digest().is_some();
    let ours = match find(view).await? {
        Found::NotLooked(why) => return Ok(Verdict::NotLooked(why)),
        // A script is out already, and nothing here tells whose runner it is for.
        Found::None if written && view.access.client.is_none() => {
            return Ok(Verdict::NotLooked(view.access.why_not.clone()));
        }
        // Without the API nothing can be made; whoever needs it says so.
        Found::None => return Ok(Verdict::Create(body(view, instance(view).await?)?)),
        Found::Ours(ours) => ours,
    };
    if let Ok(instance) = instance(view).await
        && let Some(scope) = instance.scope.as_ref().filter(|scope| !serves(&ours.runner, scope, true))
    {
        return Err(elsewhere(&ours.runner, scope));
    }
    // What nobody said here is as GitLab has it.
    let said = view.notes.recorded || settings.tags.source != Source::Default;
    let tags = said.then_some(settings.tags.value.as_slice());
    let (update, differs) = differences(&ours.runner, tags);
    let place = match &view.notes.record().gitlab.runner {
        RunnerNote::None => TokenPlace::InScript,
        RunnerNote::Creating(_) => TokenPlace::Lost,
        RunnerNote::Ours(runner) => runner.token,
    };
    let token = match place {
        TokenPlace::Lost => Token::Lost,
        // What is in a file of the user's is delivered as far as that goes, and of no use to a script.
        TokenPlace::InFile if view.run.alone => Token::Delivered,
        TokenPlace::InScript if written => Token::Delivered,
        _ => Token::Unknown,
    };
    let reset = reset_reason(&ours, token, asked)?;
    Ok(Verdict::Keep { ours, update, differs, reset })
}

/// Whether a runner is for whom the settings say; where GitLab does not tell for whom it is, `untold` counts.
fn serves(runner: &Runner, scope: &Scope, untold: bool) -> bool {
    let among = |ids: &Option<Vec<u64>>, id: &u64| ids.as_ref().map_or(untold, |ids| ids.contains(id));
    runner.runner_type == scope.runner_type()
        && match scope {
            Scope::Project(id) => among(&runner.projects, id),
            Scope::Group(id) => among(&runner.groups, id),
            Scope::Instance => true,
        }
}

/// Moving a runner is no change of it: the old one would be left behind, its host with it.
fn elsewhere(runner: &Runner, scope: &Scope) -> Failure {
    let places = runner.projects.iter().chain(&runner.groups).flatten();
    let places: Vec<String> = places.map(|id| format!("#{id}")).collect();
    Failure::new(Id::AnotherScope, format!("runner {} of this deployment is for somebody else", runner.id))
        .detail(
            "it is",
            format!("a {} runner {}", runner.runner_type.trim_end_matches("_type"), places.join(", "))
                .trim_end(),
        )
        .detail("wanted is", format!("a {}", scope.noun()))
        .hint(("take this one away first", Command::outrigger("teardown --only create-runner")))
        .hint("or use another deployment: --deployment NAME")
}

/// The body of `POST /user/runners`, but for the description: its mark names the ServiceAccount, which may be
/// made in the same run.
fn body(view: &View, instance: &Instance) -> Result<Value> {
    let scope = instance.scope.as_ref().ok_or_else(|| {
        Failure::new(Id::MissingInput, "it is not said whom the runner is for")
            .hint("name the project with --project PATH|ID")
    })?;
    let mut body = json!({
        "runner_type": scope.runner_type(),
        "tag_list": view.run.settings.tags.value,
        "run_untagged": false,
        "locked": true,
    });
    match scope {
        Scope::Project(id) => body["project_id"] = json!(id),
        Scope::Group(id) => body["group_id"] = json!(id),
        Scope::Instance => {}
    }
    Ok(body)
}

/// What is to be set on a runner of ours. What allows more than setup would is taken back, tags follow
/// the settings; that it is paused was somebody's will.
fn differences(runner: &Runner, tags: Option<&[String]>) -> (Value, Vec<String>) {
    let mut update = json!({});
    let mut texts = Vec::new();
    if let (Some(have), Some(tags)) = (&runner.tags, tags) {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        if sorted(have) != sorted(tags) {
            update["tag_list"] = json!(tags);
            texts.push(format!("tags {} -> {}", shown(have), shown(tags)));
        }
    }
    if runner.run_untagged == Some(true) {
        update["run_untagged"] = json!(false);
        texts.push("takes jobs without tags -> only tagged ones".to_owned());
    }
    if runner.locked == Some(false) && runner.runner_type == "project_type" {
        update["locked"] = json!(true);
        texts.push("may be enabled in other projects -> locked".to_owned());
    }
    (if texts.is_empty() { Value::Null } else { update }, texts)
}

fn shown(tags: &[String]) -> String {
    if tags.is_empty() { "none".to_owned() } else { tags.join(",") }
}

/// What is known of a runner's token, which GitLab tells once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    /// A script has it.
    Delivered,
    /// The last one made got into no script, and those before it are dead.
    Lost,
    /// Nothing.
    Unknown,
}

/// Why the token is to be made anew. What no script has got is lost.
fn reset_reason(ours: &Ours, token: Token, asked: bool) -> Result<Option<String>> {
    if asked {
        return Ok(Some("a new token (--reissue)".to_owned()));
    }
    match token {
        Token::Delivered => return Ok(None),
        Token::Lost => return Ok(Some("a new token: the last one got into no script".to_owned())),
        Token::Unknown => {}
    }
    if ours.runner.never_contacted() && ours.managers.is_empty() {
        return Ok(Some("a new token: no machine ever used the first".to_owned()));
    }
    Err(Failure::new(
        Id::RunnerTokenUnknown,
        format!("runner {} is in use, and its token is not known here", ours.runner.id),
    )
    .detail("used by", hosts(ours))
    .hint((
        "a new token stops that host until the new script has run there",
        Command::outrigger("setup --reissue runner"),
    ))
    .hint("or hand over the token from its config.toml: --runner-token-file PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(status: &str, contacted: bool, managers: usize) -> Ours {
        let contacted = contacted.then_some(jiff::Timestamp::UNIX_EPOCH);
        let runner = Runner { id: 101, status: status.to_owned(), contacted, ..Runner::default() };
        let manager = Manager { system_id: "s_1".to_owned(), ..Manager::default() };
        Ours { runner, managers: vec![manager; managers], outdated_mark: false }
    }

    #[test]
    fn a_token_is_made_anew_by_itself_only_if_no_machine_ever_used_the_old_one() {
        use Token::{Delivered, Lost, Unknown};
        assert!(reset_reason(&ours("never_contacted", false, 0), Unknown, false).expect("fine").is_some());
        assert!(reset_reason(&ours("online", true, 1), Delivered, false).expect("fine").is_none());
        assert!(reset_reason(&ours("online", true, 1), Delivered, true).expect("asked for").is_some());
        assert!(reset_reason(&ours("offline", true, 1), Lost, false).expect("nobody has it").is_some());
        for used in [ours("online", true, 1), ours("never_contacted", false, 1), ours("offline", true, 0)] {
            let failure = reset_reason(&used, Unknown, false).expect_err("somebody uses it");
            assert_eq!((failure.id, failure.kind.exit_code()), (Id::RunnerTokenUnknown, 7));
            assert!(failure.hints[0].to_string().contains("--reissue runner"));
        }
    }

    #[test]
    fn what_allows_more_is_taken_back_and_a_pause_is_kept() {
        let tags = |list: &[&str]| list.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        let runner = Runner {
            runner_type: "project_type".to_owned(),
            paused: true,
            locked: Some(true),
            run_untagged: Some(false),
            tags: Some(tags(&["b", "a"])),
            ..Runner::default()
        };
        assert_eq!(differences(&runner, Some(&tags(&["a", "b"]))), (Value::Null, Vec::new()));
        let wide = Runner { locked: Some(false), run_untagged: Some(true), ..runner.clone() };
        let (update, texts) = differences(&wide, Some(&tags(&["c"])));
        assert_eq!(update, json!({"tag_list": ["c"], "run_untagged": false, "locked": true}));
        assert_eq!(texts[0], "tags b,a -> c");
        // Nor is what nobody said here.
        assert_eq!(differences(&runner, None), (Value::Null, Vec::new()));
        // What GitLab does not say is no difference.
        let silent = Runner { tags: None, locked: None, run_untagged: None, ..runner };
        assert_eq!(differences(&silent, Some(&tags(&["c"]))).1.len(), 0);
    }

    #[test]
    fn a_runner_serves_the_scope_that_it_was_made_for() {
        let runner = Runner {
            runner_type: "project_type".to_owned(),
            projects: Some(vec![7, 8]),
            ..Runner::default()
        };
        assert!(serves(&runner, &Scope::Project(8), true) && !serves(&runner, &Scope::Project(9), true));
        assert!(!serves(&runner, &Scope::Group(7), true) && !serves(&runner, &Scope::Instance, true));
        // What GitLab does not say is no difference, and no proof.
        let untold = Runner { projects: None, ..runner };
        assert!(serves(&untold, &Scope::Project(9), true) && !serves(&untold, &Scope::Project(9), false));
    }
}
