//! Fills gaps in the settings by asking, through the same validators as flags. Has no effect but on
//! the settings it is given.

#![expect(clippy::disallowed_types, reason = "this is the module that the ban protects")]

use std::path::{Path, PathBuf};

use dialoguer::theme::SimpleTheme;
use dialoguer::{Confirm, Input, Select};
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr, tcsetattr,
};

use crate::base::error::{Failure, Id, Result};
use crate::base::message;
use crate::base::secret::Secret;
use crate::settings::{Need, Settings, Source, Sourced, check};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Ctrl-C, or the input ended.
    #[error("interrupted at a question")]
    Interrupted,
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
            std::io::ErrorKind::Interrupted | std::io::ErrorKind::UnexpectedEof => AskError::Interrupted,
            std::io::ErrorKind::NotConnected => AskError::NotATerminal,
            _ => AskError::Broken(error.to_string()),
        }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Interrupted => Failure::new(Id::Interrupted, error.to_string()),
            AskError::NotATerminal => Failure::new(Id::MissingInput, error.to_string())
                .hint("give --non-interactive and the values as flags"),
            AskError::Broken(_) => Failure::new(Id::Internal, error.to_string()),
        }
    }
}

/// A check of an answer; the error is shown and the question asked again.
pub type Check<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// Somebody who answers.
pub trait Ask {
    /// One line of text.
    fn input(&mut self, prompt: &str, default: Option<&str>, check: Check) -> Result<String, AskError>;
    /// One line that is not shown.
    fn secret(&mut self, prompt: &str) -> Result<Secret, AskError>;
    /// Yes or no, about what these lines say.
    fn confirm(&mut self, prompt: &str, about: &[String], default: bool) -> Result<bool, AskError>;
    /// Drops what was typed or pasted before the question.
    fn discard_type_ahead(&mut self) -> Result<(), AskError> {
        Ok(())
    }
    /// One of several.
    fn select(&mut self, prompt: &str, items: &[String], default: usize) -> Result<usize, AskError>;
}

/// What may be missing, and what is known about it.
#[derive(Debug, Default)]
pub struct Gaps {
    /// What the selected steps need of GitLab's side.
    pub gitlab: Need,
    /// A GitLab token is there already.
    pub has_gitlab_token: bool,
    /// The contexts of the kubeconfig.
    pub contexts: Vec<String>,
    /// Whether one of them is current.
    pub has_current_context: bool,
    /// The user's home, for `~/`.
    pub home: Option<PathBuf>,
}

/// Asks for what is missing and puts it into the settings, with [`Source::Asked`]. Returns a GitLab token
/// that was typed: no setting holds one.
pub fn fill(ask: &mut dyn Ask, settings: &mut Settings, gaps: &Gaps) -> Result<Option<Secret>> {
    if settings.context.is_none() && !gaps.has_current_context && gaps.contexts.len() > 1 {
        let at = ask.select("Kubeconfig context", &gaps.contexts, 0)?;
        let name = gaps.contexts.get(at).cloned().unwrap_or_default();
        let name = check::text(&name).map_err(|why| {
            let message = format!("context name {} {why}", check::escaped(&name));
            Failure::new(Id::InvalidInput, message)
        })?;
        settings.context = Some(Sourced::new(name, Source::Asked));
    }
    if gaps.gitlab == Need::Nothing {
        return Ok(None);
    }
    if gaps.gitlab == Need::Optional {
        return look(ask, settings, gaps).map(|()| None);
    }
    if settings.gitlab_url.is_none() {
        let valid = |text: &str| check::gitlab_url(text.trim()).map(drop);
        let answer = ask.input("GitLab URL", Some("https://gitlab.com"), &valid)?;
        let url = check::gitlab_url(answer.trim()).map_err(|why| Failure::new(Id::InvalidInput, why))?;
        settings.gitlab_url = Some(Sourced::new(url, Source::Asked));
    }
    let home = gaps.home.as_deref();
    let comes_by_file =
        settings.runner_token_file.is_some() || settings.legacy_registration_token_file.is_some();
    if gaps.gitlab == Need::Runner && comes_by_file {
        return Ok(None);
    }
    let has_scope = settings.group.is_some() || settings.instance_runner;
    if settings.project.is_none() && !(gaps.gitlab == Need::Runner && has_scope) {
        let may_be_empty = gaps.gitlab == Need::Runner;
        let valid = |text: &str| match text.trim() {
            "" if may_be_empty => Ok(()),
            text => check::project(text).map(drop),
        };
        let prompt = if may_be_empty {
            "GitLab project of the runner (path or id; empty to use an existing runner)"
        } else {
            "GitLab project (path or id)"
        };
        let answer = ask.input(prompt, may_be_empty.then_some(""), &valid)?;
        if answer.trim().is_empty() {
            let valid = |text: &str| readable_file(&expand(text, home));
            let answer = ask.input("File with the runner's token (glrt-…)", None, &valid)?;
            settings.runner_token_file = Some(Sourced::new(expand(&answer, home), Source::Asked));
            return Ok(None);
        }
        settings.project = Some(Sourced::new(answer.trim().to_owned(), Source::Asked));
    }
    if settings.gitlab_token_file.is_some() || gaps.has_gitlab_token {
        return Ok(None);
    }
    let valid = |text: &str| match text.trim() {
        "" => Ok(()),
        _ => readable_file(&expand(text, home)),
    };
    let answer =
        ask.input("File with your GitLab access token (scope api; empty to type it)", Some(""), &valid)?;
    if answer.trim().is_empty() {
        return Ok(Some(ask.secret("Your GitLab access token")?));
    }
    settings.gitlab_token_file = Some(Sourced::new(expand(&answer, home), Source::Asked));
    Ok(None)
}

/// Asks for the token without which the deployment's part in GitLab is not checked.
fn look(ask: &mut dyn Ask, settings: &mut Settings, gaps: &Gaps) -> Result<()> {
    if settings.gitlab_token_file.is_some() || gaps.has_gitlab_token {
        return Ok(());
    }
    let home = gaps.home.as_deref();
    let valid = |text: &str| match text.trim() {
        "" => Ok(()),
        _ => readable_file(&expand(text, home)),
    };
    let prompt = "File with your GitLab access token (empty: GitLab is not checked)";
    let answer = ask.input(prompt, Some(""), &valid)?;
    if !answer.trim().is_empty() {
        settings.gitlab_token_file = Some(Sourced::new(expand(&answer, home), Source::Asked));
    }
    Ok(())
}

/// Asks whether to apply a plan; No is the default.
pub fn confirm_plan(ask: &mut dyn Ask, changes: usize) -> Result<bool> {
    let prompt = match changes {
        1 => "Apply this change?".to_owned(),
        n => format!("Apply these {n} changes?"),
    };
    ask.discard_type_ahead()?;
    Ok(ask.confirm(&prompt, &[], false)?)
}

/// Asks for the deployment's name, as consent to taking it away.
pub fn confirm_name(ask: &mut dyn Ask, deployment: &str) -> Result<bool> {
    ask.discard_type_ahead()?;
    let answer = ask.input("Type the deployment's name to confirm", Some(""), &|_| Ok(()))?;
    Ok(answer.trim() == deployment)
}

/// Asks whether namespaces may go with what generators keep in them.
pub fn confirm_generated(ask: &mut dyn Ask, kept: &[String]) -> Result<bool> {
    ask.discard_type_ahead()?;
    Ok(ask.confirm(
        "Delete these namespaces together with the objects that controllers recreate in them?",
        kept,
        false,
    )?)
}

fn expand(text: &str, home: Option<&Path>) -> PathBuf {
    let text = text.trim();
    match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

fn readable_file(path: &Path) -> Result<(), String> {
    check::text(&path.to_string_lossy())?;
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("is not a file".to_owned());
    }
    std::fs::File::open(path).map(drop).map_err(|error| error.to_string())
}

/// Asks on the terminal. Whatever a prompt does to it is undone when the prompt ends.
///
/// On Ctrl-C the prompt library raises SIGINT. From the first prompt on that no longer ends the
/// process, which lives to restore the terminal and leave with 130.
#[derive(Debug, Default)]
pub struct TerminalAsk;

/// Takes SIGINT's default action away: tokio's handler stays for good, whoever listens to it. Inside
/// a runtime that runtime is used, else a small one is made for the purpose.
fn survive_sigint() -> Result<(), AskError> {
    use tokio::runtime::{Builder, Handle};
    use tokio::signal::unix::{SignalKind, signal};
    static DONE: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    if DONE.get().is_none() {
        if Handle::try_current().is_ok() {
            drop(signal(SignalKind::interrupt())?);
        } else {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let _inside = runtime.enter();
            drop(signal(SignalKind::interrupt())?);
        }
        DONE.get_or_init(|| ());
    }
    Ok(())
}

/// Restores echo, line mode and cursor.
struct Restore(Termios);

impl Restore {
    fn new() -> Result<Self, AskError> {
        // With stdin no terminal, the prompt library would open /dev/tty instead: not ours to use.
        if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            return Err(AskError::NotATerminal);
        }
        let before = tcgetattr(std::io::stdin()).map_err(|_| AskError::NotATerminal)?;
        survive_sigint()?;
        Ok(Self(before))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
        let _ = console::Term::stderr().show_cursor();
    }
}

fn answered<T>(result: dialoguer::Result<T>) -> Result<T, AskError> {
    result.map_err(|dialoguer::Error::IO(error)| error.into())
}

impl Ask for TerminalAsk {
    fn input(&mut self, prompt: &str, default: Option<&str>, check: Check) -> Result<String, AskError> {
        let _restore = Restore::new()?;
        let mut input = Input::<String>::with_theme(&SimpleTheme)
            .with_prompt(message::text(prompt))
            .validate_with(|text: &String| check(text).map_err(|why| message::text(&why)));
        input = match default {
            Some("") => input.allow_empty(true),
            Some(text) => input.default(message::text(text)),
            None => input,
        };
        answered(input.interact_text_on(&console::Term::stderr()))
    }

    /// Read byte by byte with echo, line mode and signals off: a paste is not cut at 4096 bytes, and
    /// Ctrl-C arrives as a byte, so that the terminal is always restored.
    fn secret(&mut self, prompt: &str) -> Result<Secret, AskError> {
        let restore = Restore::new()?;
        let mut hidden = restore.0.clone();
        hidden
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        let broken = |error: rustix::io::Errno| AskError::from(std::io::Error::from(error));
        tcsetattr(std::io::stdin(), OptionalActions::Now, &hidden).map_err(broken)?;
        let term = console::Term::stderr();
        term.write_str(&format!("{} (not shown): ", message::text(prompt)))?;
        let mut typed = Vec::new();
        let result = loop {
            let mut byte = [0];
            match rustix::io::read(std::io::stdin(), &mut byte) {
                Ok(0) => break Err(AskError::Interrupted),
                Err(error) => break Err(broken(error)),
                Ok(_) => {}
            }
            match byte[0] {
                b'\r' | b'\n' if typed.is_empty() => {}
                b'\r' | b'\n' => break Ok(()),
                // Ctrl-C, Ctrl-D, Ctrl-\.
                3 | 4 | 28 => break Err(AskError::Interrupted),
                8 | 127 => drop(typed.pop()),
                // Ctrl-U.
                21 => typed.clear(),
                0..32 => {}
                other => typed.push(other),
            }
        };
        term.write_line("")?;
        result?;
        let text = String::from_utf8(typed).map_err(|_| AskError::Broken("that was not UTF-8".to_owned()))?;
        Ok(Secret::new(text))
    }

    /// A paste can arrive in pieces: waits until nothing has come for a moment.
    fn discard_type_ahead(&mut self) -> Result<(), AskError> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let _restore = Restore::new()?;
        let broken = |error: rustix::io::Errno| AskError::from(std::io::Error::from(error));
        let stdin = std::io::stdin();
        for _ in 0..20 {
            tcflush(&stdin, QueueSelector::IFlush).map_err(broken)?;
            if poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&QUIET)).map_err(broken)? == 0 {
                return Ok(());
            }
        }
        Err(AskError::Broken("input keeps arriving before the question".to_owned()))
    }

    fn confirm(&mut self, prompt: &str, about: &[String], default: bool) -> Result<bool, AskError> {
        let _restore = Restore::new()?;
        let about =
            about.iter().fold(String::new(), |text, line| format!("{text}\n  {}", message::text(line)));
        let end = if about.is_empty() { "" } else { "\n" };
        let prompt = format!("{}{about}{end}", message::text(prompt));
        let confirm = Confirm::with_theme(&SimpleTheme).with_prompt(prompt).default(default);
        answered(confirm.wait_for_newline(true).interact_on(&console::Term::stderr()))
    }

    fn select(&mut self, prompt: &str, items: &[String], default: usize) -> Result<usize, AskError> {
        let _restore = Restore::new()?;
        let items: Vec<String> = items.iter().map(|item| message::text(item)).collect();
        let select = Select::with_theme(&SimpleTheme)
            .with_prompt(message::text(prompt))
            .items(&items)
            .default(default);
        answered(select.interact_on(&console::Term::stderr()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::path::PathBuf;

    use super::{Ask, AskError, Check, Gaps, confirm_name, confirm_plan, fill};
    use crate::base::error::Failure;
    use crate::base::secret::Secret;
    use crate::commands::cli;
    use crate::settings::{Inputs, Need, Settings, Source, resolve};

    /// Answers from a list; the empty text takes the default, running out is Ctrl-C.
    #[derive(Debug, Default)]
    struct Scripted {
        answers: VecDeque<String>,
        /// What was asked, and what was said about wrong answers.
        log: Vec<String>,
    }

    impl Scripted {
        fn new<T: Into<String>>(answers: impl IntoIterator<Item = T>) -> Self {
            Self { answers: answers.into_iter().map(Into::into).collect(), log: Vec::new() }
        }

        fn next(&mut self) -> Result<String, AskError> {
            self.answers.pop_front().ok_or(AskError::Interrupted)
        }
    }

    impl Ask for Scripted {
        fn input(&mut self, prompt: &str, default: Option<&str>, check: Check) -> Result<String, AskError> {
            self.log.push(prompt.to_owned());
            loop {
                let answer = match (self.next()?, default) {
                    (empty, Some(default)) if empty.is_empty() => default.to_owned(),
                    (answer, _) => answer,
                };
                match check(&answer) {
                    Ok(()) => return Ok(answer),
                    Err(why) => self.log.push(why),
                }
            }
        }

        fn secret(&mut self, prompt: &str) -> Result<Secret, AskError> {
            self.log.push(prompt.to_owned());
            self.next().map(Secret::new)
        }

        fn confirm(&mut self, prompt: &str, about: &[String], default: bool) -> Result<bool, AskError> {
            self.log.push(prompt.to_owned());
            self.log.extend_from_slice(about);
            self.next().map(|answer| if answer.is_empty() { default } else { answer.starts_with('y') })
        }

        fn select(&mut self, prompt: &str, items: &[String], default: usize) -> Result<usize, AskError> {
            self.log.push(format!("{prompt}: {}", items.join(", ")));
            let answer = self.next()?;
            Ok(items.iter().position(|item| *item == answer).unwrap_or(default))
        }
    }

    fn settings() -> Settings {
        let matches = cli::parse(vec!["outrigger".into(), "setup".into()], &[]).expect("arguments").1;
        let env = BTreeMap::new();
        let recorded = BTreeMap::new();
        let inputs =
            Inputs { matches: &matches, env: &env, file: None, noted: None, home: Some(PathBuf::from("/h")) };
        resolve(&inputs, |_, _| Ok(recorded)).expect("settings")
    }

    fn gaps() -> Gaps {
        Gaps { gitlab: Need::Runner, contexts: vec!["a".to_owned(), "b".to_owned()], ..Gaps::default() }
    }

    #[test]
    fn asks_for_what_is_missing_and_nothing_else() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let mut settings = settings();
        let mut ask = Scripted::new(["b", "http://gitlab.com", "", "", "/no/such/file", file]);
        fill(&mut ask, &mut settings, &gaps()).expect("answered");
        assert_eq!(ask.log[0], "Kubeconfig context: a, b");
        assert_eq!(ask.log[2], "must begin with https:// (http is accepted on loopback only)");
        assert!(ask.log[5].contains("No such file"), "{:?}", ask.log);
        let url = settings.gitlab_url.as_ref().expect("url");
        assert_eq!((url.as_str(), &url.source), ("https://gitlab.com", &Source::Asked));
        assert_eq!(
            settings.equivalent_command(),
            format!(
                "outrigger setup --non-interactive --context b --gitlab-url https://gitlab.com --runner-token-file {file}"
            )
        );
        let mut nobody = Scripted::default();
        fill(&mut nobody, &mut settings, &gaps()).expect("nothing is missing");
        assert!(nobody.log.is_empty());
    }

    #[test]
    fn a_typed_token_is_handed_on_and_in_no_setting() {
        let mut settings = settings();
        let mut ask =
            Scripted::new(["b", "gitlab.example.com", "no//path", "platform/hello", "", "glpat-canary"]);
        let typed = fill(&mut ask, &mut settings, &gaps()).expect("answered").expect("a token was typed");
        assert_eq!(typed.expose(), "glpat-canary");
        assert_eq!(
            settings.equivalent_command(),
            "outrigger setup --non-interactive --context b --gitlab-url https://gitlab.example.com --project platform/hello"
        );
        let settled = Gaps { has_gitlab_token: true, ..gaps() };
        assert!(fill(&mut Scripted::default(), &mut settings, &settled).expect("all is there").is_none());
    }

    #[test]
    fn ctrl_c_is_130() {
        let failure = fill(&mut Scripted::default(), &mut settings(), &gaps()).expect_err("interrupted");
        assert_eq!(failure.kind.exit_code(), 130);
        assert_eq!(Failure::from(AskError::NotATerminal).kind.exit_code(), 2);
    }

    #[test]
    fn consent() {
        let mut ask = Scripted::new(["y", "", "blue", "bleu"]);
        assert!(confirm_plan(&mut ask, 10).expect("yes"));
        assert!(!confirm_plan(&mut ask, 1).expect("the default is no"));
        assert!(confirm_name(&mut ask, "blue").expect("name"));
        assert!(!confirm_name(&mut ask, "blue").expect("another name"));
        assert_eq!(ask.log[..2], ["Apply these 10 changes?", "Apply this change?"]);
    }
}
