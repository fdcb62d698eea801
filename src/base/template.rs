//! Renders templates and quotes values.
//!
//! Each value passes a filter that quotes it for its language ([`shell_quote`], [`toml_string`],
//! [`yaml_string`]) or keeps it in its comment line.

use std::fmt::Write as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior};

use crate::base::error::{Failure, Id, Result};

/// Renders a template: `{{ value | yaml }}` quotes for YAML, `sh` for a shell, `toml` for TOML; `comment` keeps
/// a value in its comment line. A placeholder without a value is an error. Fails with OR0710, which names the
/// line and no value.
pub fn render(name: &str, text: &str, values: &serde_json::Value) -> Result<String> {
    rendered(name, text, &[] as &[(&str, &str)], minijinja::Value::from(minijinja::value::Serde(values)))
}

/// [`render`] for a template that includes the `parts`, which are pairs of name and text.
pub(crate) fn rendered(
    name: &str,
    text: &str,
    parts: &[(&str, impl AsRef<str>)],
    values: minijinja::Value,
) -> Result<String> {
    let broken = |error: &minijinja::Error| {
        // The error's own text may quote values; its kind and line suffice for a bug report.
        let line = error.line().map_or_else(|| "unknown".to_owned(), |line| line.to_string());
        Failure::new(Id::Template, format!("cannot render the template {name}"))
            .detail("reason", format!("{}, line {line}", error.kind()))
    };
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .map_err(|error| broken(&error))?;
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_syntax(syntax);
    env.add_filter("sh", |value: &str| shell_quote(value));
    env.add_filter("toml", |value: &str| toml_string(value));
    env.add_filter("yaml", |value: &str| yaml_string(value));
    env.add_filter("comment", |value: &str| comment_text(value));
    for (name, text) in parts {
        env.add_template(name, text.as_ref()).map_err(|error| broken(&error))?;
    }
    env.render_named_str(name, text, values).map_err(|error| broken(&error))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The value in single quotes, for every POSIX shell. It must not contain a NUL byte.
pub fn shell_quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// The value as one word for a POSIX shell, in single quotes if it needs them.
pub fn shell_word(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+=".contains(c);
    if !value.is_empty() && value.chars().all(plain) && !value.starts_with('=') {
        value.to_owned()
    } else {
        shell_quote(value)
    }
}

/// A TOML basic string on one line.
///
/// Escapes only what the format requires, in the form of the runner's own TOML writer: outrigger recognises its
/// entry by comparing text, also after the runner has rewritten the file.
pub fn toml_string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A scalar that YAML 1.1 and 1.2 read alike: a JSON string in which characters that one of them reads as a line
/// break or drops are escaped.
pub fn yaml_string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    for c in serde_json::Value::from(value).to_string().chars() {
        match c {
            '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}

/// A value for a comment line, at most 200 characters: it cannot end the line or reorder the visible text.
fn comment_text(value: &str) -> String {
    const LONGEST: usize = 200;
    let mut out = String::new();
    for (at, c) in value.chars().enumerate() {
        if at == LONGEST {
            out.push('…');
            break;
        }
        match c {
            // Line ends, invisible characters and bidirectional controls.
            _ if c.is_control() => out.extend(c.escape_unicode()),
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                out.extend(c.escape_unicode());
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{comment_text, shell_quote, toml_string, yaml_string};

    #[test]
    fn quotes_for_shell_and_toml() {
        assert_eq!(shell_quote("it's $(x) `y`\n"), "'it'\\''s $(x) `y`\n'");
        assert_eq!(toml_string("a\"\\\n\u{1}\u{7f}é\u{2028}"), "\"a\\\"\\\\\\n\\u0001\\u007fé\u{2028}\"");
    }

    #[test]
    fn a_comment_stays_one_line() {
        let text = comment_text("a\nrm -rf /\r\u{2028}\u{202e}b\u{85}");
        assert_eq!(text, "a\\u{a}rm -rf /\\u{d}\\u{2028}\\u{202e}b\\u{85}");
        assert!(comment_text(&"x".repeat(9000)).len() < 210);
    }

    #[test]
    fn quotes_words_with_a_special_meaning_in_yaml_1_1() {
        for word in [
            "yes",
            "no",
            "on",
            "12:30:45",
            "1_000",
            "2001-01-01",
            "=",
            "<<",
            "~",
            "null",
            "0x1f",
            "*a",
            "&a",
            "!x",
        ] {
            let quoted = yaml_string(word);
            assert!(quoted.starts_with('"') && quoted.ends_with('"'), "{quoted}");
        }
        assert_eq!(yaml_string("a\u{85}b\u{2028}c\u{feff}"), r#""a\u0085b\u2028c\ufeff""#);
    }
}
