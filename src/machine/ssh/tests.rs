use super::*;

fn ssh(options: &[&str]) -> Ssh {
    Ssh {
        login: Login {
            host: Host::parse("admin@[::1]:2222").expect("a host"),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            keys: Vec::new(),
        },
        known_hosts: None,
        env: Vec::new(),
        interactive: false,
        made: None,
    }
}

#[test]
fn options_of_outrigger_come_first_and_the_host_last() {
    let arguments = ssh(&["ConnectTimeout=3", "IdentityFile=/a b"]).arguments();
    let at = |text: &str| arguments.iter().position(|one| one == text).unwrap_or_else(|| panic!("{text}"));
    assert!(at("StrictHostKeyChecking=yes") < at("IdentityFile=/a b"));
    assert!(at("ConnectTimeout=3") < at("ConnectTimeout=10"), "ssh takes the first");
    // The user and the port that are shown are those that are used.
    assert!(at("-l") < at("IdentityFile=/a b") && arguments[at("-l") + 1] == "admin");
    assert_eq!(arguments[at("-p") + 1], "2222");
    assert_eq!(arguments[arguments.len() - 2..], ["--", "::1"]);
    assert!(arguments.iter().any(|one| one == "BatchMode=yes"));
}

#[test]
fn pinned_keys_replace_all_known_hosts() {
    let mut ssh = ssh(&["UserKnownHostsFile=/mine"]);
    ssh.known_hosts = Some("/pins".to_owned());
    let arguments = ssh.arguments();
    let first = arguments.iter().find(|one| one.starts_with("UserKnownHostsFile"));
    assert_eq!(first.map(String::as_str), Some("UserKnownHostsFile=/pins"));
    for option in ["GlobalKnownHostsFile=/dev/null", "KnownHostsCommand=none"] {
        assert!(arguments.iter().any(|one| one == option), "{option}");
    }
}

#[test]
fn facts_carry_the_nonce_and_lines_their_bytes() {
    let mut lines = Lines::new("ab12");
    let mut said = Vec::new();
    for piece in
        ["Welcome\r\noutrig", "ger ab12 access root\noutrigger cd34 access root\n", "outrigger: x", "\n"]
    {
        lines.take(piece.as_bytes(), &mut |one| said.push(one));
    }
    let line = |text: &str, bytes| Said::Line(text.to_owned(), bytes);
    assert_eq!(
        said,
        [
            line("Welcome", 9),
            Said::Fact("access".to_owned(), "root".to_owned()),
            line("outrigger cd34 access root", 27),
            line("outrigger: x", 13),
        ]
    );
}

#[test]
fn lines_without_end_and_facts_without_number_are_bounded() {
    let mut lines = Lines::new("ab12");
    let (mut facts, mut text) = (0, 0);
    let mut count = |one| match one {
        Said::Fact(..) => facts += 1,
        Said::Line(..) => text += 1,
    };
    lines.take(&vec![b'x'; 100_000], &mut count);
    for _ in 0..1000 {
        lines.take(b"\noutrigger ab12 a b\n", &mut count);
    }
    assert!(text > 0 && lines.rest.is_empty());
    assert_eq!(facts, MOST_FACTS);
}

/// An upload can end at any byte, and for the host's shell that is the end of its input.
#[test]
fn a_program_that_was_cut_short_runs_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let base = dir.path().join("outrigger-demo").display().to_string();
    let script = format!("echo ran >>'{base}-ran'\n").repeat(30);
    let place = Place { deployment: "demo", nonce: "ab12", reserver: "" };
    let program = place.run(&Secret::new(script), Some(&Secret::new("tokens"))).expect("a program");
    let program =
        program.expose().replace("/run/outrigger-demo", &base).replace("/run/systemd/system", &base);
    let run = |program: &str| {
        let mut child = std::process::Command::new("sh")
            .arg("-s")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let _ = std::io::Write::write_all(&mut stdin, program.as_bytes());
        drop(stdin);
        child.wait().expect("sh ends");
    };
    // The last byte is the line break after the call.
    let last = program.len() - 2;
    for end in (0..last).step_by(97).chain(last - 20..=last) {
        run(&program[..end]);
        let made: Vec<_> = std::fs::read_dir(dir.path()).expect("a directory").flatten().collect();
        assert!(made.is_empty(), "{end} of {} bytes: {made:?}", program.len());
    }
    run(&program);
    assert!(dir.path().join("outrigger-demo-ran").exists(), "the whole program runs");
}
