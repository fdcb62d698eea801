//! Writes to the terminal: data to stdout, messages and spinners to stderr. No other module does.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::error::ContextValue;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::event::{Event, Reporter};
use crate::base::hint::Command;
use crate::base::message;
use crate::base::text::human_duration;
use crate::output::{Human, json_data, json_line};
use crate::settings::{Output, RunOptions, Settings};

/// The interval of lines about the same wait, without spinners.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Properties of the standard streams.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent properties of three streams")]
pub struct Streams {
    /// stdin is a terminal.
    pub stdin_tty: bool,
    /// stdout is a terminal.
    pub stdout_tty: bool,
    /// stderr is a terminal.
    pub stderr_tty: bool,
    /// Columns of stderr's terminal, if known.
    pub width: Option<usize>,
    /// Whether spinners may be drawn: the writers are the process's own streams.
    pub animate: bool,
}

impl Streams {
    /// The properties of the process's own streams.
    pub fn system() -> Self {
        Self {
            stdin_tty: io::stdin().is_terminal(),
            stdout_tty: io::stdout().is_terminal(),
            stderr_tty: io::stderr().is_terminal(),
            width: console::Term::stderr().size_checked().map(|(_, columns)| usize::from(columns)),
            animate: true,
        }
    }
}

struct Inner {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    stdout_closed: bool,
    /// Whether stderr has output: the first output has no leading empty line.
    begun: bool,
    bars: BTreeMap<String, ProgressBar>,
    /// The time waited in the last line about each step.
    said: BTreeMap<String, Duration>,
    /// They complete printed commands.
    settings: Option<Settings>,
}

/// Writes events, data and usage errors.
pub struct Ui {
    inner: Mutex<Inner>,
    multi: Option<MultiProgress>,
    streams: Streams,
    human: Human,
    output: Output,
    quiet: bool,
    verbose: u8,
    interactive: bool,
}

impl Ui {
    /// A writer on the given streams.
    pub fn new(
        stdout: Box<dyn Write + Send>,
        stderr: Box<dyn Write + Send>,
        streams: Streams,
        env: &BTreeMap<String, String>,
        options: &RunOptions,
    ) -> Self {
        let answering = streams.stdin_tty && streams.stderr_tty && !set(env, "CI");
        let people = options.output == Output::Human && !options.quiet;
        let fancy = streams.animate && streams.stderr_tty && !set(env, "CI") && !dumb(env) && people;
        let columns = env.get("COLUMNS").and_then(|text| text.parse().ok()).filter(|n| *n > 0);
        let width = if streams.stderr_tty { streams.width.or(columns) } else { columns };
        Self {
            inner: Mutex::new(Inner {
                stdout,
                stderr,
                stdout_closed: false,
                begun: false,
                bars: BTreeMap::new(),
                said: BTreeMap::new(),
                settings: None,
            }),
            multi: fancy.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            streams,
            human: Human {
                width: width.unwrap_or(100).clamp(20, 160),
                unicode: unicode(env),
                colour: colour(env, streams.stderr_tty),
            },
            output: options.output,
            quiet: options.quiet,
            verbose: options.verbose,
            interactive: answering && !options.non_interactive && options.output == Output::Human,
        }
    }

    /// A writer on the process's own streams. It also sets whether prompts use colour.
    pub fn system(env: &BTreeMap<String, String>, options: &RunOptions) -> Self {
        let streams = Streams::system();
        console::set_colors_enabled(colour(env, streams.stdout_tty));
        console::set_colors_enabled_stderr(colour(env, streams.stderr_tty));
        Self::new(Box::new(io::stdout()), Box::new(io::stderr()), streams, env, options)
    }

    /// Whether outrigger may ask questions: stdin and stderr are terminals, and none of `--non-interactive`, `CI` and
    /// `-o json` is set.
    pub fn interactive(&self) -> bool {
        self.interactive
    }

    /// Whether stdout is a terminal, which must not show a secret.
    pub fn stdout_is_terminal(&self) -> bool {
        self.streams.stdout_tty
    }

    /// Completes commands printed from now on for this run's deployment and cluster.
    pub fn aim(&self, settings: &Settings) {
        self.lock().settings = Some(settings.clone());
    }

    /// The renderer of text.
    pub fn human(&self) -> Human {
        self.human
    }

    /// Writes a command's product (a script, a manifest, a certificate) to stdout, byte for byte, or as a line of type
    /// `data` with `-o json`. A closed pipe (`| head`) is not an error. Reports with outside text must use
    /// [`Self::lines`].
    pub fn product(&self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        self.quietly(|| match self.output {
            Output::Json => inner.out(json_data(&String::from_utf8_lossy(bytes)).as_bytes()),
            Output::Human => inner.out(bytes),
        })
    }

    /// Writes a report to stdout, each line cleaned by [`message::line`], or as one line of type `data` with
    /// `-o json`.
    pub fn lines(&self, lines: &[String]) -> io::Result<()> {
        self.product(message::report(lines).as_bytes())
    }

    /// Prints clap's help to stdout, or its error to stderr, and returns the exit code.
    ///
    /// An error repeats the command line, which is outside text and may contain a misplaced token.
    pub fn usage(&self, mut error: clap::Error) -> u8 {
        if error.use_stderr() {
            let said: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
            for (kind, value) in said {
                let value = match value {
                    ContextValue::String(text) => ContextValue::String(message::line(&text)),
                    ContextValue::Strings(all) => {
                        ContextValue::Strings(all.iter().map(|text| message::line(text)).collect())
                    }
                    other => other,
                };
                error.insert(kind, value);
            }
        }
        let text = error.render();
        let mut inner = self.lock();
        if error.use_stderr() {
            let plain = message::lines(&text.to_string());
            // clap's own colour is used only if nothing had to be removed or masked.
            let unchanged = plain == text.to_string();
            inner.err(&if self.human.colour && unchanged { text.ansi().to_string() } else { plain });
            2
        } else {
            let colour = self.streams.stdout_tty && self.human.colour;
            let text = if colour { text.ansi().to_string() } else { text.to_string() };
            // A closed stdout is not an error for help.
            let _ = inner.out(text.as_bytes());
            u8::from(error.exit_code() != 0) * 2
        }
    }

    /// Pauses the spinners while `run` uses the terminal, for example for a prompt.
    pub fn pause<T>(&self, run: impl FnOnce() -> T) -> T {
        // The cursor may be after an incomplete answer: the next output keeps its leading line break.
        self.lock().begun = true;
        self.quietly(run)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quietly<T>(&self, run: impl FnOnce() -> T) -> T {
        match &self.multi {
            Some(multi) => multi.suspend(run),
            None => run(),
        }
    }

    fn human_event(&self, inner: &mut Inner, event: &Event) {
        if self.quiet
            && !matches!(
                event,
                Event::Failed(_) | Event::Finished { .. } | Event::Warning { .. } | Event::Advice { .. }
            )
        {
            return;
        }
        match event {
            Event::StepStarted { step } => {
                if let Some(multi) = &self.multi {
                    inner.spin(multi, &self.human, step, "");
                    return;
                }
                if self.verbose == 0 {
                    return;
                }
            }
            Event::StepWaiting { step, what, waited } => {
                if let Some(multi) = &self.multi {
                    let text = format!("waiting for {what}, {}", human_duration(*waited));
                    inner.spin(multi, &self.human, step, &text);
                    return;
                }
                let due = inner
                    .said
                    .get(step)
                    .is_none_or(|last| waited.checked_sub(*last).is_none_or(|since| since >= HEARTBEAT));
                if !due {
                    return;
                }
                inner.said.insert(step.clone(), *waited);
            }
            Event::StepDone { step, .. } | Event::StepFailed { step, .. } | Event::Undone { step, .. } => {
                inner.stop(step);
                inner.said.remove(step);
            }
            Event::Failed(_) | Event::Finished { .. } | Event::Next { .. } => inner.stop_all(),
            _ => {}
        }
        let text = self.human.render(event);
        self.quietly(|| inner.err(&text));
    }
}

impl Reporter for Ui {
    fn event(&self, event: &Event) {
        let mut inner = self.lock();
        let mut event = event.clone();
        if let Some(settings) = &inner.settings {
            event.commands().for_each(|command| *command = Command::Whole(settings.complete(command)));
        }
        let event = &event;
        match self.output {
            // An error on stdout does not stop the run.
            Output::Json => drop(inner.out(json_line(event).as_bytes())),
            Output::Human => self.human_event(&mut inner, event),
        }
    }
}

impl Inner {
    fn out(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.stdout_closed {
            return Ok(());
        }
        match self.stdout.write_all(bytes).and_then(|()| self.stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.stdout_closed = true;
                Ok(())
            }
            result => result,
        }
    }

    fn err(&mut self, text: &str) {
        let text = if self.begun { text } else { text.trim_start_matches('\n') };
        self.begun |= !text.is_empty();
        // An error on stderr cannot be reported.
        let _ = self.stderr.write_all(text.as_bytes()).and_then(|()| self.stderr.flush());
    }

    fn spin(&mut self, multi: &MultiProgress, human: &Human, step: &str, text: &str) {
        let bar = self.bars.entry(step.to_owned()).or_insert_with(|| {
            let bar = multi.add(ProgressBar::new_spinner());
            let ticks = if human.unicode { "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ " } else { "|/-\\ " };
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style.tick_chars(ticks));
            }
            bar
        });
        bar.set_message(human.running(step, text));
        bar.enable_steady_tick(Duration::from_millis(100));
    }

    fn stop(&mut self, step: &str) {
        if let Some(bar) = self.bars.remove(step) {
            bar.finish_and_clear();
        }
    }

    fn stop_all(&mut self) {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
        }
    }
}

fn set(env: &BTreeMap<String, String>, name: &str) -> bool {
    env.get(name).is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

pub(crate) fn dumb(env: &BTreeMap<String, String>) -> bool {
    env.get("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// `NO_COLOR` (not empty) has precedence over `CLICOLOR_FORCE`, and that over the terminal.
fn colour(env: &BTreeMap<String, String>, tty: bool) -> bool {
    if env.get("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return false;
    }
    if env.get("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") {
        return true;
    }
    tty && !dumb(env) && env.get("CLICOLOR").is_none_or(|value| value != "0")
}

/// As in POSIX, the first of the variables that is set and not empty decides.
pub(crate) fn unicode(env: &BTreeMap<String, String>) -> bool {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| env.get(*name).filter(|v| !v.is_empty()));
    locale.is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{Streams, Ui, colour, unicode};
    use crate::base::error::{Failure, Id};
    use crate::base::event::{Event, Reporter};
    use crate::settings::{Output, RunOptions};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("lock").clone()).expect("utf-8")
        }
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn events(ui: &Ui) {
        let step = || "create-role".to_owned();
        ui.event(&Event::StepStarted { step: step() });
        for seconds in [1, 5, 10, 12, 23] {
            let waited = Duration::from_secs(seconds);
            ui.event(&Event::StepWaiting { step: step(), what: "x".to_owned(), waited });
        }
        ui.event(&Event::StepDone { step: step(), changed: true, kept: false, text: "made".to_owned() });
        ui.event(&Event::Failed(Failure::new(Id::MissingInput, "1 missing value")));
        ui.event(&Event::Finished {
            exit: 2,
            changed: false,
            seconds: 0.0,
            text: "Nothing was changed.".to_owned(),
            last: String::new(),
        });
    }

    fn shown(options: &RunOptions, env: &BTreeMap<String, String>) -> (String, String) {
        let (out, err) = (Buffer::default(), Buffer::default());
        let ui = Ui::new(Box::new(out.clone()), Box::new(err.clone()), Streams::default(), env, options);
        events(&ui);
        ui.product(b"PEM\n").expect("data");
        (out.text(), err.text())
    }

    #[test]
    fn prints_plain_lines_and_repeats_waits_without_a_terminal() {
        let (out, err) = shown(&RunOptions::default(), &env(&[("LANG", "C.UTF-8")]));
        assert_eq!(out, "PEM\n");
        assert_eq!(
            err,
            "\
… create-role         waiting for x, 1 s
… create-role         waiting for x, 12 s
… create-role         waiting for x, 23 s
✔ create-role         made

error OR0201: 1 missing value
Nothing was changed.     exit 2
"
        );
    }

    #[test]
    fn quiet_prints_errors_only_and_json_prints_to_stdout() {
        let (_, err) = shown(&RunOptions { quiet: true, ..RunOptions::default() }, &env(&[]));
        assert_eq!(err, "error OR0201: 1 missing value\nNothing was changed.     exit 2\n");
        let (out, err) = shown(&RunOptions { output: Output::Json, ..RunOptions::default() }, &env(&[]));
        assert_eq!(err, "");
        assert_eq!(out.lines().count(), 10);
        assert!(out.lines().all(|line| line.starts_with(r#"{"schema":"outrigger/1.0","type":""#)));
        assert!(out.ends_with("\"type\":\"data\",\"content\":\"PEM\\n\"}\n"));
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        let ui = Ui::new(
            Box::new(Gone),
            Box::new(Buffer::default()),
            Streams::default(),
            &env(&[]),
            &RunOptions::default(),
        );
        assert!(ui.product(b"x").is_ok() && ui.product(b"y").is_ok());
    }

    #[test]
    fn asks_only_on_terminals_and_outside_ci() {
        let both = Streams { stdin_tty: true, stderr_tty: true, ..Streams::default() };
        let ask = |streams, pairs: &[(&str, &str)], options: RunOptions| {
            Ui::new(Box::new(io::sink()), Box::new(io::sink()), streams, &env(pairs), &options).interactive()
        };
        let plain = RunOptions::default;
        assert!(ask(both, &[], plain()));
        assert!(ask(both, &[("CI", "")], plain()));
        assert!(!ask(both, &[("CI", "true")], plain()));
        assert!(!ask(Streams { stdin_tty: false, ..both }, &[], plain()));
        assert!(!ask(Streams { stderr_tty: false, ..both }, &[], plain()));
        assert!(!ask(both, &[], RunOptions { non_interactive: true, ..plain() }));
        assert!(!ask(both, &[], RunOptions { output: Output::Json, ..plain() }));
    }

    #[test]
    fn environment_decides_on_colour_and_unicode() {
        let term = ("TERM", "xterm");
        assert!(colour(&env(&[term]), true) && !colour(&env(&[term]), false));
        assert!(
            colour(&env(&[term, ("NO_COLOR", "")]), true) && !colour(&env(&[term, ("NO_COLOR", "1")]), true)
        );
        assert!(colour(&env(&[("CLICOLOR_FORCE", "1")]), false) && !colour(&env(&[("TERM", "dumb")]), true));
        assert!(!colour(&env(&[term, ("CLICOLOR", "0")]), true));
        assert!(!colour(&env(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]), true));
        assert!(unicode(&env(&[("LANG", "de_DE.UTF-8")])) && unicode(&env(&[("LC_CTYPE", "C.utf8")])));
        assert!(!unicode(&env(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")])) && !unicode(&env(&[])));
    }
}
