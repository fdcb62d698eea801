//! The second run: nothing to do, so nothing is done.

use std::fs;

use super::{Scene, listing, writes};
use crate::common::bed::{Bed, User};
use crate::common::world::{assert_same, world};

/// Runs `setup` where all objects already exist.
fn assert_nothing_to_do(scene: &Scene<'_>, extra: &[&str]) {
    let before = world(scene.bed.admin());
    scene.bed.mark();
    scene.setup().args(extra.iter().copied()).run().code(0);
    assert_eq!(listing(&writes(scene.bed)), "", "the second run writes nothing");
    assert_same("a second setup", &before, &world(scene.bed.admin()));
}

pub fn unchanged(bed: &dyn Bed) {
    for user in [User::Admin, User::Binder] {
        let scene = Scene::new(bed, user);
        scene.set_up();
        let script = scene.home.script(&scene.deployment);
        let written = fs::metadata(&script).and_then(|metadata| metadata.modified()).expect("a script");
        assert_nothing_to_do(&scene, &[]);
        let now = fs::metadata(&script).and_then(|metadata| metadata.modified()).expect("the script");
        assert_eq!(written, now, "the script is not written again");
    }
}

pub fn script_deleted(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    scene.set_up();
    let script = scene.home.script(&scene.deployment);
    fs::remove_file(&script).expect("the script can be deleted after use");
    assert_nothing_to_do(&scene, &[]);
    assert!(!script.exists(), "a script that was deleted after pasting is no difference");
    scene.status().run().code(0);
}

pub fn another_state_folder(bed: &dyn Bed) {
    let scene = Scene::new(bed, User::Binder);
    scene.set_up();
    let other = scene.home.path().join("other-state").display().to_string();
    let uid = scene.anchor_uid().expect("setup made it");
    assert_nothing_to_do(&scene, &["--state-dir", &other, "--anchor-uid", &uid]);
    // A whole other machine.
    assert_nothing_to_do(&scene.elsewhere(User::Binder), &[]);
}

pub fn side_by_side(bed: &dyn Bed) {
    let (one, two) = (Scene::new(bed, User::Admin), Scene::new(bed, User::Admin));
    one.set_up();
    let with_one = world(bed.admin());
    two.set_up();
    assert_nothing_to_do(&one, &[]);
    two.teardown().run().code(0);
    assert_same("a deployment made and removed beside another", &with_one, &world(bed.admin()));
    one.status().run().code(0);
}
