//! The Lightsail instance of `--create-vm`: the double of Lightsail's API, and [`SshHost`] behind it.

use outrigger_doubles::lightsail::{
    ACCOUNT, Action, FakeLightsail, Fault, Foreign, KeySpec, Lags, Options, Refusal,
};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Scene;
use super::pasted::{below, paste};
use crate::common::bed::{Bed, User};
use crate::common::printed::printed;
use crate::common::run::Cli;
use crate::common::ssh_host::SshHost;

/// A scene with an AWS account.
pub struct Account<'a> {
    pub scene: Scene<'a>,
    pub lightsail: FakeLightsail,
    pub host: SshHost,
}

impl<'a> Account<'a> {
    pub fn new(bed: &'a dyn Bed) -> Self {
        Self::with(bed, Options::default())
    }

    pub fn with(bed: &'a dyn Bed, options: Options) -> Self {
        let host = SshHost::new();
        // A new VM has none.
        std::fs::remove_file(host.path("version")).expect("it was there");
        Self { scene: Scene::new(bed, User::Admin), lightsail: FakeLightsail::start(options), host }
    }

    /// A command with somebody's credentials in AWS's file.
    pub fn by<'c>(&'c self, command: Cli<'c>, key: &str) -> Cli<'c> {
        let (home, name) = (&self.scene.home, format!("{key}.aws"));
        let key = self.lightsail.key(key);
        home.canary(&key.secret);
        let mut text =
            format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", key.id, key.secret);
        if !key.session_token.is_empty() {
            home.canary(&key.session_token);
            let _ = writeln!(text, "aws_session_token = {}", key.session_token);
        }
        command
            .env("PATH", self.host.search_path())
            .env("AWS_SHARED_CREDENTIALS_FILE", home.input(&name, &text))
            .env("AWS_REGION", self.lightsail.region())
            .env("AWS_ENDPOINT_URL", self.lightsail.url())
    }

    pub fn setup(&self) -> Cli<'_> {
        self.by(self.scene.setup(), "admin").arg("--create-vm").flag("--accept", "unreachable-endpoint")
    }

    pub fn command(&self, name: &str) -> Cli<'_> {
        self.by(self.scene.command(name), "admin")
    }

    pub fn name(&self) -> String {
        format!("{}-vm", self.scene.deployment)
    }

    /// The operations since the last call.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.lightsail.requests().into_iter().map(|one| one.operation).collect();
        self.lightsail.clear_requests();
        asked
    }

    fn record(&self) -> Value {
        let path = self.scene.home.state().join(format!("{}.json", self.scene.deployment));
        serde_json::from_str(&std::fs::read_to_string(path).expect("a record")).expect("JSON")
    }
}

fn writes(asked: &[String]) -> Vec<&str> {
    asked.iter().map(String::as_str).filter(|one| !one.starts_with("Get")).collect()
}

/// The whole way: made, delivered, closed, seen by `status` and `list`, and taken away.
pub fn made(bed: &dyn Bed) {
    // As the service does: all it offers in one answer.
    let account = Account::with(bed, Options { page: 100, ..Options::default() });
    let output = account.setup().run().code(0);
    let name = account.name();
    let _ = output.says(&format!("{name} is running")).says("port 22 closed").says(&format!("ran on {name}"));
    account.scene.watch_cluster_token();
    let asked = account.asked();
    let polls = ["GetInstance", "GetOperation", "GetInstanceAccessDetails", "GetInstancePortStates"];
    let calls: Vec<&String> = asked.iter().filter(|one| !polls.contains(&one.as_str())).collect();
    assert!(calls.len() <= 9, "{asked:?}");
    assert_eq!(writes(&asked).iter().filter(|one| **one == "CreateInstances").count(), 1, "{asked:?}");
    // What was sent over ssh is the script with its secrets; nothing of it is here or at AWS.
    assert!(account.host.read("got.secrets").contains("runner_token=glrt-"));
    let argv = account.host.read("argv");
    assert!(
        argv.lines().all(|line| line.contains("-F none") && line.contains("StrictHostKeyChecking=yes")),
        "{argv}"
    );
    assert!(!account.scene.home.script(&account.scene.deployment).exists());
    for left in ["vm-key", "vm-key-cert.pub", "vm-known-hosts"] {
        let path = account.scene.home.state().join(&account.scene.deployment).join(left);
        assert!(!path.exists(), "{left} stays");
    }
    let _ = account.command("setup").run().code(0).says("Nothing to change");
    let asked = account.asked();
    assert_eq!(asked, ["GetCallerIdentity", "GetInstance"], "a second run only looks");
    let _ = account.command("status").run().code(0).says("running, 127.").says("no open port, 7 USD a month");
    assert_eq!(account.asked(), ["GetCallerIdentity", "GetInstance"]);
    let _ = account.scene.home.outrigger("list").run().code(0).says(&format!("{name} (eu-central-1)"));
    let _ = account.command("teardown").arg("--yes").run().code(0).says("deleted; read back: gone");
    assert_eq!(resources(&account.lightsail).len(), 0, "nothing is left but what AWS keeps");
}

/// The resources of the account in the region, but what AWS keeps: the default key pair.
fn resources(lightsail: &FakeLightsail) -> serde_json::Map<String, Value> {
    let world = lightsail.snapshot();
    let mut found = world[ACCOUNT][lightsail.region()].as_object().cloned().unwrap_or_default();
    found.retain(|_, resource| resource["type"] != "KeyPair");
    found
}

/// Late addresses, late host keys, late metadata: all are waited for.
pub fn slow(bed: &dyn Bed) {
    let second = Duration::from_millis(700);
    let lags = Lags {
        found: second,
        running: second,
        address: second,
        host_keys: second,
        metadata: second,
        ..Lags::default()
    };
    let account = Account::with(bed, Options { lags, ..Options::default() });
    let _ = account.setup().run().code(0).says("port 22 closed");
    let arn = &account.record()["vm"]["arn"];
    assert!(arn.as_str().is_some_and(|arn| arn.starts_with("arn:aws:lightsail:")), "{arn}");
}

/// The requests of the way there, in the order in which they are sent first.
const WAY: &[&str] = &[
    "GetCallerIdentity",
    "GetRegions",
    "GetBundles",
    "GetBlueprints",
    "CreateInstances",
    "GetOperation",
    "GetInstance",
    "PutInstancePublicPorts",
    "UpdateInstanceMetadataOptions",
    "GetInstanceAccessDetails",
    "GetInstancePortStates",
    "CloseInstancePublicPorts",
];

impl Account<'_> {
    fn instances(&self) -> Vec<Value> {
        let all = resources(&self.lightsail).into_values();
        all.filter(|resource| resource["type"] == "Instance").collect()
    }

    /// One instance with closed ports and protected metadata, and no user data.
    fn is_whole(&self, what: &str) {
        let instances = self.instances();
        assert_eq!(instances.len(), 1, "{what}");
        assert_eq!(instances[0]["ports"], serde_json::json!([]), "{what}");
        assert_eq!(instances[0]["httpTokens"], "required", "{what}");
        assert_eq!(instances[0]["userData"], "", "{what}");
    }

    /// At most one instance was ever made.
    fn made_once(&self, what: &str) {
        let made = self
            .lightsail
            .requests()
            .into_iter()
            .filter(|one| one.operation == "CreateInstances" && one.status == 200);
        assert!(made.count() <= 1, "{what}");
    }
}

/// Each answer is lost in turn, after it was carried out: never two instances, and the same command finishes.
pub fn lost_answers(bed: &dyn Bed) {
    for operation in WAY {
        let account = Account::new(bed);
        account.lightsail.inject(Fault::once("POST", &format!("/{operation}"), Action::ResetAfter));
        let first = account.setup().run();
        if first.code != Some(0) {
            let _ = account.setup().run().code(0);
        }
        account.is_whole(operation);
        account.made_once(operation);
        let _ = account.command("setup").run().code(0).says("Nothing to change");
        account.lightsail.inject(Fault::once("POST", "/DeleteInstance", Action::ResetAfter));
        let _ = account.command("teardown").arg("--yes").run().code(0);
        assert_eq!(account.instances().len(), 0, "{operation}");
    }
}

/// Killed after each request: never two instances; the same command finishes, or teardown leaves nothing.
pub fn killed(bed: &dyn Bed) {
    for (nth, operation) in WAY.iter().enumerate() {
        let account = Account::new(bed);
        let pid = Arc::new(AtomicI32::new(0));
        let target = Arc::clone(&pid);
        let kill = move || {
            while target.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            let _ = kill_process(
                Pid::from_raw(target.load(Ordering::Acquire)).expect("a process id"),
                Signal::KILL,
            );
        };
        account.lightsail.inject(Fault::once(
            "POST",
            &format!("/{operation}"),
            Action::KillAfter(Box::new(kill)),
        ));
        let setup = account.setup();
        let running = setup.start();
        pid.store(i32::try_from(running.pid()).expect("ids are small"), Ordering::Release);
        let output = running.wait();
        assert_eq!(output.code, None, "killed at {operation}\n{output}");
        account.lightsail.clear_faults();
        let what = format!("killed at {operation}");
        if nth % 2 == 0 {
            let _ = account.setup().run().code(0);
            account.is_whole(&what);
        }
        account.made_once(&what);
        let _ = account.command("teardown").args(["--yes", "--ignore-not-found"]).run().code(0);
        assert_eq!(account.instances().len(), 0, "{what}");
        assert!(!account.scene.home.state().join(&account.scene.deployment).exists(), "{what}: files stay");
    }
}

/// What has the name and is not ours is left alone, also by teardown.
pub fn foreign(bed: &dyn Bed) {
    let account = Account::new(bed);
    let name = account.name();
    account.lightsail.put_instance(Foreign::new(&name));
    let before = account.lightsail.snapshot();
    let _ = account.setup().fails("OR0709");
    assert_eq!(account.lightsail.snapshot(), before);
    account.lightsail.take(&name);
    account.lightsail.put_static_ip(&name);
    let before = account.lightsail.snapshot();
    let _ = account.setup().fails("OR0713");
    assert_eq!(account.lightsail.snapshot(), before);
    account.lightsail.take(&name);
    // Ours is deleted, and somebody makes another one with the same tags.
    let _ = account.setup().run().code(0);
    let tags = account.instances()[0]["tags"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tags = tags.iter().map(|tag| (text(&tag["key"]), text(&tag["value"]))).collect();
    account.lightsail.take(&name);
    account.lightsail.put_instance(Foreign { tags, ..Foreign::new(&name) });
    let before = account.lightsail.snapshot();
    let _ = account
        .command("setup")
        .flag("--accept", "unreachable-endpoint")
        .run()
        .code(7)
        .says("another one was created since");
    let _ = account.command("teardown").arg("--yes").run().code(7).says("another one was created since");
    assert_eq!(account.lightsail.snapshot(), before);
    // It is gone, too: only there may the record say so.
    account.lightsail.take(&name);
    let _ = account.by(account.scene.command("teardown"), "stranger").arg("--yes").fails("OR0360");
    let _ = account.command("teardown").arg("--yes").run().code(0);
}

/// Another host key than AWS has seen, and none at all.
pub fn host_keys(bed: &dyn Bed) {
    let account = Account::new(bed);
    account.host.steer(
        "says",
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nHost key verification failed.\r\n",
    );
    let output = account.setup().run().code(9).says("OR0913");
    let _ = output.says("stays in eu-central-1, 7 USD a month");
    assert!(!account.host.path("got.script").exists());
    assert_eq!(account.instances()[0]["ports"], serde_json::json!([]), "closed again");
    std::fs::remove_file(account.host.path("says")).expect("it was there");
    let _ = account.setup().run().code(0);
    account.is_whole("after the right key");
    let lags = Lags { host_keys: Duration::from_secs(3600), ..Lags::default() };
    let account = Account::with(bed, Options { lags, ..Options::default() });
    let _ = account.setup().flag("--wait", "2s").fails("OR0813");
    assert_eq!(account.instances()[0]["ports"], serde_json::json!([]), "closed again");
}

/// What AWS refuses, before anything is made there; with the words and the exit code of its kind.
pub fn refusals(bed: &dyn Bed) {
    let account = Account::new(bed);
    let by = |key: &str| {
        account.by(account.scene.setup(), key).arg("--create-vm").flag("--accept", "unreachable-endpoint")
    };
    let _ = account.by(account.scene.setup(), "admin").arg("--create-vm").fails("OR0363");
    let _ = by("expired").fails("OR0429");
    let output = by("reader").fails("OR0428").says("lightsail:CreateInstances");
    let policy = below(&printed(&output), "as an IAM policy").to_owned();
    assert!(policy.contains("create-vm --print-policy create"), "{policy}");
    let _ = paste(&account.scene.home, &[], &policy).code(0).says("lightsail:CreateInstances");
    let told = |kind: &str, text: &str| Refusal::Other(kind.to_owned(), text.to_owned());
    let refused = |refusal| {
        account.lightsail.refuse("CreateInstances", 2, refusal);
        by("admin")
    };
    let _ = refused(Refusal::Quota).fails("OR0356").says("maximum limit");
    let _ = refused(Refusal::AccountPending).fails("OR0355").says("pending verification");
    let sold = told("InvalidInputException", "The bundle is not for sale");
    let _ = refused(sold).fails("OR0354").says("not for sale");
    assert_eq!(account.instances().len(), 0);
    for _ in 0..2 {
        account.lightsail.fail_operation("CreateInstance", "InsufficientCapacity", "no capacity in the zone");
    }
    let _ = by("admin").fails("OR0509").says("no capacity in the zone").says("--vm-zone");
    account.lightsail.refuse("CreateInstances", 2, Refusal::Throttled);
    let _ = by("admin").run().code(0);
    account.is_whole("after the throttle");
    account.lightsail.stop(&account.name());
    let _ = account.command("status").run().code(10).says("is stopped: its runner takes no jobs");
    let _ = account.command("setup").flag("--reissue", "cluster").fails("OR0361");
    account.lightsail.start_instance(&account.name());
    let _ = account.command("setup").run().code(0);
    account.lightsail.open(&account.name(), ("tcp", 80), &["0.0.0.0/0"], &[]);
    let _ = account.command("status").run().code(10).says("80 from anywhere -> no open port");
    let _ = account.command("setup").run().code(0);
    account.is_whole("after somebody opened a port");
    let output = by("stranger").run().code(3).says("OR0360").says("account 210987654321");
    let gone = below(&printed(&output), "if that VM no longer exists").to_owned();
    // Without credentials nothing is taken away.
    bed.mark();
    let nobody = account.scene.command("teardown").arg("--yes").env("AWS_REGION", "eu-central-1");
    let _ = nobody.run().code(2).says("--vm-gone");
    assert_eq!(super::writes(bed).len(), 0);
    // The account is closed: the rest is taken away without AWS.
    let _ = paste(&account.scene.home, &[], &gone).code(0).says("Removed ");
}

/// The port is opened for a rotation and an upgrade, and closed again, also if they fail.
pub fn rotated(bed: &dyn Bed) {
    let account = Account::new(bed);
    let _ = account.setup().run().code(0);
    account.lightsail.clear_requests();
    let _ = account.command("setup").flag("--reissue", "cluster").run().code(0).says("port 22 closed");
    account.is_whole("after a new token");
    assert!(account.asked().contains(&"PutInstancePublicPorts".to_owned()));
    account.host.steer("fails", "prove-cluster https://k.test: refuses the token");
    let _ = account.command("setup").flag("--reissue", "cluster").run().code(9).says("OR0914");
    account.is_whole("after a failure");
}

/// The policies that are printed are enough for their phase, and for nothing else.
pub fn policies(bed: &dyn Bed) {
    let phases = ["create", "operate", "remove"];
    let scene = Scene::new(bed, User::Admin);
    let print = |scene: &Scene<'_>, phase: &str| -> Value {
        let output = scene.command("create-vm").flag("--print-policy", phase).run().code(0);
        serde_json::from_str(&output.stdout()).expect("JSON")
    };
    let keys = phases.map(|phase| KeySpec::with_policy(phase, print(&scene, phase)));
    let account = Account::with(bed, Options { keys: keys.into(), ..Options::default() });
    let by = |key: &str, name: &str| account.by(account.scene.command(name), key);
    for key in ["operate", "remove"] {
        let setup = account.by(account.scene.setup(), key).arg("--create-vm");
        let _ = setup.flag("--accept", "unreachable-endpoint").run().code(4).says("OR0428");
    }
    assert_eq!(account.instances().len(), 0);
    let setup = account.by(account.scene.setup(), "create").arg("--create-vm");
    let _ = setup.flag("--accept", "unreachable-endpoint").run().code(0);
    let _ = by("operate", "status").run().code(0);
    let _ = by("operate", "status").args(["--machine", "-v"]).run().code(0).says("service active");
    let _ = by("operate", "setup").flag("--reissue", "cluster").run().code(0).says("port 22 closed");
    account.is_whole("after a new token");
    for key in ["create", "operate"] {
        let _ = by(key, "teardown").arg("--yes").run().code(4).says("lightsail:DeleteInstance");
        assert_eq!(account.instances().len(), 1);
    }
    let _ = by("remove", "teardown").arg("--yes").run().code(0);
    assert_eq!(account.instances().len(), 0);
}

/// With a static IP; and from a machine without the record, to which the ARN is told.
pub fn static_ip(bed: &dyn Bed) {
    let account = Account::new(bed);
    let _ = account.setup().arg("--vm-static-ip").run().code(0);
    let fixed = |account: &Account<'_>| {
        resources(&account.lightsail).into_values().filter(|resource| resource["type"] == "StaticIp").count()
    };
    assert_eq!(fixed(&account), 1);
    let address = account.record()["vm"]["address"].clone();
    account.lightsail.stop(&account.name());
    account.lightsail.start_instance(&account.name());
    let _ = account.command("setup").run().code(0).says("Nothing to change");
    assert_eq!(account.record()["vm"]["address"], address);
    // Somebody's, which has the name since.
    let ip = account.record()["vm"]["static_ip"].as_str().expect("a name").to_owned();
    let theirs = Account::new(bed);
    let _ = theirs.setup().arg("--vm-static-ip").run().code(0);
    let name = theirs.record()["vm"]["static_ip"].as_str().expect("a name").to_owned();
    theirs.lightsail.take(&name);
    theirs.lightsail.put_static_ip(&name);
    let _ = theirs.command("teardown").arg("--yes").run().code(7).says("another one than the recorded one");
    assert_eq!((fixed(&theirs), theirs.instances().len()), (1, 0));
    let _ = account.command("teardown").arg("--yes").run().code(0).says(&ip).says("released");
    assert_eq!(resources(&account.lightsail).len(), 0);
}

/// Ctrl-C while the host keys are awaited: the port is closed, and what stays is told with its price.
pub fn interrupted(bed: &dyn Bed) {
    let lags = Lags { host_keys: Duration::MAX, ..Lags::default() };
    let account = Account::with(bed, Options { lags, ..Options::default() });
    let setup = account.setup();
    let mut running = setup.start();
    super::host::until(&mut running, "the host keys");
    super::host::interrupt(&running);
    let output = running.wait().code(130);
    let _ = output.says("port 22 closed").says("stays in eu-central-1, 7 USD a month; teardown deletes it");
    assert_eq!(account.instances()[0]["ports"], serde_json::json!([]));
    let _ = account.command("teardown").arg("--yes").run().code(0);
    assert_eq!(account.instances().len(), 0);
}

/// A VM that does not reach the cluster stays, with the command that admits its public address.
pub fn without_network(bed: &dyn Bed) {
    let account = Account::new(bed);
    account.host.steer("fails", "prove-cluster https://k.test: does not reach it");
    // The names in a context of GKE are those that the command takes.
    let mut config: Value = serde_yaml::from_str(&bed.kubeconfig(User::Admin)).expect("YAML");
    let context = Value::from("gke_acme_europe-west1_ci");
    config["contexts"][0]["name"] = context.clone();
    config["current-context"] = context;
    let config = account.scene.home.kubeconfig("gke.kubeconfig", &config.to_string());
    let setup = || account.setup().flag("--kubeconfig", &config);
    let output = setup().run().code(8).says("OR0810").says("7 USD a month");
    let address = account.record()["vm"]["address"].as_str().unwrap_or_default().to_owned();
    let _ =
        output.says("gcloud container clusters update ci").says(&format!("{address}/32")).says("replaces");
    account.is_whole("after a failure");
    std::fs::remove_file(account.host.path("fails")).expect("it was there");
    let _ = setup().run().code(0);
    account.made_once("the same command goes on");
}

/// What is wrong with credentials, the region or the way to AWS: said before anything is made anywhere.
pub fn logins(bed: &dyn Bed) {
    let account = Account::new(bed);
    let (home, region) = (&account.scene.home, account.lightsail.region());
    let alone = || {
        let setup = account.scene.setup().env("PATH", account.host.search_path()).arg("--create-vm");
        setup.flag("--accept", "unreachable-endpoint").env("AWS_ENDPOINT_URL", account.lightsail.url())
    };
    bed.mark();
    let _ = alone().env("AWS_REGION", &region).fails("OR0211");
    let _ = account.setup().env("AWS_REGION", "").fails("OR0212");
    let broken =
        home.input("config.aws", "[profile ci]\ncredential_process = /bin/false\nregion = eu-central-1\n");
    let _ = alone().env("AWS_CONFIG_FILE", &broken).flag("--aws-profile", "ci").fails("OR0426");
    let wrong =
        "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = none-of-this-account\n";
    let wrong = home.input("wrong.aws", wrong);
    let _ = alone().env("AWS_REGION", &region).env("AWS_SHARED_CREDENTIALS_FILE", wrong).fails("OR0427");
    let _ = account.setup().flag("--vm-size", "huge_9_0").fails("OR0362");
    account.lightsail.inject(Fault::always("/GetInstance", Action::sign_in_page()));
    let _ = account.setup().fails("OR0358");
    account.lightsail.clear_faults();
    account.lightsail.inject(Fault::always("/GetInstance", Action::ResetBefore));
    let _ = account.setup().fails("OR0812");
    account.lightsail.clear_faults();
    account.lightsail.advance(Duration::from_secs(3600));
    let _ = account.setup().fails("OR0430");
    let secured = Account::with(bed, Options { tls: true, ..Options::default() });
    let _ = secured.setup().fails("OR0357");
    assert_eq!(super::writes(bed).len(), 0, "{}", super::listing(&super::writes(bed)));
    assert_eq!(
        account.lightsail.requests().iter().filter(|one| one.operation == "CreateInstances").count(),
        0
    );
    // The CA of a proxy or a private endpoint is named as for AWS's own tools.
    let bundle = secured.scene.home.input("aws-ca.pem", &secured.lightsail.ca_pem());
    let _ = secured.setup().env("AWS_CA_BUNDLE", bundle).run().code(0);
    secured.is_whole("over TLS");
}

/// A port that cannot be closed is told, and outweighs everything else.
pub fn ports_left(bed: &dyn Bed) {
    let account = Account::new(bed);
    account.lightsail.deny("admin", "lightsail:CloseInstancePublicPorts");
    let _ = account.setup().fails("OR0510");
    // An operation that AWS does not know any more says nothing about the instance.
    let account = Account::new(bed);
    let gone = || Refusal::Other("NotFoundException".to_owned(), "The Operation does not exist".to_owned());
    account.lightsail.refuse("GetRegions", 2, gone());
    let _ = account.setup().fails("OR0359");
    account.lightsail.refuse("GetOperation", 9, gone());
    let _ = account.setup().run().code(0);
    account.is_whole("without operations");
}

/// A machine without the record names the instance; only then it may be changed.
pub fn elsewhere(bed: &dyn Bed) {
    let account = Account::new(bed);
    let output = account.setup().run().code(0);
    let arn = account.record()["vm"]["arn"].as_str().expect("an ARN").to_owned();
    let _ = output.says(&format!("--create-vm --vm-arn {arn}"));
    let anchor = bed.admin().get(&account.scene.path("ServiceAccount")).expect("the anchor");
    let uid = anchor["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let state = account.scene.home.path().join("elsewhere");
    let on_another = |name: &str| {
        let command = account.command(name).flag("--state-dir", &state).flag("--anchor-uid", &*uid);
        let command = command.flag("--gitlab-url", "https://gitlab.example.com");
        command.arg("--create-vm").flag("--runner-token-file", account.scene.home.runner_token())
    };
    let _ = on_another("setup").flag("--accept", "unreachable-endpoint").run().code(7).says("OR0709");
    let before = account.lightsail.snapshot();
    let status = account.command("status").flag("--state-dir", &state).flag("--anchor-uid", &*uid);
    let status =
        status.args(["--create-vm", "--vm-arn", &arn]).flag("--gitlab-url", "https://gitlab.example.com");
    let _ = status.run().says("no open port");
    assert_eq!(account.lightsail.snapshot(), before);
    let another = account.by(account.scene.command("teardown"), "stranger").flag("--state-dir", &state);
    let another = another.flag("--anchor-uid", &*uid).args(["--yes", "--vm-arn", &arn]);
    let _ = another.run().code(3).says("OR0360");
    let teardown = account.command("teardown").flag("--state-dir", &state).flag("--anchor-uid", &*uid);
    let _ = teardown.args(["--yes", "--vm-arn", &arn]).run().says("deleted; read back: gone");
    assert_eq!(account.instances().len(), 0);
}

/// One that is gone is made again, and gets the script, whatever is recorded of it.
pub fn made_again(bed: &dyn Bed) {
    let account = Account::new(bed);
    let kept = account.scene.home.path().join("kept.sh").display().to_string();
    let _ = account.setup().flag("--script", &kept).run().code(0);
    account.lightsail.take(&account.name());
    std::fs::remove_file(account.host.path("got.script")).expect("it was there");
    let _ = account.command("status").run().code(10).says("the recorded VM is gone");
    let _ = account
        .command("setup")
        .flag("--accept", "unreachable-endpoint")
        .run()
        .code(0)
        .says("port 22 closed");
    account.is_whole("made again");
    assert!(account.host.path("got.script").exists(), "the new VM has run the script");
    // One that another run has made gets it, too.
    account.lightsail.take(&account.name());
    std::fs::remove_file(account.host.path("got.script")).expect("it was there");
    account.lightsail.clear_requests();
    let _ = account.command("create-vm").flag("--accept", "unreachable-endpoint").run().code(0);
    assert!(!account.asked().contains(&"PutInstancePublicPorts".to_owned()), "nothing is to enter");
    let _ = account.command("setup").run().code(0).says("port 22 closed");
    assert!(account.host.path("got.script").exists(), "the new VM has run the script");
}

/// An instance that appears late is found by teardown; one that was just accepted is closed by Ctrl-C.
pub fn late(bed: &dyn Bed) {
    let lags = Lags { found: Duration::from_secs(4), ..Lags::default() };
    let account = Account::with(bed, Options { lags, ..Options::default() });
    account.lightsail.inject(Fault::once("POST", "/CreateInstances", Action::ResetAfter));
    let setup = account.setup();
    let mut running = setup.start();
    super::host::until(&mut running, "after a lost answer");
    super::host::interrupt(&running);
    let output = running.wait().code(130);
    let _ = output.says("may have been made in eu-central-1 (7 USD a month)");
    let _ = account.command("teardown").arg("--yes").run().code(0).says("deleted; read back: gone");
    assert_eq!(account.instances().len(), 0);
    let lags = Lags { operation: Duration::from_secs(6), ..Lags::default() };
    let account = Account::with(bed, Options { lags, ..Options::default() });
    let setup = account.setup();
    let mut running = setup.start();
    super::host::until(&mut running, "waiting for Lightsail");
    std::thread::sleep(Duration::from_millis(400));
    super::host::interrupt(&running);
    let _ = running.wait().code(130).says("stays in eu-central-1, 7 USD a month");
    assert_eq!(account.instances()[0]["ports"], serde_json::json!([]), "closed again");
    let _ = account.command("teardown").arg("--yes").run().code(0);
    assert_eq!(account.instances().len(), 0);
}

/// Ports of an instance that somebody made in place of ours are left alone, also after a killed run.
pub fn replaced(bed: &dyn Bed) {
    let account = Account::new(bed);
    account.lightsail.deny("admin", "lightsail:CloseInstancePublicPorts");
    let _ = account.setup().run().code(5).says("OR0510");
    account.lightsail.take(&account.name());
    account.lightsail.put_instance(Foreign::new(&account.name()));
    let before = account.lightsail.snapshot();
    let session = || account.by(account.scene.command("status"), "session");
    let _ = session().arg("--machine").run().says("is not a running VM of this deployment");
    let _ = account.by(account.scene.command("create-role"), "session").run().code(0);
    assert_eq!(account.lightsail.snapshot(), before);
}
