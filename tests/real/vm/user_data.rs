//! User data as clouds make them of what they are given.

/// What Lightsail puts in front of a launch script, as far as it is known: a shell script of its own that
/// lets the certificates of its console in through ssh. So what follows runs under `/bin/sh`, whatever its
/// first line says.
const PREAMBLE: &str = "#!/bin/sh
lightsail_ca=/etc/ssh/lightsail_instance_ca.pub
cat >\"$lightsail_ca\" <<'LIGHTSAIL'
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleExam example
LIGHTSAIL
chmod 644 \"$lightsail_ca\"
{
  echo
  echo \"TrustedUserCAKeys $lightsail_ca\"
  echo 'CASignatureAlgorithms +ssh-rsa'
} >>/etc/ssh/sshd_config
systemctl restart ssh

";

/// User data as Lightsail makes it of a launch script.
pub fn lightsail(script: &str) -> Vec<u8> {
    format!("{PREAMBLE}{script}").into_bytes()
}
