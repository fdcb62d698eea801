//! The picture of a session for README: parts of `examples/session.txt` as an SVG.

use std::fmt::Write as _;

/// The first and the last line of each part, by what they begin with. What is between two parts is left out, and shows
/// as one line with an ellipsis, except before a command.
const PARTS: &[(&str, &str)] = &[
    ("$ outrigger setup --non-interactive --project", "✔ launch-script"),
    ("$ outrigger setup --non-interactive --commit-pipeline", "$ outrigger setup"),
    ("✔ commit-pipeline", "pipeline 5001"),
    ("  test │ Executing", "✔ run-pipeline"),
    ("$ outrigger teardown", "$ outrigger teardown"),
    ("✔ commit-pipeline", "✔ create-namespaces"),
    ("Removed kubernetes-runner", "Removed"),
];

/// Width of a character and height of a line, in pixels.
const CELL: (f32, usize) = (7.25, 17);
const MARGIN: usize = 14;

/// The lines that are shown.
fn excerpt(session: &str) -> Vec<&str> {
    let mut lines = session.lines().peekable();
    let mut shown = Vec::new();
    for (first, last) in PARTS {
        let mut skipped = false;
        while lines.next_if(|line| !line.starts_with(first)).is_some() {
            skipped = true;
        }
        assert!(
            lines.peek().is_some(),
            "examples/session.txt has no further line that begins with {first:?}"
        );
        if first.starts_with('$') && !shown.is_empty() {
            shown.push("");
        } else if skipped && !shown.is_empty() {
            shown.push("…");
        }
        for line in lines.by_ref() {
            shown.push(line);
            if line.starts_with(last) {
                break;
            }
        }
    }
    shown
}

/// A line in pieces, each with the class of its colour, as outrigger paints it on a terminal.
fn pieces(line: &str) -> Vec<(&'static str, &str)> {
    if line.starts_with("$ ") || ["Plan", "kubernetes-runner"].contains(&line) {
        return vec![("b", line)];
    }
    if line == "…" {
        return vec![("d", line)];
    }
    if let Some(rest) = line.strip_prefix('✔') {
        return vec![("g", "✔"), ("", rest)];
    }
    if let Some((job, rest)) = line.split_once(" │ ") {
        return vec![("d", &line[..job.len() + " │ ".len()]), ("", rest)];
    }
    // A line of the plan: two spaces, the step in twenty columns, the mark.
    match (line.get(..22), line.get(22..24)) {
        (Some(step), Some(mark @ ("+ " | "~ " | "- "))) if step.starts_with("  ") => {
            let class = match mark {
                "+ " => "g",
                "~ " => "y",
                _ => "r",
            };
            vec![("", step), (class, mark), ("", &line[24..])]
        }
        _ => vec![("", line)],
    }
}

/// The picture.
pub fn picture(session: &str) -> String {
    let lines = excerpt(session);
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small"
    )]
    let width = (columns as f32 * CELL.0) as usize + 2 * MARGIN;
    let height = lines.len() * CELL.1 + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <!-- Parts of examples/session.txt; written by UPDATE_SESSION=1 and the test target session -->\n\
         <style>text{{font:12px ui-monospace,Menlo,Consolas,\"DejaVu Sans Mono\",monospace;fill:#d8dee9;white-space:pre}}\
         .b{{font-weight:bold;fill:#fff}}.d{{fill:#8b95a5}}.g{{fill:#8fd18f}}.y{{fill:#e5c76b}}.r{{fill:#e88388}}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#1f2430\"/>\n"
    );
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let y = MARGIN + number * CELL.1 + 12;
        let _ = write!(svg, "<text x=\"{MARGIN}\" y=\"{y}\" xml:space=\"preserve\">");
        for (class, text) in pieces(line) {
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let _ = match class {
                "" => write!(svg, "{text}"),
                class => write!(svg, "<tspan class=\"{class}\">{text}</tspan>"),
            };
        }
        svg += "</text>\n";
    }
    svg + "</svg>\n"
}
