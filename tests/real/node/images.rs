//! The images that pods of the tests run, made by hand as there is no registry to pull from.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use tar::{Builder, EntryType, Header};

/// What holds a pod's namespaces.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// What jobs run in: busybox under its applets' names.
pub const ALPINE: &str = "docker.io/library/alpine:latest";

/// What the runner of [`VERSION`](crate::runners::VERSION) runs beside the job: its own program, bash, and what
/// jobs run in, and git, which it asks for GitLab's CA to be trusted whether a job clones or not.
pub const HELPER: &str = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v19.4.1";

/// How the runner starts a shell in the helper image.
const BUILD: &str = "#!/bin/sh\numask 0000\nexec /bin/bash \"$@\"\n";

const BUSYBOX: &str = "/usr/bin/busybox";
const BASH: &str = "/usr/bin/bash-static";
const GIT: &str = "/usr/bin/git";

/// Whether the programs that images are made of are here and need no libraries, or what to install.
pub fn static_programs() -> Result<(), String> {
    if !Path::new(GIT).is_file() {
        return Err(format!("{GIT} is missing (apt package: git)"));
    }
    for (path, package) in [(BUSYBOX, "busybox-static"), (BASH, "bash-static")] {
        let program = fs::read(path).map_err(|error| format!("{path}: {error} (apt package: {package})"))?;
        // The name of the dynamic loader stands in every program that needs one.
        let loader = b"/ld-linux";
        if program.windows(loader.len()).any(|part| part == loader) {
            return Err(format!("{path} needs libraries: install {package}"));
        }
    }
    Ok(())
}

/// Writes an archive as `docker save` does, with all images in it.
///
/// `pause` is the binary of that name, `helper` gitlab-runner-helper; fails if a file cannot be read or written.
pub fn write(archive: &Path, pause: &Path, helper: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", archive.display());
    let mut out = Builder::new(fs::File::create(archive).map_err(told)?);
    let pause = Layer::new().program("pause", pause)?.finish();
    let busybox = busybox_layer(Path::new(BUSYBOX))?;
    let helper = Layer::new()
        .program("usr/bin/gitlab-runner-helper", helper)?
        .link("usr/bin/gitlab-runner", "gitlab-runner-helper")
        .script("usr/bin/gitlab-runner-build", BUILD)
        .program("bin/bash", Path::new(BASH))?
        .with_libraries(Path::new(GIT))?
        .finish();
    let manifest = json!([
        add(&mut out, &[&pause], &["/pause"], PAUSE).map_err(told)?,
        add(&mut out, &[&busybox], &["/bin/sh"], ALPINE).map_err(told)?,
        add(&mut out, &[&busybox, &helper], &["gitlab-runner-build"], HELPER).map_err(told)?,
    ]);
    append(&mut out, "manifest.json", manifest.to_string().as_bytes()).map_err(told)?;
    out.into_inner().and_then(|mut file| file.flush()).map_err(told)
}

/// Adds layers and the image that is made of them, and gives its entry in the manifest.
fn add<W: std::io::Write>(
    out: &mut Builder<W>,
    layers: &[&[u8]],
    command: &[&str],
    name: &str,
) -> std::io::Result<serde_json::Value> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect::<std::io::Result<_>>()?;
    let ids: Vec<String> = digests.iter().map(|digest| format!("sha256:{digest}")).collect();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Cmd": command,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": {"type": "layers", "diff_ids": ids},
    })
    .to_string();
    let config_name = format!("{}.json", digest(config.as_bytes())?);
    append(out, &config_name, config.as_bytes())?;
    let files: Vec<String> = digests.iter().map(|digest| format!("{digest}/layer.tar")).collect();
    for (file, layer) in files.iter().zip(layers) {
        append(out, file, layer)?;
    }
    Ok(json!({"Config": config_name, "RepoTags": [name], "Layers": files}))
}

/// The SHA-256 in hexadecimal. By the tool: a debug build takes ten seconds for what the helper has.
fn digest(bytes: &[u8]) -> std::io::Result<String> {
    let mut tool = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    tool.stdin.take().expect("piped").write_all(bytes)?;
    let output = tool.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap_or_default().to_owned())
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

    /// Adds a program of this machine and the libraries that it is linked with, all where they are here.
    fn with_libraries(self, program: &Path) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("ldd {}: {error}", program.display());
        let listed = Command::new("ldd").arg(program).output().map_err(told)?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
        let place = |path: &str| path.trim_start_matches('/').to_owned();
        let mut layer = self.program(&place(&program.display().to_string()), program)?;
        for library in libraries {
            layer = layer.program(&place(library), Path::new(library))?;
        }
        Ok(layer)
    }

    fn script(mut self, name: &str, text: &str) -> Self {
        let mut header = header(EntryType::Regular, 0o755, text.len());
        self.0.append_data(&mut header, name, text.as_bytes()).expect("memory takes it");
        self
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
