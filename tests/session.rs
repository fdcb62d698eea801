//! The session in `examples/session.txt` is what `cargo run --example article` prints: real output, with what
//! differs from run to run written as `…`, and README's picture is made from it. `UPDATE_SESSION=1 cargo test --test
//! session` writes both anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "common/picture.rs"]
mod picture;
#[path = "common/settled.rs"]
mod settled;

use settled::settled;

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
    assert_eq!(settled("uid 3f1c9a52-7d0e-4b6a-9c1d-2a8e5f40b7c3, 3f1c-9a52"), "uid …, 3f1c-9a52\n");
    assert_eq!(settled("since 2026-01-31T12:00:00Z, until 2026-01-31"), "since …, until 2026-01-31\n");
    assert_eq!(
        settled("acme-1207, acme-1003/acme-1207-jobs, acme-7"),
        "acme-0001, acme-0002/acme-0001-jobs, acme-7\n"
    );
    assert_eq!(settled("the commit and the commit 1d3c1367"), "the commit and the commit …\n");
    let waits = "✔ a\n… b  waiting for c,\n       0.5 s\nretry: d\n      (e)\nb, 11 s\n✔ b\n";
    assert_eq!(settled(waits), "✔ a\n✔ b\n");
}
