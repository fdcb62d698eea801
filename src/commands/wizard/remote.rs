//! The GitLab host and project that the git remote of the working directory names. They are proposals: the user
//! confirms them. `.git/config` is read, git is not run, and nothing that the file includes is followed.

use std::path::{Path, PathBuf};

use crate::base::address::Parts;
use crate::base::files::Intake;
use crate::settings::check;

/// Directories above the working directory that are searched for a repository.
const MOST_ABOVE: usize = 64;
/// Hosts of well-known services that are not GitLab, with those below them.
const OTHERS: [&str; 5] =
    ["github.com", "bitbucket.org", "codeberg.org", "dev.azure.com", "visualstudio.com"];

/// What a remote names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Of the remote.
    pub name: String,
    /// `https://host`, without a relative URL root, which a remote does not tell from a group.
    pub url: String,
    /// The path below the host.
    pub path: String,
}

impl Remote {
    /// The project on this GitLab, if the remote is on it. The URL may have a relative root.
    pub fn project_on(&self, gitlab: &str) -> Option<String> {
        let root = gitlab.strip_prefix(&self.url)?;
        let path = match root.strip_prefix('/') {
            Some(root) => self.path.strip_prefix(root)?.strip_prefix('/')?,
            None if root.is_empty() => &self.path,
            None => return None,
        };
        check::project(path).ok().filter(|path| path.contains('/'))
    }
}

/// The remote `origin`, else the only one, of the repository around a directory.
pub async fn find(intake: &Intake, directory: &Path) -> Option<Remote> {
    for directory in directory.ancestors().take(MOST_ABOVE) {
        let git = directory.join(".git");
        let config = if git.is_dir() { git.join("config") } else { linked(intake, &git).await? };
        if let Some(text) = read(intake, &config).await {
            return of_config(&text);
        }
        if git.is_dir() {
            return None;
        }
    }
    None
}

/// The configuration that a worktree's `.git` file leads to; the path of no file if there is none.
async fn linked(intake: &Intake, git: &Path) -> Option<PathBuf> {
    let Some(text) = read(intake, git).await else { return Some(git.join("config")) };
    let place = git.parent()?.join(text.trim().strip_prefix("gitdir: ")?);
    let common = match read(intake, &place.join("commondir")).await {
        Some(text) => place.join(text.trim()),
        None => place,
    };
    Some(common.join("config"))
}

async fn read(intake: &Intake, path: &Path) -> Option<String> {
    // Anything else could block.
    if !path.is_file() {
        return None;
    }
    let bytes = intake.file(path).await.ok()??;
    std::str::from_utf8(&bytes).ok().map(str::to_owned)
}

/// Reads the plain lines of git's configuration format; what it does not know is skipped.
fn of_config(text: &str) -> Option<Remote> {
    let mut section = None;
    let mut remotes: Vec<(String, String)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            let name = line.strip_prefix("[remote \"").and_then(|rest| rest.split_once("\"]"));
            section = name.map(|(name, _)| name.to_owned());
        } else if let Some(name) = &section
            && let Some((key, value)) = line.split_once('=')
            && key.trim().eq_ignore_ascii_case("url")
            && !remotes.iter().any(|(known, _)| known == name)
        {
            remotes.push((name.clone(), value.trim().trim_matches('"').to_owned()));
        }
    }
    let origin = remotes.iter().find(|(name, _)| name == "origin");
    let (name, url) = origin.or_else(|| remotes.first().filter(|_| remotes.len() == 1))?;
    check::text(name).ok()?;
    let (url, path) = of_url(url)?;
    Some(Remote { name: name.clone(), url, path })
}

/// The host's URL and the path of `https://host/path.git`, `ssh://git@host:22/path.git` or `git@host:path.git`.
fn of_url(remote: &str) -> Option<(String, String)> {
    let (host, path) = if remote.contains("://") {
        let parts = Parts::of(remote).ok()?;
        let host = match parts.scheme.as_str() {
            "https" => parts.authority(),
            // The port is that of SSH.
            "ssh" | "git+ssh" => parts.host.clone(),
            _ => return None,
        };
        (host, parts.path.to_owned())
    } else {
        let (place, path) = remote.split_once(':')?;
        let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
        (host.to_owned(), path.to_owned())
    };
    let url = check::gitlab_url(&format!("https://{host}")).ok()?;
    let bare = url.strip_prefix("https://")?;
    if bare.contains('/') || OTHERS.iter().any(|other| bare == *other || bare.ends_with(&format!(".{other}")))
    {
        return None;
    }
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    check::project(path).ok().filter(|path| path.contains('/')).map(|path| (url, path))
}

#[cfg(test)]
mod tests {
    use super::{find, of_config, of_url};
    use crate::base::files::Intake;

    #[test]
    fn remotes_name_a_host_and_a_project() {
        for (remote, url, path) in [
            ("https://gitlab.com/platform/hello.git", "https://gitlab.com", "platform/hello"),
            (
                "https://me:glpat-canary@GitLab.example.com:8443/a/b/c/",
                "https://gitlab.example.com:8443",
                "a/b/c",
            ),
            ("ssh://git@gitlab.example.com:2222/a/b.git", "https://gitlab.example.com", "a/b"),
            ("git@gitlab.example.com:a/b.git", "https://gitlab.example.com", "a/b"),
            ("gitlab.example.com:/a/b", "https://gitlab.example.com", "a/b"),
        ] {
            assert_eq!(of_url(remote), Some((url.to_owned(), path.to_owned())), "{remote}");
        }
        for remote in [
            "",
            "../other",
            "/srv/git/a/b.git",
            "file:///srv/git/a/b",
            "http://gitlab.example.com/a/b",
            "git@github.com:a/b.git",
            "https://acme.visualstudio.com/a/b",
            "https://gitlab.com/only",
            "https://gitlab.com/a/../b",
            "https://gitlab.com/a/b?x=1",
            "ext::sh -c whoami",
            "git@-oProxyCommand=x:a/b",
            "git@h\u{202e}x:a/b",
        ] {
            assert_eq!(of_url(remote), None, "{remote}");
        }
    }

    #[test]
    fn origin_or_the_only_remote_counts() {
        let config = |names: &[&str]| {
            names.iter().fold("[core]\n\turl = x\n".to_owned(), |text, name| {
                format!(
                    "{text}[remote \"{name}\"]\n\turl = git@h.example.com:{name}/b.git\n\tfetch = +refs\n"
                )
            })
        };
        let path = |names: &[&str]| of_config(&config(names)).map(|remote| remote.path);
        assert_eq!(path(&["fork", "origin"]).as_deref(), Some("origin/b"));
        assert_eq!(path(&["fork"]).as_deref(), Some("fork/b"));
        assert_eq!(path(&["fork", "other"]), None);
        assert_eq!(path(&[]), None);
        let remote = of_config(&config(&["origin"])).expect("a remote");
        assert_eq!(remote.project_on("https://h.example.com").as_deref(), Some("origin/b"));
        for other in
            ["https://gitlab.com", "https://h.example.com.evil.example", "https://h.example.com/origin"]
        {
            assert_eq!(remote.project_on(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_worktree_leads_to_its_repository() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |path: &str| dir.path().join(path);
        for path in ["main/.git/worktrees/w", "w/deep/er"] {
            std::fs::create_dir_all(at(path)).expect("a directory");
        }
        let text = "[remote \"origin\"]\nurl = https://gitlab.example.com/a/b.git\n";
        std::fs::write(at("main/.git/config"), text).expect("written");
        std::fs::write(at("main/.git/worktrees/w/commondir"), "../..\n").expect("written");
        let gitdir = format!("gitdir: {}\n", at("main/.git/worktrees/w").display());
        std::fs::write(at("w/.git"), gitdir).expect("written");
        let intake = Intake::default();
        for from in ["main", "w", "w/deep/er"] {
            let found = find(&intake, &at(from)).await.expect(from);
            assert_eq!((found.url.as_str(), found.path.as_str()), ("https://gitlab.example.com", "a/b"));
        }
        assert_eq!(find(&intake, dir.path()).await, None);
    }
}
