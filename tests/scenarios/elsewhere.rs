//! The cluster is not the one that was recorded: refused before anything is touched, both named.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::{Scene, listing, writes};
use crate::common::admin::Admin;
use crate::common::bed::{Bed, User};
use crate::common::run::Cli;
use crate::common::world::{assert_same, world};

/// What may not be done to either cluster, with the same words each time.
fn assert_refused(scene: &Scene<'_>, there: &Admin, run: impl Fn(Cli<'_>) -> Cli<'_>, names: &[&str]) {
    let bed = scene.bed;
    let (before, before_there) = (world(bed.admin()), world(there));
    bed.mark();
    let commands = [scene.setup(), scene.setup().arg("--dry-run"), scene.status(), scene.teardown()];
    for command in commands.into_iter().chain([scene.command("create-role"), scene.command("preflight")]) {
        let mut output = run(command)
            .run()
            .code(3)
            .says("OR0305")
            .says("was set up on another cluster")
            .says("--cluster-gone");
        for name in names {
            output = output.says(name);
        }
    }
    assert_eq!(listing(&writes(bed)), "");
    assert_same("the cluster of the record", &before, &world(bed.admin()));
    assert_same("the other cluster", &before_there, &world(there));
}

fn kube_system(admin: &Admin) -> String {
    let namespace = admin.get("/api/v1/namespaces/kube-system").expect("every cluster has it");
    namespace["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

/// The kubeconfig's context now leads to another cluster.
pub fn switched(bed: &dyn Bed) {
    let Some(other) = bed.elsewhere() else { return };
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let there = Admin::new(&other);
    let other = scene.home.kubeconfig("other.kubeconfig", &other);
    let (here_uid, there_uid) = (kube_system(bed.admin()), kube_system(&there));
    let url = bed.url();
    let names = [url.as_str(), &here_uid, &there_uid];
    assert_refused(&scene, &there, |command| command.flag("--kubeconfig", &other), &names);
    scene.setup().flag("--kubeconfig", &other).fails("OR0305");
    // Another deployment may live there; and the first one is where it was.
    let another = bed.fresh_deployment();
    let elsewhere = scene.setup().flag("--kubeconfig", &other).flag("--deployment", &another);
    let _ = elsewhere.flag("--token-lifetime", "7d").arg("--dry-run").run().code(0);
    scene.status().run().code(0);
    scene.teardown().run().code(0);
}

/// `kubectl config use-context` changes nothing for a deployment that is recorded.
pub fn recorded_context(bed: &dyn Bed) {
    let Some(other) = bed.elsewhere() else { return };
    let scene = Scene::new(bed, User::Admin);
    let named = |text: &str, name: &str| -> Value {
        serde_yaml::from_str(&renamed(text, name)).expect("kubeconfigs of the tests parse")
    };
    let (here, there) = (bed.kubeconfig(User::Admin), Admin::new(&other));
    let both = |mine: &str, current: &str| {
        let (mut both, mut second) = (named(&here, mine), named(&other, "there"));
        let user = json!("somebody-there");
        second["users"][0]["name"] = user.clone();
        second["contexts"][0]["context"]["user"] = user;
        for list in ["clusters", "contexts", "users"] {
            both[list].as_array_mut().expect("a list").push(second[list][0].take());
        }
        both["current-context"] = json!(current);
        scene.home.kubeconfig("both.kubeconfig", &both.to_string())
    };
    let file = both("here", "here");
    scene.setup().flag("--kubeconfig", &file).run().code(0);
    let before = world(&there);

    both("here", "there");
    let at = |command: Cli<'_>| command.flag("--kubeconfig", &file).run();
    let _ = at(scene.status()).code(0).says("here").says("recorded");
    let _ = at(scene.command("setup")).code(0).says("Nothing to change");
    // A list of what is in a cluster is about the current one.
    let list = || scene.home.outrigger("list").arg("--cluster").flag("--kubeconfig", &file);
    let listed = |output: crate::common::run::Output| {
        output
            .stdout()
            .lines()
            .filter(|line| line.split(' ').next() == Some(scene.deployment.as_str()))
            .count()
    };
    assert_eq!(listed(list().flag("--deployment", &scene.deployment).run().code(0)), 0);
    assert_eq!(listed(list().flag("--context", "here").run().code(0)), 1);
    // Another one that is asked for is refused, with the way back.
    let asked = at(scene.status().flag("--context", "there")).code(3);
    let _ = asked.says("set up on another cluster").says("omit --context");
    // A context that was renamed: the current one is another cluster.
    both("renamed", "there");
    let _ = at(scene.status()).code(3).says("set up on another cluster").says("--context NAME");
    let _ = at(scene.status().flag("--context", "renamed")).code(0);
    // It is the one that is recorded now.
    let _ = at(scene.command("setup").flag("--context", "renamed")).code(0).says("Nothing to change");
    let _ = at(scene.teardown()).code(0);
    assert_same("the other cluster", &before, &world(&there));
}

/// Rebuilt under the same name: context, server and file are the same; what is behind them is not.
pub fn rebuilt(bed: &dyn Bed) {
    let Some(other) = bed.elsewhere() else { return };
    let scene = Scene::new(bed, User::Admin);
    let relay = Relay::start(&bed.url());
    let behind = |kubeconfig: &str, url: &str| kubeconfig.replace(url, &relay.url());
    let mine = behind(&bed.kubeconfig(User::Admin), &bed.url());
    let kubeconfig = scene.home.kubeconfig("the.kubeconfig", &mine);
    scene.setup().flag("--kubeconfig", &kubeconfig).run().code(0);

    let there = Admin::new(&other);
    let (url, name) = (field(&other, "server"), field(&mine, "current-context"));
    relay.lead_to(&url);
    // The user's file, as the rebuilt cluster's tool wrote it.
    scene.home.kubeconfig("the.kubeconfig", &renamed(&behind(&other, &url), &name));
    let (here_uid, there_uid) = (kube_system(bed.admin()), kube_system(&there));
    let names = [relay.url(), name, here_uid, there_uid];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_refused(&scene, &there, |command| command.flag("--kubeconfig", &kubeconfig), &names);

    // It is said to be gone: then what is here goes, and the next setup begins anew over there.
    scene.teardown().arg("--cluster-gone").run().code(0).says("not read back");
    let again = scene.setup().flag("--kubeconfig", &kubeconfig).arg("--dry-run");
    again.run().code(0).says(&scene.job_namespace());
    scene.elsewhere(User::Admin).teardown().run().code(0);
}

/// A kubeconfig whose cluster and context have another name.
fn renamed(kubeconfig: &str, name: &str) -> String {
    let mut value: Value = serde_yaml::from_str(kubeconfig).expect("kubeconfigs of the tests parse");
    value["current-context"] = json!(name);
    value["clusters"][0]["name"] = json!(name);
    value["contexts"][0]["name"] = json!(name);
    value["contexts"][0]["context"]["cluster"] = json!(name);
    serde_yaml::to_string(&value).expect("a kubeconfig is plain data")
}

/// The text of a field of a kubeconfig's that occurs once.
fn field(kubeconfig: &str, name: &str) -> String {
    let start = format!("{name}: ");
    let line = kubeconfig.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {name}")).trim_matches(['"', '\'']).to_owned()
}

/// One address in front of whichever server it was told to lead to.
struct Relay {
    port: u16,
    target: Arc<Mutex<String>>,
}

impl Relay {
    fn start(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let target = Arc::new(Mutex::new(String::new()));
        let relay = Self { port, target: Arc::clone(&target) };
        relay.lead_to(url);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let address = target.lock().expect("no panic under the lock").clone();
                if let Ok(server) = TcpStream::connect(address) {
                    join(&client, &server);
                    join(&server, &client);
                }
            }
        });
        relay
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn lead_to(&self, url: &str) {
        url.trim_start_matches("https://")
            .clone_into(&mut self.target.lock().expect("no panic under the lock"));
    }
}

fn join(from: &TcpStream, to: &TcpStream) {
    let mut from = from.try_clone().expect("a socket can be shared");
    let mut to = to.try_clone().expect("a socket can be shared");
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
