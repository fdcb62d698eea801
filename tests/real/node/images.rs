//! The images that pods of the tests run, made by hand as there is no registry to pull from.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// What holds a pod's namespaces.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// What jobs run in: busybox under its applets' names.
pub const ALPINE: &str = "docker.io/library/alpine:latest";

/// What the runner runs beside the job. The same content under this name, as no job of the tests clones,
/// caches or uploads: what is asked of the helper here, a shell can do.
pub const HELPER: &str = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v19.4.1";

/// Where a busybox is that needs no libraries, or why there is none.
pub fn static_busybox() -> Result<&'static Path, String> {
    let path = Path::new("/usr/bin/busybox");
    let program = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // The name of the dynamic loader stands in every program that needs one.
    let loader = b"/ld-linux";
    if program.windows(loader.len()).any(|part| part == loader) {
        return Err(format!("{} needs libraries: install busybox-static", path.display()));
    }
    Ok(path)
}

/// Writes an archive as `docker save` does, with all images in it.
///
/// `pause` is the binary of that name; fails if a file cannot be read or written.
pub fn write(archive: &Path, pause: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", archive.display());
    let mut out = Builder::new(fs::File::create(archive).map_err(told)?);
    let pause = Layer::new().program("pause", pause)?.finish();
    let busybox = busybox_layer(static_busybox()?)?;
    let manifest = json!([
        add(&mut out, &pause, &["/pause"], &[PAUSE]).map_err(told)?,
        add(&mut out, &busybox, &["/bin/sh"], &[ALPINE, HELPER]).map_err(told)?,
    ]);
    append(&mut out, "manifest.json", manifest.to_string().as_bytes()).map_err(told)?;
    out.into_inner().and_then(|mut file| file.flush()).map_err(told)
}

/// Adds a layer and the image that is made of it, and gives its entry in the manifest.
fn add<W: std::io::Write>(
    out: &mut Builder<W>,
    layer: &[u8],
    command: &[&str],
    names: &[&str],
) -> std::io::Result<serde_json::Value> {
    let digest = |bytes: &[u8]| format!("{:x}", Sha256::digest(bytes));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Cmd": command,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))]},
    })
    .to_string();
    let (config_name, layer_name) =
        (format!("{}.json", digest(config.as_bytes())), format!("{}/layer.tar", digest(layer)));
    append(out, &config_name, config.as_bytes())?;
    append(out, &layer_name, layer)?;
    Ok(json!({"Config": config_name, "RepoTags": names, "Layers": [layer_name]}))
}

fn append<W: std::io::Write>(out: &mut Builder<W>, name: &str, content: &[u8]) -> std::io::Result<()> {
    out.append_data(&mut header(EntryType::Regular, 0o644, content.len()), name, content)
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

/// A system as small as jobs can do with.
fn busybox_layer(busybox: &Path) -> Result<Vec<u8>, String> {
    let mut layer = Layer::new();
    // Jobs run as any user: both places for temporary files are everybody's.
    for (name, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o755),
        ("root", 0o700),
        ("sbin", 0o755),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/bin", 0o755),
        ("usr/sbin", 0o755),
        ("var", 0o755),
        ("var/tmp", 0o1777),
    ] {
        layer = layer.folder(name, mode);
    }
    layer = layer
        .text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        .text("etc/group", "root:x:0:\nnobody:x:65534:\n")
        .program("bin/busybox", busybox)?;

    let listed = Command::new(busybox)
        .arg("--list-full")
        .output()
        .map_err(|error| format!("{}: {error}", busybox.display()))?;
    // `#!/usr/bin/env` must be found, wherever this busybox would have its applet.
    let mut applets: Vec<String> = vec!["usr/bin/env".to_owned(), "bin/sh".to_owned()];
    applets.extend(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned));
    applets.sort();
    applets.dedup();
    for applet in applets.iter().filter(|applet| !applet.ends_with("/busybox") && applet.contains('/')) {
        layer = layer.link(applet, "/bin/busybox");
    }
    Ok(layer.finish())
}

/// An image's layer, in memory: these are small.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn folder(mut self, name: &str, mode: u32) -> Self {
        let mut header = header(EntryType::Directory, mode, 0);
        self.0.append_data(&mut header, name, std::io::empty()).expect("memory takes it");
        self
    }

    fn text(mut self, name: &str, text: &str) -> Self {
        append(&mut self.0, name, text.as_bytes()).expect("memory takes it");
        self
    }

    fn program(mut self, name: &str, file: &Path) -> Result<Self, String> {
        let content = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut header = header(EntryType::Regular, 0o755, content.len());
        self.0.append_data(&mut header, name, content.as_slice()).expect("memory takes it");
        Ok(self)
    }

    fn link(mut self, name: &str, target: &str) -> Self {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, name, target).expect("memory takes it");
        self
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes it")
    }
}
