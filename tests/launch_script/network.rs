//! The proxy of the machine, and the cache of jobs.

use outrigger::internal::{LaunchScript, Proxy, Secret, Uninstall};

use super::config::FOREIGN;
use super::machine::Machine;
use super::sample::{for_machine, runners, sample, shells, text, tokens};

const FILE: &str = "etc/gitlab-runner/config.toml";
const UNIT: &str = "etc/systemd/system/gitlab-runner.service.d/outrigger.conf";
const PROXY_FILE: &str = "var/lib/outrigger/kubernetes-runner.proxy";

fn proxy(password: &str) -> Proxy {
    let userinfo = Secret::new(format!("me:{password}"));
    Proxy::new(None, Some("http://proxy.example.com:3128"), &["10.0.0.0/8".to_owned()], Some(&userinfo))
}

#[test]
fn the_proxy_is_used_by_the_script_and_by_the_service() {
    let tokens = tokens();
    for shell in shells() {
        for shared in [false, true] {
            let machine = Machine::new();
            let plain = for_machine(&sample(&[], Some(tokens.both())), shared);
            let (first, second) = (proxy("canary-1"), proxy("canary-2"));
            let with = LaunchScript { proxy: Some(&first), ..plain.clone() };
            machine.succeed(shell, &with);
            let variable = "=http://me:canary-1@proxy.example.com:3128\n";
            for tool in ["apt-get", "curl", "gitlab-runner"] {
                let calls = machine.calls(tool);
                for name in ["https_proxy", "HTTPS_PROXY"] {
                    assert!(calls.contains(&format!("\n{name}{variable}")), "{tool}: {calls}");
                }
                assert!(
                    calls.contains("\nno_proxy=10.0.0.0/8\n") && !calls.contains("--noproxy"),
                    "{tool}: {calls}"
                );
            }
            let file = machine.read(PROXY_FILE);
            assert!(file.contains("HTTPS_PROXY='http://me:canary-1@proxy.example.com:3128'\n"), "{file}");
            assert_eq!(machine.mode(PROXY_FILE), 0o600);
            let unit = machine.read(UNIT);
            assert!(
                unit.contains(&format!("EnvironmentFile={}\n", machine.path(PROXY_FILE).display())),
                "{unit}"
            );
            let seen = unit + &machine.log() + &machine.config() + &machine.status().to_string();
            assert!(!seen.contains("canary"), "{seen}");

            // A new password restarts the service, but it is not part of the digest, which others can read.
            let restarts = || machine.calls("systemctl").matches("restart ").count();
            machine.succeed(shell, &with);
            let before = restarts();
            let changed = LaunchScript { proxy: Some(&second), ..plain.clone() };
            assert_eq!(changed.digest(), with.digest());
            assert_ne!(with.digest(), plain.digest());
            machine.succeed(shell, &changed);
            assert!(machine.read(PROXY_FILE).contains("canary-2"));
            assert_eq!(restarts(), before + 1);

            // Without a proxy nothing of it is left.
            machine.succeed(shell, &plain);
            assert!(!machine.path(PROXY_FILE).exists() && !machine.read(UNIT).contains("EnvironmentFile"));
            let direct = Machine::new();
            direct.succeed(shell, &plain);
            assert!(direct.calls("curl").contains("--noproxy *"));

            // The way back takes it along.
            if shared {
                machine.succeed(shell, &with);
                let undo = Uninstall {
                    deployment: "kubernetes-runner",
                    outrigger_version: "0.1.0",
                    name: with.entry.name,
                    url: with.entry.url,
                    host: Some(with.entry.host),
                };
                let output = machine.run_file(shell, "root/uninstall", &undo.render().unwrap(), &[]);
                assert!(output.status.success(), "{output:?}");
                assert!(!machine.path(PROXY_FILE).exists());
            }
        }
        let machine = Machine::with_runner("99.0.0");
        machine.write(FILE, FOREIGN);
        let given = proxy("canary-1");
        let script = LaunchScript { proxy: Some(&given), ..sample(&[], Some(tokens.both())) };
        let output = machine.run(shell, &script);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("needs the proxy there"), "{output:?}");
        assert!(!machine.path("etc/systemd").exists());
    }
}

#[test]
fn a_cache_has_its_credentials_or_the_identity_of_the_machine() {
    let tokens = tokens();
    let table = |keys: &str| -> toml::Table {
        format!("Type = \"s3\"\nShared = true\n[s3]\nBucketName = \"ours\"\n{keys}").parse().unwrap()
    };
    let (identity, keys) =
        (table("AuthenticationType = \"iam\"\n"), table("AccessKey = \"a\"\nSecretKey = \"canary\"\n"));
    for shell in shells() {
        for shared in [false, true] {
            let machine = Machine::new();
            let mut script = for_machine(&sample(&[], Some(tokens.both())), shared);
            machine.succeed(shell, &script);
            assert!(machine.read(UNIT).contains("IPAddressDeny=169.254.169.254"));
            script.entry.cache = Some(&identity);
            machine.succeed(shell, &script);
            let cache = runners(&machine.config())[0]["cache"].clone();
            assert_eq!(cache["s3"]["BucketName"].as_str(), Some("ours"), "{cache:?}");
            assert_eq!((cache["Type"].as_str(), cache["Shared"].as_bool()), (Some("s3"), Some(true)));
            // The identity comes from the metadata service.
            assert!(!machine.read(UNIT).contains("IPAddressDeny"));
            let locked = LaunchScript { lock_metadata: true, ..script.clone() };
            assert!(
                locked.render().unwrap_err().to_string().contains("--lock-metadata would block the cache")
            );

            // Without tokens the script still holds the credentials, and says so.
            script.entry.cache = Some(&keys);
            let update = LaunchScript { secrets: None, ..script.clone() };
            let head = text(&update);
            assert!(head.contains("# HOLDS THE CACHE'S CREDENTIALS, secret or not, but no token"), "{head}");
            assert!(update.has_credentials() && !head.contains("Holds no secret"));
            machine.succeed(shell, &update);
            let cache = runners(&machine.config())[0]["cache"].clone();
            assert_eq!(cache["s3"]["SecretKey"].as_str(), Some("canary"), "{cache:?}");
            assert!(machine.read(UNIT).contains("IPAddressDeny=169.254.169.254"));
            assert!(!machine.log().contains("canary"));

            // Other credentials take the place of these; what others can read tells nothing of either.
            let other = table("AccessKey = \"a\"\nSecretKey = \"canary-2\"\n");
            let mut changed = update.clone();
            changed.entry.cache = Some(&other);
            assert_eq!(changed.digest(), update.digest());
            let told = machine.status()["digest"].clone();
            machine.succeed(shell, &changed);
            let cache = runners(&machine.config())[0]["cache"].clone();
            assert_eq!(cache["s3"]["SecretKey"].as_str(), Some("canary-2"), "{cache:?}");
            assert_eq!(machine.status()["digest"], told);
            assert_eq!(machine.mode("var/lib/outrigger/kubernetes-runner.digest"), 0o600);
        }
    }
}
