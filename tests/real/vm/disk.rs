//! A machine's disk: a root that nobody changes, and over it what this one machine writes.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

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
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                let holds = |word: &&str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
                if words.iter().any(holds) {
                    let path = entry.path();
                    let path = path.strip_prefix(folder).expect("it is in there").display();
                    found.push((format!("/{path}"), metadata.permissions().mode() & 0o7777));
                }
            }
        }
    }
    found.sort();
    found
}
