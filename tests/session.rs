//! The session in `examples/session.txt` is what `cargo run --example article` prints: real output, with what
//! differs from run to run written as `…`, and README's picture is made from it. `UPDATE_SESSION=1 cargo test --test
//! session` writes both anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "common/picture.rs"]
mod picture;

/// Runs the example as a user would, in a terminal of a fixed width without colour.
fn session() -> String {
    // stdout has the lines that are typed, stderr what comes of them: one stream, as a terminal shows them.
    let mut cargo = Command::new("sh");
    // What cargo tells this test about its package would, passed on, make ring's build script run again, and with
    // it half of the crates be compiled.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_"]
            .iter()
            .any(|set| name.to_string_lossy().starts_with(set))
        {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .args(["-c", "exec \"$0\" run --quiet --locked --example article 2>&1 </dev/null", env!("CARGO")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("COLUMNS", "100")
        .env("LANG", "C.UTF-8")
        .env("NO_COLOR", "1")
        .env_remove("LC_ALL")
        .env_remove("CI")
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).expect("text")
}

/// What differs from run to run, by what stands before it.
fn settled(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        for (before, is_part) in [
            ("127.0.0.1:", (|c: char| c.is_ascii_digit()) as fn(char) -> bool),
            ("/tmp/outrigger-article-", |c| c.is_ascii_alphanumeric()),
            ("kubernetes-runner-admin-", |c| c.is_ascii_hexdigit()),
            ("--anchor-uid ", |c| c.is_ascii_hexdigit() || "-…".contains(c)),
            ("SHA-256 ", |c| c.is_ascii_hexdigit() || ":….".contains(c)),
            ("on main (", |c| c.is_ascii_hexdigit()),
            ("of main (", |c| c.is_ascii_hexdigit()),
            ("commit ", |c| c.is_ascii_hexdigit()),
            ("reverted in ", |c| c.is_ascii_hexdigit()),
            ("Checking out ", |c| c.is_ascii_hexdigit()),
            ("teardown at ", |c| !c.is_whitespace()),
            ("from your kubeconfig, ", |c| c.is_ascii_digit()),
            ("kept, ", |c| c.is_ascii_digit()),
            ("last contact ", |c| c.is_ascii_digit()),
            ("gone after ", |c| c.is_ascii_digit()),
            ("401 (after ", |c| c.is_ascii_digit()),
            // Certificates differ by a few bytes.
            ("wrote launch.sh, ", |c| c.is_ascii_digit() || c == '.'),
        ] {
            line = blanked(&line, before, is_part);
        }
        // How long it took stands at the end of a run's last line.
        if let Some((rest, _)) = line.rsplit_once(" s in all.") {
            let kept = rest.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
            line = format!("{kept}… s in all.");
        }
        // Where builds go is up to whoever builds.
        if line.ends_with("/article/launch.sh")
            && let Some((said, _)) = line.split_once("look at: ")
        {
            line = format!("{said}look at: target/article/launch.sh");
        }
        // Whether a wait was long enough to be said depends on the machine.
        if line.contains(" waiting for ") {
            continue;
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The line with each run of such characters behind `before` written as `…`.
fn blanked(line: &str, before: &str, is_part: fn(char) -> bool) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(before) {
        let (head, tail) = rest.split_at(at + before.len());
        let cut = tail.trim_start_matches(is_part);
        out.push_str(head);
        if cut.len() < tail.len() {
            out.push('…');
        }
        rest = cut;
    }
    out + rest
}

#[test]
fn the_session_is_what_the_example_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/session.txt");
    let now = settled(&session());
    if std::env::var_os("UPDATE_SESSION").is_some() {
        fs::write(&path, &now).expect("the example can be written");
        fs::write(picture_path(), picture::picture(&now)).expect("the picture can be written");
    }
    let kept = fs::read_to_string(&path).expect("examples/session.txt");
    let first = kept.lines().zip(now.lines()).position(|(kept, now)| kept != now);
    if let Some(at) = first {
        let of = |text: &str| text.lines().nth(at).unwrap_or_default().to_owned();
        panic!(
            "line {} is\n  {}\nand was\n  {}\nUPDATE_SESSION=1 cargo test --test session writes it anew",
            at + 1,
            of(&now),
            of(&kept)
        );
    }
    assert_eq!(kept.lines().count(), now.lines().count(), "one has more lines");
}

/// README's picture.
fn picture_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/session.svg")
}

#[test]
fn the_picture_shows_the_session() {
    let session = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/session.txt");
    let now = picture::picture(&fs::read_to_string(session).expect("examples/session.txt"));
    let kept = fs::read_to_string(picture_path()).expect("docs/session.svg");
    assert!(
        kept == now,
        "docs/session.svg shows another session: UPDATE_SESSION=1 cargo test --test session"
    );
}

#[test]
fn what_varies_is_blanked_and_nothing_else() {
    assert_eq!(settled("at https://127.0.0.1:4711, v1"), "at https://127.0.0.1:…, v1\n");
    assert_eq!(settled("to look at: /a/b/article/launch.sh"), "to look at: target/article/launch.sh\n");
    assert_eq!(settled("to look at: /a/b/launch.sh"), "to look at: /a/b/launch.sh\n");
    assert_eq!(settled("Done. 12.3 s in all."), "Done. … s in all.\n");
    assert_eq!(
        settled("kept: runner 1001, last contact 7 s ago"),
        "kept: runner 1001, last contact … s ago\n"
    );
}
