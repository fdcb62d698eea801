//! What the servers of packages serve, as files: GitLab's repository of runners, its plain binaries, and a
//! mirror of the distribution with the few packages that a small root lacks.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::package::{self, Release};
use super::roots::{Root, Roots};
use super::signing::{Key, Keyring};

/// Where GitLab's repository for Debian is below the server's root.
pub const RUNNERS: &str = "runner/gitlab-runner/debian";
/// Where the distribution's mirror is.
pub const MIRROR: &str = "debian";
/// Where the plain binaries are.
pub const DOWNLOADS: &str = "gitlab-runner-downloads";

/// The files, signed by keys that nobody will ever see again.
pub struct Repository {
    folder: PathBuf,
    /// What signs GitLab's repository.
    pub key: Key,
    /// The public side of that key as it was before its end was put off.
    pub ended_key: String,
    /// A key like it that has signed nothing but what [`Self::signed_by_other`] returns.
    pub other_key: Key,
    /// What signs the distribution's mirror.
    pub mirror_key: Key,
}

impl Repository {
    /// Builds it in a new folder. Without releases it has no runner, but all the rest.
    pub fn build(folder: PathBuf, roots: &Roots, releases: &[Release]) -> Result<Self, String> {
        let io = |error: std::io::Error| format!("repository of packages: {error}");
        fs::create_dir_all(folder.join("work")).map_err(io)?;
        let keyring = Keyring::new(folder.join("gpg"))?;
        let (key, ended_key) = keyring.make_extended("Runner packages <runner@example.com>")?;
        let repository = Self {
            key,
            ended_key,
            other_key: keyring.make("Somebody else <else@example.com>")?,
            mirror_key: keyring.make("Distribution <distribution@example.com>")?,
            folder,
        };
        repository.fill(roots, releases).map_err(io)?;
        for codename in [Root::Bookworm, Root::Trixie].map(Root::codename) {
            repository.index(&keyring, RUNNERS, codename, &repository.key)?;
            repository.index(&keyring, MIRROR, codename, &repository.mirror_key)?;
            repository.sign_by_other(&keyring, codename)?;
        }
        Ok(repository)
    }

    /// Signs the runners' lists a second time, by the other key, where nobody is served them.
    fn sign_by_other(&self, keyring: &Keyring, codename: &str) -> Result<(), String> {
        let io = |error: std::io::Error| format!("lists for {codename} by another key: {error}");
        let release = self.by_other(codename).join("Release");
        fs::create_dir_all(self.by_other(codename)).map_err(io)?;
        let dist = self.files().join(RUNNERS).join("dists").join(codename);
        fs::copy(dist.join("Release"), &release).map_err(io)?;
        keyring.sign(&self.other_key, &release)
    }

    fn by_other(&self, codename: &str) -> PathBuf {
        self.folder.join("by-other").join(codename)
    }

    /// `InRelease` of the runners' lists, as the other key signs it.
    pub fn signed_by_other(&self, root: Root) -> Vec<u8> {
        let path = self.by_other(root.codename()).join("InRelease");
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The folder whose content is served.
    pub fn files(&self) -> PathBuf {
        self.folder.join("www")
    }

    fn fill(&self, roots: &Roots, releases: &[Release]) -> std::io::Result<()> {
        let files = self.files();
        let (runners, mirror) = (files.join(RUNNERS), files.join(MIRROR));
        for codename in [Root::Bookworm, Root::Trixie].map(Root::codename) {
            fs::create_dir_all(runners.join("pool").join(codename))?;
            fs::create_dir_all(mirror.join("pool").join(codename))?;
        }
        for package in fs::read_dir(roots.mirror())? {
            let package = package?;
            fs::copy(package.path(), mirror.join("pool/bookworm").join(package.file_name()))?;
        }
        for release in releases {
            let pool = runners.join("pool/bookworm");
            package::build(release, &pool, &self.folder.join("work")).map_err(std::io::Error::other)?;
            let downloads = files.join(DOWNLOADS).join(format!("v{}", release.version));
            fs::create_dir_all(downloads.join("binaries"))?;
            let binary = downloads.join("binaries/gitlab-runner-linux-amd64");
            fs::copy(&release.binary, &binary)?;
            let line = format!("{}  binaries/gitlab-runner-linux-amd64\n", sha256(&binary)?);
            fs::write(downloads.join("release.sha256"), line)?;
        }
        // The same packages for every release of Debian, as GitLab has them.
        for package in fs::read_dir(runners.join("pool/bookworm"))? {
            let package = package?;
            fs::hard_link(package.path(), runners.join("pool/trixie").join(package.file_name()))?;
        }
        fs::create_dir_all(files.join("gpgkey"))?;
        fs::write(files.join("gpgkey/gpg.key"), &self.key.armoured)
    }

    /// Writes and signs the lists of one release's packages.
    fn index(&self, keyring: &Keyring, place: &str, codename: &str, key: &Key) -> Result<(), String> {
        let io = |error: std::io::Error| format!("lists of {place} for {codename}: {error}");
        let (origin, place) = (place, self.files().join(place));
        let dist = place.join("dists").join(codename);
        let lists = dist.join("main/binary-amd64");
        fs::create_dir_all(&lists).map_err(io)?;
        let scan = Command::new("dpkg-scanpackages")
            .args(["--multiversion", &format!("pool/{codename}")])
            .current_dir(&place)
            .output()
            .map_err(io)?;
        if !scan.status.success() {
            return Err(format!("dpkg-scanpackages: {}", String::from_utf8_lossy(&scan.stderr)));
        }
        fs::write(lists.join("Packages"), scan.stdout).map_err(io)?;
        let packed =
            Command::new("gzip").args(["-nk", "Packages"]).current_dir(&lists).status().map_err(io)?;
        if !packed.success() {
            return Err(format!("gzip: {packed}"));
        }
        let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S UTC");
        let mut release = format!(
            "Origin: {origin}\nLabel: tests\nSuite: {codename}\nCodename: {codename}\n\
             Date: {date}\nArchitectures: amd64\nComponents: main\nSHA256:\n"
        );
        for name in ["Packages", "Packages.gz"] {
            let path = lists.join(name);
            let size = fs::metadata(&path).map_err(io)?.len();
            let hash = sha256(&path).map_err(io)?;
            let _ = writeln!(release, " {hash} {size} main/binary-amd64/{name}");
        }
        fs::write(dist.join("Release"), release).map_err(io)?;
        keyring.sign(key, &dist.join("Release"))
    }

    /// The SHA-256 of a version's plain binary, in hexadecimal.
    pub fn binary_sha256(&self, version: &str) -> String {
        self.hash(&format!("{DOWNLOADS}/v{version}/binaries/gitlab-runner-linux-amd64"))
    }

    /// The SHA-256 of the package of the runner's version, in hexadecimal.
    pub fn package_sha256(&self, version: &str) -> String {
        self.hash(&format!("{RUNNERS}/pool/bookworm/gitlab-runner_{version}-1_amd64.deb"))
    }

    fn hash(&self, path: &str) -> String {
        sha256(&self.files().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// The SHA-256 of a file in hexadecimal. By the tool: a debug build takes ten seconds for a runner.
fn sha256(path: &Path) -> std::io::Result<String> {
    let output = Command::new("sha256sum").arg("--").arg(path).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let hash = text.split_whitespace().next().map(str::to_owned);
    hash.ok_or_else(|| std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}
