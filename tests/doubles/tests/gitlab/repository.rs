//! The GitLab double: files, branches, commits, and the check of a pipeline file.

use std::time::Duration;

use crate::client::{Caller, SHOP, error, message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outrigger_doubles::gitlab::{FakeGitlab, Options, PROJECT, ProjectSpec};
use outrigger_doubles::http::Reply;
use serde_json::{Value, json};

const FILE: &str = "/projects/acme%2Fshop/repository/files/%2Egitlab-ci%2Eyml";
const JOB: &str = "job:\n  tags: [k8s-runner]\n  script:\n    - echo \"hello world!\"\n";

fn refusal(reply: &Reply) -> (u16, String) {
    (reply.status, message(reply))
}

/// Commits one action on a branch.
fn commit(caller: &Caller, branch: &str, action: &Value, more: &Value) -> Reply {
    let mut body = json!({"branch": branch, "commit_message": "Change", "actions": [action]});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    caller.post(&format!("{SHOP}/repository/commits"), &body)
}

fn create(content: &str) -> Value {
    json!({"action": "create", "file_path": ".gitlab-ci.yml", "content": content})
}

#[test]
fn files_are_asked_for_by_head_and_read_by_get() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "reporter");
    let ask = |method: &str, query: &str| caller.send(method, &format!("{FILE}{query}"), &Value::Null);
    assert_eq!(error(&ask("GET", "")), "ref is missing");
    assert_eq!(refusal(&ask("GET", "?ref=HEAD")), (404, "404 File Not Found".to_owned()));
    assert_eq!(refusal(&ask("GET", "?ref=none")), (404, "404 Commit Not Found".to_owned()));
    let sha = gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", JOB);
    let head = ask("HEAD", "?ref=HEAD");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        (head.header("x-gitlab-commit-id"), head.header("x-gitlab-last-commit-id")),
        (sha.as_str(), sha.as_str())
    );
    assert_eq!(
        (head.header("x-gitlab-content-sha256").len(), head.header("x-gitlab-blob-id").len()),
        (64, 40)
    );
    gitlab.put_file(PROJECT, "main", "other", "x");
    let shown = ask("GET", "?ref=main").json();
    assert_eq!((&shown["last_commit_id"], &shown["encoding"]), (&json!(sha), &json!("base64")));
    assert_ne!(shown["commit_id"], sha);
    assert_eq!(shown["content_sha256"], head.header("x-gitlab-content-sha256"));
    assert_eq!(STANDARD.decode(shown["content"].as_str().unwrap_or_default()), Ok(JOB.as_bytes().to_vec()));
    assert_eq!(ask("GET", &format!("?ref={sha}")).status, 200);
    // A path of several parts must come as one segment.
    gitlab.put_file(PROJECT, "main", "a/b", "x");
    assert_eq!(caller.get(&format!("{SHOP}/repository/files/a%2Fb?ref=main")).status, 200);
    assert_eq!(caller.get(&format!("{SHOP}/repository/files/a/b?ref=main")).status, 404);
    assert_eq!(Caller::of(&gitlab, "guest").get(&format!("{FILE}?ref=HEAD")).status, 403);
}

#[test]
fn branches_say_whether_they_are_protected() {
    let gitlab = FakeGitlab::start(Options::default());
    gitlab.put_file(PROJECT, "demo/1", "x", "x");
    let caller = Caller::of(&gitlab, "developer");
    let all = caller.get(&format!("{SHOP}/repository/branches")).json();
    let seen: Vec<_> = all
        .as_array()
        .into_iter()
        .flatten()
        .map(|branch| (branch["name"].clone(), branch["protected"].clone(), branch["default"].clone()))
        .collect();
    assert_eq!(
        seen,
        [(json!("demo/1"), json!(false), json!(false)), (json!("main"), json!(true), json!(true))]
    );
    let one = caller.get(&format!("{SHOP}/repository/branches/demo%2F1")).json();
    assert_eq!(one["commit"]["id"], gitlab.commits(PROJECT)[1]["id"]);
    let none = caller.get(&format!("{SHOP}/repository/branches/none"));
    assert_eq!(refusal(&none), (404, "404 Branch Not Found".to_owned()));
    let remove = |name: &str| caller.delete(&format!("{SHOP}/repository/branches/{name}"));
    assert_eq!(
        (remove("demo%2F1").status, remove("demo%2F1").status, remove("main").status),
        (204, 404, 405)
    );
}

#[test]
fn commits_want_the_right_role_for_the_branch() {
    let gitlab = FakeGitlab::start(Options::default());
    gitlab.put_file(PROJECT, "release-1", "x", "x");
    gitlab.put_file(PROJECT, "demo", "x", "x");
    gitlab.change_project(PROJECT, |spec| spec.protected_branches.push("release-*".to_owned()));
    let no = (403, "403 Forbidden - You are not allowed to push into this branch".to_owned());
    for (branch, allowed) in [
        ("main", vec!["root", "owner", "maintainer"]),
        ("release-1", vec!["root", "owner", "maintainer"]),
        ("demo", vec!["root", "owner", "maintainer", "developer"]),
    ] {
        for user in ["root", "owner", "maintainer", "developer"] {
            let action = json!({"action": "create", "file_path": format!("{branch}/{user}"), "content": "x"});
            let reply = commit(&Caller::of(&gitlab, user), branch, &action, &json!({}));
            if allowed.contains(&user) {
                assert_eq!(reply.status, 201, "{user} {branch} {}", reply.text());
            } else {
                assert_eq!(refusal(&reply), no, "{user} {branch}");
            }
        }
    }
    assert_eq!(commit(&Caller::of(&gitlab, "reporter"), "demo", &create("x"), &json!({})).status, 403);
    assert_eq!(commit(&Caller::of(&gitlab, "stranger"), "demo", &create("x"), &json!({})).status, 404);
    gitlab.change_project(PROJECT, |spec| spec.archived = true);
    assert_eq!(refusal(&commit(&Caller::of(&gitlab, "owner"), "demo", &create("x"), &json!({}))), no);
}

#[test]
fn commits_fit_what_is_there() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "maintainer");
    let on = |branch: &str, action: &Value, more: &Value| refusal(&commit(&caller, branch, action, more));
    // Since 19.x the body is read before the parameters' declaration counts.
    let nothing = caller.post(&format!("{SHOP}/repository/commits"), &json!({}));
    assert_eq!(refusal(&nothing), (400, "400 Bad request - branch is required".to_owned()));
    let empty = json!({"branch": "main", "commit_message": "x", "actions": []});
    let empty = caller.post(&format!("{SHOP}/repository/commits"), &empty);
    let why = "400 Bad request - Provide at least one action, or set allow_empty to true";
    assert_eq!(refusal(&empty), (400, why.to_owned()));
    let odd = json!({"action": "destroy", "file_path": "x"});
    let why = "400 Bad request - actions[0][action] must be one of: create, update, move, delete, chmod";
    assert_eq!(on("main", &odd, &json!({})), (400, why.to_owned()));
    let with = |kind: &str, more: Value| {
        let mut action = json!({"action": kind, "file_path": ".gitlab-ci.yml", "content": "x"});
        for (name, value) in more.as_object().into_iter().flatten() {
            action[name] = value.clone();
        }
        action
    };
    let none = json!({});
    let refused = |text: &str| (400, text.to_owned());
    assert_eq!(on("main", &with("update", json!({})), &none), refused("A file with this name doesn't exist"));
    let made = commit(&caller, "main", &create(JOB), &none);
    assert_eq!(made.status, 201, "{}", made.text());
    let sha = made.json()["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(gitlab.file(PROJECT, "HEAD", ".gitlab-ci.yml").as_deref(), Some(JOB));
    assert_eq!(gitlab.commits(PROJECT)[1]["parent_ids"], json!([gitlab.commits(PROJECT)[0]["id"]]));
    assert_eq!(on("main", &create(JOB), &none), refused("A file with this name already exists"));
    let stale = with("update", json!({"last_commit_id": "0".repeat(40)}));
    let changed = "The file has changed since you started editing it: .gitlab-ci.yml";
    assert_eq!(on("main", &stale, &none), refused(changed));
    let same = with("update", json!({"last_commit_id": sha, "content": JOB}));
    assert_eq!(on("main", &same, &none), refused("Could not update branch"));
    let base64 = with("update", json!({"last_commit_id": sha, "content": "aGk=", "encoding": "base64"}));
    assert_eq!(on("main", &base64, &none).0, 201);
    assert_eq!(gitlab.file(PROJECT, "main", ".gitlab-ci.yml").as_deref(), Some("hi"));
    let outside = json!({"action": "create", "file_path": "../x", "content": ""});
    assert_eq!(on("main", &outside, &none), refused("file_path should be a valid file path"));
    // Branches.
    let nowhere = "You can only create or edit files when you are on a branch";
    assert_eq!(on("demo", &with("delete", json!({})), &none), refused(nowhere));
    assert_eq!(
        on("de mo", &create("x"), &json!({"start_branch": "main"})),
        refused("Branch name is invalid")
    );
    let start = json!({"start_branch": "main"});
    assert_eq!(on("demo", &with("delete", json!({})), &start).0, 201);
    assert_eq!(gitlab.file(PROJECT, "demo", ".gitlab-ci.yml"), None);
    assert!(gitlab.file(PROJECT, "main", ".gitlab-ci.yml").is_some());
    let taken = "A branch called 'demo' already exists. Switch to that branch in order to make changes";
    assert_eq!(on("demo", &create("x"), &start), refused(taken));
    assert_eq!(
        on("demo2", &create("x"), &json!({"start_branch": "none"})),
        refused("Cannot find branch named 'none'")
    );
}

#[test]
fn an_empty_repository_takes_its_first_commit_without_a_start() {
    let gitlab = FakeGitlab::start(Options::default());
    gitlab.add_project(ProjectSpec::empty("acme/empty"));
    let caller = Caller::of(&gitlab, "owner");
    let path = "/projects/acme%2Fempty";
    let file = format!("{path}/repository/files/%2Egitlab-ci%2Eyml?ref=HEAD");
    assert_eq!(refusal(&caller.get(&file)), (404, "404 Repository Not Found".to_owned()));
    assert_eq!(caller.get(&format!("{path}/repository/branches")).status, 404);
    let mut body = json!({"branch": "main", "commit_message": "First", "actions": [create(JOB)], "start_branch": "other"});
    assert_eq!(caller.post(&format!("{path}/repository/commits"), &body).status, 400);
    body["start_branch"] = Value::Null;
    assert_eq!(caller.post(&format!("{path}/repository/commits"), &body).status, 201);
    let shown = caller.get(path).json();
    assert_eq!((&shown["default_branch"], &shown["empty_repo"]), (&json!("main"), &json!(false)));
    assert_eq!(caller.get(&file).status, 200);
}

#[test]
fn commits_are_shown_listed_and_reverted() {
    let gitlab = FakeGitlab::start(Options { replica_lag: Duration::from_secs(5), ..Options::default() });
    let caller = Caller::of(&gitlab, "maintainer");
    let before = gitlab.file(PROJECT, "main", ".gitlab-ci.yml");
    let sha = commit(&caller, "main", &create(JOB), &json!({})).json()["id"].clone();
    let path = format!("{SHOP}/repository/commits/{}", sha.as_str().unwrap_or_default());
    assert_eq!(refusal(&caller.get(&path)), (404, "404 Commit Not Found".to_owned()));
    gitlab.advance(Duration::from_secs(5));
    let shown = caller.get(&path).json();
    assert_eq!((&shown["id"], &shown["title"]), (&sha, &json!("Change")));
    assert_eq!(shown["last_pipeline"]["sha"], sha);
    assert_eq!(caller.get(&format!("{SHOP}/repository/commits")).json()[0]["id"], sha);
    let revert = || caller.post(&format!("{path}/revert"), &json!({"branch": "main"}));
    assert_eq!(revert().status, 201);
    assert_eq!(gitlab.file(PROJECT, "main", ".gitlab-ci.yml"), before);
    assert!(message(&revert()).starts_with("Sorry, we cannot revert this commit automatically."));
}

#[test]
fn lint_finds_common_mistakes_and_is_no_failure_itself() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "developer");
    let lint = |content: &str| caller.post(&format!("{SHOP}/ci/lint"), &json!({"content": content}));
    let missing = caller.post(&format!("{SHOP}/ci/lint"), &json!({}));
    assert_eq!((missing.status, error(&missing).as_str()), (400, "content is missing"));
    let valid = lint(JOB);
    assert_eq!(
        (valid.status, &valid.json()["valid"], &valid.json()["errors"]),
        (200, &json!(true), &json!([]))
    );
    assert!(valid.json()["merged_yaml"].as_str().is_some_and(|yaml| yaml.contains("hello world!")));
    for (content, expected) in [
        ("", "Please provide content of .gitlab-ci.yml"),
        ("- a", "Invalid configuration format"),
        ("a: [", "Invalid configuration format: "),
        ("stages: [a]", "jobs config should contain at least one visible job"),
        ("job: text", "jobs job config should be a hash"),
        ("job: {tags: [a]}", "jobs:job config should implement the script:, run:, or trigger: keyword"),
        ("job: {script: x, tag: [a]}", "jobs:job config contains unknown keys: tag"),
        ("job: {script: x, tags: a}", "jobs:job:tags config should be an array of strings"),
        ("job: {script: x, tags: [1]}", "jobs:job:tags config should be an array of strings"),
        (
            "job: {script: {a: b}}",
            "jobs:job:script config should be a string or a nested array of strings up to 10 levels deep",
        ),
        ("job: {script: x, image: [a]}", "jobs:job:image config should be a hash or a string"),
        (
            "job: {script: x, stage: none}",
            "job job: chosen stage none does not exist; available stages are .pre, build, test, deploy, .post",
        ),
        (
            "job: {script: x, when: never_ever}",
            "jobs:job when should be one of: on_success, on_failure, always, manual, delayed",
        ),
    ] {
        let reply = lint(content);
        let shown = reply.json();
        assert_eq!(
            (reply.status, &shown["valid"], &shown["merged_yaml"]),
            (200, &json!(false), &Value::Null),
            "{content}"
        );
        let errors = shown["errors"].to_string();
        assert!(
            errors.contains(&json!(expected).to_string().trim_matches('"').to_owned()),
            "{content}: {errors}"
        );
    }
    let body = json!({"content": ".base: {tags: [a]}\njob: {extends: .base, script: [x, [y]]}", "include_jobs": true});
    let jobs = caller.post(&format!("{SHOP}/ci/lint"), &body).json()["jobs"].clone();
    assert_eq!((&jobs[0]["tag_list"], &jobs[0]["script"]), (&json!(["a"]), &json!(["x", "y"])));
    // Of what is committed.
    let committed = || caller.get(&format!("{SHOP}/ci/lint")).json()["valid"].clone();
    assert_eq!(committed(), false);
    gitlab.put_file(PROJECT, "main", ".gitlab-ci.yml", JOB);
    assert_eq!(committed(), true);
    gitlab.change_project(PROJECT, |spec| spec.ci_config_path = Some("other.yml".to_owned()));
    assert_eq!(committed(), false);
    assert_eq!(caller.get(SHOP).json()["ci_config_path"], "other.yml");
    assert_eq!(Caller::of(&gitlab, "reporter").post(&format!("{SHOP}/ci/lint"), &body).status, 403);
}
