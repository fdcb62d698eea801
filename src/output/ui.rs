//! Writes to the terminal: data and reports to stdout, messages and spinners to stderr. No other module does.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::base::error::Kind;
use crate::base::event::{Event, Fold, Mark, Reporter, Summary};
use crate::base::hint::{Command, as_called};
use crate::base::message;
use crate::base::text::human_duration;
use crate::output::{Human, json_data, json_line, json_page};
use crate::settings::{Completion, Output, RunOptions};

/// The interval of lines about the same wait, without spinners.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The interval of [`Ui::tick`].
pub const TICK: Duration = Duration::from_secs(1);

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
    /// Columns of the terminal, if known.
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
            width: console::Term::stderr()
                .size_checked()
                .or_else(|| console::Term::stdout().size_checked())
                .map(|(_, columns)| usize::from(columns)),
            animate: true,
        }
    }
}

#[expect(clippy::struct_excessive_bools, reason = "independent properties of the output so far")]
struct Inner {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    stdout_closed: bool,
    /// Whether the last line on stderr and on stdout is empty, or there is none yet: no empty line follows then.
    blank: bool,
    blank_out: bool,
    /// Whether the command's events are a report, which is for stdout.
    report: bool,
    /// Whether stdout takes one product and nothing else, unless the run fails.
    product_only: bool,
    /// Whether steps in place are listed.
    unfolded: bool,
    /// The numbers of steps in place, and of those not needed, that are not yet shown.
    folded: (usize, usize),
    /// Whether a plan was shown.
    planned: bool,
    /// `--log-file`.
    log: Option<Box<dyn Write + Send>>,
    /// What the last event repeats.
    warnings: Vec<String>,
    errors: Vec<&'static str>,
    pipeline: Option<String>,
    bars: BTreeMap<String, ProgressBar>,
    /// The time waited in the last line about each step.
    said: BTreeMap<String, Duration>,
    /// What the run works on, in words, and since when.
    doing: (String, Instant),
    /// The wait that was reported last: its step, what it is for, and since when.
    waits: Option<(String, String, Instant)>,
    /// The time of the last output.
    last: Instant,
    completion: Option<Completion>,
}

/// Writes events, data and usage errors.
pub struct Ui {
    inner: Mutex<Inner>,
    multi: Option<MultiProgress>,
    streams: Streams,
    /// For stderr.
    human: Human,
    /// For stdout.
    paper: Human,
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
        let human = |tty: bool| Human {
            width: if tty { streams.width.or(columns) } else { columns }.unwrap_or(100).clamp(20, 160),
            unicode: unicode(env),
            colour: colour(env, tty),
            whole: false,
        };
        Self {
            inner: Mutex::new(Inner {
                stdout,
                stderr,
                stdout_closed: false,
                blank: true,
                blank_out: true,
                report: false,
                product_only: false,
                unfolded: options.verbose > 0,
                folded: (0, 0),
                planned: false,
                log: None,
                warnings: Vec::new(),
                errors: Vec::new(),
                pipeline: None,
                bars: BTreeMap::new(),
                said: BTreeMap::new(),
                doing: (String::new(), Instant::now()),
                waits: None,
                last: Instant::now(),
                completion: None,
            }),
            multi: fancy.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            streams,
            human: human(streams.stderr_tty),
            paper: human(streams.stdout_tty),
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
    pub fn aim(&self, completion: Completion) {
        self.lock().completion = Some(completion);
    }

    /// A command as it is printed.
    pub fn complete(&self, command: &Command) -> String {
        match &self.lock().completion {
            Some(completion) => completion.complete(command),
            None => command.to_string(),
        }
    }

    /// Sets what the run works on from now on, for [`Self::tick`].
    pub fn doing(&self, what: &str) {
        self.lock().doing = (what.to_owned(), Instant::now());
    }

    /// To be called every second: after a second without output on a terminal, and within ten seconds elsewhere, it
    /// shows what the run works on.
    pub fn tick(&self) {
        let mut inner = self.lock();
        let (what, since) = inner.doing.clone();
        if what.is_empty() || !inner.bars.is_empty() {
            return;
        }
        if let Some(multi) = &self.multi {
            inner.spin(multi, &self.human, "", &what);
        } else if inner.last.elapsed() + TICK > HEARTBEAT {
            // The next call would come too late.
            inner.last = Instant::now();
            let event = match inner.waits.clone() {
                Some((step, what, since)) => Event::StepWaiting { step, what, waited: since.elapsed() },
                None => Event::Busy { what, waited: since.elapsed() },
            };
            drop(inner);
            self.event(&event);
        }
    }

    /// The renderer of text for stdout.
    pub fn paper(&self) -> Human {
        self.paper
    }

    /// From now on, what the command found goes to stdout: it is what was asked for. Progress, warnings and errors
    /// stay on stderr.
    pub fn begin_report(&self) {
        self.lock().report = true;
    }

    /// Lists steps that are in place: the run is about one step.
    pub fn unfold(&self) {
        self.lock().unfolded = true;
    }

    /// From now on, writes every event to this file too, as a JSON line.
    pub fn log_to(&self, file: impl Write + Send + 'static) {
        self.lock().log = Some(Box::new(file));
    }

    /// From now on, stdout takes one product and nothing else, also with `-o json`, unless the run fails.
    pub fn begin_product(&self) {
        self.lock().product_only = true;
    }

    /// Writes a command's product (a script, a manifest, a certificate) to stdout, byte for byte, or as a line of type
    /// `data` with `-o json`. A closed pipe (`| head`) is not an error. Reports with outside text must use
    /// [`Self::lines`].
    pub fn product(&self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        self.quietly(|| match self.output {
            Output::Json if !inner.product_only => {
                let line = json_data(&String::from_utf8_lossy(bytes), jiff::Timestamp::now());
                inner.out(line.as_bytes())
            }
            _ => inner.out(bytes),
        })
    }

    /// Writes a report to stdout, each line cleaned by [`message::line`], or as one line of type `data` with
    /// `-o json`.
    pub fn lines(&self, lines: &[String]) -> io::Result<()> {
        self.product(message::report(lines).as_bytes())
    }

    /// Writes a page to stdout: its text, or with `-o json` one line of this type with these fields.
    pub fn page(&self, text: &str, kind: &str, fields: &[(&str, serde_json::Value)]) -> io::Result<()> {
        let text = match self.output {
            Output::Json => json_page(kind, fields, jiff::Timestamp::now()),
            Output::Human | Output::Name => text.to_owned(),
        };
        let text = as_called(&text);
        self.lock().out(text.as_bytes())
    }

    /// Prints clap's help: to stdout, or to stderr if nobody asked for it.
    pub fn help(&self, help: &clap::Error) {
        let text = help.render();
        let human = if help.use_stderr() { &self.human } else { &self.paper };
        let text = if human.colour { text.ansi().to_string() } else { text.to_string() };
        let text = as_called(&text);
        let mut inner = self.lock();
        if help.use_stderr() {
            inner.err(&text);
        } else {
            // A closed stdout is not an error for help.
            let _ = inner.out(text.as_bytes());
        }
    }

    /// Pauses the spinners while `run` uses the terminal, for example for a prompt.
    pub fn pause<T>(&self, run: impl FnOnce() -> T) -> T {
        // The cursor may be after an incomplete answer: the next output keeps its leading line break.
        self.lock().blank = false;
        self.quietly(run)
    }

    /// What the spinners say.
    #[cfg(test)]
    pub fn spinners(&self) -> Vec<String> {
        self.lock().bars.values().map(ProgressBar::message).collect()
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
        inner.stop("");
        match event {
            Event::Busy { what, waited } if waited.is_zero() => {
                if let Some(multi) = &self.multi {
                    inner.spin(multi, &self.human, "", what);
                    return;
                }
            }
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
            // A job that writes its log no longer waits for what the spinner says.
            Event::Log { .. } | Event::Failed(_) | Event::Finished { .. } | Event::Next { .. } => {
                inner.stop_all();
            }
            _ => {}
        }
        let mut text = String::new();
        inner.planned |= matches!(event, Event::Plan { .. });
        match event {
            Event::StepDone { fold: Fold::InPlace, .. } if !inner.unfolded => {
                inner.folded.0 += 1;
                return;
            }
            Event::StepDone { fold: Fold::NotNeeded, .. } if !inner.unfolded => {
                inner.folded.1 += 1;
                return;
            }
            Event::Failed(_) | Event::Finished { .. } | Event::Next { .. } | Event::Warning { .. } => {
                let (in_place, not_needed) = std::mem::take(&mut inner.folded);
                // The plan has counted them.
                text = if inner.planned { String::new() } else { Human::folded(in_place, not_needed) };
            }
            _ => {}
        }
        let is_report = match event {
            Event::Header { .. }
            | Event::Plan { .. }
            | Event::Check { .. }
            | Event::StepDone { .. }
            | Event::Next { .. } => inner.report,
            Event::Finished(end) => inner.report && (end.exit == 0 || end.exit == Kind::Pending.exit_code()),
            _ => false,
        };
        let human = Human { whole: inner.unfolded, ..if is_report { self.paper } else { self.human } };
        let text = text + &human.render(event);
        self.quietly(|| if is_report { inner.out_text(&text) } else { inner.err(&text) });
    }
}

impl Reporter for Ui {
    fn event(&self, event: &Event) {
        let mut inner = self.lock();
        let mut event = event.clone();
        if let Some(completion) = &inner.completion {
            event.commands().for_each(|command| *command = Command::Whole(completion.complete(command)));
        }
        inner.remember(&mut event);
        let event = &event;
        if let Some(log) = &mut inner.log {
            // A full disk does not stop the run.
            let _ = log.write_all(json_line(event, jiff::Timestamp::now()).as_bytes());
        }
        if matches!(event, Event::Request { .. }) && self.verbose == 0 {
            return;
        }
        if self.output != Output::Json {
            self.human_event(&mut inner, event);
            return;
        }
        let line = json_line(event, jiff::Timestamp::now());
        let is_well = match event {
            Event::Failed(_) => false,
            Event::Finished(end) => end.exit == 0,
            _ => true,
        };
        match event {
            Event::Finished(_) if inner.product_only && is_well => {}
            _ if inner.product_only && is_well => inner.err(&line),
            // An error on stdout does not stop the run.
            _ => drop(inner.out(line.as_bytes())),
        }
    }
}

/// The text, without a leading empty line after one that is empty.
fn after<'a>(text: &'a str, blank: &mut bool) -> &'a str {
    let text = if *blank { text.trim_start_matches('\n') } else { text };
    if !text.is_empty() {
        *blank = text == "\n" || text.ends_with("\n\n");
    }
    text
}

impl Inner {
    /// Keeps what the last event repeats, and adds it to that.
    fn remember(&mut self, event: &mut Event) {
        match event {
            Event::StepWaiting { step, what, waited } => {
                let now = Instant::now();
                self.waits = Some((step.clone(), what.clone(), now.checked_sub(*waited).unwrap_or(now)));
            }
            // Is about the same wait, and may come at any time.
            Event::Request { .. } | Event::Retry { .. } => {}
            _ => self.waits = None,
        }
        match event {
            Event::Busy { what, waited } if waited.is_zero() => self.doing = (what.clone(), Instant::now()),
            Event::StepStarted { step } => self.doing = (step.clone(), Instant::now()),
            Event::Plan { lines, .. } => {
                let warnings =
                    lines.iter().filter(|line| matches!(line.mark, Mark::Warning | Mark::Unhealthy));
                self.warnings.extend(warnings.map(|line| line.text.clone()));
            }
            // The plan's warnings are repeated at the end.
            Event::Warning { text } if !self.warnings.contains(text) => self.warnings.push(text.clone()),
            Event::Advice(hint) => self.warnings.push(hint.to_string()),
            Event::Pipeline { url, .. } => self.pipeline = Some(url.clone()),
            // The most important one is reported last.
            Event::Failed(failure) => self.errors.insert(0, failure.id.code()),
            Event::Finished(end) => {
                end.warnings = std::mem::take(&mut self.warnings);
                end.errors = std::mem::take(&mut self.errors);
                end.pipeline = self.pipeline.take();
                if end.deployment.is_none() {
                    end.deployment =
                        self.completion.as_ref().map(|completion| &completion.settings).map(|settings| {
                            Summary {
                                deployment: settings.deployment.value.clone(),
                                runner_namespace: settings.runner_namespace.value.clone(),
                                namespace: settings.namespace.value.clone(),
                                ..Summary::default()
                            }
                        });
                }
            }
            _ => {}
        }
    }

    /// Writes a part of a report to stdout.
    fn out_text(&mut self, text: &str) {
        let text = after(text, &mut self.blank_out);
        // An error on stdout does not stop the run.
        let _ = self.out(text.as_bytes());
    }

    fn out(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.last = Instant::now();
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
        self.last = Instant::now();
        let text = after(text, &mut self.blank);
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

/// `NO_COLOR` (not empty; no-color.org) has precedence over `FORCE_COLOR` (not empty; force-color.org, where `0` and
/// `false` mean no colour, as in Node) and `CLICOLOR_FORCE`, and those over the terminal.
fn colour(env: &BTreeMap<String, String>, tty: bool) -> bool {
    if env.get("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return false;
    }
    if let Some(force) = env.get("FORCE_COLOR").filter(|value| !value.is_empty()) {
        return !matches!(force.as_str(), "0" | "false");
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
    use crate::base::event::{End, Event, Fold, Reporter};
    use crate::base::job_log::Log;
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
        ui.event(&Event::StepDone {
            step: step(),
            changed: true,
            fold: Fold::Never,
            text: "made".to_owned(),
        });
        ui.event(&Event::Failed(Failure::new(Id::MissingInput, "1 missing value")));
        let text = "Nothing was changed.".to_owned();
        ui.event(&Event::Finished(Box::new(End { exit: 2, text, ..End::default() })));
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
  more   outrigger explain OR0201
Nothing was changed.     exit 2
"
        );
    }

    #[test]
    fn quiet_prints_errors_only_and_json_prints_to_stdout() {
        let (_, err) = shown(&RunOptions { quiet: true, ..RunOptions::default() }, &env(&[]));
        assert_eq!(
            err,
            "error OR0201: 1 missing value\n  more   outrigger explain OR0201\nNothing was changed.     exit 2\n"
        );
        let (out, err) = shown(&RunOptions { output: Output::Json, ..RunOptions::default() }, &env(&[]));
        assert_eq!(err, "");
        assert_eq!(out.lines().count(), 10);
        assert!(out.lines().all(|line| line.starts_with(r#"{"schema":"outrigger/2.0","time":"#)));
        assert!(out.ends_with("\"type\":\"data\",\"content\":\"PEM\\n\"}\n"));
    }

    #[test]
    fn spinner_ends_with_the_wait_that_it_is_about() {
        let sink = || Box::new(io::sink());
        let terminal = Streams { stderr_tty: true, animate: true, ..Streams::default() };
        let env = env(&[("TERM", "xterm")]);
        let ui = Ui::new(sink(), sink(), terminal, &env, &RunOptions::default());
        let step = || "run-pipeline".to_owned();
        let spinners = || ui.spinners().len();
        let line = Log::default().update("hello\n").remove(0);
        let failure = Failure::new(Id::PipelineFailed, "job test failed");
        for end in [
            Event::Log { job: "test".to_owned(), line },
            Event::StepFailed { step: step(), text: "job test failed".to_owned() },
            Event::Failed(failure),
        ] {
            let waited = Duration::from_secs(1);
            ui.event(&Event::StepWaiting { step: step(), what: "job test to start".to_owned(), waited });
            assert_eq!(spinners(), 1);
            ui.event(&end);
            assert_eq!(spinners(), 0, "{end:?}");
        }
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
        for (value, coloured) in [("1", true), ("3", true), ("", false), ("0", false), ("false", false)] {
            assert_eq!(colour(&env(&[("FORCE_COLOR", value)]), false), coloured, "FORCE_COLOR={value}");
        }
        assert!(!colour(&env(&[term, ("FORCE_COLOR", "0"), ("CLICOLOR_FORCE", "1")]), true));
        assert!(!colour(&env(&[("NO_COLOR", "1"), ("FORCE_COLOR", "1")]), true));
        assert!(!colour(&env(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]), true));
        assert!(unicode(&env(&[("LANG", "de_DE.UTF-8")])) && unicode(&env(&[("LC_CTYPE", "C.utf8")])));
        assert!(!unicode(&env(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")])) && !unicode(&env(&[])));
    }

    /// What is written while a run is silent, by the clock of tokio, which stands still until the test moves it.
    #[tokio::test(start_paused = true)]
    async fn silence_is_at_most_ten_seconds_without_a_terminal() {
        let run = async |options: RunOptions| {
            let (out, err) = (Buffer::default(), Buffer::default());
            let ui = Ui::new(
                Box::new(out.clone()),
                Box::new(err.clone()),
                Streams::default(),
                &BTreeMap::new(),
                &options,
            );
            ui.event(&Event::Busy {
                what: "connecting to https://192.0.2.1".to_owned(),
                waited: Duration::ZERO,
            });
            for second in 1..=35 {
                tokio::time::advance(Duration::from_secs(1)).await;
                if second == 25 {
                    ui.event(&Event::Note { text: "a line".to_owned() });
                }
                ui.tick();
            }
            (out.text(), err.text())
        };
        let (_, told) = run(RunOptions::default()).await;
        let connecting = "connecting to https://192.0.2.1";
        assert_eq!(
            told,
            format!("{connecting}\n{connecting}, 10 s\n{connecting}, 20 s\na line\n{connecting}, 35 s\n")
        );
        let (json, _) = run(RunOptions { output: Output::Json, ..RunOptions::default() }).await;
        assert_eq!(json.matches("\"type\":\"busy\"").count(), 4, "{json}");
        let (_, quiet) = run(RunOptions { quiet: true, ..RunOptions::default() }).await;
        assert_eq!(quiet, "");
    }
}
