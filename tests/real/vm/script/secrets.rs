//! Where the tokens can be seen while a machine becomes a runner, and afterwards.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::vm::Vm;
use super::super::vm::beds::Beds;
use super::super::vm::process::Watch;
use super::super::vm::roots::Root;
use super::super::vm::user_data::lightsail;
use super::look::{CONFIG, Stamp, is_well, log, run_well, stamp};
use super::place::{DEPLOYMENT, Place, entries, file_of_secrets, secrets};

/// The address of clouds' metadata services.
const METADATA: &str = "169.254.169.254";
const METADATA_V6: &str = "fd00:ec2::254";

/// Whatever a machine shows of itself, beside its processes.
fn assert_hidden(vm: &Vm, words: &[&str]) {
    for (place, text) in [
        ("cloud-init's output", vm.cloud_init_output()),
        ("cloud-init's log", vm.read("/var/log/cloud-init.log").unwrap_or_default()),
        ("the journal", vm.journal()),
        ("the console", vm.console()),
        ("the script's log", log(vm)),
        ("the outcome", vm.outcome(DEPLOYMENT).to_string()),
    ] {
        assert!(!text.is_empty() || place == "the console", "{place} is not there");
        for word in words {
            assert!(!text.contains(word), "a secret ({}…) is in {place}", &word[..5]);
        }
    }
}

/// A secret as it is, and so much of its base64 as is the same wherever in a text it begins.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    for before in ["", "x", "xx"] {
        let encoded = STANDARD.encode(format!("{before}{secret}"));
        forms.push(encoded[4..encoded.len() - 4].to_owned());
    }
    forms
}

/// The files that hold a secret: all of them only for their owner, and where they may be.
fn files(vm: &Vm, words: &[&str]) -> Vec<String> {
    let found = vm.files_with(words);
    for (path, mode) in &found {
        assert_eq!(mode & 0o077, 0, "{path} has mode {mode:o}");
    }
    found.into_iter().map(|(path, _)| path).collect()
}

/// A machine that is on its way: its processes are watched from the first on.
fn first_boot(vm: &Vm, place: &Place, script: &str, words: &[&str]) {
    place.connect(vm);
    vm.boot(&lightsail(script));
    let watch = vm.watch(words);
    is_well(vm);
    assert_unseen(watch);
}

/// Ends a watch, which must have seen much and found nothing. Of what it found only the programs are named.
fn assert_unseen(watch: Watch) {
    let (count, seen) = (watch.seen(), watch.end());
    assert!(count > 100, "it saw {count} processes");
    let programs: Vec<_> = seen.iter().map(|line| line.split(',').next().unwrap_or_default()).collect();
    assert!(programs.is_empty(), "processes show a secret: {programs:?}");
}

/// From the first moment of a machine to a reboot.
fn hidden(beds: &Beds, lock: bool) {
    let place = Place::new(beds);
    let setup = if lock { place.setup().arg("--lock-metadata") } else { place.setup() };
    let script = place.script(&setup);
    let tokens = secrets(&script);
    assert_eq!(tokens.len(), 2);
    let all: Vec<String> = tokens.iter().flat_map(|token| forms(token)).collect();
    let words: Vec<&str> = all.iter().map(String::as_str).collect();
    let vm = beds.vm(Root::Bookworm);
    first_boot(&vm, &place, &script, &words);
    assert_hidden(&vm, &words);

    // What the script says that it has removed is gone; what it says that it leaves is root's.
    assert!(log(&vm).contains("removed copies of this script; those of root (obj.pkl)"), "{}", log(&vm));
    let instance = format!("/var/lib/cloud/instances/i-{}-1", vm.name());
    let seed = "/var/lib/cloud/seed/nocloud/user-data".to_owned();
    let expected = vec![CONFIG.to_owned(), format!("{instance}/obj.pkl"), seed];
    assert_eq!(files(&vm, &words), expected);
    assert!(vm.path(&instance).join("scripts").is_dir(), "cloud-init has been here");
    if lock {
        locked(&vm);
    }

    // The same instance again.
    let before = stamp(&vm, CONFIG);
    vm.shut_down();
    if lock {
        // The machine's network goes with it; here it stays, and would hide that nobody makes this again.
        unlock(&vm);
    }
    vm.switch_on();
    comes_back(&vm, &before);
    assert_hidden(&vm, &words);
    if lock {
        locked(&vm);
    } else {
        assert!(!vm.sh("ip route show table all").contains(METADATA));
    }
}

/// A reboot is none of the script's business: what it made is there.
fn comes_back(vm: &Vm, before: &Stamp) {
    vm.wait_cloud_init();
    vm.wait("cloud-init's end", || {
        let status = vm.exec(&["cloud-init", "status"]).stdout;
        !String::from_utf8_lossy(&status).contains("running")
    });
    assert_eq!(vm.sh("cloud-init status"), "status: done", "{}", vm.evidence());
    assert_eq!(vm.sh("systemctl is-active gitlab-runner"), "active", "{}", vm.evidence());
    assert_eq!(stamp(vm, CONFIG), *before);
    assert_eq!(entries(vm).len(), 1);
}

/// No process of the machine gets to the metadata service.
fn locked(vm: &Vm) {
    let file = vm.read("/etc/cloud/cloud.cfg.d/99-outrigger-metadata.cfg");
    let by_cloud_init =
        "disable_ec2_metadata: true\nbootcmd:\n- ip -6 route replace prohibit fd00:ec2::254 || true\n";
    assert_eq!(file.as_deref(), Some(by_cloud_init));
    let v6 = vm.sh(&format!("ip -6 route show type prohibit {METADATA_V6}"));
    assert!(v6.starts_with(&format!("prohibit {METADATA_V6} ")), "{v6}");
    let asked =
        vm.exec(&["curl", "-gsS", "--max-time", "5", &format!("http://[{METADATA_V6}]/latest/user-data")]);
    assert_eq!(asked.status.code(), Some(7), "{}", String::from_utf8_lossy(&asked.stderr));
    assert_eq!(vm.sh(&format!("ip route show type prohibit {METADATA}")), format!("prohibit {METADATA}"));
    let asked = vm.exec(&["curl", "-sS", "--max-time", "5", &format!("http://{METADATA}/latest/user-data")]);
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert_eq!(asked.status.code(), Some(7), "{said}");
}

/// Takes the way's bar out of the machine's network.
fn unlock(vm: &Vm) {
    for route in
        [&["route", "del", "prohibit", METADATA][..], &["-6", "route", "del", "prohibit", METADATA_V6]]
    {
        let removed = vm.network().inside(|| Command::new("ip").args(route).output()).expect("ip starts");
        assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    }
}

/// With the machine's way to the metadata service as it is.
pub fn at_first_boot(beds: &Beds) {
    hidden(beds, false);
}

/// With that way closed, at this boot and later ones.
pub fn with_the_metadata_locked(beds: &Beds) {
    hidden(beds, true);
}

/// A script without secrets and a file that has them: on a host that was bare, as somebody runs it there.
pub fn in_a_file_of_their_own(beds: &Beds) {
    let place = Place::new(beds);
    let script = place.script(&place.setup().flag("--target", "ssh"));
    let separate = file_of_secrets(&place.home);
    assert_eq!(separate.mode, 0o600);
    let all: Vec<String> = separate.tokens.iter().flat_map(|token| forms(token)).collect();
    let words: Vec<&str> = all.iter().map(String::as_str).collect();
    for word in &words {
        assert!(!script.contains(word), "the script holds a secret");
    }
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    vm.boot_idle();
    let watch = vm.watch(&words);
    run_well(&vm, &script, Some(&separate.text));
    assert_eq!(vm.sh("systemctl is-active gitlab-runner"), "active");
    assert_unseen(watch);
    assert_hidden(&vm, &words);
    assert_eq!(files(&vm, &words), [CONFIG, "/root/launch.sh.secrets"]);
    let entry = &entries(&vm)[0];
    assert_eq!(entry["token"].as_str(), Some(&*separate.tokens[0]));
    assert_eq!(entry["kubernetes"]["bearer_token"].as_str(), Some(&*separate.tokens[1]));
}
