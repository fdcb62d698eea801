//! New tokens beside old ones: no moment without a valid cluster token, and none too many at the end.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use outrigger_doubles::gitlab::{Action, Behaviour, DriverOptions, Fault, PROJECT, RunnerDriver};
use serde_json::json;

use super::Scene;
use super::host::{Host, interrupt, until};
use super::pasted::{below, paste};
use crate::common::bed::{Bed, User};
use crate::common::printed::printed;
use crate::common::run::{Cli, Running, SOON};
use crate::common::site::{self, Site, runner_token};
use crate::common::ssh_host::SSH;

/// Longer than a request for a job may be open.
const LATER: Duration = Duration::from_secs(90);

/// The names of the Secrets of the cluster token, and the tokens.
pub fn tokens(scene: &Scene<'_>) -> Vec<(String, String)> {
    let list = scene.bed.admin().get(&format!("/api/v1/namespaces/{}/secrets", scene.runner_namespace()));
    let list = list.unwrap_or_default();
    let secrets = list["items"].as_array().cloned().unwrap_or_default();
    let read = |secret: &serde_json::Value| {
        let name = secret["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let token = secret["data"]["token"].as_str().unwrap_or_default();
        let token = base64::engine::general_purpose::STANDARD.decode(token).expect("base64");
        let token = String::from_utf8(token).expect("ASCII");
        // A requested token is not in its Secret.
        if !token.is_empty() {
            scene.home.canary(&token);
        }
        (name, token)
    };
    secrets.iter().map(read).collect()
}

fn names(scene: &Scene<'_>) -> Vec<String> {
    tokens(scene).into_iter().map(|(name, _)| name).collect()
}

/// The token in a file of secrets; empty if it has none of that kind.
pub fn token_in(file: &str, name: &str) -> String {
    let line = file.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_default().to_owned()
}

/// A deployment on a host, with its runner at work.
pub struct Worked<'a> {
    pub host: Host<'a>,
    pub site: Site,
    vm: RunnerDriver,
}

impl<'a> Worked<'a> {
    pub fn new(bed: &'a dyn Bed, extra: &[&str]) -> Self {
        let (site, host) = (Site::new(), Host::new(bed));
        let (scene, got) = (&host.scene, host.path("got.secrets"));
        let setup = host.with(site.project(&scene.home, scene.command("setup"), "maintainer"));
        let setup = setup.flag("--host", "vm.test").arg("--commit-pipeline").args(extra.iter().copied());
        let mut running = setup.start();
        let begun = Instant::now();
        while !fs::read_to_string(&got).is_ok_and(|text| text.contains("runner_token=")) {
            assert!(!running.poll() && begun.elapsed() < SOON, "nothing is sent\n{}", running.wait());
            std::thread::sleep(Duration::from_millis(10));
        }
        let vm = start(&site, &host, &got);
        let _ = running.wait().code(0).says("GitLab has seen runner");
        Self { host, site, vm }
    }

    pub fn scene(&self) -> &Scene<'a> {
        &self.host.scene
    }

    pub fn rotate(&self, which: &str) -> Cli<'_> {
        self.host.command("rotate").arg(which)
    }

    /// Waits for this state of all pipelines.
    fn until(&self, what: &str, is: impl Fn(&[String]) -> bool) {
        let begun = Instant::now();
        let states = || -> Vec<String> {
            let pipelines = self.site.gitlab.pipelines(PROJECT);
            pipelines.iter().map(|one| one["status"].as_str().unwrap_or_default().to_owned()).collect()
        };
        while !is(&states()) {
            assert!(begun.elapsed() < SOON, "{what}: {:?}", states());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts a job that does not end before the machine is told so.
    fn busy(&self) {
        self.until("the job of the commit does not end", |states| states.iter().all(|one| one == "success"));
        self.vm.set_behaviour(Behaviour::Stall);
        let path = format!("/projects/{}/pipeline", self.site.gitlab.project_id(PROJECT));
        site::post(&self.site.gitlab, "maintainer", &path, &json!({"ref": "main"}));
        self.until("no job starts", |states| states.iter().any(|one| one == "running"));
    }

    /// Lets that job end.
    fn idle(&self) {
        self.vm.set_behaviour(Behaviour::Succeed);
        self.until("a job does not end well", |states| states.iter().all(|one| one == "success"));
    }
}

fn start(site: &Site, host: &Host<'_>, secrets: &Path) -> RunnerDriver {
    let token = runner_token(secrets);
    host.scene.home.canary(&token);
    RunnerDriver::start(DriverOptions::new(&site.gitlab, &token))
}

/// Runs this while GitLab's time passes quickly.
pub fn in_no_time<T>(site: &Site, run: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                site.gitlab.advance(Duration::from_secs(5));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let result = run();
        is_over.store(true, Ordering::Release);
        result
    })
}

/// A job that runs when the host gets the new token may use the old one until it ends.
pub fn cluster_token(bed: &dyn Bed) {
    let worked = Worked::new(bed, &[]);
    let (scene, host) = (worked.scene(), &worked.host);
    let old = tokens(scene);
    assert_eq!(old.len(), 1, "{old:?}");
    worked.busy();
    let output = worked.rotate("cluster").flag("--wait", "2s").run().code(8).says("OR0801");
    let go_on = below(&printed(&output), "to go on").to_owned();
    let _ = output.says("beside the current one").says("1 job now").says("both tokens stay valid");
    let both = tokens(scene);
    assert_eq!(both.len(), 2, "{both:?}");
    // The host has the new token, and the runner's stays as it is there.
    let sent = host.read("got.secrets");
    let new = both.iter().find(|one| !old.contains(one)).expect("a second token");
    assert_eq!(token_in(&sent, "bearer_token"), new.1);
    assert_eq!(token_in(&sent, "runner_token"), "");
    // What is unfinished is told, by every command, and setup goes on with it.
    let _ = host.command("status").run().code(10).says("when no job uses its token");
    let _ = host.command("setup").flag("--wait", "1s").run().code(8).says("1 job that may use");
    // The job ends well.
    worked.idle();
    worked.site.gitlab.advance(LATER);
    let path = host.search_path();
    let output = paste(&scene.home, &[("PATH", &path)], &go_on).code(0).says("the old token gets 401");
    let _ = output.never_says("created").never_says("ran on");
    assert_eq!(tokens(scene), std::slice::from_ref(new));
    let _ = host.command("status").run().code(0).says("Everything matches the plan");
    let _ = host.command("setup").run().code(0).says("Nothing to change");
    assert!(worked.vm.problems().is_empty(), "{:?}", worked.vm.problems());
    // Another machine finds the current one.
    let colleague = scene.elsewhere(User::Admin);
    let status = host.with(worked.site.project(&colleague.home, colleague.command("status"), "maintainer"));
    let _ = status.flag("--host", "vm.test").run().never_says("- Secret").never_says("+ Secret");
    let _ = host.command("teardown").arg("--yes").run().code(0);
    assert_eq!(names(scene), [""; 0]);
}

/// GitLab ends the old token when it gives the new one, so the host is reserved first.
pub fn runner_token_of_a_host(bed: &dyn Bed) {
    let worked = Worked::new(bed, &[]);
    let (scene, host, site) = (worked.scene(), &worked.host, &worked.site);
    let old = worked.site.gitlab.runner_token(site.gitlab.runners()[0]["id"].as_u64().expect("an id"));
    // A host that cannot be reached keeps its token.
    host.steer("says", "ssh: connect to host vm.test port 22: No route to host\r\n");
    let resets = |site: &Site| site.count("POST", "/reset_authentication_token");
    let _ = worked.rotate("runner").run().code(8).says("OR0807");
    assert_eq!(resets(site), 0);
    fs::remove_file(host.path("says")).expect("it was there");
    // One that somebody else has reserved, too. A reservation ends by itself.
    let hold = host.path(&format!("run/outrigger-{}.hold", scene.deployment));
    fs::write(&hold, "another 99999999999\n").expect("a file");
    let _ = worked.rotate("runner").run().code(6).says("OR0602");
    assert_eq!(resets(site), 0);
    let _ = host.command("setup").flag("--reissue", "cluster").run().code(6).says("OR0602");
    fs::write(&hold, "another 1\n").expect("a file");
    let rotate = worked.rotate("runner");
    let mut running = rotate.start();
    let begun = Instant::now();
    while token_in(&host.read("got.secrets"), "runner_token") == old || resets(site) == 0 {
        assert!(!running.poll() && begun.elapsed() < SOON, "nothing is sent\n{}", running.wait());
        std::thread::sleep(Duration::from_millis(10));
    }
    let vm = start(site, host, &host.path("got.secrets"));
    let _ = running.wait().code(0).says("jobs queue from the reset").says("GitLab has seen runner");
    assert_eq!(resets(site), 1);
    assert!(!hold.exists(), "the reservation is used up");
    let _ = host.command("status").run().code(0);
    drop(vm);
}

/// Killed when GitLab has ended the old token, before the host has the new one and while the script runs there: the same
/// command gives the host another one.
pub fn killed_in_the_gap(bed: &dyn Bed) {
    for is_running in [false, true] {
        let worked = Worked::new(bed, &[]);
        let (host, site) = (&worked.host, &worked.site);
        let resets = || site.count("POST", "/reset_authentication_token");
        let later = format!(
            "if [ \"$(wc -l <\"$D/argv\")\" -gt {} ]; then sleep 9; fi\nfor last",
            host.read("argv").lines().count() + 2
        );
        if is_running {
            host.steer("slow", "");
        } else {
            // The look and the reservation come through, and the delivery does not.
            host.program("bin/ssh", &SSH.replace("for last", &later));
        }
        let rotate = worked.rotate("runner");
        let mut running = rotate.start();
        let begun = Instant::now();
        let is_there = |running: &mut Running<'_>| {
            resets() == 1
                && (if is_running {
                    running.has_said("| begins")
                } else {
                    running.has_said("launch-script       wrote")
                })
        };
        while !is_there(&mut running) {
            assert!(!running.poll() && begun.elapsed() < SOON, "no token is reset\n{}", running.wait());
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = running.kill();
        host.program("bin/ssh", SSH);
        let _ = fs::remove_file(host.path("got.secrets"));
        let rotate = worked.rotate("runner");
        let mut running = rotate.start();
        let _ = fs::remove_file(host.path("slow"));
        while !host.path("got.secrets").exists() {
            assert!(!running.poll() && begun.elapsed() < SOON, "nothing is sent\n{}", running.wait());
            std::thread::sleep(Duration::from_millis(10));
        }
        let vm = start(site, host, &host.path("got.secrets"));
        let _ = running.wait().code(0).says("GitLab has seen runner");
        assert_eq!(resets(), 2);
        let _ = host.command("status").run().code(0);
        drop(vm);
    }
}

/// Without a host: the script is run by hand between two commands.
pub fn by_hand(bed: &dyn Bed) {
    let (site, scene) = (Site::new(), Scene::new(bed, User::Admin));
    let setup = site.project(&scene.home, scene.command("setup"), "maintainer").flag("--target", "ssh");
    let _ = setup.run().code(0);
    let (script, old) = (scene.home.script(&scene.deployment), tokens(&scene));
    let secrets = script.with_extension("sh.secrets");
    let vm = site.boot(&scene.home, &secrets);
    let begun = Instant::now();
    while site.count("POST", "/runners/verify") == 0 {
        assert!(begun.elapsed() < SOON, "no contact");
        std::thread::sleep(Duration::from_millis(10));
    }
    for file in [&script, &secrets] {
        fs::remove_file(file).expect("it was there");
    }
    let rotate = || scene.command("rotate").arg("cluster");
    let output =
        rotate().run().code(0).says("beside the current one").says("rotate cluster --accept unseen-host");
    let output = output.says("stays valid until the new script has run on the host");
    let finish = below(&printed(&output), "Once it has run there").to_owned();
    let both = tokens(&scene);
    assert_eq!(both.len(), 2, "{both:?}");
    let sent = fs::read_to_string(&secrets).expect("a file of secrets");
    let new = both.iter().find(|one| !old.contains(one)).expect("a second token").clone();
    assert_eq!(
        (token_in(&sent, "bearer_token"), token_in(&sent, "runner_token")),
        (new.1.clone(), String::new())
    );
    // Nothing tells whether it has run there.
    let _ = rotate().run().code(2).says("OR0206").says("--accept unseen-host");
    let _ = scene.status().run().code(10).says("both cluster tokens are valid");
    assert_eq!(tokens(&scene), both);
    site.gitlab.advance(LATER);
    // Its clock is ahead, and a minute passes all the same.
    let output = in_no_time(&site, || paste(&scene.home, &[], &finish));
    let _ = output.code(0).says("the old token gets 401");
    assert_eq!(tokens(&scene), [new]);
    let _ = scene.status().run().code(0);
    let _ = scene.teardown().run().code(0);
    drop(vm);
}

/// A record that another machine's rotation has outdated makes no third token: it is refused, with the way on.
pub fn another_machine(bed: &dyn Bed) {
    let worked = Worked::new(bed, &[]);
    let (scene, host, site) = (worked.scene(), &worked.host, &worked.site);
    let colleague = scene.elsewhere(User::Admin);
    let rotate = host.with(site.project(&colleague.home, colleague.command("rotate"), "maintainer"));
    let rotate = rotate.flag("--host", "vm.test").arg("cluster");
    let _ = rotate.clone().flag("--wait", "1s").run().code(8).says("OR0801");
    // While it is unfinished the recorded token is good.
    let _ = host.command("status").run().never_says("+   Secret");
    site.gitlab.advance(LATER);
    let _ = rotate.run().code(0).says("the old token gets 401");
    let new = tokens(scene);
    assert_eq!(new.len(), 1, "{new:?}");
    for command in [host.command("setup"), worked.rotate("cluster"), worked.rotate("runner")] {
        let _ = command.run().code(7).says("OR0701").says("another machine").says("record away");
    }
    assert_eq!(tokens(scene), new);
    let record = scene.home.state().join(format!("{}.json", scene.deployment));
    fs::rename(&record, record.with_extension("old")).expect("there is a record");
    let again = |subcommand| {
        site.project(&scene.home, host.command(subcommand), "maintainer").flag("--host", "vm.test")
    };
    let _ = again("setup").run().code(0).says("Nothing to change");
    assert_eq!(tokens(scene), new);
    let _ = again("teardown").arg("--yes").run().code(0);
    assert_eq!(names(scene), [""; 0]);
}

/// A VM that was started with the script as its user data is up: both tokens are brought to it, in a file of their own.
pub fn all_by_hand(bed: &dyn Bed) {
    let (site, scene) = (Site::new(), Scene::new(bed, User::Admin));
    let setup = site.project(&scene.home, scene.command("setup"), "maintainer");
    let _ = setup.run().code(0).says("Create a VM");
    let script = scene.home.script(&scene.deployment);
    let vm = site.boot(&scene.home, &script);
    fs::remove_file(&script).expect("it was there");
    let rotate = scene.command("rotate").arg("all");
    let output = rotate.run().code(0).says("launch.sh.secrets next to it contains both tokens");
    let _ = output.says("scp -p").never_says("Create a VM").says("rotate cluster --accept unseen-host");
    let sent = fs::read_to_string(script.with_extension("sh.secrets")).expect("a file of secrets");
    assert!(!token_in(&sent, "runner_token").is_empty() && !token_in(&sent, "bearer_token").is_empty());
    assert!(!fs::read_to_string(&script).expect("a script").contains("glrt-"));
    drop(vm);
}

/// `--if-within` and what is refused before anything is made.
pub fn refusals(bed: &dyn Bed) {
    let (site, scene) = (Site::new(), Scene::new(bed, User::Admin));
    let rotate = |which: &str| scene.command("rotate").arg(which);
    let _ = rotate("cluster").run().code(3).says("OR0208");
    let output = scene.home.outrigger("rotate").run().code(2).says("cluster, runner, all");
    let _ = paste(&scene.home, &[], below(&printed(&output), "to list its flags")).code(0);
    // A runner that is not outrigger's: the jobs on it are not known.
    scene.set_up();
    bed.mark();
    let _ = rotate("cluster").run().code(2).says("OR0201");
    let _ = rotate("runner").run().code(3).says("no runner of its own");
    assert_eq!(super::writes(bed).len(), 0, "{}", super::listing(&super::writes(bed)));
    assert_eq!(names(&scene), [format!("{}-token", scene.deployment)]);
    let _ = scene.teardown().run().code(0);

    let scene = Scene::new(bed, User::Admin);
    let setup = site.project(&scene.home, scene.command("setup"), "maintainer");
    let _ = setup.args(["--token-lifetime", "20d", "--warn-before", "1d", "--target", "ssh"]).run().code(0);
    let rotate = |flags: [&'static str; 2]| scene.command("rotate").arg("cluster").args(flags);
    bed.mark();
    let _ = rotate(["--if-within", "14d"]).run().code(0).says("the cluster token expires in");
    let runner = scene.command("rotate").args(["runner", "--if-within", "14d"]);
    let _ = runner.run().code(0).says("the runner's token does not expire");
    assert_eq!(super::writes(bed).len(), 0, "{}", super::listing(&super::writes(bed)));
    let _ = scene
        .command("status")
        .args(["--warn-before", "30d"])
        .run()
        .code(10)
        .says("the cluster token expires in")
        .says("rotate cluster");
    // The only copy of the runner's token is in the file of secrets, which no machine has yet: it stays there.
    let secrets = scene.home.script(&scene.deployment).with_extension("sh.secrets");
    let before = token_in(&fs::read_to_string(&secrets).expect("a file"), "runner_token");
    let _ = rotate(["--if-within", "21d"]).run().code(0).says("token for 20 days");
    let after = fs::read_to_string(&secrets).expect("a file");
    assert_eq!(token_in(&after, "runner_token"), before);
    assert_eq!(names(&scene).len(), 2);
    let _ = scene.teardown().run().code(0);
    assert_eq!(names(&scene), [""; 0]);
}

/// An upgrade that is interrupted leaves no runner paused, and the same command goes on.
pub fn upgrade_interrupted(bed: &dyn Bed) {
    let worked = Worked::new(bed, &[]);
    let (host, site) = (&worked.host, &worked.site);
    let paused = || site.gitlab.runners()[0]["paused"] == true;
    let upgrade = host.command("upgrade").flag("--runner-version", "19.5.0");
    // While a job is waited for.
    worked.busy();
    let mut running = upgrade.start();
    until(&mut running, "the paused runner");
    assert!(paused());
    interrupt(&running);
    let _ = running.wait().code(130);
    assert_eq!((host.read("version").trim(), paused()), ("19.4.1", false));
    worked.idle();
    // While the script runs.
    host.steer("slow", "");
    let mut running = upgrade.start();
    until(&mut running, "| begins");
    assert!(paused());
    interrupt(&running);
    let _ = running.wait().code(130).says("goes on there by itself");
    assert!(!paused());
    let mut running = upgrade.start();
    until(&mut running, "since an earlier run");
    fs::remove_file(host.path("slow")).expect("it was there");
    let _ = running.wait().code(0).says("GitLab has seen runner");
    assert_eq!((host.read("version").trim(), paused()), ("19.5.0", false));
    let _ = host.command("setup").run().code(0).says("Nothing to change");
}

/// Whoever may write the annotation does not make outrigger delete the token that the host uses.
pub fn forged_slots(bed: &dyn Bed) {
    let worked = Worked::new(bed, &[]);
    let (scene, host, site) = (worked.scene(), &worked.host, &worked.site);
    let old = tokens(scene);
    let forged = "{\"turn\":9,\"current\":\"aaaaaa\",\"retiring\":{\"generation\":\"\",\"since\":\"2020-01-01T00:00:00Z\"}}";
    let patch = json!({"metadata": {"annotations": {"outrigger.dev/token-slots": forged}}});
    bed.admin().patch(&scene.path("ServiceAccount"), &patch);
    let colleague = scene.elsewhere(User::Admin);
    let rotate = site.project(&colleague.home, colleague.command("rotate"), "maintainer");
    let output = host.with(rotate).arg("cluster").run();
    assert!(tokens(scene).contains(&old[0]), "the host's token is gone\n{output}");
    let setup = site.project(&colleague.home, colleague.command("setup"), "maintainer");
    let output = host.with(setup).run();
    assert!(tokens(scene).contains(&old[0]), "the host's token is gone\n{output}");
}

/// A rotation whose delivery failed, finished from another machine: the host gets the new token before the old one goes.
pub fn finished_elsewhere(bed: &dyn Bed) {
    let worked = Worked::new(bed, &[]);
    let (scene, host, site) = (worked.scene(), &worked.host, &worked.site);
    host.steer("says", "ssh: connect to host vm.test port 22: No route to host\r\n");
    let later = format!(
        "if [ -e \"$D/says\" ] && [ \"$(wc -l <\"$D/argv\")\" -gt {} ]",
        host.read("argv").lines().count() + 1
    );
    host.program("bin/ssh", &SSH.replace("if [ -e \"$D/says\" ]", &later));
    let _ = worked.rotate("cluster").flag("--wait", "1s").run().code(8).says("OR0807");
    assert_eq!(tokens(scene).len(), 2);
    host.program("bin/ssh", SSH);
    fs::remove_file(host.path("says")).expect("it was there");
    let colleague = scene.elsewhere(User::Admin);
    let rotate = site.project(&colleague.home, colleague.command("rotate"), "maintainer");
    let rotate = host.with(rotate).arg("cluster").flag("--host", "vm.test");
    let mut running = rotate.start();
    while !running.poll() {
        site.gitlab.advance(Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = running.wait().code(0).says("ran on vm.test");
    let left = tokens(scene);
    assert_eq!(left.len(), 1, "{output}");
    assert_eq!(token_in(&host.read("got.secrets"), "bearer_token"), left[0].1, "{output}");
}

/// A machine still works on a canceled job while it cleans up after it.
pub fn upgrade_after_a_canceled_job(bed: &dyn Bed) {
    let worked = Worked::new(bed, &[]);
    worked.idle();
    let cleans_up = Arc::new(AtomicBool::new(true));
    let is_there = Arc::clone(&cleans_up);
    let job = move |jobs: &mut serde_json::Value| {
        if is_there.load(Ordering::Acquire) {
            *jobs = json!([{"id": 9, "status": "canceling", "started_at": "2020-01-01T00:00:00.000Z"}]);
        }
    };
    worked.site.gitlab.inject(Fault {
        query_contains: "status=canceling".to_owned(),
        times: usize::MAX,
        ..Fault::once("GET", "/jobs", Action::Edit(Box::new(job)))
    });
    let upgrade = worked.host.command("upgrade").flag("--runner-version", "19.5.0");
    let _ = upgrade.clone().flag("--wait", "1s").run().code(8).says("1 job");
    assert_eq!(worked.host.read("version").trim(), "19.4.1");
    cleans_up.store(false, Ordering::Release);
    let _ = upgrade.run().code(0).says("gitlab-runner 19.5.0 runs on vm.test");
}

/// Another version of gitlab-runner, while no job runs on the host.
pub fn upgrade(bed: &dyn Bed) {
    let worked = Worked::new(bed, &[]);
    let (scene, host, site) = (worked.scene(), &worked.host, &worked.site);
    let upgrade = |version: &str| host.command("upgrade").flag("--runner-version", version);
    let paused = || site.gitlab.runners()[0]["paused"] == true;
    // A job that runs is waited for, and the host is not touched before it has ended.
    worked.busy();
    let sent = host.read("got.script");
    let output =
        upgrade("19.5.0").flag("--wait", "2s").run().code(8).says("1 running job; the paused runner");
    let output = output.says("gitlab-runner 19.4.1 -> 19.5.0 on vm.test").says("takes jobs again");
    let longer = below(&printed(&output), "to wait longer").to_owned();
    assert_eq!((host.read("got.script"), paused()), (sent, false));
    // Nor does another command do it while the job runs.
    let _ = host.command("setup").run().code(0).says("Nothing to change");
    worked.idle();
    let path = host.search_path();
    let output = paste(&scene.home, &[("PATH", &path)], &longer).code(0);
    let _ = output.says("gitlab-runner 19.5.0 runs on vm.test").says("GitLab has seen");
    assert_eq!((host.read("version").trim(), paused()), ("19.5.0", false));
    let script = scene.home.script(&scene.deployment);
    assert!(!script.exists());
    let _ = host.command("status").run().says("gitlab-runner 19.5.0");
    let _ = upgrade("19.5.0").run().code(0).says("Nothing to change");
    // The recorded version is newer than the newest that is known here.
    let _ = host.command("upgrade").run().code(0).says("Nothing to change");
    let _ = upgrade("19.4.1").run().code(2).says("19.4.1 is older");
    // A version that does not start.
    host.steer("breaks", "19.6.0\n");
    let output = upgrade("19.6.0").fails("OR0915").says("it does not start");
    let _ = output.says("19.5.0 runs there").says("GitLab has seen runner");
    assert_eq!((host.read("version").trim(), paused()), ("19.5.0", false));
    let _ = host.command("setup").run().code(0).says("Nothing to change");
    let anchor = bed.admin().get(&scene.path("ServiceAccount")).expect("the anchor");
    assert!(anchor["metadata"]["annotations"].to_string().contains("19.5.0"));
    // One that does not come back either.
    host.steer("fails", "install the disk is full\n");
    let output = upgrade("19.7.0").run().code(5).says("going back to gitlab-runner 19.5.0");
    let _ = output.says("OR0508");
    assert!(!paused());
    fs::remove_file(host.path("fails")).expect("it was there");
    let _ = host.command("setup").run().code(0).says("ran on");
    // Somebody else's gitlab-runner.
    fs::remove_file(host.path(&format!("lib/outrigger/{}.installed", scene.deployment)))
        .expect("it was there");
    let _ = upgrade("19.8.0").run().code(7).says("OR0708").says("was not installed by outrigger");
    let _ = host.command("teardown").arg("--yes").run().code(0);
    // Without a host it is the script's.
    let scene = Scene::new(bed, User::Admin);
    scene.set_up();
    let upgrade = scene.command("upgrade").flag("--runner-version", "19.5.0");
    let _ = upgrade.run().code(2).says("--host").says("setup --runner-version 19.5.0");
}
