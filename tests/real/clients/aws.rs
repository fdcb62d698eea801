//! AWS's own clients ask the stand-in for Lightsail for every operation: the AWS CLI v2 as users have it, and
//! botocore, whose model of the service is newer than that CLI's.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use outrigger_doubles::cluster::{self, FakeCluster, standard_users};
use outrigger_doubles::lightsail::{Action, FakeLightsail, Fault, Lags, Options};
use serde_json::{Value, json};

use super::{TIER, absent, run, source};

type Drive = fn(&Path) -> Result<(), Failed>;

const TRIALS: &[(&str, Drive)] = &[
    ("botocore_drives_every_lightsail_operation", botocore),
    ("botocore_notices_a_wrong_type", notice),
    ("botocore_has_the_lightsail_model_that_judges", model),
    ("aws_cli_drives_every_lightsail_operation", every_operation),
    ("aws_cli_repeats_a_creation_whose_answer_is_lost", lost_answer),
    ("aws_cli_exports_a_profile_to_outrigger", exported),
];

const ZONE: &str = "eu-central-1b";

/// The trials, or their absence.
pub fn trials(built: &Result<PathBuf, String>) -> Vec<Trial> {
    let trial = |&(name, drive): &(&'static str, Drive)| match built {
        Ok(folder) => {
            let folder = folder.clone();
            vec![Trial::test(name, move || drive(&folder)).with_kind(TIER)]
        }
        Err(reason) => absent(TIER, reason, &[(name, |_| ())]),
    };
    TRIALS.iter().flat_map(trial).collect()
}

/// A Lightsail whose lags a client of this machine's speed can see.
fn lightsail() -> FakeLightsail {
    let lag = Duration::from_millis;
    let lags = Lags { operation: lag(500), metadata: lag(1000), ..Lags::default() };
    FakeLightsail::start(Options { tls: true, lags, ..Options::default() })
}

/// What a client is to know of nobody: this machine's settings for AWS.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true");
}

fn python(folder: &Path, program: &str) -> Command {
    let mut command = Command::new(folder.join("python/bin/python"));
    command.arg("-I").arg("-B").arg(source("python").join(program));
    without_settings(&mut command);
    command
}

fn botocore(folder: &Path) -> Result<(), Failed> {
    let lightsail = lightsail();
    let (well, said) = ask(folder, &lightsail)?;
    if !well {
        return Err(Failed::from(format!("it found something wrong:\n{said}")));
    }
    all_answered(&lightsail)
}

/// A time that is a text must be noticed.
fn notice(folder: &Path) -> Result<(), Failed> {
    let lightsail = lightsail();
    let action = Action::Edit(Box::new(|answer: &mut Value| {
        answer["staticIp"]["createdAt"] = json!("yesterday");
    }));
    lightsail.inject(Fault::always("/GetStaticIp", action));
    let (well, said) = ask(folder, &lightsail)?;
    same(&format!("it was noticed:\n{said}"), &(well, said.contains("yesterday")), &(false, true))
}

/// Lets botocore do all that it does; whether it found nothing wrong, and what it said.
fn ask(folder: &Path, lightsail: &FakeLightsail) -> Result<(bool, String), Failed> {
    let known = ["admin", "session", "expired", "reader"].map(|name| {
        let key = lightsail.key(name);
        let token = Some(key.session_token).filter(|token| !token.is_empty());
        (name.to_owned(), json!([key.id, key.secret, token]))
    });
    let mut keys: serde_json::Map<String, Value> = known.into_iter().collect();
    keys.insert("forged".to_owned(), json!([lightsail.key("admin").id, "of somebody else", null]));
    keys.insert("unknown".to_owned(), json!(["AKIAQQQQQQQQQQQQQQQQ", "of somebody else", null]));
    let given = json!({"url": lightsail.url(), "region": lightsail.region(), "zone": ZONE, "keys": keys});
    run(python(folder, "lightsail.py"), &lightsail.ca_pem(), given)
}

/// The extract that judges is that of the botocore which is installed.
fn model(folder: &Path) -> Result<(), Failed> {
    let output = python(folder, "lightsail_model.py").stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(Failed::from(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let committed = std::fs::read(source("../../doubles/src/lightsail/model.json"))?;
    if committed != output.stdout {
        return Err(Failed::from("model.json is not what lightsail_model.py prints"));
    }
    Ok(())
}

fn all_answered(lightsail: &FakeLightsail) -> Result<(), Failed> {
    let answered: BTreeSet<String> = lightsail
        .requests()
        .into_iter()
        .filter(|asked| asked.status == 200)
        .map(|asked| asked.operation)
        .collect();
    let all = FakeLightsail::operations().into_iter().chain(["GetCallerIdentity".to_owned()]);
    let left: Vec<String> = all.filter(|operation| !answered.contains(operation)).collect();
    if left.is_empty() { Ok(()) } else { Err(Failed::from(format!("not asked: {}", left.join(", ")))) }
}

/// The AWS CLI with a key of the stand-in's.
struct Cli<'a> {
    program: PathBuf,
    lightsail: &'a FakeLightsail,
    home: tempfile::TempDir,
}

impl<'a> Cli<'a> {
    fn new(folder: &Path, lightsail: &'a FakeLightsail) -> Result<Self, Failed> {
        let home = tempfile::tempdir()?;
        std::fs::write(home.path().join("ca.pem"), lightsail.ca_pem())?;
        Ok(Self { program: folder.join("aws"), lightsail, home })
    }

    /// Code, standard output and standard error of `aws SERVICE OPERATION ARGUMENTS`.
    fn run(&self, key: &str, words: &[&str]) -> Result<(i32, String, String), Failed> {
        let mut command = Command::new(&self.program);
        without_settings(&mut command);
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
            command.env_remove(name);
        }
        let key = self.lightsail.key(key);
        command
            .args(words)
            .args(["--output", "json", "--endpoint-url", &self.lightsail.url()])
            .env("HOME", self.home.path())
            .env("AWS_ACCESS_KEY_ID", key.id)
            .env("AWS_SECRET_ACCESS_KEY", key.secret)
            .env("AWS_REGION", self.lightsail.region())
            .env("AWS_CA_BUNDLE", self.home.path().join("ca.pem"))
            .env("AWS_PAGER", "")
            .stdin(Stdio::null());
        if !key.session_token.is_empty() {
            command.env("AWS_SESSION_TOKEN", key.session_token);
        }
        let output = command.output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr)))
    }

    /// What a command prints, which must end well.
    fn good(&self, words: &str) -> Result<Value, Failed> {
        let words: Vec<&str> = words.split_whitespace().collect();
        let (code, out, err) = self.run("admin", &words)?;
        if code != 0 {
            return Err(Failed::from(format!("aws {words:?}: {code}\n{err}")));
        }
        serde_json::from_str(&out).map_err(|error| Failed::from(format!("aws {words:?}: {error}\n{out}")))
    }

    /// A command that must be refused with this error.
    fn refused(&self, key: &str, words: &str, error: &str) -> Result<(), Failed> {
        let words: Vec<&str> = words.split_whitespace().collect();
        let (code, _, err) = self.run(key, &words)?;
        same(&format!("aws {words:?}: {err}"), &(code, err.contains(error)), &(254, true))
    }

    /// Asks until what is shown holds.
    fn until(&self, words: &str, holds: impl Fn(&Value) -> bool) -> Result<Value, Failed> {
        let started = Instant::now();
        loop {
            let shown = self.good(words)?;
            if holds(&shown) {
                return Ok(shown);
            }
            if started.elapsed() > Duration::from_secs(60) {
                return Err(Failed::from(format!("it does not come: {shown}")));
            }
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, found: &T, wanted: &T) -> Result<(), Failed> {
    if found == wanted {
        Ok(())
    } else {
        Err(Failed::from(format!("{what}: {found:?} instead of {wanted:?}")))
    }
}

/// A time as the CLI writes it: of this hour.
fn fresh(what: &str, time: &Value) -> Result<(), Failed> {
    let at: jiff::Timestamp =
        time.as_str().unwrap_or_default().parse().map_err(|_| format!("{what}: {time}"))?;
    let age = jiff::Timestamp::now().duration_since(at);
    same(what, &(age.abs() < jiff::SignedDuration::from_mins(10)), &true)
}

const CREATE: &str = "lightsail create-instances --instance-names vm --availability-zone eu-central-1b \
                      --blueprint-id ubuntu_24_04 --bundle-id micro_3_0 --ip-address-type dualstack \
                      --tags key=outrigger:id,value=7 key=alone";

fn every_operation(folder: &Path) -> Result<(), Failed> {
    let lightsail = lightsail();
    let cli = Cli::new(folder, &lightsail)?;
    let who = cli.good("sts get-caller-identity")?;
    same("the caller", &who["Arn"], &json!("arn:aws:iam::123456789012:user/admin"))?;
    let regions = cli.good("lightsail get-regions --include-availability-zones")?;
    same("a zone", &regions["regions"][0]["availabilityZones"][1]["zoneName"], &json!(ZONE))?;
    // The CLI reads all pages by itself.
    for (command, member, operation) in
        [("get-bundles", "bundles", "GetBundles"), ("get-blueprints", "blueprints", "GetBlueprints")]
    {
        let rows = cli.good(&format!("lightsail {command}"))?[member].as_array().map_or(0, Vec::len);
        let pages = lightsail.requests().iter().filter(|asked| asked.operation == operation).count();
        same(&format!("pages of {command} with {rows} rows"), &pages, &rows.div_ceil(4))?;
        same(&format!("more than one page of {command}"), &(pages > 1), &true)?;
    }
    let made = cli.good(CREATE)?["operations"][0].clone();
    same("the operation", &made["status"], &json!("Started"))?;
    fresh("the operation's time", &made["createdAt"])?;
    cli.refused(
        "admin",
        CREATE,
        "(InvalidInputException) when calling the CreateInstances operation: Some names",
    )?;
    let id = made["id"].as_str().unwrap_or_default();
    let ended = cli.until(&format!("lightsail get-operation --operation-id {id}"), |shown| {
        shown["operation"]["isTerminal"] == true
    })?;
    same("the operation", &ended["operation"]["status"], &json!("Succeeded"))?;
    let vm = cli.until("lightsail get-instance --instance-name vm", |shown| {
        shown["instance"]["state"]["name"] == "running" && shown["instance"]["publicIpAddress"].is_string()
    })?["instance"]
        .clone();
    same("its tags", &vm["tags"], &json!([{"key": "outrigger:id", "value": "7"}, {"key": "alone"}]))?;
    fresh("its creation", &vm["createdAt"])?;
    let access = cli
        .until("lightsail get-instance-access-details --instance-name vm --protocol ssh", |shown| {
            shown["accessDetails"]["hostKeys"] != json!([])
        })?["accessDetails"]
        .clone();
    same("its address", &access["ipAddress"], &vm["publicIpAddress"])?;
    same("its host key", &access["hostKeys"][0]["algorithm"], &json!("ssh-ed25519"))?;
    fresh("the host key's time", &access["hostKeys"][0]["witnessedAt"])?;

    let states = "lightsail get-instance-port-states --instance-name vm";
    same("ports at first", &cli.good(states)?["portStates"].as_array().map(Vec::len), &Some(2))?;
    let port = "fromPort=22,toPort=22,protocol=tcp";
    cli.good(
        "lightsail put-instance-public-ports --instance-name vm --port-infos \
         [{\"fromPort\":22,\"toPort\":22,\"protocol\":\"tcp\",\"cidrs\":[\"192.0.2.7/32\"],\"ipv6Cidrs\":[]}]",
    )?;
    let open = cli.good(states)?["portStates"].clone();
    let wanted = json!([{
        "fromPort": 22, "toPort": 22, "protocol": "tcp", "state": "open", "cidrs": ["192.0.2.7/32"], "ipv6Cidrs": [],
        "cidrListAliases": [],
    }]);
    same("ports that were put", &open, &wanted)?;
    cli.good(&format!("lightsail close-instance-public-ports --instance-name vm --port-info {port}"))?;
    same("closed ports", &cli.good(states)?["portStates"], &json!([]))?;
    let options = "lightsail update-instance-metadata-options --instance-name vm --http-tokens required";
    same("its operation", &cli.good(options)?["operation"]["resourceName"], &json!("vm"))?;
    cli.until("lightsail get-instance --instance-name vm", |shown| {
        shown["instance"]["metadataOptions"]["state"] == "applied"
            && shown["instance"]["metadataOptions"]["httpTokens"] == "required"
    })?;
    cli.good("lightsail tag-resource --resource-name vm --tags key=more,value=1")?;
    cli.good("lightsail allocate-static-ip --static-ip-name ip")?;
    cli.good("lightsail attach-static-ip --static-ip-name ip --instance-name vm")?;
    let ip = cli.good("lightsail get-static-ip --static-ip-name ip")?["staticIp"].clone();
    same("what has the static IP", &ip["attachedTo"], &json!("vm"))?;
    cli.good("lightsail detach-static-ip --static-ip-name ip")?;
    cli.good("lightsail release-static-ip --static-ip-name ip")?;
    cli.good("lightsail delete-instance --instance-name vm --force-delete-add-ons")?;
    let gone = "(NotFoundException) when calling the GetInstance operation: The Instance does not exist: vm";
    cli.refused("admin", "lightsail get-instance --instance-name vm", gone)?;
    let expired = "(ExpiredTokenException) when calling the GetRegions operation";
    cli.refused("expired", "lightsail get-regions", expired)?;
    let denied =
        "(AccessDeniedException) when calling the DeleteInstance operation: User: arn:aws:iam::123456789012";
    cli.refused("reader", "lightsail delete-instance --instance-name vm", denied)?;
    cli.refused(
        "expired",
        "sts get-caller-identity",
        "(ExpiredToken) when calling the GetCallerIdentity operation",
    )?;
    all_answered(&lightsail)
}

/// What makes blind repetition wrong: the second try reports a clash with what the first made.
fn lost_answer(folder: &Path) -> Result<(), Failed> {
    let lightsail = lightsail();
    let cli = Cli::new(folder, &lightsail)?;
    lightsail.inject(Fault::once("POST", "/CreateInstances", Action::ResetAfter));
    cli.refused("admin", CREATE, "Some names are already in use: vm")?;
    let asked = lightsail.requests();
    same("requests", &asked.iter().map(|asked| asked.status).collect::<Vec<_>>(), &vec![0, 400])?;
    let shown = cli.good("lightsail get-instance --instance-name vm")?;
    same("its tag", &shown["instance"]["tags"][0]["value"], &json!("7"))
}

/// A role whose code the AWS CLI asks for: outrigger uses what the CLI has kept, and else names the command that asks.
fn exported(folder: &Path) -> Result<(), Failed> {
    const ROLE: &str = "arn:aws:iam::123456789012:role/ops";
    const DEVICE: &str = "arn:aws:iam::123456789012:mfa/me";
    let cluster =
        FakeCluster::start(cluster::Options { users: standard_users(), ..cluster::Options::default() });
    let lightsail = lightsail();
    let home = tempfile::tempdir()?;
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder"))?;
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok::<_, Failed>(path)
    };
    let config = format!("[profile ops]\nrole_arn = {ROLE}\nsource_profile = me\nmfa_serial = {DEVICE}\n");
    write(".aws/config", &config)?;
    write(".aws/credentials", "[me]\naws_access_key_id = AKIAME\naws_secret_access_key = canary\n")?;
    let kubeconfig = write("kubeconfig", &cluster.kubeconfig("kubernetes-admin"))?;
    let (token, ca) = (write("token", "glrt-of-the-clients")?, write("ca.pem", &lightsail.ca_pem())?);
    let plan = || -> Result<(Option<i32>, String), Failed> {
        let mut command = Command::new(crate::common::binary::outrigger());
        let path = format!("{}:/usr/bin:/bin", folder.display());
        command.env_clear().env("PATH", path).env("HOME", home.path()).env("AWS_PROFILE", "ops");
        command.env("AWS_ENDPOINT_URL", lightsail.url()).env("AWS_CA_BUNDLE", &ca);
        command.args([
            "setup",
            "--non-interactive",
            "--dry-run",
            "--create-vm",
            "--accept",
            "unreachable-endpoint",
        ]);
        command.args(["--gitlab-url", "https://gitlab.example.com", "--vm-region", &lightsail.region()]);
        command.arg("--kubeconfig").arg(&kubeconfig).arg("--runner-token-file").arg(&token);
        let output = command.stdin(Stdio::null()).output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
    };
    let (code, text) = plan()?;
    let named = text.contains("aws sts get-caller-identity --profile ops") && text.contains("MFA code");
    same(&text, &(code, named, text.contains("canary")), &(Some(4), true, false))?;
    same("requests", &lightsail.requests().len(), &0)?;
    // Where and how the CLI keeps the credentials of a role: botocore's JSONFileCache, named by the SHA-1 of these
    // parameters.
    let asked = format!("{{\"RoleArn\": \"{ROLE}\", \"SerialNumber\": \"{DEVICE}\"}}");
    let key = lightsail.key("admin");
    let kept = json!({"Credentials": {"AccessKeyId": key.id, "SecretAccessKey": key.secret,
        "SessionToken": key.session_token, "Expiration": "2099-01-01T00:00:00+00:00"}});
    write(&format!(".aws/cli/cache/{}.json", sha1(&asked)?), &kept.to_string())?;
    let (code, text) = plan()?;
    same(&text, &(code, text.contains("USD a month"), text.contains(&key.secret)), &(Some(0), true, false))
}

fn sha1(text: &str) -> Result<String, Failed> {
    let mut child = Command::new("sha1sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .spawn()?;
    child.stdin.take().expect("piped").write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned())
}
