//! Output without what differs from run to run, for comparing whole outputs with kept ones.

use std::fmt::Write as _;

type IsPart = fn(char) -> bool;

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn is_hex(c: char) -> bool {
    c.is_ascii_hexdigit()
}

/// What varies, by what stands before it.
const VARYING: &[(&str, IsPart)] = &[
    ("127.0.0.1:", is_digit),
    ("localhost:", is_digit),
    ("gitlab.example.com:", is_digit),
    ("/tmp/outrigger-article-", |c| c.is_ascii_alphanumeric()),
    ("/tmp/outrigger-home-", |c| c.is_ascii_alphanumeric()),
    ("/.outrigger-", |c| c.is_ascii_alphanumeric()),
    ("-admin-", is_hex),
    ("01DOUBLE", is_digit),
    ("SHA-256 ", |c| is_hex(c) || ":…".contains(c)),
    ("on main (", is_hex),
    ("of main (", is_hex),
    ("commit ", is_hex),
    // What `outrigger version` says of a build.
    ("commit         ", |_| true),
    ("platform       ", |_| true),
    ("reverted in ", is_hex),
    ("Checking out ", is_hex),
    ("teardown at ", |c| !c.is_whitespace()),
    ("kept, ", is_digit),
    ("last contact ", is_digit),
    ("gone after ", is_digit),
    ("(after ", is_digit),
    // Certificates differ by a few bytes.
    ("wrote launch.sh, ", |c| is_digit(c) || c == '.'),
];

/// The same, by what stands behind it.
const VARYING_BEFORE: &[(&str, IsPart)] =
    &[(" days left", is_digit), (" bytes, but", is_digit), (" s in all.", |c| is_digit(c) || c == '.')];

/// The text with what differs from run to run written as `…`.
pub fn settled(text: &str) -> String {
    let mut out = String::new();
    let mut deployments = Vec::new();
    let mut passing = false;
    for line in with_whole_end(text).lines() {
        passing = passes(line) || passing && line.starts_with("      ");
        if passing {
            continue;
        }
        let mut line =
            with_own_numbers(&without_times(&without_ids(&without_stamps(line))), &mut deployments);
        for (before, is_part) in VARYING {
            line = blanked(&line, before, *is_part);
        }
        // A commit in brackets, on a line of its own.
        let commit = line.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        if commit.is_some_and(|commit| commit.len() == 8 && commit.chars().all(is_hex)) {
            line = blanked(&line, " (", is_hex);
        }
        for (behind, is_part) in VARYING_BEFORE {
            if let Some((head, tail)) = line.split_once(behind) {
                line = format!("{}…{behind}{tail}", head.trim_end_matches(*is_part));
            }
        }
        // The age in a table.
        if let Some(rest) = line.strip_suffix('s')
            && let kept = rest.trim_end_matches(is_digit)
            && kept.len() < rest.len()
            && kept.ends_with("   ")
        {
            line = format!("{kept}…");
        }
        // Where builds go is up to whoever builds.
        if line.ends_with("/article/launch.sh")
            && let Some((said, _)) = line.split_once("look at: ")
        {
            line = format!("{said}look at: target/article/launch.sh");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The text with its last sentence on one line: where that breaks depends on the digits of the time in it.
fn with_whole_end(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    let mut rest = lines.as_slice();
    while let Some((first, others)) = rest.split_first() {
        let more = others.iter().take_while(|line| line.starts_with("      ")).count();
        let (paragraph, after) = rest.split_at(more + 1);
        let whole =
            paragraph.iter().skip(1).fold((*first).to_owned(), |whole, line| whole + " " + line.trim());
        if whole.ends_with(" s in all.") {
            out.push_str(&whole);
        } else {
            out.push_str(&paragraph.join("\n"));
        }
        out.push('\n');
        rest = after;
    }
    out
}

/// Whether it begins a message about a wait or another try: how many there are depends on the machine.
fn passes(line: &str) -> bool {
    let beats = || {
        let (_, time) = line.rsplit_once(", ")?;
        time.strip_suffix(" s")?.parse::<f64>().ok()
    };
    let waits = line.starts_with("… ") || line.starts_with("... ") || line.starts_with("retry: ");
    waits || !line.starts_with(' ') && beats().is_some()
}

/// The line with each run of such characters behind `before` written as `…`, unless it is a part of a word.
fn blanked(line: &str, before: &str, is_part: IsPart) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(before) {
        let (head, tail) = rest.split_at(at + before.len());
        let cut = tail.trim_start_matches(is_part);
        out.push_str(head);
        if cut.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            rest = tail;
            continue;
        }
        if cut.len() < tail.len() {
            out.push('…');
        }
        rest = cut;
    }
    out + rest
}

/// The line with each UUID, id of a deployment and fingerprint written as `…`.
fn without_ids(line: &str) -> String {
    let is_part = |c: char| is_hex(c) || c == '-' || c == ':';
    let groups = |word: &str, between: char| word.split(between).map(str::len).collect::<Vec<_>>();
    let is_id = |word: &str| {
        let pairs = groups(word, ':');
        groups(word, '-') == [8, 4, 4, 4, 12]
            || pairs == [32]
            || pairs.len() > 3 && pairs.iter().all(|two| *two == 2)
    };
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(is_part) {
        let end = rest[at..].find(|c: char| !is_part(c)).map_or(rest.len(), |length| at + length);
        out.push_str(&rest[..at]);
        let word = &rest[at..end];
        // A colon behind it is not of it.
        let id = word.trim_end_matches(':');
        out.push_str(if is_id(id) { "…" } else { id });
        out.push_str(&word[id.len()..]);
        rest = &rest[end..];
    }
    out + rest
}

/// The line with each time as AWS signs it (`20260131T120000Z`) and each clock (`2026-01-31 12:00:00`) written as `…`.
fn without_stamps(line: &str) -> String {
    let shape = |word: &str| {
        let word = word.trim_matches(['(', ')', ',', '.']);
        word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>()
    };
    let words: Vec<&str> = line.split(' ').collect();
    let mut out: Vec<String> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let next = words.get(index + 1).map(|next| shape(next)).unwrap_or_default();
        out.push(match shape(word).as_str() {
            "00000000T000000Z" => "…".to_owned(),
            "0000-00-00" if next == "00:00:00" => "…".to_owned(),
            "00:00:00" if out.last().is_some_and(|last| last == "…") => "…".to_owned(),
            _ => (*word).to_owned(),
        });
    }
    out.join(" ")
}

/// The line with each time of a day, such as `2026-01-31T12:00:00Z`, written as `…`.
fn without_times(line: &str) -> String {
    const SHAPE: &str = "0000-00-00T00:00:00Z";
    let is_time = |text: &str| {
        text.chars().zip(SHAPE.chars()).all(|(c, s)| if s == '0' { is_digit(c) } else { c == s })
    };
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(is_digit) {
        let (head, tail) = rest.split_at(at);
        out.push_str(head);
        let length = match tail.get(..SHAPE.len()) {
            Some(time) if is_time(time) => {
                out.push('…');
                SHAPE.len()
            }
            _ => {
                let number = tail.find(|c: char| !is_digit(c)).unwrap_or(tail.len());
                out.push_str(&tail[..number]);
                number
            }
        };
        rest = &tail[length..];
    }
    out + rest
}

/// The line with the deployments of the tests, of which other runs have others, numbered as they appear.
fn with_own_numbers(line: &str, seen: &mut Vec<String>) -> String {
    const NAME: &str = "acme-";
    let mut parts = line.split(NAME);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !is_digit(c)).unwrap_or(part.len());
        let (number, rest) = part.split_at(end);
        out += NAME;
        if number.len() == 4 {
            let at = seen.iter().position(|one| one == number).unwrap_or_else(|| {
                seen.push(number.to_owned());
                seen.len() - 1
            });
            let _ = write!(out, "{:04}", at + 1);
        } else {
            out += number;
        }
        out += rest;
    }
    out
}
