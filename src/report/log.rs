//! A job's log as it may be shown: text, tabs and colour; no cursor, no links, no marks of GitLab's own.

use crate::settings::check::is_hostile;

/// The new, whole lines of a growing log.
#[derive(Debug, Default)]
pub struct Log {
    /// How many bytes have been shown.
    shown: usize,
    /// The last line's beginning, while its end is not there yet.
    open: String,
}

impl Log {
    /// Takes the whole log as it is now, and returns the lines that are new.
    pub fn update(&mut self, whole: &str) -> Vec<String> {
        // A log that was erased, or is another job's, begins anew.
        if !whole.is_char_boundary(self.shown) || whole.len() < self.shown {
            *self = Self::default();
        }
        self.open.push_str(&whole[self.shown..]);
        self.shown = whole.len();
        let mut lines = Vec::new();
        while let Some(end) = self.open.find('\n') {
            let line: String = self.open.drain(..=end).collect();
            lines.extend(clean(&line));
        }
        lines
    }

    /// What is left once the job is over: a last line without an end.
    pub fn finish(&mut self) -> Vec<String> {
        let rest = std::mem::take(&mut self.open);
        if rest.is_empty() { Vec::new() } else { clean(&rest).into_iter().collect() }
    }
}

/// One line as it may be shown; none if it held only marks.
fn clean(line: &str) -> Option<String> {
    let line = line.trim_end_matches(['\n', '\r']);
    let had_text = !line.is_empty();
    let mut out = String::new();
    let mut rest = strip_time(line);
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
                // What was written over is not shown: progress bars end in their last state.
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
    // A colour that is not ended would run on into our own lines.
    if out.contains('\u{1b}') {
        out.push_str("\u{1b}[0m");
    }
    Some(out)
}

/// The text without colour.
#[must_use]
pub fn without_colour(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&rest[..at]);
        rest = escape(&rest[at..]).1;
    }
    out + rest
}

/// GitLab may prefix each line with a time and a stream: `2026-05-22T12:43:46.962646Z 00O `.
fn strip_time(line: &str) -> &str {
    let bytes = line.as_bytes();
    let stamp = bytes.len() >= 32
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
    if stamp { &line[32..] } else { line }
}

/// What follows `section_start:1560896352:name\r`, GitLab's mark of a part that can be folded.
fn section_mark(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("section_start:").or_else(|| text.strip_prefix("section_end:"))?;
    let (time, rest) = rest.split_once(':')?;
    if time.is_empty() || !time.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let end = rest.find(['\r', '\u{1b}']).unwrap_or(rest.len());
    Some(&rest[end..])
}

/// Splits an escape sequence (with what belongs to it) from what follows.
fn escape(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let end = match bytes.get(1) {
        // CSI: parameters, then one final byte.
        Some(b'[') => bytes[2..].iter().position(|byte| (0x40..=0x7e).contains(byte)).map(|at| at + 3),
        // OSC and its kin: up to BEL or ST.
        Some(b']' | b'P' | b'_' | b'^' | b'X') => {
            let bell = text.find('\u{7}').map(|at| at + 1);
            let st = text[1..].find("\u{1b}\\").map(|at| at + 3);
            bell.into_iter().chain(st).min()
        }
        Some(byte) if byte.is_ascii() => Some(2),
        Some(_) | None => Some(1),
    };
    // One that never ends takes the rest of the line with it.
    text.split_at(end.unwrap_or(text.len()))
}

/// Select Graphic Rendition, and nothing else.
fn is_colour(sequence: &str) -> bool {
    sequence.strip_prefix("\u{1b}[").and_then(|rest| rest.strip_suffix('m')).is_some_and(|numbers| {
        numbers.len() <= 32 && numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')
    })
}

#[cfg(test)]
mod tests {
    use super::{Log, clean, without_colour};

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
            ("2026-05-22T12:43:46.962646Z 00O hello\n", Some("hello")),
            ("2026-05-22T12:43:46.962646Z is a time\n", Some("2026-05-22T12:43:46.962646Z is a time")),
            ("\u{1b}", None),
            ("\u{1b}[", None),
        ] {
            assert_eq!(clean(line).as_deref(), shown, "{line:?}");
        }
        assert_eq!(without_colour("\u{1b}[31mred\u{1b}[0m."), "red.");
    }

    #[test]
    fn a_log_grows_by_whole_lines_and_may_begin_anew() {
        let mut log = Log::default();
        assert_eq!(log.update("one\ntw"), ["one"]);
        assert_eq!(log.update("one\ntw"), [""; 0]);
        assert_eq!(log.update("one\ntwo\nth"), ["two"]);
        assert_eq!(log.update("é"), [""; 0]);
        assert_eq!(log.finish(), ["é"]);
        assert_eq!(log.finish(), [""; 0]);
    }
}
