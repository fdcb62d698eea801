//! What `ssh` says when it fails, as failures. Its exit code tells nothing: 255 is also that of a program on the host.
//!
//! The words are those of OpenSSH's `sshconnect.c` and `sshconnect2.c`.

use super::Login;
use crate::base::error::{Command, Failure, Id};
use crate::base::message;
use crate::settings::shell_word;

/// Lines of ssh that are shown at most.
const SHOWN: usize = 3;

/// The failure to connect, from ssh's standard error. `made`: the VM that outrigger made, with a login of AWS.
pub fn refusal(login: &Login, made: Option<&str>, said: &str) -> Failure {
    if let Some(vm) = made {
        return on_vm(vm, said);
    }
    let (host, pinned) = (&login.host, !login.keys.is_empty());
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let by_hand = |flag: &str| Command::Whole(format!("ssh {flag}{}", arguments(login)));
    let failure =
        if has(&["HOST IDENTIFICATION HAS CHANGED", "Host key for", "REVOKED HOST KEY", "marked as revoked"])
            || (pinned && has(&["Host key verification failed", "host key is known for"]))
        {
            let known = if pinned { "--host-key" } else { "known_hosts" };
            Failure::new(Id::HostKeyChanged, format!("{host} has another host key than {known} says")).hint(
            "find out why: the host may have been installed again, or another machine answers in its place",
        )
        } else if has(&["Host key verification failed", "host key is known for"]) {
            Failure::new(Id::HostKeyUnknown, format!("the host key of {host} is not known"))
                .hint(("log in once, and compare the fingerprint that ssh shows", by_hand("")))
                .hint("or give the key: --host-key 'ssh-ed25519 AAAA…'")
        } else if has(&[
            "Permission denied",
            "Too many authentication failures",
            "No more authentication methods",
        ]) {
            Failure::new(Id::SshDenied, format!("{host} does not accept your login"))
                .hint(("see which keys ssh offers", by_hand("-v ")))
                .hint("choose a key: --ssh-option IdentityFile=PATH; or another user: --host USER@HOST")
        } else if has(&["Bad configuration option", "bad configuration options", "Bad owner or permissions"])
        {
            Failure::new(Id::SshSettings, "ssh's own configuration is invalid")
                .hint("fix the file that ssh names")
        } else if has(&["Could not resolve hostname"]) {
            Failure::new(Id::SshUnreachable, format!("the name of {host} cannot be resolved"))
                .hint("check the name; an alias has to be in ssh's configuration")
        } else {
            Failure::new(Id::SshUnreachable, format!("cannot connect to {host} with ssh"))
                .hint(("to see what happens", by_hand("")))
        };
    match shown(said) {
        text if text.is_empty() => failure,
        text => failure.detail("ssh says", text),
    }
}

/// The same for a VM: a person has no login there.
fn on_vm(vm: &str, said: &str) -> Failure {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let failure = if has(&[
        "HOST IDENTIFICATION HAS CHANGED",
        "Host key verification failed",
        "host key is known for",
        "REVOKED HOST KEY",
    ]) {
        Failure::new(Id::HostKeyChanged, format!("{vm} has another host key than AWS has seen")).hint(
            "find out why: another machine may answer in its place; teardown and setup create the VM again",
        )
    } else if has(&[
        "Permission denied",
        "Too many authentication failures",
        "No more authentication methods",
    ]) {
        Failure::new(Id::SshDenied, format!("{vm} does not accept the key that AWS gives for it")).hint(
            "run the same command again; if its first boot failed, teardown and setup create the VM again",
        )
    } else {
        Failure::new(Id::SshUnreachable, format!("cannot connect to {vm} with ssh"))
            .hint("check that this machine may connect to port 22 elsewhere, and that --ssh-from includes its address")
    };
    match shown(said) {
        text if text.is_empty() => failure,
        text => failure.detail("ssh says", text),
    }
}

/// The words after `ssh` for a person.
fn arguments(login: &Login) -> String {
    let host = &login.host;
    let name = match &host.user {
        Some(user) => format!("{user}@{}", host.name),
        None => host.name.clone(),
    };
    let mut words: Vec<String> =
        login.options.iter().map(|option| format!("-o {}", shell_word(option))).collect();
    words.extend(host.port.map(|port| format!("-p {port}")));
    words.push(shell_word(&name));
    words.join(" ")
}

/// The last lines, without the frame of a warning.
fn shown(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(|line| line.trim_matches(['@', ' ', '\r']))
        .filter(|line| line.chars().any(char::is_alphanumeric))
        .collect();
    message::text(&lines[lines.len().saturating_sub(SHOWN)..].join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Host;

    fn login(pinned: bool) -> Login {
        Login {
            host: Host::parse("root@vm:2222").expect("a host"),
            options: vec!["IdentityFile=/a/key".to_owned()],
            keys: if pinned { vec!["ssh-ed25519 AAAA".to_owned()] } else { Vec::new() },
        }
    }

    #[test]
    fn words_of_ssh() {
        for (said, pinned, id) in [
            (
                "No ED25519 host key is known for vm and you have requested strict checking.\r\nHost key verification failed.\r\n",
                false,
                Id::HostKeyUnknown,
            ),
            (
                "No ED25519 host key is known for vm and you have requested strict checking.\r\nHost key verification failed.\r\n",
                true,
                Id::HostKeyChanged,
            ),
            (
                "@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nHost key verification failed.\r\n",
                false,
                Id::HostKeyChanged,
            ),
            ("root@vm: Permission denied (publickey).\r\n", false, Id::SshDenied),
            ("ssh: connect to host vm port 2222: Connection refused\r\n", false, Id::SshUnreachable),
            ("ssh: Could not resolve hostname vm: Name or service not known\r\n", false, Id::SshUnreachable),
            ("/home/a/.ssh/config: line 1: Bad configuration option: x\r\n", false, Id::SshSettings),
            ("", false, Id::SshUnreachable),
        ] {
            assert_eq!(refusal(&login(pinned), None, said).id, id, "{said}");
        }
    }

    #[test]
    fn hint_logs_in_as_outrigger_does() {
        let hints = refusal(&login(false), None, "Host key verification failed.").hints;
        let wanted = "ssh -o IdentityFile=/a/key -p 2222 root@vm";
        assert_eq!(hints[0].command, Some(Command::Whole(wanted.to_owned())));
    }
}
