//! Fills gaps in the settings by asking, through the same validators as flags. Has no effect but on the answers.
//!
//! [`gaps`] asks only for required values that are missing; [`first_setup`] asks for all that a first `setup` is about,
//! checks the answers at GitLab while it asks, and ends with a review.

mod ask;
mod line;
mod questions;
mod remote;
mod review;
mod terminal;

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::text::count;
use crate::commands::session::{Known, Outside};
use crate::gitlab::credentials;
use crate::settings::Need;

pub use ask::{Ask, AskError};
use questions::Questions;
pub use terminal::{TerminalAsk, restore_terminal_on_panic};

/// Whether this run is a first setup for which somebody at a terminal has to be asked.
pub fn is_first_setup(outside: &Outside<'_>, (settings, record): &Known, need: Need) -> bool {
    let has_token = credentials::from_env(outside.env).is_some();
    outside.ui.interactive() && record.is_none() && !settings.missing(need, has_token).is_empty()
}

/// Asks for everything that a first setup is about and that is not given. A failure to answer carries the command that
/// goes on with the answers so far.
pub async fn first_setup(outside: &mut Outside<'_>, known: Known, need: Need) -> Result<Known> {
    let mut questions = Questions::new(outside, known, need);
    let asked = questions.all().await;
    match asked {
        Ok(()) => Ok(questions.known),
        Err(failure) => Err(go_on(failure)),
    }
}

/// Adds the command that goes on with the answers so far to a failure to answer; it contains no secret.
pub fn go_on(failure: Failure) -> Failure {
    if failure.id != Id::NotConfirmed {
        return failure;
    }
    failure.hint(("Go on with these answers", Command::so_far()))
}

/// Asks for the required values that are missing.
pub async fn gaps(outside: &mut Outside<'_>, known: Known, need: Need) -> Result<Known> {
    let mut questions = Questions::new(outside, known, need);
    questions.gaps().await?;
    Ok(questions.known)
}

/// Asks whether to apply a plan; No is the default.
pub fn confirm_plan(ask: &mut dyn Ask, changes: usize, warnings: usize) -> Result<bool, AskError> {
    let despite = match warnings {
        0 => String::new(),
        n => format!(", despite {}", count(n, "warning")),
    };
    let prompt = match changes {
        1 => format!("Apply this change{despite}?"),
        n => format!("Apply these {n} changes{despite}?"),
    };
    ask::confirm(ask, &prompt)
}

/// Asks for the deployment's name, as consent to taking it away.
pub fn confirm_name(ask: &mut dyn Ask, deployment: &str) -> Result<bool, AskError> {
    Ok(ask.consent("Type the deployment's name to confirm: ")?.trim() == deployment)
}

/// Asks whether namespaces may go with what generators keep in them.
pub fn confirm_generated(ask: &mut dyn Ask, kept: &[String]) -> Result<bool, AskError> {
    let prompt = "Delete these namespaces together with the objects that controllers recreate in them?";
    let about: Vec<String> = kept.iter().map(|line| format!("  {line}")).collect();
    ask.say(&format!("{prompt}\n{}", about.join("\n")))?;
    ask::confirm(ask, "Delete them?")
}

/// A failure as the reason why a question is asked again.
fn told(failure: &Failure) -> String {
    let mut lines = vec![failure.message.clone()];
    lines.extend(failure.details.iter().map(|(label, text)| format!("  {label}: {text}")));
    lines.extend(
        failure.hints.iter().filter(|hint| hint.command.is_none()).map(|hint| format!("  {}", hint.text)),
    );
    lines.join("\n")
}
