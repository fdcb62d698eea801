//! The GitLab double: lists of runners, in pages.

use crate::client::{Caller, SHOP};
use outrigger_doubles::gitlab::{FakeGitlab, GROUP, Options, PROJECT, ProjectSpec};
use outrigger_doubles::http::Reply;
use serde_json::{Value, json};

fn make(gitlab: &FakeGitlab, body: &Value) -> u64 {
    let made = Caller::of(gitlab, "root").post("/user/runners", body);
    made.json()["id"].as_u64().unwrap_or_else(|| panic!("{}", made.text()))
}

fn tagged(gitlab: &FakeGitlab, description: &str, tags: &[&str]) -> u64 {
    let project = gitlab.project_id(PROJECT);
    make(
        gitlab,
        &json!({"runner_type": "project_type", "project_id": project, "description": description, "tag_list": tags}),
    )
}

fn descriptions(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let rows = reply.json();
    let names = rows.as_array().into_iter().flatten().filter_map(|row| row["description"].as_str());
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn lists_are_filtered_but_not_by_description() {
    let gitlab = FakeGitlab::start(Options::default());
    tagged(&gitlab, "a", &["k8s-runner", "x"]);
    let paused = tagged(&gitlab, "b", &["k8s-runner"]);
    tagged(&gitlab, "c", &["y"]);
    let caller = Caller::of(&gitlab, "maintainer");
    assert_eq!(caller.put(&format!("/runners/{paused}"), &json!({"paused": true})).status, 200);
    for (query, expected) in [
        ("", "c b a"),
        ("?tag_list=k8s-runner", "b a"),
        ("?tag_list=k8s-runner,x", "a"),
        ("?tag_list=none", ""),
        ("?paused=true", "b"),
        ("?paused=false", "c a"),
        ("?status=paused", "b"),
        ("?type=group_type", ""),
        ("?description=a", "c b a"),
        ("?search=a", "c b a"),
        ("?type=project_type&tag_list=k8s-runner&paused=false", "a"),
    ] {
        assert_eq!(descriptions(&caller.get(&format!("/runners{query}"))), expected, "{query}");
    }
    for query in ["?type=other", "?status=asleep", "?paused=perhaps", "?page=x"] {
        assert_eq!(caller.get(&format!("/runners{query}")).status, 400, "{query}");
    }
}

#[test]
fn a_projects_list_has_the_runners_from_above_too() {
    let gitlab = FakeGitlab::start(Options::default());
    let group = gitlab.add_group(GROUP);
    let other = gitlab.add_group("acme2");
    make(&gitlab, &json!({"runner_type": "instance_type", "description": "instance"}));
    make(&gitlab, &json!({"runner_type": "group_type", "group_id": group, "description": "group"}));
    make(&gitlab, &json!({"runner_type": "group_type", "group_id": other, "description": "foreign"}));
    tagged(&gitlab, "own", &[]);
    let caller = Caller::of(&gitlab, "owner");
    let project = |query: &str| descriptions(&caller.get(&format!("{SHOP}/runners{query}")));
    assert_eq!(project(""), "own group instance");
    assert_eq!(project("?type=project_type"), "own");
    gitlab.change_project(PROJECT, |spec| spec.shared_runners = false);
    assert_eq!(project(""), "own group");
    assert_eq!(descriptions(&caller.get("/groups/acme/runners")), "group instance");
    assert_eq!(descriptions(&caller.get("/groups/acme/runners?type=group_type")), "group");
    assert_eq!(descriptions(&caller.get("/runners")), "own group");
    assert_eq!(descriptions(&Caller::of(&gitlab, "root").get("/runners/all")), "own foreign group instance");
    gitlab.add_project(ProjectSpec::new("acme/sub/deep"));
    let deep = caller.get("/projects/acme%2Fsub%2Fdeep/runners");
    assert_eq!(descriptions(&deep), "group instance");
}

#[test]
fn pages_lead_from_one_to_the_next() {
    let gitlab = FakeGitlab::start(Options::default());
    for number in 0..45 {
        tagged(&gitlab, &number.to_string(), &[]);
    }
    let caller = Caller::of(&gitlab, "maintainer");
    let first = caller.get("/runners?type=project_type");
    assert_eq!(first.json().as_array().map_or(0, Vec::len), 20);
    let header = |name: &str| first.header(name).to_owned();
    assert_eq!(
        (header("x-page"), header("x-next-page"), header("x-prev-page")),
        ("1".into(), "2".into(), String::new())
    );
    assert_eq!(
        (header("x-total"), header("x-total-pages"), header("x-per-page")),
        ("45".into(), "3".into(), "20".into())
    );
    let url = gitlab.url();
    let expected = format!("<{url}/api/v4/runners?type=project_type&page=2&per_page=20>; rel=\"next\"");
    assert!(header("link").contains(&expected), "{}", header("link"));
    assert!(header("link").contains("page=3&per_page=20>; rel=\"last\""));
    let last = caller.get("/runners?page=3");
    assert_eq!(last.json().as_array().map_or(0, Vec::len), 5);
    assert!(last.header("x-next-page").is_empty() && !last.header("link").contains("rel=\"next\""));
    assert_eq!(caller.get("/runners?page=9").json(), json!([]));
    assert_eq!(caller.get("/runners?per_page=1000").header("x-per-page"), "100");
    assert_eq!(caller.get("/runners?per_page=2").json()[1]["description"], "43");
}

#[test]
fn beyond_a_number_of_rows_totals_are_not_told() {
    let gitlab = FakeGitlab::start(Options { total_cap: 3, per_page_cap: 2, ..Options::default() });
    let caller = Caller::of(&gitlab, "maintainer");
    for number in 0..3 {
        assert_eq!(caller.get("/runners").header("x-total"), number.to_string());
        tagged(&gitlab, "x", &[]);
    }
    let page = caller.get("/runners");
    assert_eq!((page.header("x-total"), page.header("x-total-pages")), ("", ""));
    assert!(!page.header("link").contains("rel=\"last\"") && page.header("link").contains("rel=\"next\""));
    assert_eq!((page.header("x-next-page"), page.header("x-per-page")), ("2", "2"));
}

#[test]
fn links_carry_the_servers_own_idea_of_its_address() {
    let gitlab = FakeGitlab::start(Options {
        external_url: Some("https://gitlab.example.com/gitlab".to_owned()),
        relative_root: "/gitlab".to_owned(),
        per_page_cap: 1,
        ..Options::default()
    });
    tagged(&gitlab, "a", &[]);
    tagged(&gitlab, "b", &[]);
    let page = Caller::of(&gitlab, "maintainer").get("/runners");
    let expected = "<https://gitlab.example.com/gitlab/api/v4/runners?page=2&per_page=1>; rel=\"next\"";
    assert!(page.header("link").contains(expected), "{}", page.header("link"));
}
