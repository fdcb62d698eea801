//! The only writer of files: atomic, private from the first byte, never through a link.

#![expect(clippy::disallowed_methods, reason = "this is the module that the ban protects")]

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Failure, Kind, Result};

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn refuse(path: &Path, why: &str) -> Failure {
    Failure::new(
        "OR0702",
        Kind::Foreign,
        format!("{} is not a file that outrigger may write", path.display()),
    )
    .detail("because", why)
    .hint("remove it, or name another path")
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("OR0503", Kind::Partial, format!("cannot {what} {}", path.display()))
        .detail("the system says", error.to_string())
        .hint("free the disk or mend the permissions, then run the same command again")
}

/// Makes a directory and its missing parents, mode 0700.
pub fn make_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed("make the directory", path, &error))
}

/// Refuses a target that is a link, a directory, a FIFO or somebody else's; absent is fine.
pub fn check_target(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("write", path, &error).with_kind(Kind::Refused)),
        Ok(meta) if meta.file_type().is_symlink() => Err(refuse(path, "it is a symbolic link")),
        Ok(meta) if !meta.is_file() => Err(refuse(path, "it is no regular file")),
        Ok(meta) if meta.uid() != rustix::process::geteuid().as_raw() => {
            Err(refuse(path, "another user owns it"))
        }
        Ok(meta) if meta.nlink() > 1 => Err(refuse(path, "it has a second name (hard link)")),
        Ok(_) => Ok(()),
    }
}

/// Refuses a target that could not be written: not ours to write, a read-only or full disk, a directory
/// that is closed to us. Asked before anything else is changed; that it holds later nobody can promise.
///
/// # Errors
/// Exit 7 as [`check_target`], exit 3 where the disk would refuse.
pub fn check_writable(path: &Path) -> Result<()> {
    /// More than the largest file of ours, and its copy that is renamed into place.
    const ROOM: u64 = 64 * 1024;
    check_target(path)?;
    let cannot = |error: &std::io::Error| failed("write", path, error).with_kind(Kind::Refused);
    let absolute = std::path::absolute(path).map_err(|error| cannot(&error))?;
    // Directories that are missing will be made in the nearest that is there.
    let Some(dir) = absolute.ancestors().skip(1).find(|dir| fs::symlink_metadata(dir).is_ok()) else {
        return Ok(());
    };
    if !fs::metadata(dir).map_err(|error| cannot(&error))?.is_dir() {
        return Err(cannot(&std::io::ErrorKind::NotADirectory.into()));
    }
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| cannot(&error.into()))?;
    let Ok(disk) = rustix::fs::statvfs(dir) else { return Ok(()) };
    // A file system that counts neither blocks nor inodes says zero.
    let short = disk.f_blocks > 0 && disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM;
    if short || (disk.f_files > 0 && disk.f_favail < 3) {
        return Err(cannot(&std::io::ErrorKind::StorageFull.into()));
    }
    Ok(())
}

/// Replaces `path` by `bytes` in one rename, mode 0600 from the first byte, synced to disk.
///
/// # Errors
/// Exit 7 for a target that is not ours to write, exit 5 when the disk refuses; the old file is then
/// untouched and no temporary file stays.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    check_target(path)?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = dir.join(format!(".{name}.{}", crate::record::random_hex(6)?));
    let written = (|| -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed("write", path, &error)
    })
}

/// Reads a small regular file (at most 1 MiB); `None` when there is none.
///
/// # Errors
/// Exit 3 for what is no file: a FIFO would keep us for ever.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => Err(refuse(path, "it is no regular file").with_kind(Kind::Refused)),
        _ => read_any(path),
    }
}

fn read_any(path: &Path) -> Result<Option<Vec<u8>>> {
    read_bounded(path, 1024 * 1024)
}

/// Reads a file, or what a shell's `<(…)` makes, of at most `most` bytes (whole MiB); `None` when there is none.
pub fn read_bounded(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let too_long = || refuse(path, &format!("it is larger than {} MiB", most >> 20)).with_kind(Kind::Usage);
    let cannot = |error: &std::io::Error| failed("read", path, error).with_kind(Kind::Refused);
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(&error)),
        Ok(meta) if meta.len() > most => return Err(too_long()),
        Ok(_) => {}
    }
    let file = File::open(path).map_err(|error| cannot(&error))?;
    let mut bytes = Vec::new();
    // A pipe or a device does not tell its size.
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > most) {
        Err(too_long())
    } else {
        Ok(Some(bytes))
    }
}

/// Reads a small input: a file or what a shell's `<(…)` makes, or stdin for `-`.
pub fn read_input(path: &Path) -> Result<Option<Vec<u8>>> {
    if path.as_os_str() != "-" {
        return read_any(path);
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("read", path, &error).with_kind(Kind::Refused))?;
    Ok(Some(bytes))
}

/// Refuses a file that group or others may write to: what it says could not be trusted.
pub fn check_private(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.mode() & 0o022 != 0 => Err(Failure::new(
            "OR0204",
            Kind::Refused,
            format!("{} may be changed by other users", path.display()),
        )
        .hint(format!(
            "look at what it says, then: chmod 600 {}",
            crate::settings::shell_word(&path.display().to_string())
        ))),
        _ => Ok(()),
    }
}

/// Removes a file; gone already is fine.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path, &error)),
    }
}

/// Removes a directory if it is empty; anything else is left as it is.
pub fn remove_empty_dir(path: &Path) {
    let _ = fs::remove_dir(path);
}

/// The names in a directory, sorted; none when it does not exist.
#[must_use]
pub fn list(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(path).map(|dir| dir.flatten().map(|entry| entry.path()).collect()).unwrap_or_default();
    found.sort();
    found
}

/// Takes the lock file beside a record, without waiting.
///
/// # Errors
/// Exit 6 when another process holds it.
pub fn lock(path: &Path) -> Result<Lock> {
    check_target(path)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed("open", path, &error).with_kind(Kind::Refused))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::new(
            "OR0601",
            Kind::Locked,
            "another run of outrigger is at work on this deployment",
        )
        .detail("the lock", path.display().to_string())
        .hint("wait until it has ended, then run the same command again")),
        Err(error) => Err(failed("lock", path, &error.into()).with_kind(Kind::Refused)),
    }
}

/// Whether a path lies inside a git work tree, looking upwards for `.git`.
#[must_use]
pub fn in_git_work_tree(path: &Path) -> bool {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().skip(1).any(|dir| dir.join(".git").exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn writes_are_private_and_leave_no_temporary_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("record.json");
        write_private(&path, b"one").expect("first write");
        write_private(&path, b"two").expect("second write");
        assert_eq!(fs::read(&path).expect("readable"), b"two");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(list(dir.path()), vec![path]);
    }

    #[test]
    fn a_link_or_a_directory_is_refused_and_untouched() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let target = dir.path().join("target");
        fs::write(&target, b"theirs").expect("written");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        assert_eq!(write_private(&link, b"ours").expect_err("a link is refused").id, "OR0702");
        assert_eq!(write_private(dir.path(), b"ours").expect_err("a directory is refused").id, "OR0702");
        assert_eq!(fs::read(&target).expect("readable"), b"theirs");
    }

    #[test]
    fn a_second_lock_is_refused_with_exit_6() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("lock");
        let held = lock(&path).expect("first");
        assert_eq!(lock(&path).expect_err("second").kind.exit_code(), 6);
        drop(held);
        assert!(lock(&path).is_ok());
    }
}
