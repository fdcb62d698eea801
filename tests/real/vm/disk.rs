//! A machine's disk: a root that nobody changes, and over it what this one machine writes.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, mount};

/// Where the disk of the machine in this folder is mounted.
pub fn root(folder: &Path) -> PathBuf {
    folder.join("root")
}

/// Where there is only what was written since it was made.
pub fn written(folder: &Path) -> PathBuf {
    folder.join("disk/upper")
}

/// Makes a disk over a root, with room for so many bytes, and mounts it.
pub fn make(base: &Path, folder: &Path, bytes: u64) -> std::io::Result<()> {
    let disk = folder.join("disk");
    for folder in [&disk, &root(folder)] {
        fs::create_dir_all(folder)?;
    }
    // In memory: packages are installed with many waits for a disk, and the limit comes with it.
    let options = CString::new(format!("mode=0755,size={bytes}"))?;
    mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), &*options)?;
    for folder in ["upper", "work"] {
        fs::create_dir(disk.join(folder))?;
    }
    let (base, disk) = (base.display(), disk.display());
    let options = CString::new(format!("lowerdir={base},upperdir={disk}/upper,workdir={disk}/work"))?;
    mount("overlay", root(folder), "overlay", MountFlags::empty(), &*options)?;
    Ok(())
}

/// The regular files in a folder that hold one of these words, as paths from there, and their modes.
pub fn files_with(folder: &Path, words: &[&str]) -> Vec<(String, u32)> {
    let mut grep = Command::new("grep");
    grep.args([
        "--recursive",
        "--files-with-matches",
        "--null",
        "--text",
        "--fixed-strings",
        "--no-messages",
    ])
    .args(["--devices=skip"])
    .args(words.iter().flat_map(|word| ["-e", word]))
    .arg("--")
    .arg(folder);
    // Its exit code tells nothing: files that vanish meanwhile count as errors, in `/run`.
    let output = grep.output().expect("grep starts");
    let mut found = Vec::new();
    for path in output.stdout.split(|&byte| byte == 0).filter(|path| !path.is_empty()) {
        let path = Path::new(OsStr::from_bytes(path));
        let Ok(metadata) = fs::symlink_metadata(path) else { continue };
        let name = path.strip_prefix(folder).expect("it is in there").display();
        found.push((format!("/{name}"), metadata.permissions().mode() & 0o7777));
    }
    found.sort();
    found
}
