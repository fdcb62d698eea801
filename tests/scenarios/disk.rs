//! Disks that are full or read-only, at each file that outrigger writes.
//!
//! Each disk is a tmpfs of a few pages, mounted by the test; where that is not possible the scenarios are
//! ignored with the reason, or fail if tiers are required.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::input::refused;
use super::{Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::world::{assert_same, world};

/// A small disk; unmounted when dropped.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one at a folder, which is made if need be.
    pub fn new(path: &Path) -> Result<Self, String> {
        fs::create_dir_all(path).map_err(|error| error.to_string())?;
        mount(&["-t", "tmpfs", "-o", "size=256k,nr_inodes=64,mode=700", "outrigger-test"], path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The state folder of a scene, with its parents as they would be.
    fn of_state(scene: &Scene<'_>) -> Self {
        Self::new(&scene.home.state()).expect("it was possible a moment ago")
    }

    /// From now on nothing can be written, or everything again.
    pub fn read_only(&self, on: bool) {
        let options = if on { "remount,ro" } else { "remount,rw" };
        mount(&["-o", options], &self.path).expect("our own disk");
    }

    /// Takes all the room.
    pub fn fill(&self) {
        let path = self.path.join("filler");
        let mut size = 256 * 1024;
        while size > 0 {
            match fs::write(&path, vec![b'x'; size]) {
                Ok(()) => break,
                Err(_) => size -= 4096,
            }
        }
    }

    /// Takes all inodes: not even an empty file has room.
    fn fill_with_files(&self) {
        for number in 0.. {
            if fs::File::create(self.path.join(format!("empty-{number}"))).is_err() {
                break;
            }
        }
    }

    /// Gives the room back.
    pub fn free(&self) {
        for entry in fs::read_dir(&self.path).expect("our own disk").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "filler" || name.starts_with("empty-") {
                fs::remove_file(entry.path()).expect("our own file");
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there does not keep it in the tree.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}

fn mount(arguments: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new("mount")
        .args(arguments)
        .arg(path)
        .output()
        .map_err(|error| format!("mount does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("no disk can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Whether disks can be mounted here.
pub fn available() -> Result<(), String> {
    let place = tempfile::Builder::new().prefix("outrigger-disk-").tempdir().expect("a temporary folder");
    Disk::new(place.path()).map(drop)
}

/// Runs a command on a deployment that exists, which must be refused and change nothing.
fn nothing_changes(scene: &Scene<'_>, command: &crate::common::run::Cli<'_>) {
    let before = world(scene.bed.admin());
    scene.bed.mark();
    let output = command.run().code(3).says("OR0503").says("Nothing was changed");
    assert_eq!(listing(&writes(scene.bed)), "", "{output}");
    assert_same("a refused command", &before, &world(scene.bed.admin()));
}

pub fn read_only(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let disk = Disk::of_state(&scene);
    disk.read_only(true);
    let _ = refused(bed, &scene.home, &scene.setup(), 3).says("OR0503").says("ead-only file system");
    // What writes nothing needs no disk.
    let _ = scene.setup().arg("--dry-run").run().code(0);
    disk.read_only(false);
    scene.set_up();
    disk.read_only(true);
    let _ = scene.status().run().code(0);
    nothing_changes(&scene, &scene.setup().flag("--image", "debian:13"));
    nothing_changes(&scene, &scene.teardown());
    disk.read_only(false);
    let _ = scene.teardown().run().code(0);
}

pub fn full(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let disk = Disk::of_state(&scene);
    for fill in [Disk::fill, Disk::fill_with_files] {
        fill(&disk);
        let _ = refused(bed, &scene.home, &scene.setup(), 3).says("OR0503");
        disk.free();
    }
    scene.set_up();
    disk.fill();
    let _ = scene.status().run().code(0);
    nothing_changes(&scene, &scene.setup().flag("--image", "debian:13"));
    nothing_changes(&scene, &scene.teardown());
    disk.free();
    let _ = scene.teardown().run().code(0);
}

pub fn script(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let place = scene.home.path().join("scripts");
    let disk = Disk::new(&place).expect("it was possible a moment ago");
    let setup = || scene.setup().flag("--script", place.join("new/launch.sh"));
    disk.read_only(true);
    let _ = refused(bed, &scene.home, &setup(), 3).says("scripts/new/launch.sh");
    disk.read_only(false);
    disk.fill();
    let _ = refused(bed, &scene.home, &setup(), 3).says("scripts/new/launch.sh");
    disk.free();
    let file = scene.home.path().join("a-file");
    fs::write(&file, "").expect("a home of ours");
    let below = scene.setup().flag("--script", file.join("launch.sh"));
    let _ = refused(bed, &scene.home, &below, 3).says("a-file/launch.sh");
    let _ = setup().run().code(0);
    assert!(place.join("new/launch.sh").is_file());
    let _ = scene.teardown().run().code(0);
    assert!(!place.join("new/launch.sh").exists());
}

pub fn receipt(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let place = scene.home.path().join("receipts");
    let disk = Disk::new(&place).expect("it was possible a moment ago");
    scene.set_up();
    let teardown = || scene.teardown().flag("--receipt", place.join("receipt"));
    disk.read_only(true);
    nothing_changes(&scene, &teardown());
    disk.read_only(false);
    disk.fill();
    nothing_changes(&scene, &teardown());
    disk.free();
    let output = teardown().run().code(0);
    assert_eq!(output.stdout(), "", "the receipt is in its file alone");
    let text = fs::read_to_string(place.join("receipt")).expect("the receipt");
    assert!(text.contains("removed") && text.contains(&scene.job_namespace()), "{text}");
}

pub fn somebody_elses(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Admin);
    let path = scene.home.path().join("script.sh");
    fs::write(&path, "theirs").expect("a home of ours");
    std::os::unix::fs::chown(&path, Some(65_534), None).expect("only root can mount disks");
    let _ = refused(bed, &scene.home, &scene.setup().flag("--script", &path), 7).says("another user owns it");
    assert_eq!(fs::read(&path).expect("it stays"), b"theirs");
}
