//! The GitLab double: which token opens what, for whom, and how refusals read.

use std::time::Duration;

use crate::client::{Caller, SHOP, error, message};
use outrigger_doubles::gitlab::{
    FakeGitlab, GROUP, Options, PROJECT, ProjectSpec, Role, TokenKind, TokenSpec,
};
use serde_json::{Value, json};

/// A project runner, an own GitLab around it, and the caller who made it.
fn with_runner(options: Options) -> (FakeGitlab, Caller, u64) {
    let gitlab = FakeGitlab::start(options);
    let caller = Caller::of(&gitlab, "maintainer");
    let wish = json!({"runner_type": "project_type", "project_id": gitlab.project_id(PROJECT)});
    let id = caller.post("/user/runners", &wish).json()["id"].as_u64().expect("a runner");
    (gitlab, caller, id)
}

const SCOPES: &[&str] =
    &["api", "read_api", "read_user", "read_repository", "create_runner", "manage_runner", "k8s_proxy"];

#[test]
fn every_call_wants_the_scopes_of_its_gate() {
    let (gitlab, _, id) = with_runner(Options::default());
    gitlab.set_admin("maintainer", true);
    for scope in SCOPES {
        gitlab.add_token(TokenSpec::pat(&format!("only-{scope}"), "maintainer", &[scope]));
    }
    let create = json!({"runner_type": "project_type", "project_id": gitlab.project_id(PROJECT)});
    let lint = json!({"content": "job: {script: [\"true\"]}"});
    let runner = format!("/runners/{id}");
    let project = |rest: &str| format!("{SHOP}{rest}");
    let reads = "api read_api";
    let manages = "api read_api manage_runner";
    let user = "api read_api read_user";
    let files = "api read_api read_repository";
    let table: Vec<(&str, String, &Value, &str)> = vec![
        ("POST", "/user/runners".to_owned(), &create, "api create_runner"),
        ("GET", "/runners".to_owned(), &Value::Null, reads),
        ("GET", "/runners/all".to_owned(), &Value::Null, reads),
        ("GET", project("/runners"), &Value::Null, reads),
        ("GET", format!("/groups/{GROUP}/runners"), &Value::Null, reads),
        ("GET", runner.clone(), &Value::Null, manages),
        ("GET", format!("{runner}/managers"), &Value::Null, manages),
        ("GET", format!("{runner}/jobs"), &Value::Null, manages),
        ("PUT", runner.clone(), &create, "api manage_runner"),
        ("POST", format!("{runner}/reset_authentication_token"), &Value::Null, "api manage_runner"),
        ("DELETE", "/runners/0".to_owned(), &Value::Null, "api manage_runner"),
        ("GET", "/user".to_owned(), &Value::Null, user),
        ("GET", "/version".to_owned(), &Value::Null, user),
        ("GET", "/metadata".to_owned(), &Value::Null, user),
        ("GET", project(""), &Value::Null, reads),
        ("GET", format!("/groups/{GROUP}"), &Value::Null, reads),
        ("GET", project("/repository/files/README%2Emd?ref=HEAD"), &Value::Null, files),
        ("HEAD", project("/repository/files/README%2Emd?ref=HEAD"), &Value::Null, files),
        ("GET", project("/repository/branches"), &Value::Null, reads),
        ("GET", project("/pipelines"), &Value::Null, reads),
        ("POST", project("/ci/lint"), &lint, "api"),
        ("POST", project("/repository/commits"), &Value::Null, "api"),
        ("POST", project("/pipeline"), &Value::Null, "api"),
    ];
    for (method, path, body, accepted) in table {
        for scope in SCOPES {
            let reply = Caller::of(&gitlab, &format!("only-{scope}")).send(method, &path, body);
            let refused = reply.status == 403;
            assert_eq!(!refused, accepted.split(' ').any(|fit| fit == *scope), "{method} {path} by {scope}");
            if refused && method != "HEAD" {
                assert_eq!(error(&reply), "insufficient_scope");
                assert_eq!(reply.json()["scope"], accepted, "{method} {path}");
                assert_eq!(reply.header("www-authenticate"), "");
            }
        }
    }
    // A token learns about itself whatever it may otherwise.
    for scope in SCOPES {
        let reply = Caller::of(&gitlab, &format!("only-{scope}")).get("/personal_access_tokens/self");
        assert_eq!((reply.status, &reply.json()["scopes"]), (200, &json!([scope])));
    }
}

#[test]
fn roles_decide_who_may_create_see_and_remove_runners() {
    let gitlab = FakeGitlab::start(Options::default());
    let project = gitlab.project_id(PROJECT);
    let group = gitlab.add_group(GROUP);
    let kinds = [
        (json!({"runner_type": "project_type", "project_id": project}), vec!["root", "owner", "maintainer"]),
        (json!({"runner_type": "group_type", "group_id": group}), vec!["root", "owner"]),
        (json!({"runner_type": "instance_type"}), vec!["root"]),
    ];
    for (wish, allowed) in kinds {
        let made = Caller::of(&gitlab, "root").post("/user/runners", &wish);
        let path = format!("/runners/{}", made.json()["id"]);
        for user in ["root", "owner", "maintainer", "developer", "guest", "stranger"] {
            let (caller, may) = (Caller::of(&gitlab, user), allowed.contains(&user));
            let reply = caller.post("/user/runners", &wish);
            // Whether somebody sees the place is no matter: it is found by its id.
            let expected = if may { (201, "") } else { (403, "403 Forbidden - Insufficient permissions") };
            assert_eq!((reply.status, message(&reply).as_str()), expected, "{user} {wish}");
            // Runners of the instance are shown to everybody.
            let shown = if wish["runner_type"] == "instance_type" || may { 200 } else { 403 };
            assert_eq!(caller.get(&path).status, shown, "{user} {path}");
            let reset = caller.post(&format!("{path}/reset_authentication_token"), &Value::Null);
            assert_eq!(reset.status, if may { 201 } else { 403 }, "{user}");
            if !may {
                let refused = caller.delete(&path);
                assert_eq!(
                    (refused.status, message(&refused).as_str()),
                    (403, "403 Forbidden - No access granted")
                );
            }
        }
    }
    let unknown = json!({"runner_type": "project_type", "project_id": 77});
    let reply = Caller::of(&gitlab, "root").post("/user/runners", &unknown);
    assert_eq!((reply.status, message(&reply).as_str()), (400, "400 Bad request - Missing/invalid project"));
    let unknown = json!({"runner_type": "group_type", "group_id": 77});
    let reply = Caller::of(&gitlab, "root").post("/user/runners", &unknown);
    assert_eq!((reply.status, message(&reply).as_str()), (400, "400 Bad request - Missing/invalid group"));
}

#[test]
fn lists_of_runners_want_their_roles() {
    let gitlab = FakeGitlab::start(Options::default());
    let table = [
        ("/runners/all", vec!["root"], 403),
        ("/projects/acme%2Fshop/runners", vec!["root", "owner", "maintainer"], 403),
        ("/groups/acme/runners", vec!["root", "owner"], 403),
        ("/runners", vec!["root", "owner", "maintainer", "developer", "stranger"], 0),
    ];
    for (path, allowed, refusal) in table {
        for user in ["root", "owner", "maintainer", "developer"] {
            let expected = if allowed.contains(&user) { 200 } else { refusal };
            assert_eq!(Caller::of(&gitlab, user).get(path).status, expected, "{user} {path}");
        }
    }
    assert_eq!(Caller::of(&gitlab, "stranger").get("/groups/acme/runners").status, 404);
    let invisible = Caller::of(&gitlab, "stranger").get(&format!("{SHOP}/runners"));
    assert_eq!((invisible.status, message(&invisible).as_str()), (404, "404 Project Not Found"));
}

fn token_of(gitlab: &FakeGitlab, change: impl FnOnce(&mut TokenSpec)) -> Caller {
    let mut spec = TokenSpec::pat("odd", "maintainer", &["api"]);
    change(&mut spec);
    Caller::with(gitlab, &gitlab.add_token(spec))
}

#[test]
fn tokens_that_do_not_work_say_why() {
    let gitlab = FakeGitlab::start(Options::default());
    let expired = token_of(&gitlab, |spec| spec.expires_at = Some("2024-01-31".to_owned())).get("/user");
    assert_eq!((expired.status, error(&expired).as_str()), (401, "invalid_token"));
    assert!(expired.json()["error_description"].as_str().is_some_and(|why| why.contains("expired")));
    assert!(expired.header("www-authenticate").starts_with("Bearer realm="), "{:?}", expired.headers);
    let revoked = token_of(&gitlab, |spec| spec.revoked = true).get("/user");
    assert_eq!((revoked.status, error(&revoked).as_str()), (401, "invalid_token"));
    assert!(revoked.json()["error_description"].as_str().is_some_and(|why| why.contains("revoked")));
    let dpop = token_of(&gitlab, |spec| spec.dpop = true).get("/user");
    assert_eq!((dpop.status, error(&dpop).as_str()), (401, "dpop_error"));
    let blocked = token_of(&gitlab, |spec| spec.ip_blocked = true).get("/user");
    assert_eq!((blocked.status, blocked.text().as_str()), (403, "Forbidden\n"));
    assert!(blocked.header("content-type").starts_with("text/plain"));
    for token in ["", "glpat-unknown"] {
        let reply = Caller::with(&gitlab, token).get("/user");
        assert_eq!((reply.status, message(&reply).as_str()), (401, "401 Unauthorized"), "{token:?}");
    }
    for kind in [TokenKind::Job, TokenKind::Deploy] {
        let reply = token_of(&gitlab, |spec| spec.kind = kind).get("/user");
        assert_eq!((reply.status, message(&reply).as_str()), (401, "401 Unauthorized"), "{kind:?}");
    }
    let caller = Caller::with(&gitlab, "");
    let job = gitlab.token("odd");
    let reply = caller.send_with("POST", "/user/runners", &[("JOB-TOKEN", &job)], &json!({}));
    assert_eq!(reply.status, 401);
}

#[test]
fn tokens_end_by_the_servers_clock() {
    let gitlab = FakeGitlab::start(Options::default());
    // Two days, so that midnight may pass while this runs.
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    let caller = token_of(&gitlab, |spec| spec.expires_at = Some(soon.to_string()[..10].to_owned()));
    assert_eq!(caller.get("/user").status, 200);
    gitlab.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(caller.get("/user").status, 401);
}

#[test]
fn each_kind_of_token_has_its_header_and_its_look() {
    let gitlab = FakeGitlab::start(Options { token_prefix: "acme".to_owned(), ..Options::default() });
    assert!(gitlab.token("maintainer").starts_with("acme-glpat-"));
    let nobody = Caller::with(&gitlab, "");
    for (kind, bearer, private, about_itself) in [
        (TokenKind::Pat, 200, 200, 200),
        (TokenKind::Project, 200, 200, 200),
        (TokenKind::Group, 200, 200, 200),
        // Not what that page is for, which is said with 400.
        (TokenKind::Oauth, 200, 401, 400),
        (TokenKind::Job, 401, 401, 401),
    ] {
        let spec = TokenSpec { kind, ..TokenSpec::pat("odd", "maintainer", &["api"]) };
        let token = gitlab.add_token(spec);
        assert_eq!(Caller::with(&gitlab, &token).get("/user").status, bearer, "{kind:?}");
        let reply = nobody.send_with("GET", "/user", &[("PRIVATE-TOKEN", &token)], &Value::Null);
        assert_eq!(reply.status, private, "{kind:?}");
        let reply = Caller::with(&gitlab, &token).get("/personal_access_tokens/self");
        assert_eq!(reply.status, about_itself, "{kind:?}");
    }
    // Bots have the roles that they are given.
    let bot = TokenSpec { kind: TokenKind::Project, ..TokenSpec::pat("bot", "project_bot", &["api"]) };
    let bot = Caller::with(&gitlab, &gitlab.add_token(bot));
    assert_eq!(bot.get(SHOP).status, 404);
    gitlab.set_role("project_bot", PROJECT, Some(Role::Maintainer));
    assert_eq!((bot.get(SHOP).status, bot.get("/user").json()["bot"].clone()), (200, json!(true)));
}

/// doc/auth/tokens/fine_grained_access_tokens_rest.md (19.x)
#[test]
fn fine_grained_tokens_have_permissions_in_place_of_scopes() {
    let (gitlab, _, id) = with_runner(Options::default());
    let fine = |name: &str, permissions: &[&str], within: &[&str]| {
        let within = within.iter().map(|path| (*path).to_owned()).collect();
        let spec = TokenSpec::pat(name, "maintainer", permissions);
        let spec = TokenSpec { kind: TokenKind::FineGrained, within, ..spec };
        Caller::with(&gitlab, &gitlab.add_token(spec))
    };
    let caller = fine("fine", &["create_runner", "read_runner", "read_personal_access_token"], &[]);
    let itself = caller.get("/personal_access_tokens/self").json();
    // Which they are is not told there.
    assert_eq!((&itself["scopes"], itself.get("granular_scopes")), (&json!(["granular"]), None));
    let runner = format!("/runners/{id}");
    assert_eq!(caller.get(&runner).status, 200);
    assert_eq!(caller.get(&format!("{SHOP}/runners")).status, 200);
    let refused = caller.delete(&runner);
    assert_eq!((refused.status, error(&refused).as_str()), (403, "insufficient_granular_scope"));
    let why = "Access denied: Your Personal Access Token lacks the required permissions: [delete_runner] for \"acme/shop\".";
    assert_eq!(refused.json()["error_description"], why);
    // Each call has a permission of its own, also the one about the token itself.
    let nothing = fine("nothing", &["none"], &[]);
    for (method, path, permission) in [
        ("GET", "/personal_access_tokens/self".to_owned(), "read_personal_access_token]."),
        ("GET", "/user".to_owned(), "read_user]."),
        ("GET", "/metadata".to_owned(), "read_metadata]."),
        ("POST", "/user/runners".to_owned(), "create_runner]."),
        ("GET", SHOP.to_owned(), "read_project] for"),
        ("GET", format!("{SHOP}/members/all/1"), "read_member] for"),
        ("GET", format!("{SHOP}/runners"), "read_runner] for"),
        ("GET", format!("{SHOP}/repository/branches/main"), "read_branch] for"),
        ("GET", format!("{SHOP}/pipelines/1/jobs"), "read_pipeline_job] for"),
        ("GET", format!("{SHOP}/jobs/1/trace"), "read_job] for"),
        ("POST", format!("{SHOP}/ci/lint"), "validate_ci_config] for"),
        ("PUT", runner.clone(), "update_runner] for"),
        ("POST", format!("{runner}/reset_authentication_token"), "update_runner] for"),
    ] {
        let reply = nothing.send(method, &path, &Value::Null);
        assert_eq!(reply.status, 403, "{method} {path}");
        assert!(reply.text().contains(permission), "{method} {path}: {}", reply.text());
    }
    // Limited to a place: what is about the user and the instance counts all the same.
    let elsewhere = fine("elsewhere", &["read_runner", "read_user"], &["other"]);
    assert_eq!((elsewhere.get(&runner).status, elsewhere.get("/user").status), (403, 200));
    let here = fine("here", &["read_runner"], &[GROUP]);
    assert_eq!(here.get(&runner).status, 200);
}

/// lib/api/ci/runners.rb: the gate of the scope is a pattern of the whole path.
#[test]
fn manage_runner_is_refused_under_a_relative_root() {
    for (root, status) in [("", 200), ("/gitlab", 403)] {
        let (gitlab, _, id) = with_runner(Options { relative_root: root.to_owned(), ..Options::default() });
        let reply = Caller::of(&gitlab, "manage_runner").get(&format!("/runners/{id}"));
        assert_eq!(reply.status, status, "{root:?}");
    }
}

/// lib/api/entities/project_with_access.rb tells of rows alone; members/all tells of everything.
#[test]
fn who_comes_through_an_invited_group_has_no_row() {
    let gitlab = FakeGitlab::start(Options { enterprise: true, ..Options::default() });
    gitlab.invite_group("builders", PROJECT, Role::Maintainer);
    gitlab.set_role("guestling", "builders", Some(Role::Owner));
    gitlab.add_token(TokenSpec::pat("invited", "guestling", &["api"]));
    let caller = Caller::of(&gitlab, "invited");
    let shown = caller.get(SHOP).json();
    assert_eq!(shown["permissions"], json!({"project_access": null, "group_access": null}));
    let user = caller.get("/user").json()["id"].clone();
    let member = caller.get(&format!("{SHOP}/members/all/{user}")).json();
    assert_eq!((&member["access_level"], &member["member_role"]), (&json!(40), &Value::Null));
    let wish = json!({"runner_type": "project_type", "project_id": gitlab.project_id(PROJECT)});
    assert_eq!(caller.post("/user/runners", &wish).status, 201);
    // Somebody who is nowhere.
    let nobody = Caller::of(&gitlab, "stranger").get("/user").json()["id"].clone();
    let reply = caller.get(&format!("{SHOP}/members/all/{nobody}"));
    assert_eq!((reply.status, message(&reply).as_str()), (404, "404 Not found"));
    // A custom role adds to one that would not be enough.
    gitlab.allow_runners("developer", PROJECT);
    let caller = Caller::of(&gitlab, "developer");
    let user = caller.get("/user").json()["id"].clone();
    let member = caller.get(&format!("{SHOP}/members/all/{user}")).json();
    assert_eq!(
        (&member["access_level"], &member["member_role"]["admin_runners"]),
        (&json!(30), &json!(true))
    );
    assert_eq!(caller.post("/user/runners", &wish).status, 201);
}

/// app/policies/project_policy.rb: `project_runner_registration_allowed`.
#[test]
fn an_administrator_can_keep_members_from_creating_runners() {
    let gitlab = FakeGitlab::start(Options { members_create_runners: false, ..Options::default() });
    let wish = json!({"runner_type": "project_type", "project_id": gitlab.project_id(PROJECT)});
    let reply = Caller::of(&gitlab, "maintainer").post("/user/runners", &wish);
    let why = "403 Forbidden - Insufficient permissions";
    assert_eq!((reply.status, message(&reply).as_str()), (403, why));
    assert_eq!(Caller::of(&gitlab, "root").post("/user/runners", &wish).status, 201);
}

#[test]
fn a_token_learns_of_itself_and_of_where_it_counts() {
    let gitlab = FakeGitlab::start(Options { enterprise: true, ..Options::default() });
    gitlab.change_token("narrow", |spec| spec.expires_at = Some("2099-12-31".to_owned()));
    let caller = Caller::of(&gitlab, "narrow");
    let itself = caller.get("/personal_access_tokens/self").json();
    assert_eq!(itself["scopes"], json!(["create_runner", "manage_runner"]));
    assert_eq!((&itself["name"], &itself["active"]), (&json!("narrow"), &json!(true)));
    assert_eq!((&itself["expires_at"], &itself["revoked"]), (&json!("2099-12-31"), &json!(false)));
    let places = caller.get("/personal_access_tokens/self/associations?min_access_level=40").json();
    assert_eq!(places["projects"][0]["path_with_namespace"], PROJECT);
    assert_eq!(places["groups"], json!([]));
    let metadata = Caller::of(&gitlab, "read_api").get("/metadata").json();
    assert_eq!((&metadata["version"], &metadata["enterprise"]), (&json!("19.4.1-ee"), &json!(true)));
    assert!(metadata["kas"]["enabled"].is_boolean());
    let version = Caller::of(&gitlab, "read_api").get("/version").json();
    assert!(version["version"].is_string() && version["kas"].is_null());
    assert_eq!(Caller::of(&gitlab, "root").get("/user").json()["is_admin"], true);
}

#[test]
fn projects_are_found_by_id_and_path_and_hidden_from_strangers() {
    let gitlab = FakeGitlab::start(Options::default());
    let id = gitlab.project_id(PROJECT);
    let shown = Caller::of(&gitlab, "guest").get(SHOP).json();
    assert_eq!((&shown["id"], &shown["default_branch"]), (&json!(id), &json!("main")));
    assert_eq!((&shown["path_with_namespace"], &shown["archived"]), (&json!(PROJECT), &json!(false)));
    assert_eq!(shown["permissions"]["project_access"]["access_level"], 10);
    assert!(shown["permissions"]["group_access"].is_null());
    let by_id = Caller::of(&gitlab, "owner").get(&format!("/projects/{id}")).json();
    assert_eq!(by_id["permissions"]["group_access"]["access_level"], 50);
    // An administrator needs no membership, so none is shown.
    let root = Caller::of(&gitlab, "root").get(SHOP).json();
    assert_eq!(root["permissions"], json!({"project_access": null, "group_access": null}));
    for caller in [Caller::of(&gitlab, "stranger"), Caller::with(&gitlab, "")] {
        for path in [SHOP, "/projects/acme%2Fnone", "/projects/4711"] {
            let reply = caller.get(path);
            assert_eq!((reply.status, message(&reply).as_str()), (404, "404 Project Not Found"));
        }
    }
    gitlab.add_project(ProjectSpec { public: true, ..ProjectSpec::empty("acme/open") });
    let open = Caller::with(&gitlab, "").get("/projects/acme%2Fopen").json();
    assert_eq!((&open["default_branch"], &open["empty_repo"]), (&Value::Null, &json!(true)));
    let group = Caller::of(&gitlab, "owner").get("/groups/acme").json();
    assert_eq!(group["full_path"], GROUP);
}

#[test]
fn credentials_are_kept_apart_from_the_log() {
    let gitlab = FakeGitlab::start(Options::default());
    let caller = Caller::of(&gitlab, "narrow");
    assert_eq!(caller.get("/personal_access_tokens/self?private_token=x").status, 200);
    let entry = gitlab.requests()[0].clone();
    assert_eq!((entry.user.as_str(), entry.token.as_str(), entry.status), ("maintainer", "narrow", 200));
    assert!(!format!("{entry:?}").contains(&gitlab.token("narrow")));
    let credentials: Vec<(String, String)> =
        gitlab.credentials().into_iter().map(|credential| (credential.header, credential.value)).collect();
    let bearer = format!("Bearer {}", gitlab.token("narrow"));
    let expected = [("authorization", bearer.as_str()), ("?private_token", "x")];
    assert_eq!(credentials, expected.map(|(header, value)| (header.to_owned(), value.to_owned())));
    gitlab.clear_requests();
    assert!(gitlab.requests().is_empty() && gitlab.credentials().is_empty());
}
