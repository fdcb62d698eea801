//! An authority that signs keys for logins, as `ssh-keygen` makes it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::ssh::well;

/// A key pair with a certificate.
pub struct Login {
    /// The private key, as OpenSSH writes it.
    pub private_key: String,
    /// The certificate's line, as in a file `KEY-cert.pub`.
    pub certificate: String,
}

/// The authority. Its key is removed with it.
pub struct Ca {
    folder: tempfile::TempDir,
}

impl Ca {
    /// One with an RSA key, as Lightsail's is. Its files lie in a new folder below `parent`.
    pub fn new(parent: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("ca-").tempdir_in(parent).expect("the folder is ours");
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "test CA", "-f"]);
        well(command.arg(folder.path().join("ca")));
        Self { folder }
    }

    /// The line for `TrustedUserCAKeys`.
    pub fn public_key(&self) -> String {
        let path = self.folder.path().join("ca.pub");
        fs::read_to_string(path).expect("ssh-keygen has written it").trim_end().to_owned()
    }

    /// A new ECDSA key pair with a certificate for this user, valid for so long from now on. It is signed with
    /// SHA-1 (`ssh-rsa`), as Lightsail signs: sshd refuses such a certificate unless it is told otherwise.
    pub fn login(&self, user: &str, valid: Duration) -> Login {
        let parent = self.folder.path();
        let folder =
            tempfile::Builder::new().prefix("login-").tempdir_in(parent).expect("the folder is ours");
        let key = folder.path().join("key");
        let mut generate = Command::new("ssh-keygen");
        well(generate.args(["-q", "-t", "ecdsa", "-N", "", "-C", "test", "-f"]).arg(&key));
        let mut sign = Command::new("ssh-keygen");
        sign.arg("-q").arg("-s").arg(parent.join("ca")).args(["-t", "ssh-rsa", "-I", "test", "-n", user]);
        let validity = format!("-1m:+{}s", valid.as_secs());
        well(sign.args(["-V", &validity]).arg(key.with_extension("pub")));
        let read =
            |name: &str| fs::read_to_string(folder.path().join(name)).expect("ssh-keygen has written it");
        Login { private_key: read("key"), certificate: read("key-cert.pub").trim_end().to_owned() }
    }
}
