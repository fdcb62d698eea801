//! Somebody who answers, and the forms of questions: a checked line, yes or no, one of several.

use std::fmt::Write as _;

use dialoguer::theme::{SimpleTheme, Theme as _};

use crate::base::error::{Failure, Id, Kind};
use crate::base::message;
use crate::base::secret::Secret;

/// Rows of a list that are shown at once; the others are found by a part of their name.
const MOST_ROWS: usize = 12;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Ctrl-C, or a signal.
    #[error("interrupted at a question")]
    Interrupted,
    /// Ctrl-D, or the terminal is gone.
    #[error("the input ended at a question")]
    Ended,
    /// There is no terminal to ask on.
    #[error("there is no terminal to ask on")]
    NotATerminal,
    /// The terminal failed.
    #[error("cannot use the terminal: {0}")]
    Broken(String),
}

impl From<std::io::Error> for AskError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::Interrupted => AskError::Interrupted,
            std::io::ErrorKind::UnexpectedEof => AskError::Ended,
            std::io::ErrorKind::NotConnected => AskError::NotATerminal,
            _ => AskError::Broken(error.to_string()),
        }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            // The user's decision, which is no error.
            AskError::Interrupted => {
                Failure::new(Id::NotConfirmed, error.to_string()).with_kind(Kind::Interrupted)
            }
            AskError::Ended => Failure::new(Id::NotConfirmed, error.to_string()),
            AskError::NotATerminal => Failure::new(Id::MissingInput, error.to_string())
                .hint("give --non-interactive and the values as flags"),
            AskError::Broken(_) => Failure::new(Id::Internal, error.to_string()),
        }
    }
}

/// Somebody who answers. Prompts are plain text of outrigger and may contain outside text that was cleaned.
pub trait Ask {
    /// Shows lines above the next question.
    fn say(&mut self, text: &str) -> Result<(), AskError>;
    /// One line of text; empty for Enter alone.
    fn line(&mut self, prompt: &str) -> Result<String, AskError>;
    /// One line that is not shown.
    fn secret(&mut self, prompt: &str) -> Result<Secret, AskError>;
    /// As [`Self::line`], for a question that agrees to something: what was pasted does not count.
    fn consent(&mut self, prompt: &str) -> Result<String, AskError> {
        self.line(prompt)
    }
}

/// Asks until the check accepts; its error is shown. Enter alone takes the default, if there is one. The answer is
/// trimmed.
pub fn input<T>(
    ask: &mut dyn Ask,
    prompt: &str,
    default: Option<&str>,
    check: impl Fn(&str) -> Result<T, String>,
) -> Result<T, AskError> {
    let mut question = String::new();
    let shown = default.map(message::text).filter(|text| !text.is_empty());
    let _ = SimpleTheme.format_input_prompt(&mut question, prompt, shown.as_deref());
    loop {
        let answer = ask.line(&question)?;
        let answer = match answer.trim() {
            "" => default.unwrap_or_default(),
            text => text,
        };
        let checked = if answer.is_empty() && default.is_none() {
            Err("an answer is required".to_owned())
        } else {
            check(answer)
        };
        match checked {
            Ok(value) => return Ok(value),
            Err(why) => refuse(ask, &why)?,
        }
    }
}

/// Says what is wrong with an answer.
pub fn refuse(ask: &mut dyn Ask, why: &str) -> Result<(), AskError> {
    let mut line = String::new();
    let _ = SimpleTheme.format_error(&mut line, why);
    ask.say(&line)
}

/// Yes or no; Enter alone is no.
pub fn confirm(ask: &mut dyn Ask, prompt: &str) -> Result<bool, AskError> {
    let mut question = String::new();
    let _ = SimpleTheme.format_confirm_prompt(&mut question, prompt, Some(false));
    loop {
        match ask.consent(&question)?.trim().to_lowercase().as_str() {
            "y" | "yes" => return Ok(true),
            "" | "n" | "no" => return Ok(false),
            _ => refuse(ask, "answer y or n")?,
        }
    }
}

/// A check of an answer, with the value in its canonical form or why it is refused.
pub type Check<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// A row of a list: its name, which can be typed, and a note.
pub type Row = (String, String);

/// One of several, by its number, its name or a part of its name that only it has. Enter alone takes `default`. With
/// `other`, a text that no name contains is an answer of its own if the check accepts it.
pub fn choose(
    ask: &mut dyn Ask,
    title: &str,
    rows: &[Row],
    default: Option<usize>,
    other: Option<Check>,
) -> Result<String, AskError> {
    let all: Vec<usize> = (0..rows.len()).collect();
    let mut shown = all.clone();
    let mut draw = true;
    let prompt = if other.is_some() { "Number, or another one" } else { "Number" };
    loop {
        if draw {
            ask.say(&list(title, rows, &shown, default))?;
        }
        draw = false;
        let default_number =
            default.and_then(|row| shown.iter().position(|at| *at == row)).map(|at| (at + 1).to_string());
        let mut question = String::new();
        let _ = SimpleTheme.format_input_prompt(&mut question, prompt, default_number.as_deref());
        let answer = ask.line(&question)?;
        let answer = match (answer.trim(), &default_number) {
            ("", Some(number)) => number.as_str(),
            (text, _) => text,
        };
        if answer.is_empty() {
            refuse(ask, "type a number or a name of the list")?;
            continue;
        }
        let number = answer.parse::<usize>().ok();
        if let Some(row) = number.and_then(|number| shown.get(number.checked_sub(1)?)) {
            return Ok(rows[*row].0.clone());
        }
        if let Some((name, _)) = rows.iter().find(|(name, _)| name == answer) {
            return Ok(name.clone());
        }
        let wanted = answer.to_lowercase();
        let found: Vec<usize> =
            all.iter().copied().filter(|at| rows[*at].0.to_lowercase().contains(&wanted)).collect();
        match (found.as_slice(), other) {
            ([], Some(check)) => match check(answer) {
                Ok(value) => return Ok(value),
                Err(why) => refuse(ask, &format!("{} {why}", message::quoted(answer)))?,
            },
            ([], None) => refuse(ask, &format!("nothing in the list contains {}", message::quoted(answer)))?,
            // A path that extends a name of the list, or a number that is an id, is asked for as it stands.
            (_, Some(check)) if answer.contains('/') && check(answer).is_ok() => return Ok(answer.to_owned()),
            _ => {
                shown = found;
                draw = true;
            }
        }
    }
}

fn list(title: &str, rows: &[Row], shown: &[usize], default: Option<usize>) -> String {
    let mut text = format!("{title}:");
    let digits = shown.len().min(MOST_ROWS).to_string().len();
    for (number, at) in shown.iter().enumerate().take(MOST_ROWS) {
        let (name, note) = &rows[*at];
        let _ = write!(text, "\n  {:>digits$}) {}", number + 1, message::text(name));
        if !note.is_empty() {
            let _ = write!(text, "  {}", message::text(note));
        }
        if default == Some(*at) {
            text.push_str("  (default)");
        }
    }
    if let Some(more) = shown.len().checked_sub(MOST_ROWS).filter(|more| *more > 0) {
        let _ = write!(text, "\n  and {more} more: type a part of the name");
    }
    text
}
