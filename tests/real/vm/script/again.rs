//! The script on a machine that it has been on before: whatever is right already stays as it is.

use super::super::common::run::Cli;
use super::super::vm::Vm;
use super::super::vm::beds::Beds;
use super::super::vm::roots::Root;
use super::super::vm::user_data::lightsail;
use super::look::{CONFIG, Stamp, asks, edit, is_well, loads, log, process, run_badly, run_well, stamp};
use super::place::{DEPLOYMENT, Place, entries, secrets};

/// Files of ours that a run with nothing to do must not touch.
fn ours(vm: &Vm) -> Vec<Stamp> {
    let state = format!("/var/lib/outrigger/{DEPLOYMENT}.digest");
    let ca = format!("/etc/gitlab-runner/outrigger-{DEPLOYMENT}-ca.crt");
    let gitlab_ca = format!("/etc/gitlab-runner/outrigger-{DEPLOYMENT}-gitlab-ca.crt");
    let unit = "/etc/systemd/system/gitlab-runner.service.d/outrigger.conf";
    [CONFIG, &state, &ca, &gitlab_ca, unit].map(|path| stamp(vm, path)).into()
}

/// A machine that has become a runner at its first boot, and the script that did it.
fn runner(beds: &Beds, place: &Place) -> (Vm, String) {
    let script = place.script(&place.setup());
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    vm.boot(&lightsail(&script));
    is_well(&vm);
    (vm, script)
}

/// `setup` with the runner's token at hand. GitLab shows it once: it has to be kept for another whole script.
fn with_token<'a>(place: &'a Place, script: &str) -> Cli<'a> {
    place.setup().flag("--runner-token-file", place.home.input("kept", &secrets(script)[0]))
}

/// The only entry's two tokens.
fn tokens(vm: &Vm) -> Vec<String> {
    let entries = entries(vm);
    assert_eq!(entries.len(), 1, "{entries:#?}");
    let token = |value: &toml::Value| value.as_str().expect("a token is text").to_owned();
    vec![token(&entries[0]["token"]), token(&entries[0]["kubernetes"]["bearer_token"])]
}

/// A new instance on a disk that has a runner, as made from a snapshot: cloud-init runs the script again.
pub fn new_instance(beds: &Beds) {
    let place = Place::new(beds);
    let (vm, script) = runner(beds, &place);
    let (before, at_gitlab) = (ours(&vm), place.runner());
    assert_eq!(at_gitlab.1.len(), 1, "{at_gitlab:?}");
    let fetched = place.apt.requests().len();
    vm.shut_down();

    vm.boot(&lightsail(&script));
    is_well(&vm);
    assert!(log(&vm).contains("config.toml needs no change"), "{}", log(&vm));
    assert_eq!(ours(&vm), before);
    assert_eq!(tokens(&vm), secrets(&script));
    assert_eq!(place.apt.requests().len(), fetched, "{:?}", place.apt.requests());
    asks(&vm, &place, at_gitlab.0, &secrets(&script)[0]);
    assert_eq!(place.runner(), at_gitlab);
}

/// What the runner has changed in its own entry meanwhile is not taken back.
pub fn rotated(beds: &Beds) {
    let place = Place::new(beds);
    let (vm, script) = runner(beds, &place);
    let at_gitlab = place.runner();
    // As of a token whose end is near. The service then asks for another, and writes the file anew.
    edit(&vm, CONFIG, |text| {
        let times = "  token_obtained_at = 2026-01-01T00:00:00Z\n  token_expires_at = 2026-01-02T00:00:00Z\n";
        text.replace("[[runners]]\n", &format!("[[runners]]\n{times}"))
    });
    let original = &secrets(&script)[0];
    vm.wait("another token", || place.site.gitlab.runner_token(at_gitlab.0) != *original);
    let token = place.site.gitlab.runner_token(at_gitlab.0);
    vm.wait("that token in the file", || vm.read(CONFIG).is_some_and(|text| text.contains(&token)));
    asks(&vm, &place, at_gitlab.0, &token);
    let (before, service) = (ours(&vm), process(&vm));
    assert!(!before[0].text.contains(original.as_str()));

    let said = run_well(&vm, &script, None);
    assert!(said.contains("config.toml needs no change"), "{said}");
    assert_eq!(ours(&vm), before);
    assert_eq!(tokens(&vm)[0], token);
    asks(&vm, &place, at_gitlab.0, &token);

    // A new cluster token, and a file that the runner has rewritten: that is no change of somebody's, and
    // the script has the runner's token of its own time.
    let script = place.script(&place.setup().flag("--reissue", "all"));
    run_well(&vm, &script, None);
    assert_eq!(tokens(&vm), secrets(&script));
    assert_eq!(process(&vm), service);
    asks(&vm, &place, at_gitlab.0, &secrets(&script)[0]);
    assert_eq!(place.runner(), at_gitlab);
}

/// New tokens take the place of old ones in the one entry, and the service sees them by itself.
pub fn other_tokens(beds: &Beds) {
    let place = Place::new(beds);
    let (vm, first) = runner(beds, &place);
    let (service, at_gitlab) = (process(&vm), place.runner());

    let reissue = with_token(&place, &first).flag("--reissue", "cluster");
    let cluster = place.script(&reissue);
    let [old, new] = [secrets(&first), secrets(&cluster)];
    assert!(old[0] == new[0] && old[1] != new[1], "only the cluster's was to change");
    let loaded = loads(&vm);
    run_well(&vm, &cluster, None);
    assert_eq!(tokens(&vm), new);
    vm.wait("the new configuration", || loads(&vm) > loaded);
    asks(&vm, &place, at_gitlab.0, &new[0]);

    let all = place.script(&place.setup().flag("--reissue", "all"));
    let newest = secrets(&all);
    assert!(newest[0] != new[0] && newest[1] != new[1], "both were to change");
    run_well(&vm, &all, None);
    assert_eq!(tokens(&vm), newest);
    asks(&vm, &place, at_gitlab.0, &newest[0]);
    assert_eq!(place.runner(), at_gitlab, "the same runner, and the same machine");
    assert_eq!(process(&vm), service);
}

/// What somebody has changed by hand is shown and kept, until he says that it may go.
pub fn edited(beds: &Beds) {
    let place = Place::new(beds);
    let (vm, script) = runner(beds, &place);
    let service = process(&vm);
    edit(&vm, CONFIG, |text| {
        let added = "  environment = [\"PASSWORD=canary-of-the-user\"]\n  output_limit = 12345\n";
        text.replace("  executor = ", &format!("{added}  executor = "))
    });
    let before = stamp(&vm, CONFIG);
    assert!(before.text.contains("output_limit"), "{}", before.text);

    // The same script has nothing to do.
    run_well(&vm, &script, None);
    assert_eq!(stamp(&vm, CONFIG), before);

    let other = with_token(&place, &script).flag("--image", "debian:13").flag("--secrets", "inline");
    for form in ["lightsail", "ssh"] {
        let said = {
            let script = place.script(&other.clone().flag("--target", form));
            run_badly(&vm, &script, None)
        };
        assert!(
            said.contains("output_limit = (not shown)")
                && !said.contains("12345")
                && said.contains("--replace-entry"),
            "{said}"
        );
        assert!(
            said.contains("  token = (not shown)") && said.contains("environment = (not shown)"),
            "{said}"
        );
        let hidden = [secrets(&script), vec!["canary-of-the-user".to_owned()]].concat();
        for secret in &hidden {
            assert!(!said.contains(secret.as_str()), "a secret is shown: {said}");
            assert!(!log(&vm).contains(secret.as_str()), "a secret is in the log");
        }
        assert_eq!(stamp(&vm, CONFIG), before);
    }

    let replacing = place.script(&other.flag("--target", "lightsail").arg("--replace-entry"));
    run_well(&vm, &replacing, None);
    let entry = &entries(&vm)[0];
    assert!(entry.get("output_limit").is_none() && entry.get("environment").is_none(), "{entry:?}");
    assert_eq!(entry["kubernetes"]["image"].as_str(), Some("debian:13"));
    assert_eq!(tokens(&vm), secrets(&script));
    assert_eq!(process(&vm), service);
}

/// A machine that was set up at its first boot is updated over SSH: the longer script knows the entry that
/// the shorter one wrote, and the other way round.
pub fn both_forms(beds: &Beds) {
    let place = Place::new(beds);
    let (vm, script) = runner(beds, &place);
    let (service, before) = (process(&vm), ours(&vm));
    let setup = with_token(&place, &script).flag("--secrets", "inline");
    let ssh = setup.clone().flag("--target", "ssh");
    let said = run_well(&vm, &place.script(&ssh), None);
    assert!(said.contains("config.toml needs no change"), "{said}");
    assert_eq!(ours(&vm), before);

    for (form, image) in [("ssh", "debian:11"), ("lightsail", "debian:12"), ("ssh", "debian:13")] {
        run_well(&vm, &place.script(&setup.clone().flag("--target", form).flag("--image", image)), None);
        assert_eq!(entries(&vm)[0]["kubernetes"]["image"].as_str(), Some(image));
        assert_eq!(tokens(&vm), secrets(&script));
    }
    assert_eq!(process(&vm), service);
}
