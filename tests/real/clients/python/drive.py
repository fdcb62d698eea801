"""Asks the GitLab stand-in for all that python-gitlab has a method for, and checks what comes back.

Reads one JSON object from standard input: url, ca (a file), tokens (by name), registration_token, project,
project_id, group, ran (a runner that has run the jobs of pipeline and more), pipeline, job. Ends with 1 and a line
for each thing that is not as GitLab's entities have it.
"""

import json
import sys
import traceback

import gitlab

PROBLEMS = []
TEXT, NUMBER, FLAG, NONE = str, int, bool, type(None)
REAL = (int, float)

# The types of lib/api/entities, as far as the fields are always there.
USER = {"id": NUMBER, "username": TEXT, "name": TEXT, "state": TEXT, "web_url": TEXT}
RUNNER = {
    "id": NUMBER, "description": (TEXT, NONE), "ip_address": (TEXT, NONE), "active": FLAG, "paused": FLAG,
    "is_shared": FLAG, "runner_type": TEXT, "name": (TEXT, NONE), "online": (FLAG, NONE), "status": TEXT,
    "created_at": TEXT, "job_execution_status": TEXT,
}
RUNNER_DETAILS = RUNNER | {
    "tag_list": list, "run_untagged": FLAG, "locked": FLAG, "maximum_timeout": (NUMBER, NONE), "access_level": TEXT,
    "version": (TEXT, NONE), "revision": (TEXT, NONE), "platform": (TEXT, NONE), "architecture": (TEXT, NONE),
    "contacted_at": (TEXT, NONE), "maintenance_note": (TEXT, NONE), "groups": list,
}
MEMBER = USER | {"access_level": NUMBER, "locked": FLAG, "avatar_url": (TEXT, NONE), "created_at": TEXT, "expires_at": (TEXT, NONE)}
PROJECT = {
    "id": NUMBER, "name": TEXT, "path": TEXT, "path_with_namespace": TEXT, "name_with_namespace": TEXT,
    "default_branch": (TEXT, NONE), "web_url": TEXT, "archived": FLAG, "visibility": TEXT, "permissions": dict,
    "namespace": dict, "ci_config_path": (TEXT, NONE), "empty_repo": FLAG,
}
GROUP = {"id": NUMBER, "name": TEXT, "path": TEXT, "full_path": TEXT, "full_name": TEXT, "web_url": TEXT, "visibility": TEXT}
COMMIT = {
    "id": TEXT, "short_id": TEXT, "title": TEXT, "message": TEXT, "parent_ids": list, "created_at": TEXT,
    "author_name": TEXT, "author_email": TEXT, "authored_date": TEXT, "committer_name": TEXT, "committer_email": TEXT,
    "committed_date": TEXT, "trailers": dict, "web_url": TEXT,
}
BRANCH = {
    "name": TEXT, "commit": dict, "merged": FLAG, "protected": FLAG, "developers_can_push": FLAG,
    "developers_can_merge": FLAG, "can_push": FLAG, "default": FLAG, "web_url": TEXT,
}
FILE = {
    "file_name": TEXT, "file_path": TEXT, "size": NUMBER, "encoding": TEXT, "content": TEXT, "content_sha256": TEXT,
    "ref": TEXT, "blob_id": TEXT, "commit_id": TEXT, "last_commit_id": TEXT, "execute_filemode": FLAG,
}
PIPELINE = {
    "id": NUMBER, "iid": NUMBER, "project_id": NUMBER, "sha": TEXT, "ref": TEXT, "status": TEXT, "source": TEXT,
    "created_at": TEXT, "updated_at": TEXT, "web_url": TEXT,
}
PIPELINE_DETAILS = PIPELINE | {
    "before_sha": TEXT, "tag": FLAG, "yaml_errors": (TEXT, NONE), "user": dict, "started_at": (TEXT, NONE),
    "finished_at": (TEXT, NONE), "duration": REAL + (NONE,), "queued_duration": REAL + (NONE,),
    "coverage": (TEXT, NONE), "detailed_status": dict,
}
JOB = {
    "id": NUMBER, "status": TEXT, "stage": TEXT, "name": TEXT, "ref": TEXT, "tag": FLAG, "allow_failure": FLAG,
    "created_at": TEXT, "started_at": (TEXT, NONE), "finished_at": (TEXT, NONE), "duration": REAL + (NONE,),
    "queued_duration": REAL + (NONE,), "user": dict, "commit": dict, "pipeline": dict, "web_url": TEXT, "project": dict,
    "artifacts": list, "tag_list": list, "runner": (dict, NONE),
}


def check(what, holds):
    if not holds:
        PROBLEMS.append(what)


def typed(what, thing, fields):
    """An object or a dictionary with at least these fields, each of its type; a flag is no number."""
    found = thing if isinstance(thing, dict) else thing.attributes
    for name, types in fields.items():
        types = types if isinstance(types, tuple) else (types,)
        if name not in found:
            PROBLEMS.append(f"{what}: {name} is missing")
            continue
        value = found[name]
        fits = isinstance(value, types) and (FLAG in types or not isinstance(value, bool))
        check(f"{what}: {name} is {value!r}", fits)
    return thing


def pages(what, manager, fields, **options):
    """A list to its end, two at a time, once by pages and once as one: it has more than one page."""
    rows = list(manager.list(iterator=True, per_page=2, **options))
    first = manager.list(iterator=True, per_page=2, **options)
    check(f"{what}: {first.total_pages} pages", first.total_pages and first.total_pages > 1)
    check(f"{what}: {first.total} rows instead of {len(rows)}", first.total == len(rows))
    check(f"{what}: page {first.current_page} of {first.per_page}", (first.current_page, first.per_page) == (1, 2))
    check(f"{what}: next {first.next_page}, before {first.prev_page}", (first.next_page, first.prev_page) == (2, None))
    whole = manager.list(get_all=True, **options)
    ids = [row.get_id() for row in rows]
    check(f"{what}: no row twice", len(set(ids)) == len(ids))
    check(f"{what}: all of them at once", [row.get_id() for row in whole] == ids)
    for row in rows:
        typed(what, row, fields)
    return rows


def main():
    given = json.load(sys.stdin)
    tokens = given["tokens"]

    def client(**login):
        return gitlab.Gitlab(given["url"], ssl_verify=given["ca"], retry_transient_errors=False, **login)

    root, user = client(private_token=tokens["root"]), client(private_token=tokens["maintainer"])
    user.auth()
    root.auth()
    typed("user", user.user, USER)
    version, revision = user.version()
    check("version", version.startswith("19.") and revision != "unknown")
    itself = user.personal_access_tokens.get("self")
    typed("token", itself, {
        "id": NUMBER, "name": TEXT, "revoked": FLAG, "created_at": TEXT, "description": (TEXT, NONE), "scopes": list,
        "user_id": NUMBER, "last_used_at": (TEXT, NONE), "active": FLAG, "expires_at": (TEXT, NONE),
    })

    project = typed("project", user.projects.get(given["project"]), PROJECT)
    check("project by id", user.projects.get(given["project_id"]).path_with_namespace == given["project"])
    typed("member of a project", project.members_all.get(user.user.id), MEMBER)
    group = typed("group", root.groups.get(given["group"]), GROUP)
    owner = client(private_token=tokens["owner"])
    owner.auth()
    typed("member of a group", group.members_all.get(owner.user.id), MEMBER)

    made = []
    for number in range(5):
        body = {"runner_type": "project_type", "project_id": project.id, "description": f"number {number}",
                "tag_list": ["b", "a"], "run_untagged": False, "locked": True}
        one = user.user.runners.create(body)
        typed("created runner", one, {"id": NUMBER, "token": TEXT, "token_expires_at": (TEXT, NONE)})
        made.append(one)
    for _ in range(3):
        root.user.runners.create({"runner_type": "group_type", "group_id": group.id})
        root.user.runners.create({"runner_type": "instance_type"})
    pages("runners", user.runners, RUNNER)
    pages("all runners", root.runners_all, RUNNER)
    pages("runners of a project", project.runners, RUNNER, type="project_type")
    pages("runners of a group", group.runners, RUNNER)
    runner = typed("runner", user.runners.get(made[0].id), RUNNER_DETAILS)
    check("tags", runner.tag_list == ["b", "a"])
    runner.description = "another"
    runner.save()
    check("changed", user.runners.get(runner.id).description == "another")
    pages("jobs of a runner", user.runners.get(given["ran"]).jobs, JOB)
    root.runners.verify(made[1].token)
    runner.delete()
    user.runners.delete(made[2].id)
    client().runners.delete(token=made[3].token)
    registered = client().runners.create({"token": given["registration_token"], "description": "old"})
    typed("registered runner", registered, {"id": NUMBER, "token": TEXT})

    file = typed("file", project.files.get("README.md", "HEAD"), FILE)
    check("content", file.decode() == b"# Read me\n")
    head = project.files.head("README.md", ref="main")
    check("head", head["X-Gitlab-Content-Sha256"] == file.content_sha256 and head["X-Gitlab-Size"] == str(file.size))
    commit = None
    for number in range(3):
        commit = project.commits.create({
            "branch": f"demo-{number}", "start_branch": "main", "commit_message": "A file [ci skip]",
            "actions": [{"action": "create", "file_path": f"demo/{number}.txt", "content": "hello\n"}],
        })
        typed("created commit", commit, COMMIT)
    typed("commit", project.commits.get(commit.id), COMMIT | {"status": (TEXT, NONE), "project_id": NUMBER, "last_pipeline": (dict, NONE)})
    typed("reverted commit", commit.revert("demo-2"), COMMIT)
    pages("commits", project.commits, COMMIT, ref_name="demo-2")
    pages("branches", project.branches, BRANCH)
    branch = typed("branch", project.branches.get("demo-0"), BRANCH)
    branch.delete()

    valid = project.ci_lint.create({"content": "job: {script: [\"true\"]}", "include_jobs": True})
    typed("lint", valid, {"valid": FLAG, "errors": list, "warnings": list, "includes": list, "merged_yaml": TEXT, "jobs": list})
    check("valid", valid.valid)
    check("not valid", not project.ci_lint.create({"content": "job: {}"}).valid)
    typed("lint of what is committed", project.ci_lint.get(), {"valid": FLAG, "errors": list, "warnings": list})

    pipeline = typed("created pipeline", project.pipelines.create({"ref": "main"}), PIPELINE_DETAILS)
    pages("pipelines", project.pipelines, PIPELINE)
    typed("pipeline", project.pipelines.get(given["pipeline"]), PIPELINE_DETAILS)
    pages("jobs of a pipeline", project.pipelines.get(given["pipeline"]).jobs, JOB)
    typed("cancelled pipeline", pipeline.cancel(), PIPELINE_DETAILS)
    job = typed("job", project.jobs.get(given["job"]), JOB)
    check("trace", b"hello world!" in job.trace())

    # Refusals come as the library's own errors, with words.
    for what, status, refused in [
        ("no project", 404, lambda: user.projects.get("acme/none")),
        ("no file", 404, lambda: project.files.get("none", "HEAD")),
        ("no right", 403, lambda: user.user.runners.create({"runner_type": "instance_type"})),
        ("no parameter", 400, lambda: user.user.runners.create({"runner_type": "project_type"})),
        ("not valid", 400, lambda: user.user.runners.create({
            "runner_type": "project_type", "project_id": project.id, "maximum_timeout": 1})),
        ("not valid either", 400, lambda: user.runners.update(made[4].id, {"maximum_timeout": 1})),
        ("no token", 401, lambda: client(private_token="glpat-none").auth()),
    ]:
        try:
            refused()
            PROBLEMS.append(f"{what}: not refused")
        except gitlab.GitlabError as error:
            check(f"{what}: {error!r}", error.response_code == status and error.error_message)


try:
    main()
except Exception:  # what it had found by then is said all the same
    PROBLEMS.append(traceback.format_exc())
print("\n".join(PROBLEMS))
sys.exit(1 if PROBLEMS else 0)
