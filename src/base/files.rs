//! All reading and writing of files.
//!
//! outrigger's own files (record, lock, script) are written atomically, with mode 0600 from the first byte, and
//! never through a link. They are read only if no other user could have written them, by the rules of ssh's
//! `StrictModes`. Files that the user names are read once by [`Intake`], with a size limit, on another thread
//! than the one that receives signals. Each file is opened once, and the checks apply to the open file.

#![expect(clippy::disallowed_methods, reason = "this is the module that the ban protects")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

use crate::base::cancel::Cancel;
use crate::base::error::{Command, Failure, Id, Kind, Result};

/// The size limit in bytes of outrigger's own files and of input files written by hand.
const SMALL: u64 = 1024 * 1024;

/// The lock on a record. Dropping it releases it; without a record by then, the run had no effect, so the lock file and
/// the directories that were made for it are removed.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    record: PathBuf,
    /// The deepest first.
    made: Vec<PathBuf>,
}

impl Lock {
    /// Whether the path still names the locked file. The previous holder of the lock may have removed it.
    fn is_in_place(&self) -> bool {
        let same =
            |(ours, there): (Metadata, Metadata)| (ours.dev(), ours.ino()) == (there.dev(), there.ino());
        self.file.metadata().ok().zip(fs::symlink_metadata(&self.path).ok()).is_some_and(same)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.record).is_ok() {
            return;
        }
        // Removed before the lock is released, so that another process that has it open finds it missing and tries again.
        if self.is_in_place() {
            let _ = remove(&self.path);
        }
        for dir in &self.made {
            remove_empty_dir(dir);
        }
    }
}

fn refuse(path: &Path, why: &str) -> Failure {
    Failure::new(Id::ForeignFile, format!("refusing to use {}", path.display()))
        .detail("because", why)
        .hint("remove it, or name another path")
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Id::FileNotWritten, format!("cannot {what} {}", path.display()))
        .detail("the system says", error.to_string())
        .hint("free disk space or fix the permissions, then run the same command again")
}

/// Creates a directory and its missing parents with mode 0700.
pub fn make_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed("create the directory", path, &error))
}

/// Refuses a target that is not a regular file, has several links or belongs to another user (OR0702, exit 7).
/// A missing target is accepted.
pub fn check_target(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("write", path, &error).with_kind(Kind::Refused)),
        Ok(meta) if meta.file_type().is_symlink() => Err(refuse(path, "it is a symbolic link")),
        Ok(meta) if !meta.is_file() => Err(refuse(path, "it is not a regular file")),
        Ok(meta) if meta.uid() != rustix::process::geteuid().as_raw() => {
            Err(refuse(path, "another user owns it"))
        }
        Ok(meta) if meta.nlink() > 1 => Err(refuse(path, "it has other hard links")),
        Ok(_) => Ok(()),
    }
}

/// The nearest existing directory above a path: missing directories are created in it.
fn nearest_dir(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let absolute = std::path::absolute(path)?;
    Ok(absolute.ancestors().skip(1).find(|dir| fs::symlink_metadata(dir).is_ok()).map(Path::to_owned))
}

/// Checks before the first change that a target can be written; the check cannot guarantee that it can be
/// written later. Fails with exit 7 as [`check_target`], and with exit 3 if the directory is not writable or
/// the disk is full.
pub fn check_writable(path: &Path) -> Result<()> {
    /// Larger than outrigger's largest file together with the temporary copy that is renamed into place.
    const ROOM: u64 = 64 * 1024;
    check_target(path)?;
    let cannot = |error: &std::io::Error| failed("write", path, error).with_kind(Kind::Refused);
    let Some(dir) = nearest_dir(path).map_err(|error| cannot(&error))? else { return Ok(()) };
    if !fs::metadata(&dir).map_err(|error| cannot(&error))?.is_dir() {
        return Err(cannot(&std::io::ErrorKind::NotADirectory.into()));
    }
    rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| cannot(&error.into()))?;
    let Ok(disk) = rustix::fs::statvfs(&dir) else { return Ok(()) };
    // A file system that counts neither blocks nor inodes reports zero.
    let short = disk.f_blocks > 0 && disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM;
    if short || (disk.f_files > 0 && disk.f_favail < 3) {
        return Err(cannot(&std::io::ErrorKind::StorageFull.into()));
    }
    Ok(())
}

/// Writes a file that holds secrets or that outrigger reads again: one rename replaces `path`, mode 0600 from
/// the first byte, synced to disk. Fails with exit 7 as [`check_target`], with OR0204 (exit 3) as
/// [`check_place`], and with OR0503 (exit 5) on an I/O error; the old file then stays and no temporary file
/// remains.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    check_target(path)?;
    check_place(path)?;
    write(path, bytes)
}

/// [`write_private`] for a file that outrigger does not read again: other users may write to its directory.
pub fn write_shown(path: &Path, bytes: &[u8]) -> Result<()> {
    check_target(path)?;
    write(path, bytes)
}

/// A file that is removed when this is dropped.
pub struct Temporary(tempfile::NamedTempFile);

impl Temporary {
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Writes a file without secrets that only this user can read or write, for another program.
pub fn temporary(bytes: &[u8]) -> Result<Temporary> {
    let write = || -> std::io::Result<Temporary> {
        let mut file = tempfile::Builder::new().prefix("outrigger-").tempfile()?;
        file.write_all(bytes)?;
        Ok(Temporary(file))
    };
    write().map_err(|error| {
        Failure::new(Id::FileNotWritten, "cannot write a temporary file").detail("because", error.to_string())
    })
}

/// Creates an empty file that is written while the run goes on, with mode 0600. Fails as [`write_shown`], with exit 3.
pub fn create_log(path: &Path) -> Result<File> {
    check_target(path)?;
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    (|| -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags);
        let file = options.open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(file)
    })()
    .map_err(|error| failed("write", path, &error).with_kind(Kind::Refused))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // Created with mode 0600 under a new name; removed on drop unless it is renamed to `path`.
    (|| -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".outrigger-").tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(dir)?.sync_all()
    })()
    .map_err(|error| failed("write", path, &error))
}

/// Opens any kind of file for reading without blocking: a FIFO opens before it has a writer.
fn open(path: &Path, more: OFlags) -> std::io::Result<(File, Metadata)> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | more;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    Ok((file, meta))
}

/// Whether other users may write. A group whose number is the user's own is the user's private group, as
/// distributions create it, and has no other members; Debian's ssh applies the same rule.
fn others_write(meta: &Metadata) -> bool {
    let group = meta.mode() & 0o020 != 0 && meta.gid() != rustix::process::geteuid().as_raw();
    group || meta.mode() & 0o002 != 0
}

/// Why another user than root can change the content; `None` if only the user or root can.
fn foreign_access(meta: &Metadata) -> Option<String> {
    let (owner, user) = (meta.uid(), rustix::process::geteuid().as_raw());
    // In a sticky directory, other users can create files but not replace existing ones.
    let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
    if owner != user && owner != 0 {
        Some(format!("another user owns it (uid {owner})"))
    } else if others_write(meta) && !sticky {
        Some(format!("other users can write to it (mode {:04o})", meta.mode() & 0o7777))
    } else {
        None
    }
}

fn distrust(path: &Path, why: String) -> Failure {
    let shown = crate::base::template::shell_word(&path.display().to_string());
    let failure = Failure::new(Id::WritableByOthers, format!("other users can change {}", path.display()));
    let owned = why.starts_with("another");
    let failure = failure.detail("because", why);
    if owned {
        failure.hint(
            "check its owner, or use a directory of your own: --state-dir DIR (for the script: --script FILE)",
        )
    } else {
        failure
            .hint(("check its content, then", Command::Whole(format!("chmod go-w {shown}"))))
            .hint("or use a directory of your own: --state-dir DIR (for the script: --script FILE)")
    }
}

/// Refuses a location where another user could create or replace outrigger's files (OR0204, exit 3): each
/// existing directory above `path` must belong to the user or root and be writable by no one else, or be sticky
/// like `/tmp`.
pub fn check_place(path: &Path) -> Result<()> {
    let cannot = |error: &std::io::Error| failed("check", path, error).with_kind(Kind::Refused);
    let Some(dir) = nearest_dir(path).map_err(|error| cannot(&error))? else { return Ok(()) };
    // Links are followed; the directories above the resolved path are checked.
    let dir = fs::canonicalize(dir).map_err(|error| cannot(&error))?;
    for dir in dir.ancestors() {
        let meta = fs::symlink_metadata(dir).map_err(|error| cannot(&error))?;
        if let Some(why) = foreign_access(&meta) {
            return Err(distrust(dir, why));
        }
    }
    Ok(())
}

/// Reads one of outrigger's files (at most 1 MiB); `None` if it does not exist. Fails with OR0702 (exit 3) for
/// a link or anything but a regular file, and with OR0204 (exit 3) if other users could have written it.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let cannot = |error: &std::io::Error| failed("read", path, error).with_kind(Kind::Refused);
    let odd = |why| refuse(path, why).with_kind(Kind::Refused);
    let (file, meta) = match open(path, OFlags::NOFOLLOW) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(odd("it is a symbolic link"));
        }
        // A socket.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            return Err(odd("it is not a regular file"));
        }
        Err(error) => return Err(cannot(&error)),
    };
    if !meta.is_file() {
        return Err(odd("it is not a regular file"));
    }
    if let Some(why) = foreign_access(&meta) {
        return Err(distrust(path, why));
    }
    check_place(path)?;
    let mut bytes = Vec::new();
    file.take(SMALL + 1).read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > SMALL) {
        return Err(odd("it is larger than 1 MiB").with_kind(Kind::Usage));
    }
    Ok(Some(bytes))
}

/// Whether a path leads to a regular file: reading it ends.
pub fn is_regular(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file())
}

/// When a regular file was last written, in nanoseconds since 1970.
pub fn modified(path: &Path) -> Option<u128> {
    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let since = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_nanos())
}

/// The purpose of an input file, which decides about warnings of its owner and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// A token: other users should not read it.
    Secret,
    /// Settings or a kubeconfig: it names servers, and programs that run as the user.
    Aims,
    Plain,
}

/// Reads inputs that the user names: files, a shell's `<(…)`, stdin. Each is read once and cached, because a
/// pipe can be read only once.
#[derive(Default)]
pub struct Intake {
    cancel: Cancel,
    warn: Option<Box<dyn Fn(String)>>,
    read: RefCell<BTreeMap<PathBuf, Option<Rc<Vec<u8>>>>>,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intake")
    }
}

impl Intake {
    /// `cancel` ends a read; `warn` gets the warnings about a file's owner and mode.
    pub fn new(cancel: &Cancel, warn: impl Fn(String) + 'static) -> Self {
        Self { cancel: cancel.clone(), warn: Some(Box::new(warn)), read: RefCell::default() }
    }

    /// Reads a token of at most 1 MiB from a file, or from stdin for `-`; `None` if the file does not exist.
    /// Warns if another user owns the file or can read it. Fails with exit 2 if it is larger, exit 3 if it
    /// cannot be read, exit 130 or 143 on a signal; so do the other methods.
    pub async fn secret(&self, path: &Path) -> Result<Option<Rc<Vec<u8>>>> {
        self.get(path, path.as_os_str() == "-", SMALL, Use::Secret).await
    }

    /// [`Self::secret`] without stdin: `-` is a file name.
    pub async fn secret_file(&self, path: &Path) -> Result<Option<Rc<Vec<u8>>>> {
        self.get(path, false, SMALL, Use::Secret).await
    }

    /// Reads at most 1 MiB from a file, or from stdin for `-`; warns if other users can change the file.
    pub async fn text(&self, path: &Path) -> Result<Option<Rc<Vec<u8>>>> {
        self.get(path, path.as_os_str() == "-", SMALL, Use::Aims).await
    }

    /// Reads a file of at most `most` bytes (whole MiB); warns if other users can change it.
    pub async fn aims(&self, path: &Path, most: u64) -> Result<Option<Rc<Vec<u8>>>> {
        self.get(path, false, most, Use::Aims).await
    }

    /// Reads a file of at most 1 MiB.
    pub async fn file(&self, path: &Path) -> Result<Option<Rc<Vec<u8>>>> {
        self.get(path, false, SMALL, Use::Plain).await
    }

    /// Takes a token that the user typed for the content of stdin.
    pub fn typed(&self, token: &crate::base::secret::Secret) {
        let bytes = Rc::new(token.expose().as_bytes().to_vec());
        self.read.borrow_mut().insert(PathBuf::from("-"), Some(bytes));
    }

    /// Reads a file again the next time.
    pub fn forget(&self, path: &Path) {
        self.read.borrow_mut().remove(path);
    }

    async fn get(&self, path: &Path, stdin: bool, most: u64, what: Use) -> Result<Option<Rc<Vec<u8>>>> {
        if let Some(known) = self.read.borrow().get(path) {
            return Ok(known.clone());
        }
        let stop = Stop(Arc::default());
        let (whole, stopped) = (path.to_owned(), Arc::clone(&stop.0));
        let work = tokio::task::spawn_blocking(move || {
            if stdin {
                // Left in blocking mode, because the parent process shares it.
                drain(std::io::stdin(), false, true, most, &stopped).map(|bytes| (bytes, None))
            } else {
                from_file(&whole, most, what, &stopped)
            }
        });
        let read = self.cancel.unless_requested(work).await?;
        let read = read.map_err(|error| failed("read", path, &std::io::Error::other(error)))?;
        let found = match read {
            Ok((bytes, concern)) => {
                if let (Some(concern), Some(warn)) = (concern, &self.warn) {
                    warn(format!("{} {concern}", path.display()));
                }
                Some(Rc::new(bytes))
            }
            Err(Unread::Absent) => None,
            Err(Unread::Odd(why)) => return Err(refuse_input(path, &why).with_kind(Kind::Refused)),
            Err(Unread::TooLong) => {
                return Err(refuse_input(path, &format!("it is larger than {} MiB", most >> 20)));
            }
            Err(Unread::System(error)) => return Err(failed("read", path, &error).with_kind(Kind::Refused)),
        };
        self.read.borrow_mut().insert(path.to_owned(), found.clone());
        Ok(found)
    }
}

fn refuse_input(path: &Path, why: &str) -> Failure {
    Failure::new(Id::InvalidInput, format!("cannot read {}", path.display()))
        .detail("because", why)
        .hint("name another file")
}

/// Ends the reading thread when the future that waits for it is dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

enum Unread {
    Absent,
    Odd(String),
    TooLong,
    System(std::io::Error),
}

impl From<std::io::Error> for Unread {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Absent,
            std::io::ErrorKind::IsADirectory => Self::Odd("it is a directory".to_owned()),
            _ => Self::System(error),
        }
    }
}

/// Returns the bytes, and a warning about the file.
fn from_file(
    path: &Path,
    most: u64,
    what: Use,
    stop: &AtomicBool,
) -> std::result::Result<(Vec<u8>, Option<String>), Unread> {
    // Links are followed, as by kubectl: kubeconfigs and mounted tokens are often links.
    let (file, meta) = open(path, OFlags::empty())?;
    let kind = meta.file_type();
    if kind.is_dir() {
        return Err(Unread::Odd("it is a directory".to_owned()));
    }
    if !kind.is_file() && !kind.is_fifo() && !kind.is_char_device() {
        return Err(Unread::Odd("it is neither a file nor a pipe".to_owned()));
    }
    if kind.is_file() && meta.len() > most {
        return Err(Unread::TooLong);
    }
    let concern = if kind.is_file() { concern(&meta, what) } else { None };
    // A FIFO may still wait for its first writer; a shell's pipe has had it.
    let has_writer = !kind.is_fifo() || is_shells_pipe(&file);
    Ok((drain(file, has_writer, false, most, stop)?, concern))
}

/// Reads to the end. The source is polled before the first read unless it is `ready`, and before each read if it
/// is `blocking`.
fn drain(
    mut source: impl std::io::Read + AsFd,
    mut ready: bool,
    blocking: bool,
    most: u64,
    stop: &AtomicBool,
) -> std::result::Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if !ready {
            ready = readable(&source)?;
            continue;
        }
        ready = !blocking;
        let mut part = [0; 8192];
        match source.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => drop(readable(&source)?),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length > most) {
            return Err(Unread::TooLong);
        }
    }
    Err(Unread::System(std::io::ErrorKind::Interrupted.into()))
}

/// Waits 50 ms for data or for the end of the stream.
fn readable(file: &impl AsFd) -> std::io::Result<bool> {
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    match poll(&mut fds, Some(&moment)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether this is an unnamed pipe, as a shell's `<(…)` creates it: it had a writer from the start, which may
/// have ended already.
#[cfg(target_os = "linux")]
fn is_shells_pipe(file: &File) -> bool {
    const PIPEFS: i128 = 0x5049_5045;
    rustix::fs::fstatfs(file).is_ok_and(|about| i128::from(about.f_type) == PIPEFS)
}

#[cfg(not(target_os = "linux"))]
fn is_shells_pipe(_: &File) -> bool {
    false
}

/// A warning if other users have access that the file's purpose excludes.
fn concern(meta: &Metadata, what: Use) -> Option<String> {
    let owner = meta.uid();
    let foreign = owner != 0 && owner != rustix::process::geteuid().as_raw();
    match what {
        Use::Plain => None,
        _ if foreign => {
            Some(format!("belongs to another user (uid {owner}) and can be changed by that user"))
        }
        Use::Secret if meta.mode() & 0o044 != 0 => {
            Some("contains a token and can be read by other users: run chmod 600 on it".to_owned())
        }
        _ if others_write(meta) => Some("can be changed by other users: run chmod go-w on it".to_owned()),
        _ => None,
    }
}

/// Removes a file; false if it did not exist.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path, &error)),
    }
}

/// Removes a directory if it is empty, and ignores errors.
pub fn remove_empty_dir(path: &Path) {
    let _ = fs::remove_dir(path);
}

/// The paths in a directory, sorted; empty if it cannot be read.
pub fn list(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(path).map(|dir| dir.flatten().map(|entry| entry.path()).collect()).unwrap_or_default();
    found.sort();
    found
}

/// Takes the lock on a record without waiting, with the lock file beside it. Fails with OR0601 (exit 6) if another
/// process holds it.
pub fn lock(record: &Path) -> Result<Lock> {
    let path = record.with_extension("lock");
    check_place(&path)?;
    check_target(&path)?;
    let mut made = Vec::new();
    // The previous holder may remove the file between opening and locking it.
    for _ in 0..100 {
        let dirs = path.ancestors().skip(1);
        made.extend(dirs.take_while(|dir| fs::symlink_metadata(dir).is_err()).map(Path::to_owned));
        let Some(file) = locked(&path)? else { continue };
        let mut lock = Lock { file, path: path.clone(), record: record.to_owned(), made: Vec::new() };
        if lock.is_in_place() {
            lock.made = made;
            return Ok(lock);
        }
    }
    Err(held(&path))
}

fn held(path: &Path) -> Failure {
    Failure::new(Id::Locked, "another run of outrigger holds the lock on this deployment")
        .detail("lock file", path.display().to_string())
        .hint("wait for it to end, then run the same command again")
}

/// The lock file, locked; `None` if its directory was removed meanwhile.
fn locked(path: &Path) -> Result<Option<File>> {
    let refused = |what: &str, error: &std::io::Error| failed(what, path, error).with_kind(Kind::Refused);
    if let Some(dir) = path.parent() {
        make_dir(dir).map_err(|failure| failure.with_kind(Kind::Refused))?;
    }
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default())
        .open(path);
    let file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| refused("open", &error))?,
    };
    let meta = file.metadata().map_err(|error| refused("open", &error))?;
    if !meta.is_file() {
        return Err(refuse(path, "it is not a regular file"));
    }
    if let Some(why) = foreign_access(&meta) {
        return Err(distrust(path, why));
    }
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(held(path)),
        Err(TryLockError::Error(error)) => Err(refused("lock", &error)),
    }
}

/// Whether a directory above the path contains `.git`.
pub fn in_git_work_tree(path: &Path) -> bool {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().skip(1).any(|dir| dir.join(".git").exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Id;

    #[test]
    fn private_files_have_mode_0600_and_leave_no_temporary_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("record.json");
        write_private(&path, b"one").expect("first write");
        write_private(&path, b"two").expect("second write");
        assert_eq!(fs::read(&path).expect("readable"), b"two");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(list(dir.path()), vec![path]);
    }

    #[test]
    fn refuses_to_write_through_a_link_or_to_a_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let target = dir.path().join("target");
        fs::write(&target, b"theirs").expect("written");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        assert_eq!(write_private(&link, b"ours").expect_err("a link is refused").id, Id::ForeignFile);
        assert_eq!(
            write_private(dir.path(), b"ours").expect_err("a directory is refused").id,
            Id::ForeignFile
        );
        assert_eq!(fs::read(&target).expect("readable"), b"theirs");
    }

    #[test]
    fn refuses_files_and_directories_that_others_can_write() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("record.json");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
        };
        assert_eq!(read(&path).expect("absent is fine"), None);
        write_private(&path, b"one").expect("written");
        assert_eq!(read(&path).expect("ours"), Some(b"one".to_vec()));
        mode(&path, 0o602);
        assert_eq!(read(&path).expect_err("the file").id, Id::WritableByOthers);
        mode(&path, 0o644);
        assert!(read(&path).is_ok(), "others may read it");
        mode(dir.path(), 0o777);
        assert_eq!(read(&path).expect_err("the directory").id, Id::WritableByOthers);
        assert_eq!(write_private(&path, b"two").expect_err("the directory").id, Id::WritableByOthers);
        assert!(write_shown(&path, b"two").is_ok(), "outrigger does not read it again");
        assert_eq!(lock(&path).expect_err("the directory").id, Id::WritableByOthers);
        let below = dir.path().join("not/yet/there.json");
        assert_eq!(check_place(&below).expect_err("above it").id, Id::WritableByOthers);
        mode(dir.path(), 0o1777);
        assert!(read(&path).is_ok(), "other users cannot replace files in a sticky directory");
        mode(dir.path(), 0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        assert_eq!(read(&link).expect_err("a link").id, Id::ForeignFile);
        assert_eq!(read(dir.path()).expect_err("a directory").id, Id::ForeignFile);
    }

    #[tokio::test]
    async fn reads_an_input_once_and_follows_links() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (path, link) = (dir.path().join("config"), dir.path().join("link"));
        fs::write(&path, b"one").expect("written");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        let intake = Intake::default();
        let text = |read: Option<Rc<Vec<u8>>>| read.map(|bytes| bytes.to_vec());
        assert_eq!(text(intake.file(&link).await.expect("read")), Some(b"one".to_vec()));
        fs::write(&path, b"two").expect("written");
        assert_eq!(text(intake.file(&link).await.expect("read")), Some(b"one".to_vec()));
        assert_eq!(text(intake.file(&path).await.expect("read")), Some(b"two".to_vec()));
        assert_eq!(text(intake.file(&dir.path().join("none")).await.expect("absent")), None);
        assert!(intake.file(dir.path()).await.is_err(), "a directory");
        assert_eq!(text(intake.file(Path::new("/dev/null")).await.expect("empty")), Some(Vec::new()));
        let failure = intake.aims(Path::new("/dev/zero"), 16 << 20).await.expect_err("no end");
        assert!(failure.details[0].1.contains("16 MiB"), "{failure:?}");
    }

    #[test]
    fn refuses_a_second_lock_with_exit_6() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let record = dir.path().join("record.json");
        let held = lock(&record).expect("first");
        assert_eq!(lock(&record).expect_err("second").kind.exit_code(), 6);
        drop(held);
        assert!(lock(&record).is_ok());
    }

    #[test]
    fn a_lock_without_a_record_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let record = dir.path().join("state/outrigger/record.json");
        drop(lock(&record).expect("taken"));
        assert_eq!(list(dir.path()), Vec::<PathBuf>::new());
        let held = lock(&record).expect("taken");
        write_private(&record, b"one").expect("written");
        drop(held);
        assert_eq!(
            list(&dir.path().join("state/outrigger")),
            [record.clone(), record.with_extension("lock")]
        );
        // One that was left without a record goes; a directory that was there before stays.
        fs::remove_file(&record).expect("ours");
        drop(lock(&record).expect("taken"));
        assert_eq!(list(dir.path()), [dir.path().join("state")]);
        assert_eq!(list(&dir.path().join("state")), [dir.path().join("state/outrigger")]);
        assert_eq!(list(&dir.path().join("state/outrigger")), Vec::<PathBuf>::new());
    }

    /// A lock file that is removed when the lock is released does not give the lock to two.
    #[test]
    fn locks_exclude_each_other_while_their_files_come_and_go() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let dir = tempfile::tempdir().expect("a temporary directory");
        let record = dir.path().join("record.json");
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 400 {
                        match lock(&record) {
                            Ok(held) => {
                                taken.fetch_add(1, Ordering::SeqCst);
                                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
                                std::thread::yield_now();
                                holders.fetch_sub(1, Ordering::SeqCst);
                                drop(held);
                            }
                            Err(failure) => assert_eq!(failure.id, Id::Locked, "{failure:?}"),
                        }
                    }
                });
            }
        });
        assert_eq!(list(dir.path()), Vec::<PathBuf>::new());
    }
}
