//! There is a runner of somebody else on the machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::super::super::vm::Vm;
use super::super::super::vm::beds::{Beds, OTHER_VERSIONS, VERSION};
use super::super::super::vm::roots::Root;
use super::super::super::vm::user_data::lightsail;
use super::super::place::{DEPLOYMENT, Place, entries};
use super::{ETC, log, names, run, says};

/// What somebody else has registered.
const CONFIG: &str = "concurrent = 3 # of theirs

[[runners]]
  name = \"theirs\"
  url = \"https://gitlab.example.com\"
  token = \"glrt-theirs\"
  executor = \"shell\"
";

/// The script for a machine of its own refuses it; the other one does, if it is too old, and names both
/// versions. Neither changes a byte.
pub fn already_here(beds: &Beds) {
    let place = Place::new(beds);
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let runner = |version: &str| {
        let release = beds.releases.iter().find(|it| it.version == version).expect("it is built");
        vm.write("/usr/bin/gitlab-runner", fs::read(&release.binary).expect("it can be read"));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(vm.path("/usr/bin/gitlab-runner"), mode).expect("it was just written");
    };
    let old = OTHER_VERSIONS[0];
    runner(old);
    vm.write(&format!("{ETC}/config.toml"), CONFIG);
    let before = state(&vm);

    let script = place.script(&place.setup());
    vm.boot(&lightsail(&script));
    says(&vm, "look", &["a GitLab Runner is here", old, "--target ssh"]);
    assert_eq!(state(&vm), before);

    let setup = place.setup().flag("--target", "ssh").flag("--secrets", "inline");
    let script = place.script(&setup.flag("--reissue", "cluster,runner"));
    let output = run(&vm, &script, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    says(
        &vm,
        "look",
        &[&format!("gitlab-runner {old} is here and not ours to replace, this needs {VERSION}")],
    );
    assert_eq!(state(&vm), before);
    assert_eq!(place.managers().len(), 0);
    assert_eq!(place.apt.requests(), Vec::<String>::new(), "nothing is installed");

    runner(VERSION);
    let output = run(&vm, &script, &[]);
    assert!(output.status.success(), "{output:?}\n{}", log(&vm));
    assert_eq!(vm.outcome(DEPLOYMENT)["result"], "ok");
    let named: Vec<_> = entries(&vm).iter().map(|entry| entry["name"].as_str().map(str::to_owned)).collect();
    assert_eq!(named.len(), 2, "{named:?}");
    let config = vm.read(&format!("{ETC}/config.toml")).unwrap_or_default();
    assert!(config.starts_with(CONFIG), "{config}");
}

/// The configuration byte for byte, and what else is in its folder.
fn state(vm: &Vm) -> (Option<String>, Vec<String>) {
    (vm.read(&format!("{ETC}/config.toml")), names(vm))
}
