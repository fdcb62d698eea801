//! The instance of create-vm as the runner's host: its door, port 22, and the login that AWS gives.
//!
//! The port is open only while a script is delivered. That it may be open is recorded before it is opened, so that a
//! later run closes what a killed one left.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;

use super::lightsail::{AccessDetails, Api, Class, Identity, Instance, Port, Refusal, Source, Writer};
use super::ssh::{ALIAS, Login, Ssh};
use super::view::{Hand, View, ssh_variables};
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::files;
use crate::base::secret::Secret;
use crate::base::wait::{self, Pace};
use crate::deployment::record::Vm;
use crate::settings::{Host, Settings, vm};

/// Requests that close the port have this long, also after a signal.
const CLOSING: Duration = Duration::from_secs(30);
/// The alias of Lightsail's console in the sources of a port.
const CONSOLE: &str = "lightsail-connect";

/// The tag by which a creation whose answer was lost is recognised: only this machine's record has its value.
pub const NONCE: &str = "outrigger:nonce";

/// The name of a deployment's instance.
pub fn name(deployment: &str) -> String {
    format!("{deployment}-vm")
}

/// What `--ssh-from` opens.
pub fn door(settings: &Settings) -> Port {
    sources(&settings.ssh_from)
}

/// The ports that stay open by `--ssh-after`.
pub fn after(settings: &Settings) -> Vec<Port> {
    let kept = &settings.ssh_after;
    if kept.is_empty() || kept.iter().any(|word| word == vm::NONE) { Vec::new() } else { vec![sources(kept)] }
}

fn sources(words: &[String]) -> Port {
    let mut port = Port::tcp(22);
    if words.is_empty() || words.iter().any(|word| word == vm::ANYWHERE) {
        port.cidrs.insert("0.0.0.0/0".to_owned());
        return port;
    }
    for word in words {
        match word.parse::<IpNet>() {
            Ok(IpNet::V4(_)) => drop(port.cidrs.insert(word.clone())),
            Ok(IpNet::V6(_)) => drop(port.ipv6_cidrs.insert(word.clone())),
            Err(_) => drop(port.aliases.insert(CONSOLE.to_owned())),
        }
    }
    port
}

/// Ports in words, such as `22 from anywhere`.
pub fn shown(ports: &[Port]) -> String {
    if ports.is_empty() {
        return "no open port".to_owned();
    }
    let one = |port: &Port| {
        let number =
            if port.from == port.to { port.from.to_string() } else { format!("{}-{}", port.from, port.to) };
        let mut from: Vec<&str> = port.cidrs.iter().chain(&port.ipv6_cidrs).map(String::as_str).collect();
        from.extend(port.aliases.iter().map(|_| "Lightsail's console"));
        let anywhere = |word: &&str| ["0.0.0.0/0", "::/0"].contains(word);
        if from.is_empty() || from.iter().any(anywhere) {
            from = vec!["anywhere"];
        }
        let protocol = if port.protocol == "tcp" { "" } else { port.protocol.as_str() };
        format!("{number}{}{protocol} from {}", if protocol.is_empty() { "" } else { "/" }, from.join(", "))
    };
    ports.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Whether something may enter by `open` that may not by `planned`.
pub fn is_wider(open: &[Port], planned: &[Port]) -> bool {
    let covers = |port: &Port, by: &Port| {
        let range = by.from <= port.from && port.to <= by.to && by.protocol == port.protocol;
        let within = |cidr: &String, list: &BTreeSet<String>| {
            let Ok(net) = cidr.parse::<IpNet>() else { return list.contains(cidr) };
            list.iter().filter_map(|one| one.parse::<IpNet>().ok()).any(|one| one.contains(&net))
        };
        range
            && port.cidrs.iter().all(|cidr| within(cidr, &by.cidrs))
            && port.ipv6_cidrs.iter().all(|cidr| within(cidr, &by.ipv6_cidrs))
            && port.aliases.iter().all(|alias| by.aliases.contains(alias))
    };
    open.iter().any(|port| !planned.iter().any(|by| covers(port, by)))
}

/// Whether the same may enter by both.
pub fn is_same(one: &[Port], other: &[Port]) -> bool {
    !is_wider(one, other) && !is_wider(other, one)
}

/// Whether AWS may accept the same request when the instance is further on.
pub fn is_early(refusal: &Refusal) -> bool {
    matches!(refusal.class, Class::NotFound | Class::OperationFailure | Class::InvalidInput)
}

/// The files of a login on the VM. A killed run may leave them.
pub fn key_files(state_dir: &std::path::Path, deployment: &str) -> Vec<std::path::PathBuf> {
    let dir = state_dir.join(deployment);
    ["vm-key", "vm-key-cert.pub", "vm-known-hosts"].map(|name| dir.join(name)).into()
}

/// A key as ssh reads it: OpenSSH's own format has to end with a line feed and has no carriage returns.
fn pem(key: &Secret) -> Secret {
    let lines: Vec<&str> = key.expose().trim().lines().map(str::trim_end).collect();
    Secret::new(format!("{}\n", lines.join("\n")))
}

/// ssh's login on the instance and its files, which are removed when this is dropped.
pub struct Key {
    paths: Vec<std::path::PathBuf>,
}

impl Drop for Key {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = files::remove(path);
        }
    }
}

impl View {
    /// The instance's name; `None` without `--create-vm`.
    pub fn vm(&self) -> Option<String> {
        let settings = &self.run.settings;
        settings.create_vm.then(|| {
            let noted = self.notes.record().vm.as_ref().map(|vm| vm.name.clone());
            noted.unwrap_or_else(|| name(&self.run.names.deployment))
        })
    }

    /// The account's API in the VM's region, with the caller's identity. Fails with OR0360 (exit 3) if account or region
    /// are not the recorded ones, and as [`Api::connect`].
    pub async fn lightsail(&self) -> Result<(&Api, &Identity)> {
        let (api, identity) = self
            .aws
            .get_or_try_init(async || {
                let settings = &self.run.settings;
                let noted = self.notes.record().vm.clone();
                let asked = settings.vm_region.as_ref().map(|region| region.value.clone());
                let arn = settings.vm_arn.as_ref().map(|arn| arn.value.clone());
                let named = arn.as_deref().and_then(|arn| arn.split(':').nth(3)).map(str::to_owned);
                let region = asked.or_else(|| noted.as_ref().map(|vm| vm.region.clone())).or(named);
                let source = Source {
                    profile: settings.aws_profile.as_ref().map(|profile| profile.value.clone()),
                    metadata: settings.aws_metadata,
                    env: self.env.clone(),
                    intake: Rc::clone(&self.intake),
                };
                let api = Api::connect(&source, region.as_deref(), &self.limits).await?;
                let identity = api.identity().await.map_err(Failure::from)?;
                let named = arn.as_deref().map(|arn| {
                    let part = |at| arn.split(':').nth(at).unwrap_or_default().to_owned();
                    let name = name(&self.run.names.deployment);
                    Vm { account: part(4), region: part(3), name, ..Vm::default() }
                });
                if let Some(noted) = noted.as_ref().or(named.as_ref()) {
                    check_place(noted, &identity.account, api.region())?;
                }
                Ok::<_, Failure>((api, identity))
            })
            .await?;
        Ok((api, identity))
    }

    /// The instance with the deployment's name, also if something else created it; requested once per run.
    pub async fn instance(&self) -> Result<Option<&Instance>> {
        let found = self
            .vm_seen
            .get_or_try_init(async || {
                let (api, _) = self.lightsail().await?;
                let noted = self.notes.record().vm.as_ref().map(|vm| vm.name.clone());
                let name = noted.unwrap_or_else(|| name(&self.run.names.deployment));
                api.instance(&name).await.map_err(Failure::from)
            })
            .await?;
        Ok(found.as_ref())
    }

    /// Whether a script can be sent now: to a VM only after [`Hand::enter`].
    pub fn is_open(&self) -> bool {
        self.vm().is_none() || self.door.get()
    }

    /// The address at which others reach the host; empty if it is not known.
    pub async fn address(&self) -> String {
        match self.vm() {
            Some(_) => self.notes.record().vm.as_ref().map(|vm| vm.address.clone()).unwrap_or_default(),
            None => self.look().await.map(|facts| facts.address.clone()).unwrap_or_default(),
        }
    }

    /// ssh with the key that AWS gives now, for a few minutes, and the host keys that AWS has seen. Waits for those.
    pub(super) async fn key(&self) -> Result<(Ssh, Key)> {
        let vm = self.vm().unwrap_or_default();
        if !self.is_open() {
            let failure = Failure::new(Id::MissingPrerequisite, format!("port 22 of {vm} is closed"));
            return Err(failure.hint(Command::outrigger("setup")));
        }
        let (api, _) = self.lightsail().await?;
        let address = self.notes.record().vm.as_ref().map(|vm| vm.address.clone()).unwrap_or_default();
        let seen = wait::until(
            Pace::new(&self.limits, 1000, 5000).within(self.run.settings.wait),
            |_: &&str, waited| {
                self.progress.waiting("create-vm", &format!("the host keys of {vm}"), waited);
            },
            async || match api.access_details(&vm).await {
                Ok(details) if details.host_keys.is_empty() => Ok(Continue("AWS has not seen its host keys")),
                Ok(details) if details.address.is_none_or(|one| one.to_string() != address) => {
                    Ok(Continue("AWS gives a key for another address than the instance has"))
                }
                Ok(details) => Ok(Break(details)),
                Err(refusal) if is_early(&refusal) => Ok(Continue("AWS gives no key for it yet")),
                Err(refusal) => Err(Failure::from(refusal)),
            },
        );
        let details = seen.await?.map_err(|lack| not_ready(&vm, lack))?;
        self.write_key(&vm, &address, &details)
    }

    fn write_key(&self, vm: &str, address: &str, details: &AccessDetails) -> Result<(Ssh, Key)> {
        let (state_dir, deployment) = (&self.run.settings.state_dir, &self.run.names.deployment);
        files::make_dir(&state_dir.join(deployment))?;
        let key = Key { paths: key_files(state_dir, deployment) };
        let known =
            details.host_keys.iter().map(|key| format!("{ALIAS} {key}\n")).collect::<Vec<_>>().concat();
        let texts = [pem(&details.private_key), pem(&details.certificate), Secret::new(known)];
        for (path, text) in key.paths.iter().zip(&texts) {
            files::write_private(path, text.expose().as_bytes())?;
        }
        // In ssh's configuration, `%` begins a token and blanks end a word.
        let word = |path: &std::path::Path| {
            let text =
                path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
            format!("\"{text}\"")
        };
        let host = Host { user: Some(details.user.clone()), name: address.to_owned(), port: None };
        let options = vec![
            format!("IdentityFile={}", word(&key.paths[0])),
            format!("CertificateFile={}", word(&key.paths[1])),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
        ];
        let ssh = Ssh {
            login: Login { host, options, keys: details.host_keys.clone() },
            known_hosts: Some(word(&key.paths[2])),
            env: ssh_variables(&self.env),
            interactive: false,
            made: Some(vm.to_owned()),
        };
        Ok((ssh, key))
    }
}

impl Hand {
    /// Writes with this run's limits.
    pub async fn lightsail_hand(&self) -> Result<Writer> {
        if let Some(writer) = self.aws_hand.get() {
            return Ok(writer.clone());
        }
        let (api, _) = self.lightsail().await?;
        Ok(self.aws_hand.get_or_init(|| api.clone().writer()).clone())
    }

    /// Opens port 22 as `--ssh-from` says, and reads it back. Does nothing for a host, and where it is open.
    ///
    /// # Errors
    /// Those of AWS.
    pub async fn enter(&self) -> Result<()> {
        let Some(vm) = self.vm().filter(|_| !self.door.get()) else { return Ok(()) };
        let writer = self.lightsail_hand().await?;
        let arn = self.notes.record().vm.as_ref().map(|vm| vm.arn.clone()).unwrap_or_default();
        let live = self.instance().await?.filter(|live| live.arn == arn && live.state == "running");
        let Some(live) = live.filter(|_| !arn.is_empty()) else {
            let failure =
                Failure::new(Id::MissingPrerequisite, format!("{vm} is not a running VM of this deployment"));
            return Err(failure.hint(("to see what is there", Command::outrigger("status"))));
        };
        // A stop and a start change it.
        let address = live.address.map(|address| address.to_string()).unwrap_or_default();
        self.journal.note(|record| record.vm.iter_mut().for_each(|vm| vm.address.clone_from(&address)));
        self.open_soon()?;
        let ports = [door(&self.run.settings)];
        writer.put_ports(&vm, &ports).await.map_err(Failure::from)?;
        self.read_back(&writer, &vm, &ports).await?;
        self.opened();
        Ok(())
    }

    /// Records that a port may be open from now on.
    pub fn open_soon(&self) -> Result<()> {
        self.journal.write(|record| {
            if let Some(vm) = &mut record.vm {
                vm.open = true;
            }
        })
    }

    /// The port was seen open.
    pub fn opened(&self) {
        self.door.set(true);
    }

    /// Leaves only the ports of `--ssh-after` open, and reads that back, also after a signal. Returns the result in
    /// words; nothing for a host and for a VM that is closed.
    ///
    /// # Errors
    /// OR0510 if that fails.
    pub async fn leave(&self) -> Result<Option<String>> {
        let noted = self
            .notes
            .record()
            .vm
            .clone()
            .filter(|vm| vm.open && !(vm.arn.is_empty() && vm.nonce.is_empty()));
        let Some(noted) = noted else { return Ok(None) };
        let wanted = after(&self.run.settings);
        let closed = async {
            let writer = self.lightsail_hand().await?.for_cleanup(CLOSING);
            // Ports are changed by name: who has it now is looked at last.
            let live = writer.instance(&noted.name).await.map_err(Failure::from)?;
            let is_ours = |live: &Instance| match noted.arn.as_str() {
                "" => live.tags.get(NONCE) == Some(&noted.nonce),
                arn => live.arn == arn,
            };
            let Some(live) = live.filter(is_ours) else { return Ok(false) };
            self.journal.write(|record| record.vm.iter_mut().for_each(|vm| vm.arn.clone_from(&live.arn)))?;
            if wanted.is_empty() {
                for port in writer.port_states(&noted.name).await.map_err(Failure::from)? {
                    writer.close_port(&noted.name, &port).await.map_err(Failure::from)?;
                }
            } else {
                writer.put_ports(&noted.name, &wanted).await.map_err(Failure::from)?;
            }
            self.read_back(&writer, &noted.name, &wanted).await?;
            Ok(true)
        };
        self.door.set(false);
        let is_there = closed.await.map_err(|failure: Failure| {
            let mut left =
                Failure::new(Id::PortsLeft, format!("port 22 of {} may still be open", noted.name))
                    .detail("because", failure.message)
                    .hint(("to close it", Command::outrigger("setup")));
            left.hints.extend(failure.hints);
            left
        })?;
        if !is_there && noted.arn.is_empty() {
            // It may still appear, with the ports that AWS opens.
            return Ok(None);
        }
        self.journal.write(|record| {
            if let Some(vm) = &mut record.vm {
                vm.open = false;
            }
        })?;
        let text =
            if wanted.is_empty() { "port 22 closed".to_owned() } else { format!("open: {}", shown(&wanted)) };
        Ok(is_there.then_some(text))
    }

    /// Waits until exactly these ports are open.
    async fn read_back(&self, api: &Api, vm: &str, wanted: &[Port]) -> Result<()> {
        let pace = Pace::new(&self.limits, 500, 3000).within(CLOSING);
        // Also after a signal, which the caller looks at.
        let never = crate::base::cancel::Cancel::default();
        let seen = wait::until(
            Pace { cancel: &never, ..pace },
            |_, waited| self.progress.waiting("create-vm", &format!("the ports of {vm}"), waited),
            async || {
                let open = api.port_states(vm).await.map_err(Failure::from)?;
                Ok::<_, Failure>(if is_same(&open, wanted) { Break(()) } else { Continue(open) })
            },
        );
        seen.await?
            .map_err(|open| not_ready(vm, &format!("it has {}, planned is {}", shown(&open), shown(wanted))))
    }
}

/// The VM did not get as far as it must in time.
pub fn not_ready(vm: &str, what: &str) -> Failure {
    Failure::new(Id::VmNotReady, format!("{vm} is not ready within --wait: {what}"))
        .hint("run the same command again to go on waiting")
}

/// Refuses another account or region than the recorded one.
fn check_place(noted: &Vm, account: &str, region: &str) -> Result<()> {
    if noted.account == account && noted.region == region {
        return Ok(());
    }
    Err(Failure::new(Id::AnotherAccount, format!("{} is in another AWS account or region", noted.name))
        .detail("expected", format!("account {}, {}", noted.account, noted.region))
        .detail("given", format!("account {account}, {region}"))
        .hint("use the credentials of the recorded account: --aws-profile NAME")
        .hint(("if that VM no longer exists", Command::teardown("--vm-gone"))))
}

/// Whether nobody outside its own network can reach this host: by its name, or by every address that the name has here.
pub async fn private_reach(host: &str) -> Option<&'static str> {
    use crate::base::address::{Reach, reach, reach_of};
    let word = |reach| match reach {
        Reach::ThisMachine => Some("a loopback address"),
        Reach::LinkLocal => Some("a link-local address"),
        Reach::Private => Some("a private address"),
        Reach::Anywhere => None,
    };
    if let Some(word) = word(reach(host)) {
        return Some(word);
    }
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return None;
    }
    let found = tokio::time::timeout(Duration::from_secs(5), tokio::net::lookup_host((host, 443))).await;
    let addresses: Vec<_> = found.ok()?.ok()?.collect();
    let words: Vec<_> = addresses.iter().map(|one| word(reach_of(one.ip()))).collect();
    words.iter().all(Option::is_some).then(|| words.into_iter().flatten().next()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16, cidrs: &[&str]) -> Port {
        Port { cidrs: cidrs.iter().map(|&cidr| cidr.to_owned()).collect(), ..Port::tcp(number) }
    }

    #[test]
    fn wider_is_what_lets_more_in() {
        let ours = [port(22, &["203.0.113.0/24"])];
        for (open, wider) in [
            (vec![], false),
            (vec![port(22, &["203.0.113.0/24"])], false),
            (vec![port(22, &["203.0.113.7/32"])], false),
            (vec![port(22, &["0.0.0.0/0"])], true),
            (vec![port(22, &["203.0.113.0/24", "198.51.100.1/32"])], true),
            (vec![port(80, &["203.0.113.0/24"])], true),
            (vec![port(22, &["203.0.113.0/24"]), port(80, &["203.0.113.7/32"])], true),
            (vec![Port { ipv6_cidrs: ["::/0".to_owned()].into(), ..port(22, &["203.0.113.0/24"]) }], true),
            (vec![Port { aliases: [CONSOLE.to_owned()].into(), ..port(22, &[]) }], true),
            (vec![Port { protocol: "udp".to_owned(), ..port(22, &["203.0.113.7/32"]) }], true),
            (vec![Port { from: 0, to: 65535, ..port(22, &["203.0.113.7/32"]) }], true),
        ] {
            assert_eq!(is_wider(&open, &ours), wider, "{open:?}");
        }
    }

    #[test]
    fn a_key_ends_with_one_line_feed() {
        let whole = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n";
        for text in [
            whole.to_owned(),
            whole.trim_end().to_owned(),
            whole.replace('\n', "\r\n"),
            format!("\n{whole}\n\n"),
        ] {
            assert_eq!(pem(&Secret::new(text.clone())).expose(), whole, "{text:?}");
        }
    }

    #[test]
    fn ports_in_words() {
        assert_eq!(shown(&[]), "no open port");
        assert_eq!(shown(&[port(22, &["0.0.0.0/0"])]), "22 from anywhere");
        assert_eq!(shown(&[sources(&["console".to_owned()])]), "22 from Lightsail's console");
        assert_eq!(
            shown(&[sources(&["203.0.113.7/32".to_owned(), "2001:db8::/64".to_owned()])]),
            "22 from 203.0.113.7/32, 2001:db8::/64"
        );
    }

    #[tokio::test]
    async fn addresses_that_a_vm_elsewhere_cannot_reach() {
        for (host, word) in [
            ("127.0.0.1", Some("a loopback address")),
            ("localhost", Some("a loopback address")),
            ("10.0.0.1", Some("a private address")),
            ("100.64.0.1", Some("a private address")),
            ("[fd00::1]", Some("a private address")),
            ("169.254.1.1", Some("a link-local address")),
            ("203.0.113.7", None),
        ] {
            assert_eq!(private_reach(host).await, word, "{host}");
        }
    }
}
