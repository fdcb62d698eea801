//! The script's text: lint, size, head, what it refuses to hold.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outrigger::internal::Secret;
use outrigger::internal::target::find;
use outrigger::internal::{GlobalSection, LaunchScript, Method, Proxy, ScriptSecrets, is_ours};
use outrigger::internal::{Packed, packed};

use sha2::{Digest as _, Sha256};

use super::machine::Machine;
use super::sample::{
    CA, PREAMBLE, RUNNER_TOKEN, SHELLS, by, for_machine, present, required, sample, shells, text, tokens,
    with_image,
};

const SHA256: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub fn lint(text: &str) {
    lint_but(text, "");
}

/// The same, but for some of shellcheck's rules.
fn lint_but(text: &str, rules: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("launch.sh");
    fs::write(&path, text).unwrap();
    for shell in shells() {
        let status = Command::new(shell[0]).args(&shell[1..]).arg("-n").arg(&path).status().unwrap();
        assert!(status.success(), "{shell:?} -n");
    }
    if let Ok(output) = Command::new("shellcheck")
        .args(["-s", "dash", "--severity=style", "--exclude", rules])
        .arg(&path)
        .output()
    {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_tools_of_these_tests_are_there_when_required() {
    let mut missing = String::new();
    for tool in SHELLS.map(|shell| shell[0]).into_iter().chain(["shellcheck"]) {
        if !present(tool) {
            let _ = write!(missing, " {tool}");
        }
    }
    assert!(missing.is_empty() || !required(), "missing:{missing}");
    if !missing.is_empty() {
        println!("not run with:{missing}");
    }
}

#[test]
fn every_form_passes_the_linters() {
    let (tokens, tags) = (tokens(), ["k8s-runner".to_owned()]);
    for (secrets, shared) in
        [(Some(tokens.both()), true), (Some(tokens.both()), false), (None, true), (None, false)]
    {
        let script = for_machine(&sample(&tags, secrets), shared);
        for method in [Method::Apt, Method::AptSlim, Method::Binary] {
            let sha256 = (method != Method::Apt).then_some(SHA256);
            let text = text(&by(&script, method, sha256));
            lint(&text);
            lint(&format!("{PREAMBLE}{text}"));
        }
        let mut script = by(&script, Method::Apt, Some(SHA256));
        script.ca_pem = None;
        script.gitlab_ca_pem = Some(CA);
        script.installer.is_default = false;
        script.replace_entry = true;
        script.entry.restricted = true;
        let proxy = Proxy::new(Some("http://proxy:1"), None, &[], None);
        script.proxy = Some(&proxy);
        script.global = GlobalSection {
            log_level: Some("info"),
            listen_address: Some(":9252"),
            ..GlobalSection::default()
        };
        lint(&text(&script));
    }
}

#[test]
fn it_fits_into_user_data() {
    let tags = ["k8s-runner".to_owned()];
    // As long as they are with a token that hangs on a Secret and a CA of 4096 or 2048 bits.
    let bearer = Secret::new("x".repeat(950));
    let runner = Secret::new(RUNNER_TOKEN);
    let secrets = Some(ScriptSecrets { runner_token: &runner, bearer_token: &bearer, runner_expires: None });
    for (method, ca) in [(Method::Apt, 1300), (Method::AptSlim, 1100), (Method::Binary, 1500)] {
        let ca = "x".repeat(ca);
        let script =
            LaunchScript { ca_pem: Some(&ca), target: find("lightsail").unwrap(), ..sample(&tags, secrets) };
        let sha256 = (method == Method::Binary).then_some(SHA256);
        let whole = text(&by(&script, method, sha256)).len();
        let size = by(&script, method, sha256).fitting().unwrap().0.expose().len();
        println!("{}: {whole} bytes, {size} as it goes there", method.word());
        assert!(size <= 14_336, "{}: {size} bytes", method.word());
        // Packed there is room for more of them.
        let more = "x".repeat(8_000);
        let script = LaunchScript { ca_pem: Some(&more), ..by(&script, method, sha256) };
        assert_eq!(script.fitting().unwrap().1, Some("packed without comments, to fit"));
    }
}

#[test]
fn comments_are_left_out_only_where_it_would_not_fit() {
    let tokens = tokens();
    let mut script = for_machine(&sample(&[], Some(tokens.both())), false);
    script.target = find("ec2").unwrap();
    let long = format!("# of the CA\n{CA}{}", "x".repeat(500));
    script.ca_pem = Some(&long);
    let (brief, made) = script.fitting().unwrap();
    let brief = brief.expose();
    assert_eq!(made, Some("without comments, to fit"));
    assert!(brief.len() <= 16_384);
    assert!(is_ours(brief, "kubernetes-runner") && brief.contains("# Its comments are left out"));
    assert!(brief.contains("# of the CA\n"), "values keep theirs");
    lint(brief);
    // It is the same script: what it does not say it does all the same.
    let code = |text: &str| -> Vec<String> {
        let lines = text.split_once("\nsettings() {").unwrap().1.lines();
        let lines = lines.map(|line| line.trim_start_matches('\t'));
        lines.filter(|line| !line.starts_with("# ")).map(str::to_owned).collect()
    };
    assert_eq!(code(brief), code(&text(&script)));
}

#[test]
fn a_script_that_would_not_fit_is_packed_and_says_the_same() {
    let tokens = tokens();
    let mut script = for_machine(&sample(&[], Some(tokens.both())), true);
    let (whole, made) = script.fitting().unwrap();
    assert!(made.is_none() && whole.expose() == text(&script));
    script = for_machine(&script, false);
    let long = format!("{CA}{}", noise(2_000));
    script.ca_pem = Some(&long);
    let (fitting, made) = script.fitting().unwrap();
    let packed = fitting.expose();
    assert_eq!(made, Some("packed to fit"));
    assert!(packed.len() <= 14_336, "{}", packed.len());
    assert!(is_ours(packed, "kubernetes-runner") && packed.contains("HOLDS TWO SECRETS"));
    assert!(packed.lines().skip_while(|line| !line.starts_with("# Packed")).all(|line| line.len() <= 160));
    // Values and entry are for everybody to read.
    assert!(packed.contains(&format!("token='{RUNNER_TOKEN}'\n")) && packed.contains("\n[[runners]]\n"));
    // What uses the settings is out of its sight.
    lint_but(packed, "SC2034,SC2154");
    // What it tells a reader to type shows the rest of the plain script.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("launch.sh");
    fs::write(&path, packed).unwrap();
    let command = packed.lines().find_map(|line| line.split_once("To read it: ")).unwrap().1;
    let command = command.replace("THIS", path.to_str().unwrap());
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let plain = text(&script);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(plain.ends_with(&shown) && shown.starts_with("say() {\n"), "{shown}");
    assert!(packed.starts_with(&plain[..plain.len() - shown.len()]));
    // Longer ones lose their comments, too.
    let longer = format!("{CA}{}", noise(4_000));
    script.ca_pem = Some(&longer);
    let (fitting, made) = script.fitting().unwrap();
    assert_eq!(made, Some("packed without comments, to fit"));
    assert!(fitting.expose().len() <= 14_336 && is_ours(fitting.expose(), "kubernetes-runner"));
    assert!(fitting.expose().contains("# Its comments are left out"));
    lint(fitting.expose());
    let longer = noise(20_000);
    script.ca_pem = Some(&longer);
    assert_eq!(script.fitting().unwrap_err().id.code(), "OR0711");
}

#[test]
fn a_packed_script_does_what_the_plain_one_does_or_nothing() {
    let tokens = tokens();
    let whole = text(&for_machine(&sample(&[], Some(tokens.both())), false));
    for shell in shells() {
        for part in [Packed::Code, Packed::All] {
            // Its paths are those of the machine before it is packed.
            let machine = Machine::new();
            let script = packed(&machine.here(&whole), part);
            let output = machine.run_file(shell, "root/launch", &script, &[]);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.contains("the service is running"), "{shell:?}: {said}");
            let machine = Machine::new();
            let script = packed(&machine.here(&whole), part);
            for end in [script.len() - 2, script.len() - 24, script.len() - 40, script.len() / 2] {
                let output = machine.run_file(shell, "root/launch", &script[..end], &[]);
                assert!(!String::from_utf8_lossy(&output.stdout).contains("outrigger"), "{shell:?} {end}");
                assert!(!machine.path("var/lib/outrigger").exists(), "{shell:?} {end}");
            }
        }
    }
}

/// Base64 of digests: certificates hardly compress either.
fn noise(length: usize) -> String {
    let mut text = String::new();
    let mut seed = Sha256::digest("noise");
    while text.len() < length {
        let _ = write!(text, "{}", STANDARD.encode(seed));
        seed = Sha256::digest(seed);
    }
    text.truncate(length);
    text
}

#[test]
fn the_head_says_what_it_is() {
    let (tokens, tags) = (tokens(), ["a\nrm -rf /".to_owned()]);
    let mut script = sample(&tags, Some(tokens.both()));
    script.installer.is_default = false;
    let with = text(&script);
    assert!(is_ours(&with, "kubernetes-runner") && !is_ours(&with, "kubernetes"));
    assert!(with.contains(&format!("digest={}\n", script.digest())));
    assert!(with.contains("HOLDS TWO SECRETS") && with.contains("NOT THE DEFAULT INSTALLER"));
    assert!(with.contains("tags a\\u{a}rm -rf /\n"));
    let digest = script.digest();
    script.secrets = None;
    script.outrigger_version = "9.9.9";
    script.cluster = "other";
    assert_eq!(script.digest(), digest);
    assert_ne!(by(&script, Method::AptSlim, None).digest(), digest);
    assert_ne!(with_image(&script, "other").digest(), digest);
    script.ca_pem = None;
    assert_ne!(script.digest(), digest);
    let without = text(&script);
    assert!(is_ours(&without, "kubernetes-runner") && without.contains("Holds no secret"));
}

#[test]
fn values_that_cannot_be_data_are_refused() {
    let good = sample(&[], None);
    let refused = |change: &dyn Fn(&mut LaunchScript<'_>)| {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(bad.render().is_err(), "{bad:?}");
    };
    refused(&|s| s.deployment = "../x");
    refused(&|s| s.deployment = "");
    refused(&|s| s.installer.version = "19 -y evil");
    refused(&|s| s.installer.apt_url = "https://x/ bookworm main\ndeb http://evil");
    refused(&|s| s.installer.apt_url = "https://$(id)/x");
    refused(&|s| s.installer.apt_url = "https://`id`.example.com/x");
    refused(&|s| s.installer.key_url = "-o/etc/passwd");
    refused(&|s| s.installer.key_fingerprint = "F640");
    refused(&|s| s.installer.sha256 = Some("abc"));
    refused(&|s| s.installer.binary_url = Some("file:///etc/passwd"));
    refused(&|s| s.installer.method = Method::Binary);
    refused(&|s| s.entry.image = "a\0b");
    let (good_token, bad_token) = (Secret::new("x"), Secret::new("a\nX-Header: b"));
    let secrets = ScriptSecrets { runner_token: &good_token, bearer_token: &bad_token, runner_expires: None };
    let failure = LaunchScript { secrets: Some(secrets), ..good.clone() }.render().unwrap_err();
    assert!(!format!("{failure:?}").contains("X-Header"));
    assert!(good.render().is_ok());
}

#[test]
fn a_script_cut_short_does_nothing() {
    let (tokens, machine) = (tokens(), Machine::new());
    let whole = text(&sample(&[], Some(tokens.both())));
    for shell in shells() {
        for part in 1..20 {
            let end = (whole.len() - 12) * part / 19;
            machine.run_text(shell, &String::from_utf8_lossy(&whole.as_bytes()[..end]));
            assert!(!machine.path("var/lib").exists(), "cut at {end}");
        }
    }
}

#[test]
fn the_examples_are_what_is_rendered() {
    let (tokens, tags) = (tokens(), ["k8s-runner".to_owned()]);
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let own = for_machine(&sample(&tags, Some(tokens.both())), false);
    let shared = for_machine(&sample(&tags, None), true);
    for (file, script) in [("launch.sh", own), ("launch-ssh.sh", shared)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
        let rendered = text(&script);
        if update {
            fs::write(&path, &rendered).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == rendered, "{file} differs: run with UPDATE_GOLDEN=1 and review the change");
    }
}
