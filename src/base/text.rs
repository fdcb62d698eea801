//! Text for terminals: cleaning, measuring, wrapping.

use std::time::Duration;

/// `0.5 s`, `12 s`, `3 min 20 s`.
pub fn human_duration(value: Duration) -> String {
    match value.as_secs() {
        0 if value.as_millis() >= 50 => format!("{:.1} s", value.as_secs_f64()),
        s @ 0..=119 => format!("{s} s"),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

/// The time since an event, such as `40 s ago`.
pub fn ago(time: jiff::Timestamp, now: jiff::Timestamp) -> String {
    match since(time, now).as_secs() {
        seconds @ 0..=119 => format!("{seconds} s ago"),
        seconds @ 120..=7199 => format!("{} min ago", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// Zero for a time to come.
pub fn since(time: jiff::Timestamp, now: jiff::Timestamp) -> Duration {
    Duration::try_from(now.duration_since(time)).unwrap_or_default()
}

/// In days, hours or minutes.
pub fn span(value: Duration) -> String {
    match value.as_secs() {
        s if s >= 2 * 86_400 => count(usize::try_from(s / 86_400).unwrap_or(0), "day"),
        s if s >= 2 * 3600 => count(usize::try_from(s / 3600).unwrap_or(0), "hour"),
        s => count(usize::try_from(s / 60).unwrap_or(0), "minute"),
    }
}

/// "3 objects", "1 object".
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The text with its first letter in upper case.
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The name that differs from `wanted` in at most two characters; case and dashes do not count.
pub fn closest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let wanted = plain(wanted);
    names
        .map(|name| (strsim::levenshtein(&wanted, &plain(name)), name))
        .min()
        .filter(|(far, name)| *far <= 2 && *far < name.len())
        .map(|(_, name)| name)
}

/// The width of the text in terminal columns.
pub(crate) fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

pub(crate) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Breaks a text at spaces into lines, the first of at most `first` columns, the others of at most `columns`. A
/// longer word, such as a URL, stays whole so that it can be copied. Runs of spaces inside a line are kept.
pub(crate) fn wrap(text: &str, first: usize, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let paragraph = paragraph.replace('\t', "    ");
        let (mut line, mut gap) = (String::new(), String::new());
        for word in paragraph.split_inclusive(' ') {
            let bare = word.trim_end_matches(' ');
            let room = if lines.is_empty() { first } else { columns };
            if !line.is_empty() && !bare.is_empty() && width(&line) + gap.len() + width(bare) > room {
                lines.push(std::mem::take(&mut line).trim_end_matches(' ').to_owned());
                gap.clear();
            }
            line.push_str(&std::mem::take(&mut gap));
            line.push_str(bare);
            gap.push_str(&word[bare.len()..]);
            if bare.is_empty() {
                line.push_str(&std::mem::take(&mut gap));
            }
        }
        lines.push(line.trim_end_matches(' ').to_owned());
    }
    lines
}

/// `head` followed by the wrapped text. Further lines align with the first; they are indented by six columns
/// if the first begins at the margin, because only outrigger's own text may begin at the margin or at the
/// indentation of commands. If less than 24 columns remain beside the head, the text begins below it, at six
/// columns.
pub(crate) fn hang(head: &str, text: &str, columns: usize) -> String {
    let indent = width(head);
    if text.is_empty() {
        return format!("{}\n", head.trim_end());
    }
    let beside = indent <= 4 || columns >= indent + 24;
    let below = if beside && indent > 0 { indent } else { 6 };
    let room = |used| columns.saturating_sub(used).max(16);
    let gap = format!("\n{}", " ".repeat(below));
    let lines = wrap(text, room(if beside { indent } else { below }), room(below)).join(&gap);
    if beside { format!("{head}{lines}\n") } else { format!("{}{gap}{lines}\n", head.trim_end()) }
}
