//! Runs the command lines that outrigger prints, as somebody would who pastes them into a shell.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::admin::{Admin, documents, object_path};
use super::run::{Home, Output};

/// The lines of a message that are commands, in order.
#[must_use]
pub fn commands(output: &Output) -> Vec<String> {
    // A report is on stdout, and what follows a change on stderr.
    let text = output.stdout() + &output.stderr();
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| line.starts_with("kubectl ") || line.starts_with("outrigger "))
        .map(str::to_owned)
        .collect()
}

/// A shell in a folder of its own, with `outrigger` and `kubectl` in its path: the real kubectl, or, where
/// there is none, one that notes what it was called with, for the harness to do the same.
pub struct Shell<'a> {
    home: &'a Home,
    admin: &'a Admin,
    folder: PathBuf,
    kubectl: Option<PathBuf>,
    kubeconfig: PathBuf,
}

impl<'a> Shell<'a> {
    /// A shell whose kubectl is an administrator's.
    #[must_use]
    pub fn new(home: &'a Home, admin: &'a Admin, kubectl: Option<PathBuf>, kubeconfig: &str) -> Self {
        let folder = home.path().join("in/shell");
        fs::create_dir_all(&folder).expect("a folder");
        let script = folder.join("kubectl");
        let calls = folder.join("calls");
        let text = match &kubectl {
            Some(real) => format!("#!/bin/sh\nexec '{}' \"$@\"\n", real.display()),
            // Arguments end in a byte that none of them can hold.
            None => format!("#!/bin/sh\nprintf '%s\\0' \"$@\" >> '{}'\n", calls.display()),
        };
        fs::write(&script, text).expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let kubeconfig = home.kubeconfig("administrator.kubeconfig", kubeconfig);
        Self { home, admin, folder, kubectl, kubeconfig }
    }

    /// What lines that went wrong would leave here.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).expect("the folder exists").flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !["kubectl", "calls", "role.yaml"].contains(&name.as_str()));
        names
    }

    /// Runs lines one after the other.
    pub fn run_all(&self, lines: &[String]) {
        for line in lines {
            self.run(line);
        }
    }

    /// Runs one line, which must succeed.
    pub fn run(&self, line: &str) {
        super::printed::pasted(line);
        let calls = self.folder.join("calls");
        let _ = fs::remove_file(&calls);
        let program = Path::new(super::binary::outrigger()).parent().expect("it lies in a folder");
        let path = format!("{}:{}:/usr/local/bin:/usr/bin:/bin", self.folder.display(), program.display());
        let output = Command::new("/bin/sh")
            .args(["-e", "-c", line])
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("PATH", path)
            .current_dir(&self.folder)
            .output()
            .expect("a shell starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "$ {line}\n{said}");
        if self.kubectl.is_none() && calls.exists() {
            let bytes = fs::read(&calls).expect("the calls were noted");
            let text = String::from_utf8(bytes).expect("arguments are text");
            let arguments: Vec<&str> = text.trim_end_matches('\0').split('\0').collect();
            self.replay(&arguments);
        }
    }

    /// Does what kubectl would have done.
    fn replay(&self, arguments: &[&str]) {
        let rolebinding = |namespace: &str, name: &str| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"namespace": namespace, "name": name}})
        };
        match arguments {
            ["--kubeconfig" | "--context", _, rest @ ..] => self.replay(rest),
            ["version"] => assert!(self.admin.get("/version").is_some()),
            ["get", "-n", namespace, "serviceaccount", name, "-o", "yaml"] => {
                let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}");
                assert!(self.admin.get(&path).is_some(), "{path}");
            }
            ["describe", "resourcequota", "-n", namespace, name] => {
                let path = format!("/api/v1/namespaces/{namespace}/resourcequotas/{name}");
                assert!(self.admin.get(&path).is_some(), "{path}");
            }
            ["label", "namespace", name, "--overwrite", pairs @ ..] => {
                let labels: serde_json::Map<_, _> = pairs
                    .iter()
                    .map(|pair| pair.split_once('=').expect("KEY=VALUE"))
                    .map(|(key, value)| (key.to_owned(), json!(value)))
                    .collect();
                self.admin
                    .patch(&format!("/api/v1/namespaces/{name}"), &json!({"metadata": {"labels": labels}}));
            }
            ["apply", "-f", file] => {
                let text = fs::read_to_string(self.folder.join(file)).expect("the file was written before");
                for document in documents(&text) {
                    self.admin.create(&document);
                }
            }
            ["create", "rolebinding", "-n", namespace, name, role, user] => {
                let mut binding = rolebinding(namespace, name);
                let role = role.strip_prefix("--clusterrole=").expect("a ClusterRole is bound");
                let user = user.strip_prefix("--user=").expect("to a user");
                binding["roleRef"] =
                    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
                binding["subjects"] =
                    json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]);
                self.admin.create(&binding);
            }
            ["delete", "rolebinding", "-n", namespace, name] => {
                self.admin.delete(&object_path(&rolebinding(namespace, name)));
            }
            other => panic!("the stand-in for kubectl does not know {other:?}"),
        }
    }
}
