//! A host that has somebody else's runner: our entry is added, and all else goes on as it was.

use serde_json::json;

use super::super::common::site::post;
use super::super::vm::Vm;
use super::super::vm::beds::{Beds, OTHER_VERSIONS, VERSION};
use super::super::vm::roots::Root;
use super::look::{
    CONFIG, asks, edit, job, journal, loads, log, process, run_badly, run_well, stamp, start_job,
};
use super::place::{DEPLOYMENT, Place, file_of_secrets, secrets};

/// What somebody has on his host, with the place of his service's user and configuration.
pub struct Theirs {
    config: &'static str,
    user: Option<&'static str>,
    version: &'static str,
}

/// As GitLab's package leaves it: the service is root's.
pub const USUAL: Theirs = Theirs { config: CONFIG, user: None, version: VERSION };

/// Jobs that wait for a file, and say so.
pub const PIPELINE: &str = "theirs:
  tags: [their-shell]
  script:
    - id -un
    - touch /tmp/begun
    - while [ ! -e /tmp/go-on ]; do sleep 0.2; done
    - echo \"the end of $CI_JOB_NAME\"
";

/// A configuration as people write it. The tokens are a shell runner's and a docker runner's.
fn their_config(place: &Place, tokens: &[String; 2], ca_file: &str) -> String {
    let url = place.site.gitlab.url();
    let [shell, docker] = tokens;
    format!(
        "# managed by hand: ask before you change it\nconcurrent = 7 # two for each of us\ncheck_interval = 2\n\
         log_level = \"info\"\nshutdown_timeout = 0\n\n[session_server]\n  session_timeout = 1800\n\n\
         # builds on the host itself\n[[runners]]\n  name = \"shell of somebody\"\n  url = \"{url}\"\n  \
         token = \"{shell}\" # keep\n  tls-ca-file = \"{ca_file}\"\n  executor = \"shell\"\n\n\
         \t# the old one\n[[runners]]\n  name='docker of somebody'\n  url = \"{url}\"\n  token = \"{docker}\"\n  \
         tls-ca-file = \"{ca_file}\"\n  executor = \"docker\"\n  environment = [\"A=[[runners]]\"]\n  \
         [runners.docker]\n    image = \"ruby:3.3\"\n    privileged = true\n    volumes = [\"/cache\"]\n# the end\n"
    )
}

/// Installs a runner as somebody else would, with two entries; returns their tokens.
fn install(place: &Place, vm: &Vm, key: &str, theirs: &Theirs) -> [String; 2] {
    let gitlab = &place.site.gitlab;
    let project = gitlab.project_id("acme/shop");
    let tokens = ["their-shell", "their-docker"].map(|tag| {
        let body = json!({"runner_type": "project_type", "project_id": project, "tag_list": [tag]});
        let made = post(gitlab, "maintainer", "/user/runners", &body);
        made["token"].as_str().expect("a token is shown once").to_owned()
    });
    vm.write("/etc/apt/keyrings/theirs.asc", key);
    let (url, codename) = (place.apt.apt_url(), vm.root().codename());
    let source = format!("deb [signed-by=/etc/apt/keyrings/theirs.asc] {url}/debian {codename} main\n");
    vm.write("/etc/apt/sources.list.d/theirs.list", source);
    let version = theirs.version;
    vm.sh(&format!(
        "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends install \
         gitlab-runner={version}-1 gitlab-runner-helper-images={version}-1 && gitlab-runner stop"
    ));
    let (folder, _) = theirs.config.rsplit_once('/').expect("a path has a folder");
    let ca_file = format!("{folder}/gitlab.pem");
    vm.write(&ca_file, gitlab.ca_pem());
    vm.write(theirs.config, their_config(place, &tokens, &ca_file));
    vm.sh(&format!("chmod 600 {}", theirs.config));
    if let Some(user) = theirs.user {
        vm.sh(&format!(
            "gitlab-runner uninstall && gitlab-runner install --init-user {user} --config {} \
             --working-directory {folder} && chown -R {user}: {folder}",
            theirs.config
        ));
    }
    vm.sh("gitlab-runner start");
    tokens
}

/// A host with a runner of somebody's, running, and a script for it with its file of secrets.
pub fn host(beds: &Beds, root: Root, theirs: &Theirs) -> (Place, Vm, [String; 2]) {
    let place = Place::new(beds);
    let vm = beds.vm(root);
    place.connect(&vm);
    vm.boot_idle();
    let tokens = install(&place, &vm, &beds.repository.key.armoured, theirs);
    (place, vm, tokens)
}

/// What may not change on such a host, beside the files that [`written`] shows.
pub fn belongings(vm: &Vm) -> String {
    vm.sh(
        "dpkg-query -W; cat /etc/passwd /etc/group; apt-mark showhold; systemctl list-unit-files --no-legend; \
         ls -lR /etc/apt /etc/systemd /usr/local /usr/bin; ip route show table all; crontab -l 2>&1 || :",
    )
}

/// The files that were written after a moment, outside of what a running system writes all the time.
fn written(vm: &Vm) -> Vec<String> {
    let places = "/etc /home /opt /root /srv /usr /var/lib /var/spool";
    let found = vm.sh(&format!("find {places} -type f -newer /run/moment ! -path '/var/lib/systemd/*'"));
    let mut found: Vec<_> = found.lines().map(str::to_owned).collect();
    found.sort();
    found
}

fn moment(vm: &Vm) {
    // File times go by the clock's tick.
    vm.sh("touch /run/moment; sleep 0.1");
}

/// Our entry comes to theirs while a job of theirs runs, and works.
fn comes_to_theirs(beds: &Beds, root: Root, theirs: &Theirs) {
    let (place, vm, [shell, _]) = host(beds, root, theirs);
    let (folder, _) = theirs.config.rsplit_once('/').expect("a path has a folder");
    let script = place.script(&place.setup().flag("--target", "ssh"));
    let secret = file_of_secrets(&place.home);
    assert_eq!(secrets(&script), Vec::<String>::new(), "the script itself holds none");
    let [token, bearer] = secret.tokens.clone();
    assert!(!script.contains(&token) && !script.contains(&bearer));
    assert_eq!(secret.mode, 0o600);

    let id = start_job(&place, PIPELINE);
    vm.wait_file("/tmp/begun");
    let (before, belongs, service) = (stamp(&vm, theirs.config), belongings(&vm), process(&vm));
    let loaded = loads(&vm);
    moment(&vm);
    let said = run_well(&vm, &script, Some(&secret.text));
    assert!(said.contains(&format!("gitlab-runner {VERSION} is here: only our entry will change")), "{said}");

    let after = stamp(&vm, theirs.config);
    let ours = after.text.strip_prefix(&before.text).unwrap_or_else(|| panic!("changed:\n{}", after.text));
    assert_eq!(ours.matches("[[runners]]").count(), 1, "{ours}");
    let config: toml::Table = after.text.parse().expect("it is TOML");
    let entry = &config["runners"][2];
    assert_eq!(entry["token"].as_str(), Some(&*token));
    assert_eq!(entry["kubernetes"]["bearer_token"].as_str(), Some(&*bearer));
    assert_eq!((after.owner, after.mode), (before.owner, before.mode));
    let mut expected: Vec<_> = ["ca.crt", "gitlab-ca.crt"]
        .iter()
        .map(|name| format!("{folder}/outrigger-{DEPLOYMENT}-{name}"))
        .chain(["digest", "json"].map(|name| format!("/var/lib/outrigger/{DEPLOYMENT}.{name}")))
        .chain(["", ".secrets"].map(|end| format!("/root/launch.sh{end}")))
        .chain([theirs.config.to_owned()])
        .collect();
    expected.sort();
    assert_eq!(written(&vm), expected);
    assert_eq!(belongings(&vm), belongs);
    for name in ["ca.crt", "gitlab-ca.crt"] {
        let user = theirs.user.unwrap_or("root");
        vm.sh(&format!("su -s /bin/sh {user} -c 'test -s {folder}/outrigger-{DEPLOYMENT}-{name}'"));
    }

    // Theirs still runs, in the same process, which has seen our entry by itself.
    vm.wait("the new configuration", || loads(&vm) > loaded);
    assert_eq!(job(&place, id)["status"], "running", "{}", journal(&vm));
    let (number, _) = place.runner();
    asks(&vm, &place, number, &token);
    assert_eq!(place.runner().1.len(), 1);
    vm.write("/tmp/go-on", "");
    vm.wait("the end of their job", || job(&place, id)["status"] != "running");
    let trace = place.site.gitlab.trace(id);
    assert_eq!(job(&place, id)["status"], "success", "{trace}\n{}", journal(&vm));
    assert!(trace.contains("O gitlab-runner\n") && trace.contains("the end of theirs\n"), "{trace}");
    assert_eq!(process(&vm), service);
    asks_as(&vm, &place, &shell);

    again(&place, &vm, theirs, &secret.text);
    assert_eq!(process(&vm), service);
    assert_eq!(belongings(&vm), belongs);
}

/// Later runs: nothing to do, with the secrets or without them; and an update, which changes our entry alone.
fn again(place: &Place, vm: &Vm, theirs: &Theirs, text: &str) {
    let script = place.script(&place.setup());
    let before = stamp(vm, theirs.config);
    for secrets in [Some(text), None] {
        let said = run_well(vm, &script, secrets);
        assert!(said.contains("config.toml needs no change"), "{said}");
    }
    assert_eq!(stamp(vm, theirs.config), before);
    let update = place.script(&place.setup().flag("--image", "debian:13"));
    run_well(vm, &update, None);
    let expected = before.text.replace("\"alpine:latest\"", "\"debian:13\"");
    assert_ne!(expected, before.text);
    assert_eq!(stamp(vm, theirs.config).text, expected);

    // What somebody has changed in it is not taken back, and shown without the tokens.
    edit(vm, theirs.config, |text| text.replace("    namespace =", "    cpu_limit = \"2\"\n    namespace ="));
    let edited = stamp(vm, theirs.config);
    let other = place.script(&place.setup().flag("--image", "debian:12"));
    let said = run_badly(vm, &other, None);
    assert!(said.contains("cpu_limit = (not shown)") && said.contains("  token = (not shown)"), "{said}");
    assert!(!said.contains("of somebody"), "their entries are not shown: {said}");
    assert_eq!(stamp(vm, theirs.config), edited);
    let replacing = place.script(&place.setup().arg("--replace-entry"));
    run_well(vm, &replacing, None);
    let expected = expected.replace("\"debian:13\"", "\"debian:12\"");
    assert_eq!(stamp(vm, theirs.config).text, expected);
}

/// Waits until a token is used to ask for jobs.
fn asks_as(vm: &Vm, place: &Place, token: &str) {
    place.site.gitlab.clear_requests();
    let used = || place.site.gitlab.credentials().iter().any(|it| it.value == token);
    vm.wait("a request of their runner", used);
}

/// On Debian 12, with the configuration where it mostly is.
pub fn bookworm(beds: &Beds) {
    comes_to_theirs(beds, Root::Bookworm, &USUAL);
}

/// On Debian 13.
pub fn trixie(beds: &Beds) {
    comes_to_theirs(beds, Root::Trixie, &USUAL);
}

/// The service runs as a user without rights, and its configuration is in that user's home.
pub fn elsewhere(beds: &Beds) {
    let user = Some("gitlab-runner");
    let config = "/home/gitlab-runner/config.toml";
    comes_to_theirs(beds, Root::Bookworm, &Theirs { config, user, version: VERSION });
}

/// A runner that is too old is not ours to replace.
pub fn too_old(beds: &Beds) {
    let theirs = Theirs { version: OTHER_VERSIONS[0], ..USUAL };
    let (place, vm, _) = host(beds, Root::Bookworm, &theirs);
    let script = place.script(&place.setup().flag("--target", "ssh"));
    let (before, belongs, service) = (stamp(&vm, CONFIG), belongings(&vm), process(&vm));
    moment(&vm);
    run_badly(&vm, &script, Some(&file_of_secrets(&place.home).text));
    let outcome = vm.outcome(DEPLOYMENT);
    let reason = outcome["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(OTHER_VERSIONS[0]) && reason.contains(VERSION), "{outcome}");
    assert_eq!(outcome["step"], "look");
    assert_eq!(stamp(&vm, CONFIG), before);
    assert_eq!((belongings(&vm), process(&vm)), (belongs, service), "{}", log(&vm));
    let left = ["/root/launch.sh", "/root/launch.sh.secrets", "/var/lib/outrigger/acme.json"];
    assert_eq!(written(&vm), left);
    assert_eq!(place.runner().1, Vec::<String>::new(), "it has not asked GitLab");
}
