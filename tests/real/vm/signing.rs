//! Throw-away keys for signing, made and used by the real gpg.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with secret keys. Removed, with gpg's agent, when this is dropped.
pub struct Keyring {
    home: PathBuf,
}

/// The public side of a key.
#[derive(Clone, Debug)]
pub struct Key {
    /// 40 hexadecimal digits in upper case.
    pub fingerprint: String,
    /// The key itself, ASCII-armoured.
    pub armoured: String,
}

impl Keyring {
    /// An empty one in a new folder.
    pub fn new(home: PathBuf) -> Result<Self, String> {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&home)
            .map_err(|error| format!("{}: {error}", home.display()))?;
        Ok(Self { home })
    }

    /// Makes a key that signs.
    pub fn make(&self, owner: &str) -> Result<Key, String> {
        self.gpg(&["--passphrase", "", "--quick-generate-key", owner, "ed25519", "sign", "never"])?;
        self.known(owner)
    }

    fn known(&self, owner: &str) -> Result<Key, String> {
        let listing = self.gpg(&["--with-colons", "--list-keys", owner])?;
        let fingerprint = listing
            .lines()
            .filter(|line| line.starts_with("fpr:"))
            .find_map(|line| line.split(':').nth(9))
            .ok_or_else(|| format!("no fingerprint in {listing}"))?
            .to_owned();
        Ok(Key { armoured: self.gpg(&["--armor", "--export", &fingerprint])?, fingerprint })
    }

    /// Makes a key that signs, and that had ended for a while before its end was taken away. Returns it as it
    /// is now, and its armoured public side as it was.
    pub fn make_extended(&self, owner: &str) -> Result<(Key, String), String> {
        let then = ["--faked-system-time", "20240101T000000"];
        let made = ["--passphrase", "", "--quick-generate-key", owner, "ed25519", "sign", "2024-06-01"];
        self.gpg(&[&then[..], &made].concat())?;
        let ended = self.known(owner)?;
        self.gpg(&["--quick-set-expire", &ended.fingerprint, "0"])?;
        Ok((self.known(owner)?, ended.armoured))
    }

    /// Signs a repository's `Release`: `InRelease` and `Release.gpg` come to lie beside it.
    pub fn sign(&self, key: &Key, release: &Path) -> Result<(), String> {
        for (how, name) in [("--clear-sign", "InRelease"), ("--detach-sign", "Release.gpg")] {
            let output = release.with_file_name(name).display().to_string();
            let input = release.display().to_string();
            let user = key.fingerprint.as_str();
            self.gpg(&["--armor", "--local-user", user, "--output", &output, how, &input])?;
        }
        Ok(())
    }

    fn gpg(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new("gpg")
            .arg("--homedir")
            .arg(&self.home)
            .args(["--batch", "--yes", "--quiet", "--no-permission-warning"])
            .args(args)
            .output()
            .map_err(|error| format!("gpg does not start: {error}"))?;
        if !output.status.success() {
            return Err(format!("gpg {args:?}: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        // The agent is a process of its own, and would go on.
        let _ = Command::new("gpgconf").arg("--homedir").arg(&self.home).args(["--kill", "all"]).output();
        let _ = fs::remove_dir_all(&self.home);
    }
}
