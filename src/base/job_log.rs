//! Filters a job's log for the terminal: text, tabs and colour pass; cursor control, links and GitLab's section
//! markers do not.

use crate::base::message::{is_hostile, masked};

/// Characters of a line that are shown at most.
const WIDEST: usize = 32 * 1024;

/// A filtered line of a job's log: only text, tabs and colour, known tokens masked. Only [`Log`] creates one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine(String);

impl LogLine {
    pub(crate) fn coloured(&self) -> &str {
        &self.0
    }

    pub fn plain(&self) -> String {
        without_colour(&self.0)
    }
}

/// Splits a growing log into complete lines, removes the runner's time stamps and joins the parts of a line.
#[derive(Debug, Default)]
pub struct Log {
    /// Bytes read so far.
    read: usize,
    /// The beginning of the last, incomplete line.
    open: String,
    /// Stream and text of lines that their stream may continue; one per stream, in the order of their beginning.
    held: Vec<(String, String)>,
}

impl Log {
    /// Takes the whole current log and returns its new lines.
    pub fn update(&mut self, whole: &str) -> Vec<LogLine> {
        // The log was erased, or belongs to another job: start again.
        if !whole.is_char_boundary(self.read) || whole.len() < self.read {
            *self = Self::default();
        }
        self.open.push_str(&whole[self.read..]);
        self.read = whole.len();
        let mut lines = Vec::new();
        while let Some(end) = self.open.find('\n') {
            let line: String = self.open.drain(..=end).collect();
            self.take(&line, &mut lines);
        }
        lines
    }

    /// Returns the remaining lines once the job is over: an incomplete line, and lines without a continuation.
    pub fn finish(&mut self) -> Vec<LogLine> {
        let rest = std::mem::take(&mut self.open);
        let mut lines = Vec::new();
        if !rest.is_empty() {
            self.take(&rest, &mut lines);
        }
        lines.extend(std::mem::take(&mut self.held).iter().filter_map(|(_, text)| clean(text)));
        lines
    }

    /// Takes one line. A stamped line that its stream may continue is held until the stream's next line, or
    /// until the job is over.
    fn take(&mut self, line: &str, lines: &mut Vec<LogLine>) {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let Some(stamped) = Stamped::read(line) else {
            lines.extend(clean(line));
            return;
        };
        let begun = self.held.iter().position(|(stream, _)| stream == stamped.stream);
        let mut text = begun.map(|at| self.held.remove(at).1).unwrap_or_default();
        if begun.is_some() && !stamped.continues {
            lines.extend(clean(&std::mem::take(&mut text)));
        }
        text.push_str(stamped.text);
        if stamped.may_go_on() {
            self.held.push((stamped.stream.to_owned(), text));
        } else {
            lines.extend(clean(&text));
        }
    }
}

/// A line as gitlab-runner 19.0 and newer write it (`FF_TIMESTAMPS`): `2026-05-22T12:43:46.962646Z 00O hello`.
/// After the time follow the stream (two hex digits, then `O` or `E`) and a space, or `+` if the text
/// continues the stream's last line (gitlab-runner, `common/buildlogger/internal/timestamper`).
struct Stamped<'a> {
    stream: &'a str,
    continues: bool,
    text: &'a str,
}

impl<'a> Stamped<'a> {
    /// Bytes before the text.
    const HEADER: usize = 32;
    /// The runner writes a longer line, in bytes, in parts.
    const LONGEST: usize = 8 * 1024;

    /// `None` for a line without a time stamp.
    fn read(line: &'a str) -> Option<Self> {
        let bytes = line.as_bytes();
        let stamp = bytes.len() >= Self::HEADER
            && bytes[..27].iter().enumerate().all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                10 => *byte == b'T',
                13 | 16 => *byte == b':',
                19 => *byte == b'.',
                26 => *byte == b'Z',
                _ => byte.is_ascii_digit(),
            })
            && bytes[27] == b' '
            && bytes[28..30].iter().all(u8::is_ascii_hexdigit)
            && matches!(bytes[30], b'O' | b'E')
            && matches!(bytes[31], b' ' | b'+');
        stamp.then(|| Self {
            stream: &line[28..31],
            continues: bytes[31] == b'+',
            text: &line[Self::HEADER..],
        })
    }

    /// Whether the stream's next line may continue this one: the runner ends a line early only after a carriage
    /// return and when the line exceeds its buffer.
    fn may_go_on(&self) -> bool {
        self.text.contains('\r') || self.text.len() + Self::HEADER > Self::LONGEST
    }
}

/// Filters one line; `None` if it consists only of control sequences and markers.
fn clean(line: &str) -> Option<LogLine> {
    let line = line.trim_end_matches(['\n', '\r']);
    let line = line.char_indices().nth(WIDEST).map_or(line, |(at, _)| &line[..at]);
    let had_text = !line.is_empty();
    let mut out = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = section_mark(rest) {
            rest = after;
        } else if c == '\u{1b}' {
            let (sequence, after) = escape(rest);
            if is_colour(sequence) {
                out.push_str(sequence);
            }
            rest = after;
        } else {
            match c {
                '\t' => out.push('\t'),
                // Overwritten text is dropped: of a progress bar, only the last state is shown.
                '\r' => {
                    let after = &rest[1..];
                    if !after.is_empty() && section_mark(after).is_none() && !after.starts_with("\u{1b}[0K") {
                        out.clear();
                    }
                }
                c if is_hostile(c) => {}
                c => out.push(c),
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    let text = without_colour(&out);
    if text.trim().is_empty() && had_text && out != line {
        return None;
    }
    // Reset the colour, so that it does not continue into outrigger's own lines.
    if out.contains('\u{1b}') {
        out.push_str("\u{1b}[0m");
    }
    Some(LogLine(masked(&out)))
}

fn without_colour(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&rest[..at]);
        rest = escape(&rest[at..]).1;
    }
    out + rest
}

/// The text after `section_start:1560896352:name\r`, GitLab's marker of a collapsible section.
fn section_mark(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("section_start:").or_else(|| text.strip_prefix("section_end:"))?;
    let (time, rest) = rest.split_once(':')?;
    if time.is_empty() || !time.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let end = rest.find(['\r', '\u{1b}']).unwrap_or(rest.len());
    Some(&rest[end..])
}

/// Splits an escape sequence, with its parameters or payload, from the text after it.
fn escape(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let end = match bytes.get(1) {
        // CSI: parameters, then a final byte.
        Some(b'[') => bytes[2..].iter().position(|byte| (0x40..=0x7e).contains(byte)).map(|at| at + 3),
        // OSC, DCS, APC, PM, SOS: up to BEL or ST.
        Some(b']' | b'P' | b'_' | b'^' | b'X') => {
            let bell = text.find('\u{7}').map(|at| at + 1);
            let st = text[1..].find("\u{1b}\\").map(|at| at + 3);
            bell.into_iter().chain(st).min()
        }
        Some(byte) if byte.is_ascii() => Some(2),
        Some(_) | None => Some(1),
    };
    // A sequence without an end extends to the end of the line.
    text.split_at(end.unwrap_or(text.len()))
}

/// Whether the sequence is Select Graphic Rendition.
fn is_colour(sequence: &str) -> bool {
    sequence.strip_prefix("\u{1b}[").and_then(|rest| rest.strip_suffix('m')).is_some_and(|numbers| {
        numbers.len() <= 32 && numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')
    })
}

#[cfg(test)]
mod tests {
    use super::{Log, LogLine, clean, without_colour};

    impl PartialEq<&str> for LogLine {
        fn eq(&self, other: &&str) -> bool {
            self.coloured() == *other
        }
    }

    #[test]
    fn only_text_tabs_and_colour_pass() {
        for (line, shown) in [
            ("plain\n", Some("plain")),
            ("\n", Some("")),
            ("a\tb\r\n", Some("a\tb")),
            ("\u{1b}[32;1m$ echo\u{1b}[0;m\n", Some("\u{1b}[32;1m$ echo\u{1b}[0;m\u{1b}[0m")),
            ("\u{1b}[2J\u{1b}[1;1Hgone\n", Some("gone")),
            ("\u{1b}]8;;https://evil\u{7}link\u{1b}]8;;\u{7}\n", Some("link")),
            ("\u{1b}]52;c;ZXZpbA==\u{1b}\\x\n", Some("x")),
            ("\u{1b}]0;never ended\n", None),
            ("a\u{202e}b\u{9b}31mc\u{7}\n", Some("ab31mc")),
            ("section_start:1560896352:step\r\u{1b}[0KRunning\n", Some("Running")),
            ("section_end:1560896352:step\r\u{1b}[0K\n", None),
            ("section_end:1:a\r\u{1b}[0Ksection_start:2:b\r\u{1b}[0K\u{1b}[0Knext\n", Some("next")),
            ("section_start:not-a-time\n", Some("section_start:not-a-time")),
            ("10 %\r50 %\r100 %\n", Some("100 %")),
            ("section_end:1:a\r\u{1b}[0Ksection_start:2:b[collapsed=true]\r\u{1b}[0K$ x\n", Some("$ x")),
            ("\u{1b}", None),
            ("\u{1b}[", None),
        ] {
            assert_eq!(clean(line).as_ref().map(LogLine::coloured), shown, "{line:?}");
        }
        assert_eq!(without_colour("\u{1b}[31mred\u{1b}[0m."), "red.");
    }

    #[test]
    fn returns_complete_lines_and_restarts_after_an_erased_log() {
        let mut log = Log::default();
        assert_eq!(log.update("one\ntw"), ["one"]);
        assert_eq!(log.update("one\ntw"), [""; 0]);
        assert_eq!(log.update("one\ntwo\nth"), ["two"]);
        assert_eq!(log.update("é"), [""; 0]);
        assert_eq!(log.finish(), ["é"]);
        assert_eq!(log.finish(), [""; 0]);
    }

    /// The lines of a log that arrives in portions of `portion` bytes.
    fn shown(whole: &str, portion: usize) -> Vec<LogLine> {
        let mut log = Log::default();
        let mut lines = Vec::new();
        for end in (0..whole.len()).step_by(portion).filter(|end| whole.is_char_boundary(*end)) {
            lines.extend(log.update(&whole[..end]));
        }
        lines.extend(log.update(whole));
        lines.extend(log.finish());
        lines
    }

    /// A line with the runner's time stamp.
    fn stamp(mark: &str, text: &str) -> String {
        format!("2026-11-26T17:24:51.980629Z {mark}{text}\n")
    }

    #[test]
    fn removes_time_stamps_and_joins_the_parts_of_a_line() {
        let section = [
            stamp("00O ", "section_start:1792000000:step_script\r\u{1b}[0K"),
            stamp("00O+", "\u{1b}[0K\u{1b}[36;1mExecuting\u{1b}[0;m"),
            stamp("01O ", "hello"),
            stamp("01E ", "world"),
            stamp("00O ", "section_end:1792000001:step_script\r\u{1b}[0K"),
            stamp("00O+", "section_start:1792000001:cleanup\r\u{1b}[0K"),
            stamp("00O+", "Cleaning up"),
        ];
        let long = |n: usize| "x".repeat(n);
        let cases: &[(&[String], &[&str])] = &[
            (&section, &["\u{1b}[36;1mExecuting\u{1b}[0;m\u{1b}[0m", "hello", "world", "Cleaning up"]),
            // Only the last state of a progress bar is shown, even if another stream writes in between.
            (
                &[
                    stamp("01O ", "10 %\r"),
                    stamp("01E ", "careful"),
                    stamp("01O+", "50 %\r"),
                    stamp("01O+", "100 %"),
                    stamp("01O ", "done"),
                ],
                &["careful", "100 %", "done"],
            ),
            // A line of more than 8 KiB arrives in parts.
            (
                &[stamp("01O ", &long(8200)), stamp("01O+", &long(8193)), stamp("01O+", "end")],
                &[&format!("{}end", long(16_393))],
            ),
            // Windows line ends, an empty line, and a line without a continuation.
            (
                &[stamp("01O ", "a\r"), stamp("01O ", "b\r"), stamp("01O ", ""), stamp("0fE ", "c\r")],
                &["a", "b", "", "c"],
            ),
            // A continuation without a beginning is shown alone.
            (&[stamp("01O+", "rest")], &["rest"]),
            (
                &["2026-05-22T12:43:46.962646Z is a time\n".to_owned()],
                &["2026-05-22T12:43:46.962646Z is a time"],
            ),
            (&["2026-05-22T12:43:46.962646Z 00X no\n".to_owned()], &["2026-05-22T12:43:46.962646Z 00X no"]),
        ];
        for (lines, expected) in cases {
            let whole = lines.concat();
            for portion in [1, 7, 40, usize::MAX] {
                assert_eq!(shown(&whole, portion), *expected, "in portions of {portion}: {whole:?}");
            }
        }
    }

    #[test]
    fn shows_a_complete_line_at_once() {
        let mut log = Log::default();
        assert_eq!(log.update(&stamp("01O ", "hello")), ["hello"]);
    }
}
