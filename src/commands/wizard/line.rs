//! An answer while it is typed: bytes of the terminal become keys, keys edit a line. No terminal is used here.

use crate::base::message::is_hostile;
use crate::base::text::width;

/// Longest answer, in characters: more than any token or path.
const LONGEST: usize = 64 * 1024;
/// Longest escape sequence that is recognised, in bytes.
const LONGEST_SEQUENCE: usize = 16;

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    /// A character of a bracketed paste.
    Pasted(char),
    Enter,
    /// Backspace, Ctrl-H.
    Back,
    /// The Delete key.
    Delete,
    Left,
    Right,
    /// Ctrl-A.
    Home,
    /// Ctrl-E.
    End,
    /// Ctrl-U.
    ClearBefore,
    /// Ctrl-K.
    ClearAfter,
    /// Ctrl-W.
    Word,
    /// Ctrl-C, Ctrl-\.
    Interrupt,
    /// Ctrl-D.
    Eof,
    /// Bytes that are not UTF-8.
    Invalid,
}

/// Turns bytes into keys. In a bracketed paste (`ESC [ 200 ~` to `ESC [ 201 ~`), only the first line counts, and its
/// line break is no Enter.
#[derive(Debug, Default)]
pub struct Keys {
    pending: Vec<u8>,
    paste: Paste,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Paste {
    #[default]
    None,
    /// Before its first character.
    Begun,
    Text,
    /// After its first line break.
    Rest,
}

impl Keys {
    /// The key that a byte completes.
    pub fn push(&mut self, byte: u8) -> Option<Key> {
        if byte < 32 && byte != 27 {
            // Not part of a sequence: Ctrl-C works after Escape.
            let cut = !self.pending.is_empty() && self.pending[0] != 27;
            self.pending.clear();
            return match self.control(byte) {
                Some(Key::Interrupt) => Some(Key::Interrupt),
                _ if cut => Some(Key::Invalid),
                key => key,
            };
        }
        self.pending.push(byte);
        match self.pending[0] {
            27 => self.sequence(),
            127 => {
                self.take();
                self.typed(Key::Back)
            }
            first => {
                let length = match first {
                    0..128 => 1,
                    0xc2..0xe0 => 2,
                    0xe0..0xf0 => 3,
                    0xf0..0xf5 => 4,
                    _ => 0,
                };
                let is_cut = self.pending[1..].iter().any(|byte| !(0x80..0xc0).contains(byte));
                if self.pending.len() < length && !is_cut {
                    return None;
                }
                let bytes = self.take();
                let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.chars().next());
                match text {
                    Some(c) => self.character(c),
                    None => Some(Key::Invalid),
                }
            }
        }
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// A key that has no meaning in a paste.
    fn typed(&self, key: Key) -> Option<Key> {
        (self.paste == Paste::None).then_some(key)
    }

    fn character(&mut self, c: char) -> Option<Key> {
        match self.paste {
            Paste::None => Some(Key::Char(c)),
            Paste::Begun | Paste::Text => {
                self.paste = Paste::Text;
                Some(Key::Pasted(c))
            }
            Paste::Rest => None,
        }
    }

    fn control(&mut self, byte: u8) -> Option<Key> {
        match byte {
            // Also in a paste whose end was lost.
            3 | 28 => return Some(Key::Interrupt),
            b'\r' | b'\n' if self.paste == Paste::Text => self.paste = Paste::Rest,
            b'\t' => return self.character(' '),
            _ => {}
        }
        self.typed(match byte {
            b'\r' | b'\n' => Key::Enter,
            1 => Key::Home,
            2 => Key::Left,
            4 => Key::Eof,
            5 => Key::End,
            6 => Key::Right,
            8 => Key::Back,
            11 => Key::ClearAfter,
            21 => Key::ClearBefore,
            23 => Key::Word,
            _ => return None,
        })
    }

    /// The key of a complete escape sequence; unknown ones are dropped.
    fn sequence(&mut self) -> Option<Key> {
        let complete = match self.pending.as_slice() {
            [_] | [_, b'[' | b'O'] => false,
            [_, b'[', .., last] => (0x40..0x7f).contains(last),
            _ => true,
        };
        if !complete && self.pending.len() < LONGEST_SEQUENCE {
            return None;
        }
        let sequence = self.take();
        let key = match &sequence[1..] {
            b"[200~" => {
                self.paste = Paste::Begun;
                return None;
            }
            b"[201~" => {
                self.paste = Paste::None;
                return None;
            }
            b"[D" | b"OD" => Key::Left,
            b"[C" | b"OC" => Key::Right,
            b"[H" | b"OH" | b"[1~" => Key::Home,
            b"[F" | b"OF" | b"[4~" => Key::End,
            b"[3~" => Key::Delete,
            _ => return None,
        };
        self.typed(key)
    }
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Enter.
    Done,
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D on an empty line.
    Ended,
}

/// The line, and the place of the cursor in it.
#[derive(Debug, Default)]
pub struct Line {
    text: Vec<char>,
    at: usize,
    /// Whether a part of it was not UTF-8.
    pub invalid: bool,
}

impl Drop for Line {
    /// It may hold a token.
    fn drop(&mut self) {
        self.text.fill('\0');
    }
}

impl Line {
    pub fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// Whether the cursor is behind the last character.
    pub fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Applies a key; returns how the answer ends, if it does.
    pub fn press(&mut self, key: Key) -> Option<End> {
        match key {
            Key::Char(c) | Key::Pasted(c) => {
                if self.text.len() < LONGEST {
                    self.text.insert(self.at, c);
                    self.at += 1;
                }
            }
            Key::Enter => return Some(End::Done),
            Key::Interrupt => return Some(End::Interrupted),
            Key::Eof if self.text.is_empty() => return Some(End::Ended),
            Key::Back => {
                if self.at > 0 {
                    self.at -= 1;
                    self.text.remove(self.at);
                }
            }
            Key::Delete | Key::Eof => {
                if self.at < self.text.len() {
                    self.text.remove(self.at);
                }
            }
            Key::Left => self.at = self.at.saturating_sub(1),
            Key::Right => self.at = (self.at + 1).min(self.text.len()),
            Key::Home => self.at = 0,
            Key::End => self.at = self.text.len(),
            Key::ClearBefore => {
                self.text.drain(..self.at);
                self.at = 0;
            }
            Key::ClearAfter => self.text.truncate(self.at),
            Key::Word => {
                let before = &self.text[..self.at];
                let word = before.iter().rposition(|c| !c.is_whitespace()).map_or(0, |at| at + 1);
                let start = before[..word].iter().rposition(|c| c.is_whitespace()).map_or(0, |at| at + 1);
                self.text.drain(start..self.at);
                self.at = start;
            }
            Key::Invalid => self.invalid = true,
        }
        if self.text.is_empty() && key != Key::Invalid {
            self.invalid = false;
        }
        None
    }

    /// The part of the text around the cursor that fits into `room` columns, the column of the cursor in it, and
    /// whether it is the whole text.
    pub fn window(&self, room: usize) -> (String, usize, bool) {
        let room = room.max(2);
        let shown = |c: char| if is_hostile(c) { '?' } else { c };
        let columns = |at: usize| width(shown(self.text[at]).encode_utf8(&mut [0; 4]));
        // From the cursor outwards: a pasted line can be long. One column is for the cursor behind the text.
        let (mut start, mut used) = (self.at, 0);
        while start > 0 && used + columns(start - 1) < room {
            start -= 1;
            used += columns(start);
        }
        let cursor = used;
        let mut end = self.at;
        while end < self.text.len() && used + columns(end) < room {
            used += columns(end);
            end += 1;
        }
        let whole = start == 0 && end == self.text.len();
        (self.text[start..end].iter().copied().map(shown).collect(), cursor, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Key, Keys, Line};

    /// Types these bytes; what the line is then, and how it ended.
    fn typed(bytes: &[u8]) -> (String, Option<End>) {
        let (mut keys, mut line) = (Keys::default(), Line::default());
        for byte in bytes {
            if let Some(end) = keys.push(*byte).and_then(|key| line.press(key)) {
                return (line.text(), Some(end));
            }
        }
        (line.text(), None)
    }

    #[test]
    fn keys_edit_the_line() {
        for (bytes, text) in [
            (b"abc\x7f\x08d".as_slice(), "ad"),
            ("a日本\x7f\x7fé".as_bytes(), "aé"),
            (b"one two  \x17x", "one x"),
            (b"one two\x17\x17\x17", ""),
            (b"abc\x15d", "d"),
            (b"abc\x1b[D\x1b[Dx\x05y", "axbcy"),
            (b"abc\x01\x1b[3~x\x0b", "x"),
            (b"a\tb", "a b"),
            // Unknown sequences and keys do nothing.
            (b"a\x1b[A\x1b[15~\x1bOPb\x0cc", "abc"),
            // Ctrl-D deletes at the cursor, and ends only an empty line.
            (b"ab\x01\x04", "b"),
        ] {
            assert_eq!(typed(bytes), (text.to_owned(), None), "{bytes:?}");
        }
        for (bytes, end) in [
            (b"x\r".as_slice(), End::Done),
            (b"x\n", End::Done),
            (b"x\x03", End::Interrupted),
            (b"\x1b\x03", End::Interrupted),
            (b"\x1b[\x03", End::Interrupted),
            (b"\x1b[200~x\x03", End::Interrupted),
            (b"\x04", End::Ended),
            (b"a\x7f\x04", End::Ended),
        ] {
            assert_eq!(typed(bytes).1, Some(end), "{bytes:?}");
        }
    }

    #[test]
    fn a_paste_gives_its_first_line_and_no_enter() {
        for (bytes, text) in [
            (b"\x1b[200~token\ny\ny\n\x1b[201~".as_slice(), "token"),
            (b"\x1b[200~\r\ntoken\r\nrm\x1b[201~x", "tokenx"),
            (b"\x1b[200~a\x15\x17\x04b\x1b[201~", "ab"),
        ] {
            assert_eq!(typed(bytes), (text.to_owned(), None), "{bytes:?}");
        }
        let mut keys = Keys::default();
        let all: Vec<Key> = b"\x1b[200~y\n\x1b[201~\n".iter().filter_map(|byte| keys.push(*byte)).collect();
        assert_eq!(all, [Key::Pasted('y'), Key::Enter]);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_told() {
        for bytes in [b"caf\xe9s".as_slice(), b"\xff", b"\xe6\x97\r"] {
            let (mut keys, mut line) = (Keys::default(), Line::default());
            for byte in bytes {
                if let Some(key) = keys.push(*byte) {
                    line.press(key);
                }
            }
            assert!(line.invalid, "{bytes:?}");
        }
    }

    #[test]
    fn the_window_follows_the_cursor() {
        let mut line = Line::default();
        for c in "日本語abc".chars() {
            line.press(Key::Char(c));
        }
        assert_eq!(line.window(20), ("日本語abc".to_owned(), 9, true));
        assert_eq!(line.window(9), ("本語abc".to_owned(), 7, false));
        assert_eq!(line.window(4), ("abc".to_owned(), 3, false));
        line.press(Key::Home);
        assert_eq!(line.window(4), ("日".to_owned(), 0, false));
        assert_eq!(line.window(0).1, 0);
    }
}
