//! The host that `ssh` connects to, and the options of `ssh` that outrigger takes.

use std::fmt;

use super::check;

/// `[USER@]HOST[:PORT]`. An IPv6 address with a port is in brackets. The parts are safe as words of `ssh`'s command
/// line: none begins with `-`, and none contains a blank or a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Login name; `None` for that of `ssh`'s configuration, or the user's own.
    pub user: Option<String>,
    /// Name, address, or alias of `ssh`'s configuration.
    pub name: String,
    pub port: Option<u16>,
}

/// The options of `ssh` that `--ssh-option` sets, by their names in `ssh_config(5)`. None of them runs a command or
/// weakens the check of the host key; other options belong in ssh's own configuration.
const OPTIONS: &[&str] = &[
    "Port",
    "User",
    "IdentityFile",
    "CertificateFile",
    "IdentitiesOnly",
    "ProxyJump",
    "UserKnownHostsFile",
    "HostKeyAlias",
    "ConnectTimeout",
];

impl Host {
    /// Fails with the reason.
    pub fn parse(value: &str) -> Result<Self, String> {
        if value.contains("://") {
            return Err("is a URL: give [USER@]HOST[:PORT]".to_owned());
        }
        let (user, rest) = match value.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, value),
        };
        let bracketed = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (name, port) = match bracketed {
            Some((name, "")) => (name, None),
            Some((name, port)) => (name, port.strip_prefix(':')),
            // More than one colon: an IPv6 address without a port.
            None => match rest.split_once(':') {
                Some((name, port)) if !port.contains(':') => (name, Some(port)),
                _ => (rest, None),
            },
        };
        let port = port
            .map(|port| port.parse().ok().filter(|port| *port > 0).ok_or("has a port that is not 1 to 65535"))
            .transpose()?;
        let is_word = |text: &str, more: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if user.is_some_and(|user| !is_word(user, "._-+\\@")) {
            return Err("has a user name that is not made of letters, digits, . _ - + \\ and @".to_owned());
        }
        if !is_word(name, "._-:%") {
            return Err(
                "is not [USER@]HOST[:PORT], with an IPv6 address and a port as [ADDRESS]:PORT".to_owned()
            );
        }
        Ok(Self { user: user.map(str::to_owned), name: name.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.port {
            Some(port) if self.name.contains(':') => write!(f, "[{}]:{port}", self.name),
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Checks `--host`.
pub fn host(value: &str) -> Result<String, String> {
    Host::parse(value).map(|host| host.to_string())
}

/// Checks `--ssh-option` and writes the option's name as `ssh_config(5)` does.
pub fn ssh_option(value: &str) -> Result<String, String> {
    let (name, text) = value.split_once('=').ok_or("is not KEY=VALUE")?;
    let Some(known) = OPTIONS.iter().find(|known| known.eq_ignore_ascii_case(name.trim())) else {
        return Err(format!(
            "cannot be set here; put it into ssh's own configuration (allowed: {})",
            OPTIONS.join(", ")
        ));
    };
    let text = check::text(text.trim())?;
    if text.is_empty() {
        return Err("has no value".to_owned());
    }
    if *known == "UserKnownHostsFile"
        && text.split_whitespace().any(|file| file == "/dev/null" || file == "none")
    {
        return Err("switches the check of the host key off".to_owned());
    }
    // ssh puts them into a command line for a shell.
    let is_hop = |hop: &str| Host::parse(hop.strip_prefix("ssh://").unwrap_or(hop)).is_ok();
    if *known == "ProxyJump" && text != "none" && !text.split(',').all(is_hop) {
        return Err("is not [USER@]HOST[:PORT], or several of them separated by commas".to_owned());
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-+\\@:".contains(c);
    if ["User", "HostKeyAlias"].contains(known) && (text.starts_with('-') || !text.chars().all(is_name)) {
        return Err("is not made of letters, digits, . _ - + \\ @ and :".to_owned());
    }
    if ["Port", "ConnectTimeout"].contains(known) && text.parse::<u16>().is_err() {
        return Err("is not a number".to_owned());
    }
    Ok(format!("{known}={text}"))
}

/// Checks `--host-key`: the type and the key in base64, as in `known_hosts` and in a file `ssh_host_*_key.pub`. A
/// comment behind them is dropped.
pub fn host_key(value: &str) -> Result<String, String> {
    let mut words = value.split_whitespace();
    let (Some(kind), Some(key)) = (words.next(), words.next()) else {
        return Err("is not a public host key, such as 'ssh-ed25519 AAAA…'".to_owned());
    };
    let is_kind = kind.starts_with("ssh-") || kind.starts_with("ecdsa-sha2-") || kind.starts_with("sk-");
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-.@".contains(c);
    if !is_kind || !kind.chars().all(is_name) || !key.starts_with("AAAA") || !key.chars().all(is_base64) {
        return Err("is not a public host key, such as 'ssh-ed25519 AAAA…'".to_owned());
    }
    Ok(format!("{kind} {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_and_written() {
        for (text, user, name, port) in [
            ("vm", None, "vm", None),
            ("root@vm.example.com", Some("root"), "vm.example.com", None),
            ("admin@10.0.0.7:2222", Some("admin"), "10.0.0.7", Some(2222)),
            ("::1", None, "::1", None),
            ("root@[fe80::1%eth0]:22", Some("root"), "fe80::1%eth0", Some(22)),
            ("a@b@bastion", Some("a@b"), "bastion", None),
        ] {
            let host = Host::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((host.user.as_deref(), host.name.as_str(), host.port), (user, name, port), "{text}");
            assert_eq!(host.to_string(), text);
        }
    }

    #[test]
    fn words_that_ssh_would_take_for_options_are_refused() {
        for text in [
            "",
            "-oProxyCommand=id",
            "root@-oProxyCommand=id",
            "-l@vm",
            "vm name",
            "vm\n",
            "vm;id",
            "$(id)",
            "@vm",
            "vm:0",
            "vm:70000",
            "vm:",
            "ssh://vm",
            "[::1",
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn options_that_run_commands_or_weaken_the_check_are_refused() {
        assert_eq!(ssh_option("identityfile = ~/.ssh/vm").as_deref(), Ok("IdentityFile=~/.ssh/vm"));
        assert_eq!(ssh_option("port=2222").as_deref(), Ok("Port=2222"));
        for text in [
            "ProxyCommand=id",
            "ProxyJump=`touch${IFS}x`",
            "ProxyJump=bastion,$(id)",
            "ProxyJump=-oProxyCommand=id",
            "HostKeyAlias=`id`",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "UserKnownHostsFile=~/.ssh/known_hosts /dev/null",
            "UserKnownHostsFile=none",
            "LocalCommand=id",
            "ForwardAgent=yes",
            "Port=x",
            "User=",
            "Port",
            "User=a\nProxyCommand=id",
        ] {
            assert!(ssh_option(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn host_keys_are_public_keys() {
        assert_eq!(host_key("ssh-ed25519 AAAAC3Nz root@vm").as_deref(), Ok("ssh-ed25519 AAAAC3Nz"));
        for text in ["", "AAAAC3Nz", "ssh-ed25519 x y", "ssh-ed25519", "* ssh-ed25519 AAAA\nvm ssh-rsa AAAA"]
        {
            assert!(host_key(text).is_err(), "{text:?}");
        }
    }
}
