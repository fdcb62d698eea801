//! Text for terminals: cleaning, measuring, wrapping.

use std::time::Duration;

/// A duration in words: `0.5 s`, `12 s`, `3 min 20 s`.
pub fn human_duration(value: Duration) -> String {
    match value.as_secs() {
        0 if value.as_millis() >= 50 => format!("{:.1} s", value.as_secs_f64()),
        s @ 0..=119 => format!("{s} s"),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

/// "3 objects", "1 object".
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

/// The text padded to a number of columns.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Breaks a text into lines, the first of at most `first` columns and the others of `columns`, at spaces only: a word that is longer, such as a
/// URL, stays whole, so that it can be copied. Runs of spaces inside a line are kept.
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

/// `head` followed by the text, wrapped, its further lines below the first, or six columns in where the
/// first begins at the margin: a line that begins there, or where commands stand, is always one of ours. Where too little room is left
/// beside the head, the text starts below it, further in than commands stand.
pub(crate) fn hang(head: &str, text: &str, columns: usize) -> String {
    let indent = width(head);
    if text.is_empty() {
        return format!("{}\n", head.trim_end());
    }
    if indent <= 4 || columns >= indent + 24 {
        let below = if indent == 0 { 6 } else { indent };
        let lines = wrap(text, columns.saturating_sub(indent).max(16), columns.saturating_sub(below).max(16));
        let gap = format!("\n{}", " ".repeat(below));
        return format!("{head}{}\n", lines.join(&gap));
    }
    let below = 6;
    let room = columns.saturating_sub(below).max(16);
    let lines = wrap(text, room, room);
    let gap = format!("\n{}", " ".repeat(below));
    format!("{}{gap}{}\n", head.trim_end(), lines.join(&gap))
}
