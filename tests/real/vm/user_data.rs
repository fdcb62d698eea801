//! User data as clouds make them of what they are given.

/// A key of nobody's: it lets nobody in.
const EXAMPLE_CA: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleExam example";

/// What Lightsail puts in front of a launch script, as far as it is known: a shell script of its own that
/// lets the certificates of its authority in through ssh. So what follows runs under `/bin/sh`, whatever its
/// first line says.
fn preamble(ca: &str) -> String {
    format!(
        "#!/bin/sh
lightsail_ca=/etc/ssh/lightsail_instance_ca.pub
cat >\"$lightsail_ca\" <<'LIGHTSAIL'
{ca}
LIGHTSAIL
chmod 644 \"$lightsail_ca\"
{{
  echo
  echo \"TrustedUserCAKeys $lightsail_ca\"
  echo 'CASignatureAlgorithms +ssh-rsa'
}} >>/etc/ssh/sshd_config
systemctl restart ssh

"
    )
}

/// User data as Lightsail makes it of a launch script.
pub fn lightsail(script: &str) -> Vec<u8> {
    lightsail_with_ca(EXAMPLE_CA, script)
}

/// The same with the authority whose certificates are to be let in: its public key, as a line.
pub fn lightsail_with_ca(ca: &str, script: &str) -> Vec<u8> {
    format!("{}{script}", preamble(ca)).into_bytes()
}
