//! Asks on the terminal. Keys are read one by one, so that all prompts edit alike and Ctrl-C arrives as a key; whatever
//! a prompt changes on the terminal is undone when the prompt ends.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Stdin};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

use super::ask::{Ask, AskError};
use super::line::{End, Key, Keys, Line};
use crate::base::message;
use crate::base::secret::Secret;
use crate::base::text::{hang, width};
use crate::output::ui;

/// Columns for the answer beside the question; with less, it begins on the next line.
const ROOM: usize = 20;
/// A paste can arrive in pieces: this long nothing may come before a question.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Whoever sits at stdin and stderr.
#[derive(Clone, Copy, Debug, Default)]
pub struct TerminalAsk {
    /// Whether the terminal shows UTF-8.
    unicode: bool,
    /// Whether it understands escape sequences.
    escapes: bool,
}

impl TerminalAsk {
    /// What the terminal can do, by the environment.
    pub fn new(env: &BTreeMap<String, String>) -> Self {
        Self { unicode: ui::unicode(env), escapes: !ui::dumb(env) }
    }

    fn write(self, text: &str) -> Result<(), AskError> {
        let text = if self.unicode { text.to_owned() } else { crate::output::ascii(text) };
        Ok(console::Term::stderr().write_str(&text)?)
    }

    /// Reads one line. The answer replaces no line of the screen but its own.
    fn read(self, prompt: &str, hidden: bool, typed_only: bool) -> Result<Line, AskError> {
        let raw = Raw::new(self.escapes)?;
        raw.drain()?;
        loop {
            let line = self.answer(&raw, prompt, hidden, typed_only)?;
            if !line.invalid {
                return Ok(line);
            }
            self.write("error: the answer contains bytes that are not UTF-8: type it again\n")?;
        }
    }

    fn answer(self, raw: &Raw, prompt: &str, hidden: bool, typed_only: bool) -> Result<Line, AskError> {
        let mut field = Field { prefix: self.ask(prompt)?, room: 0, drawn: 0 };
        let (mut keys, mut line) = (Keys::default(), Line::default());
        loop {
            let Some(key) = keys.push(raw.byte()?) else { continue };
            if typed_only && matches!(key, Key::Pasted(_)) {
                continue;
            }
            let end = line.press(key);
            if !hidden {
                let is_last = matches!(end, Some(End::Done));
                self.write(&field.show(&line, key, is_last))?;
            }
            match end {
                None => {}
                Some(End::Done) => {
                    self.write("\n")?;
                    return Ok(line);
                }
                Some(End::Interrupted) => {
                    self.write("^C\n")?;
                    return Err(AskError::Interrupted);
                }
                Some(End::Ended) => {
                    self.write("\n")?;
                    return Err(AskError::Ended);
                }
            }
        }
    }

    /// Writes the question; returns what stands before the answer on the same line.
    fn ask(self, prompt: &str) -> Result<String, AskError> {
        let columns = columns();
        if width(prompt) + ROOM <= columns {
            self.write(prompt)?;
            return Ok(prompt.to_owned());
        }
        self.write(&format!("{}> ", hang("", prompt.trim_end(), columns)))?;
        Ok("> ".to_owned())
    }
}

/// Columns of the terminal now: it may have been resized.
fn columns() -> usize {
    let size = tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if size == 0 { 80 } else { size.max(10) }
}

/// The answer on the screen, in one line: a longer one scrolls.
struct Field {
    prefix: String,
    /// Columns for the answer when it was drawn.
    room: usize,
    /// Columns drawn.
    drawn: usize,
}

impl Field {
    /// What to write after a key. Only carriage returns and blanks are used, which every terminal knows.
    fn show(&mut self, line: &Line, key: Key, is_last: bool) -> String {
        let room = columns().saturating_sub(width(&self.prefix)).max(4);
        let (text, cursor, whole) = line.window(room);
        let drawn = width(&text);
        let is_plain = matches!(key, Key::Char(_) | Key::Pasted(_)) && line.is_at_end() && whole;
        let grown = drawn.checked_sub(self.drawn);
        let prefix = &self.prefix;
        let out = if is_last && !whole {
            // The whole answer stays on the screen.
            let text: String = line.text().chars().filter(|c| !message::is_hostile(*c)).collect();
            format!("\r{prefix}{text}")
        } else if is_last {
            String::new()
        } else if is_plain && room == self.room && grown.is_some_and(|grown| grown > 0) {
            text.chars().next_back().map(String::from).unwrap_or_default()
        } else {
            let blank = " ".repeat(self.drawn.saturating_sub(drawn).min(room.saturating_sub(drawn + 1)));
            let mut out = format!("\r{prefix}{text}{blank}");
            if !blank.is_empty() || cursor < drawn {
                let before: String = line
                    .window(room)
                    .0
                    .chars()
                    .scan(0, |used, c| {
                        *used += width(&c.to_string());
                        (*used <= cursor).then_some(c)
                    })
                    .collect();
                let _ = write!(out, "\r{prefix}{before}");
            }
            out
        };
        (self.room, self.drawn) = (room, drawn);
        out
    }
}

impl Ask for TerminalAsk {
    fn say(&mut self, text: &str) -> Result<(), AskError> {
        let columns = columns();
        let mut shown = String::new();
        for line in text.lines() {
            let indent: String = line.chars().take_while(|c| *c == ' ').collect();
            shown += &hang(&indent, &message::line(line.trim_start()), columns);
        }
        self.write(&shown)
    }

    fn line(&mut self, prompt: &str) -> Result<String, AskError> {
        self.read(prompt, false, false).map(|line| line.text())
    }

    fn consent(&mut self, prompt: &str) -> Result<String, AskError> {
        self.read(prompt, false, true).map(|line| line.text())
    }

    fn secret(&mut self, prompt: &str) -> Result<Secret, AskError> {
        let line = self.read(&format!("{prompt} (not shown): "), true, false)?;
        Ok(Secret::new(line.text()))
    }
}

/// The terminal without echo, line mode and signals.
struct Raw {
    stdin: Stdin,
    before: Termios,
    escapes: bool,
}

fn broken(error: rustix::io::Errno) -> AskError {
    std::io::Error::from(error).into()
}

/// What the terminal was like before the question that is open, for a panic, which runs no destructor.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Lets a panic restore a terminal on which a question is open. Call it once, first thing.
pub fn restore_terminal_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(Some(before)) = BEFORE.try_lock().map(|mut before| before.take()) {
            let _ = console::Term::stderr().write_str("\x1b[?2004l\r\n");
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &before);
        }
        report(panic);
    }));
}

impl Raw {
    /// What was typed before is dropped: it was no answer to this question.
    fn new(escapes: bool) -> Result<Self, AskError> {
        let stdin = std::io::stdin();
        if !std::io::stderr().is_terminal() {
            return Err(AskError::NotATerminal);
        }
        let before = tcgetattr(&stdin).map_err(|_| AskError::NotATerminal)?;
        let mut modes = before.clone();
        modes
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        modes.input_modes.remove(InputModes::IXON);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        if let Ok(mut kept) = BEFORE.lock() {
            *kept = Some(before.clone());
        }
        tcsetattr(&stdin, OptionalActions::Flush, &modes).map_err(broken)?;
        let raw = Self { stdin, before, escapes };
        if escapes {
            console::Term::stderr().write_str("\x1b[?2004h")?;
        }
        Ok(raw)
    }

    /// Drops what was typed or pasted before the question, which can arrive in pieces; Ctrl-C counts.
    fn drain(&self) -> Result<(), AskError> {
        for _ in 0..40 {
            if !self.ready(Some(&QUIET))? {
                return Ok(());
            }
            let mut bytes = [0; 4096];
            let count = rustix::io::read(&self.stdin, &mut bytes).map_err(broken)?;
            if count == 0 {
                return Err(AskError::Ended);
            }
            if bytes[..count].contains(&3) {
                return Err(AskError::Interrupted);
            }
        }
        Err(AskError::Broken("input keeps arriving before the question".to_owned()))
    }

    fn ready(&self, limit: Option<&Timespec>) -> Result<bool, AskError> {
        let mut waiting = [PollFd::new(&self.stdin, PollFlags::IN)];
        Ok(poll(&mut waiting, limit).map_err(broken)? > 0)
    }

    /// The next byte. A signal that is listened to ends the wait.
    fn byte(&self) -> Result<u8, AskError> {
        self.ready(None)?;
        let mut byte = [0];
        match rustix::io::read(&self.stdin, &mut byte) {
            Ok(0) | Err(rustix::io::Errno::IO) => Err(AskError::Ended),
            Ok(_) => Ok(byte[0]),
            Err(error) => Err(broken(error)),
        }
    }
}

impl Drop for Raw {
    /// Restores the terminal; what is left of a paste does not reach the shell.
    fn drop(&mut self) {
        if self.escapes {
            let _ = console::Term::stderr().write_str("\x1b[?2004l");
        }
        let _ = tcsetattr(&self.stdin, OptionalActions::Flush, &self.before);
        if let Ok(mut kept) = BEFORE.lock() {
            *kept = None;
        }
    }
}
