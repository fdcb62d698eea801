//! The scenarios on the in-process double, and what only a double can show: faults
//! at chosen requests and exact request counts.

mod common;
#[path = "scenarios/faults.rs"]
mod faults;
#[path = "scenarios/gitlab_odds/mod.rs"]
mod gitlab_odds;
#[path = "scenarios/hostile.rs"]
mod hostile;
#[path = "scenarios/reports.rs"]
mod reports;
mod scenarios;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::OnceLock;

use outrigger_doubles::cluster::{FakeCluster, Options, Rule, User as Account, seed_rbac, standard_users};

use common::admin::Admin;
use common::bed::{Bed, Logged, User};
use common::pool::{self, Pool};
use common::{absent, arguments, needing};
use scenarios::{DISK, FRONT_END, HOST, SCENARIOS, Scene, disk, listing, vm};

/// What the harness itself authenticates as, so that its requests are told from outrigger's.
const HARNESS: &str = "test-harness";

/// Exact numbers of requests, by command: a request more is a round trip more for everybody, so these
/// change on purpose only.
const SETUP: usize = 52;
const SECOND_SETUP: usize = 34;
const STATUS: usize = 34;
const TEARDOWN: usize = 108;

/// The bed of doubles.
struct Doubles {
    cluster: FakeCluster,
    admin: Admin,
    other: OnceLock<FakeCluster>,
}

fn with_harness(mut options: Options) -> Options {
    options.users = standard_users();
    for user in [User::Odd, User::Hostile] {
        options.users.push(Account {
            name: user.name().to_owned(),
            token: format!("canary-double-{user:?}-7Hq3vN1x"),
            groups: Vec::new(),
        });
    }
    options.users.push(Account {
        name: HARNESS.to_owned(),
        token: "canary-harness-token-5Tq2".to_owned(),
        groups: vec!["system:masters".to_owned()],
    });
    options
}

impl Doubles {
    fn start() -> Self {
        common::admin::install_tls_provider();
        let cluster = FakeCluster::start(with_harness(Options::default()));
        let admin = Admin::new(&cluster.kubeconfig(HARNESS));
        for manifest in seed_rbac() {
            admin.create(&manifest);
        }
        Self { cluster, admin, other: OnceLock::new() }
    }

    fn another(&self) -> String {
        let cluster = self.other.get_or_init(|| {
            let mut options = with_harness(Options::default());
            options.token_controller = false;
            options.max_token_lifetime = Some(std::time::Duration::from_secs(24 * 3600));
            FakeCluster::start(options)
        });
        cluster.kubeconfig(User::Admin.name())
    }
}

impl Bed for Doubles {
    fn name(&self) -> &'static str {
        "doubles"
    }

    fn url(&self) -> String {
        self.cluster.url()
    }

    fn ca_pem(&self) -> String {
        self.cluster.ca_pem()
    }

    fn kubeconfig(&self, user: User) -> String {
        self.cluster.kubeconfig(user.name())
    }

    fn admin(&self) -> &Admin {
        &self.admin
    }

    fn mark(&self) {
        self.cluster.clear_requests();
    }

    fn requests(&self) -> Vec<Logged> {
        let all = self.cluster.requests().into_iter().map(|request| Logged {
            method: request.method,
            path: request.path,
            query: request.query,
            user: request.user,
            status: request.status,
        });
        all.filter(|request| request.user != HARNESS).collect()
    }

    fn counts_exactly(&self) -> bool {
        true
    }

    fn elsewhere(&self) -> Option<String> {
        Some(self.another())
    }

    fn set_rules(&self, rules: &[Rule], _probe: &serde_json::Value) {
        self.cluster.set_rules(rules.to_vec());
    }

    fn without_token_controller(&self) -> Option<String> {
        Some(self.another())
    }
}

/// How many clusters of doubles scenarios run on side by side: a processor is busy for less than half of the
/// time, as some scenarios let a timeout of a minute run out.
const BEDS: usize = 10;
const TIER: &str = "doubles";

fn main() -> ExitCode {
    let pool = Pool::new();
    for _ in 0..BEDS {
        pool.add(Box::leak(Box::new(Doubles::start())));
    }
    // Those that take longest come first, so that none of them is left alone at the end.
    let mut all = Vec::new();
    all.extend(needing(disk::available(), pool, TIER, DISK));
    let fills_up = "disk_that_fills_up_on_the_way";
    all.extend(match disk::available() {
        Ok(()) => vec![pool::trial(pool, fills_up, "faults", faults::disk_fills_up)],
        Err(reason) => absent(TIER, &reason, &[(fills_up, |_| ())]),
    });
    all.extend(faults::FAULTS.iter().map(|&(name, scenario)| {
        pool::trial(pool, name, "faults", move |bed: &'static Doubles| {
            // A trial that panicked before may have left some.
            bed.cluster.clear_faults();
            scenario(bed);
        })
    }));
    all.extend(hostile::HOSTILE.iter().map(|&(name, scenario)| {
        pool::trial(pool, name, "hostile", move |bed: &'static Doubles| {
            bed.cluster.clear_faults();
            scenario(bed);
            bed.cluster.clear_faults();
        })
    }));
    all.extend(
        gitlab_odds::GITLAB.iter().map(|&(name, scenario)| pool::trial(pool, name, "gitlab", scenario)),
    );
    all.extend(reports::REPORTS.iter().map(|&(name, scenario)| pool::trial(pool, name, "reports", scenario)));
    all.extend(pool::trials(pool, TIER, SCENARIOS));
    all.extend(pool::trials(pool, TIER, FRONT_END));
    all.extend(pool::trials(pool, TIER, HOST));
    let name = "vm_in_a_build_without_aws";
    let without_aws = program_without_aws();
    all.extend(match &without_aws {
        Ok(_) => vec![pool::trial(pool, name, TIER, built_without_aws)],
        Err(reason) => absent(TIER, reason, &[(name, |_| ())]),
    });
    all.push(pool::trial(pool, "request_counts", "counts", request_counts));
    let ran = libtest_mimic::run(&arguments(BEDS), all);
    // Only all scenarios together print, paste and compare everything, but for what that build says.
    if ran.num_filtered_out + ran.num_failed == 0 && ran.num_ignored == u64::from(without_aws.is_err()) {
        let list = common::printed::not_pasted().join("\n");
        assert!(list.is_empty(), "{list}\nsee common/printed.rs and scenarios/pasted.rs");
        let absent: &[&str] = if without_aws.is_ok() { &[] } else { &["OR0210"] };
        common::snapshot::assert_all_compared(&["failures", "reports"], absent);
    }
    ran.exit_code()
}

/// A program that was built without the feature `aws`, or why there is none.
fn program_without_aws() -> Result<String, String> {
    let name = "OUTRIGGER_TEST_WITHOUT_AWS";
    std::env::var(name).map_err(|_| format!("{name} names no program that was built without the feature aws"))
}

/// It says so, and does the rest of its work.
fn built_without_aws(bed: &'static Doubles) {
    let program = program_without_aws().expect("the harness has looked");
    let account = vm::Account::new(bed);
    let _ = account.setup().program(&program).fails("OR0210").says("--host USER@HOST").code(2);
    assert_eq!(account.asked(), [""; 0]);
    let _ = account.scene.setup().program(&program).run().code(0);
}

/// Three things are polled, and how often depends on the clock: the token Secret until it is filled, the
/// `default` ServiceAccount until it is there, and a namespace until it is gone. Each counts once.
fn without_polls(requests: Vec<Logged>) -> Vec<Logged> {
    let mut seen: Vec<(String, String)> = Vec::new();
    requests
        .into_iter()
        .filter(|request| {
            let path = &request.path;
            let polled = path.ends_with("-token")
                || path.ends_with("/serviceaccounts/default")
                || path.strip_prefix("/api/v1/namespaces/").is_some_and(|rest| !rest.contains('/'));
            let key = (request.method.clone(), path.clone());
            let first = !seen.contains(&key);
            seen.push(key);
            !polled || first
        })
        .collect()
}

/// How many requests each command takes, for the operator who needs the most of them.
fn request_counts(bed: &'static Doubles) {
    let scene = Scene::new(bed, User::Binder);
    let mut wrong = String::new();
    let commands = [
        ("setup", scene.setup(), SETUP),
        ("second setup", scene.setup(), SECOND_SETUP),
        ("status", scene.status(), STATUS),
        ("teardown", scene.teardown(), TEARDOWN),
    ];
    for (what, command, expected) in commands {
        bed.mark();
        command.run().code(0);
        let requests = without_polls(bed.requests());
        let (count, list) = (requests.len(), listing(&requests));
        if count != expected {
            let _ = writeln!(wrong, "{what}: {count} requests instead of {expected}\n{list}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
