// Asks the GitLab stand-in for all that GitLab's Go client has a method for, decoded into its types, and checks
// what comes back.
//
// Reads one JSON object from standard input; see given. Ends with 1 and a line for each thing that is wrong.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

type given struct {
	URL               string            `json:"url"`
	CA                string            `json:"ca"`
	Tokens            map[string]string `json:"tokens"`
	RegistrationToken string            `json:"registration_token"`
	Project           string            `json:"project"`
	ProjectID         int64             `json:"project_id"`
	Group             string            `json:"group"`
	// A runner that has run the jobs of Pipeline.
	Ran      int64 `json:"ran"`
	Pipeline int64 `json:"pipeline"`
	Job      int64 `json:"job"`
}

var problems []string

func check(what string, holds bool) {
	if !holds {
		problems = append(problems, what)
	}
}

func fine(what string, err error) {
	if err != nil {
		problems = append(problems, what+": "+err.Error())
	}
}

// whole ends the program where nothing further can be asked.
func whole[T any](what string, thing T, _ *gitlab.Response, err error) T {
	if err != nil {
		problems = append(problems, what+": "+err.Error())
		end()
	}
	return thing
}

func end() {
	fmt.Println(strings.Join(problems, "\n"))
	if len(problems) > 0 {
		os.Exit(1)
	}
	os.Exit(0)
}

// pages reads a list to its end, two at a time, and checks what the headers say of it.
func pages[T any](what string, list func(gitlab.ListOptions) ([]T, *gitlab.Response, error)) []T {
	var all []T
	options := gitlab.ListOptions{PerPage: 2, Page: 1}
	count, total := 0, int64(0)
	for {
		rows, response, err := list(options)
		if err != nil {
			problems = append(problems, what+": "+err.Error())
			return all
		}
		count++
		total = response.TotalItems
		all = append(all, rows...)
		check(fmt.Sprintf("%s: page %d is not page %d", what, response.CurrentPage, count), response.CurrentPage == int64(count))
		check(what+": two to a page", response.ItemsPerPage == 2 && len(rows) <= 2)
		check(what+": links", (response.NextLink != "") == (response.NextPage != 0) && response.FirstLink != "")
		if response.NextPage == 0 {
			check(what+": the last page", response.CurrentPage == response.TotalPages)
			break
		}
		options.Page = response.NextPage
	}
	check(what+": more than one page", count > 1)
	check(fmt.Sprintf("%s: %d rows instead of %d", what, len(all), total), int64(len(all)) == total)
	return all
}

func main() {
	var given given
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	pem, err := os.ReadFile(given.CA)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	client := func(token string) *gitlab.Client {
		made, err := gitlab.NewClient(token, gitlab.WithBaseURL(given.URL), gitlab.WithoutRetries(),
			gitlab.WithHTTPClient(&http.Client{Transport: transport}))
		if err != nil {
			panic(err)
		}
		return made
	}
	root, user, owner := client(given.Tokens["root"]), client(given.Tokens["maintainer"]), client(given.Tokens["owner"])
	runners(given, root, user, client(""))
	places(given, user, owner)
	repository(given, user)
	pipelines(given, user)
	refusals(given, user, client("glpat-none"))
	end()
}

func places(given given, user, owner *gitlab.Client) {
	me := one("user", user.Users.CurrentUser)
	check("user", me.ID > 0 && me.Username == "maintainer" && me.State == "active")
	version := one("version", user.Version.GetVersion)
	check("version", strings.HasPrefix(version.Version, "19.") && version.Revision != "")
	metadata := one("metadata", user.Metadata.GetMetadata)
	check("metadata", metadata.Version == version.Version)
	token := one("token", user.PersonalAccessTokens.GetSinglePersonalAccessToken)
	check("token", token.ID > 0 && token.Active && token.CreatedAt != nil && token.UserID == me.ID && len(token.Scopes) == 1)

	project, response, err := user.Projects.GetProject(given.Project, nil)
	project = whole("project", project, response, err)
	check("project", project.ID == given.ProjectID && project.PathWithNamespace == given.Project && project.DefaultBranch == "main")
	access := project.Permissions
	check("permissions", access != nil && access.ProjectAccess != nil && access.ProjectAccess.AccessLevel == gitlab.MaintainerPermissions)
	check("permissions in the group", access != nil && access.GroupAccess == nil)
	member, response, err := user.ProjectMembers.GetInheritedProjectMember(given.ProjectID, me.ID)
	member = whole("member of a project", member, response, err)
	check("member of a project", member.AccessLevel == gitlab.MaintainerPermissions && member.CreatedAt != nil && member.MemberRole == nil)
	group, response, err := owner.Groups.GetGroup(given.Group, nil)
	group = whole("group", group, response, err)
	check("group", group.ID > 0 && group.FullPath == given.Group)
	them := one("owner", owner.Users.CurrentUser)
	inherited, response, err := owner.GroupMembers.GetInheritedGroupMember(given.Group, them.ID)
	inherited = whole("member of a group", inherited, response, err)
	check("member of a group", inherited.AccessLevel == gitlab.OwnerPermissions)
}

func one[T any](what string, ask func(...gitlab.RequestOptionFunc) (T, *gitlab.Response, error)) T {
	thing, response, err := ask()
	return whole(what, thing, response, err)
}

func runners(given given, root, user, nobody *gitlab.Client) {
	group, response, err := root.Groups.GetGroup(given.Group, nil)
	group = whole("group", group, response, err)
	var made []*gitlab.UserRunner
	for number := range 5 {
		runner, response, err := user.Users.CreateUserRunner(&gitlab.CreateUserRunnerOptions{
			RunnerType: new("project_type"), ProjectID: &given.ProjectID,
			Description: new(fmt.Sprintf("number %d", number)), TagList: &[]string{"b", "a"},
			RunUntagged: new(false), Locked: new(true), MaximumTimeout: new(int64(3600)),
		})
		made = append(made, whole("created runner", runner, response, err))
		check("created runner", runner.ID > 0 && strings.HasPrefix(runner.Token, "glrt-") && runner.TokenExpiresAt == nil)
	}
	for range 3 {
		_, _, err := root.Users.CreateUserRunner(&gitlab.CreateUserRunnerOptions{RunnerType: new("group_type"), GroupID: &group.ID})
		fine("created group runner", err)
		_, _, err = root.Users.CreateUserRunner(&gitlab.CreateUserRunnerOptions{RunnerType: new("instance_type")})
		fine("created instance runner", err)
	}
	lists := map[string]func(gitlab.ListOptions) ([]*gitlab.Runner, *gitlab.Response, error){
		"runners": func(page gitlab.ListOptions) ([]*gitlab.Runner, *gitlab.Response, error) {
			return user.Runners.ListRunners(&gitlab.ListRunnersOptions{ListOptions: page})
		},
		"all runners": func(page gitlab.ListOptions) ([]*gitlab.Runner, *gitlab.Response, error) {
			return root.Runners.ListAllRunners(&gitlab.ListRunnersOptions{ListOptions: page})
		},
		"runners of a project": func(page gitlab.ListOptions) ([]*gitlab.Runner, *gitlab.Response, error) {
			return user.Runners.ListProjectRunners(given.ProjectID, &gitlab.ListProjectRunnersOptions{ListOptions: page, Type: new("project_type")})
		},
		"runners of a group": func(page gitlab.ListOptions) ([]*gitlab.Runner, *gitlab.Response, error) {
			return root.Runners.ListGroupsRunners(given.Group, &gitlab.ListGroupsRunnersOptions{ListOptions: page})
		},
	}
	for what, list := range lists {
		for _, runner := range pages(what, list) {
			check(what, runner.ID > 0 && runner.RunnerType != "" && runner.Status != "" && runner.Token == "")
		}
	}
	details, response, err := user.Runners.GetRunnerDetails(made[0].ID)
	details = whole("runner", details, response, err)
	check("runner", details.Locked && !details.RunUntagged && len(details.TagList) == 2 && details.MaximumTimeout == 3600 && details.ContactedAt == nil)
	check("projects of a runner", len(details.Projects) == 1 && details.Projects[0].PathWithNamespace == given.Project)
	changed, response, err := user.Runners.UpdateRunnerDetails(made[0].ID, &gitlab.UpdateRunnerDetailsOptions{Paused: new(true)})
	changed = whole("changed runner", changed, response, err)
	check("changed runner", changed.Paused)
	managers, response, err := user.Runners.ListRunnerManagers(given.Ran)
	managers = whole("machines", managers, response, err)
	check("machines", len(managers) == 1 && managers[0].SystemID != "" && managers[0].ContactedAt != nil && managers[0].Version != "")
	ran, response, err := user.Runners.GetRunnerDetails(given.Ran)
	ran = whole("runner in contact", ran, response, err)
	check("runner in contact", ran.ContactedAt != nil && ran.Online && ran.Status == "online")
	jobs := pages("jobs of a runner", func(page gitlab.ListOptions) ([]*gitlab.Job, *gitlab.Response, error) {
		return user.Runners.ListRunnerJobs(given.Ran, &gitlab.ListRunnerJobsOptions{ListOptions: page})
	})
	for _, job := range jobs {
		check("job of a runner", job.Runner.ID == given.Ran && job.FinishedAt != nil && job.Status == "success")
	}
	anew, response, err := user.Runners.ResetRunnerAuthenticationToken(made[1].ID)
	anew = whole("new token", anew, response, err)
	check("new token", anew.Token != nil && *anew.Token != made[1].Token)
	_, err = nobody.Runners.VerifyRegisteredRunner(&gitlab.VerifyRegisteredRunnerOptions{Token: anew.Token})
	fine("verified runner", err)
	_, err = user.Runners.RemoveRunner(made[0].ID)
	fine("removed runner", err)
	_, err = nobody.Runners.DeleteRegisteredRunner(&gitlab.DeleteRegisteredRunnerOptions{Token: anew.Token})
	fine("removed by its token", err)
	registered, response, err := nobody.Runners.RegisterNewRunner(&gitlab.RegisterNewRunnerOptions{Token: &given.RegistrationToken, Description: new("old")})
	registered = whole("registered runner", registered, response, err)
	check("registered runner", registered.ID > 0 && registered.Token != "")
}

func repository(given given, user *gitlab.Client) {
	file, response, err := user.RepositoryFiles.GetFile(given.Project, "README.md", &gitlab.GetFileOptions{Ref: new("HEAD")})
	file = whole("file", file, response, err)
	check("file", file.FileName == "README.md" && file.Encoding == "base64" && file.Size == 10 && file.LastCommitID != "")
	head, response, err := user.RepositoryFiles.GetFileMetaData(given.Project, "README.md", &gitlab.GetFileMetaDataOptions{Ref: new("HEAD")})
	head = whole("head of a file", head, response, err)
	check("head of a file", head.SHA256 == file.SHA256 && head.BlobID == file.BlobID && head.Size == file.Size && head.LastCommitID == file.LastCommitID)
	var commit *gitlab.Commit
	for number := range 3 {
		made, response, err := user.Commits.CreateCommit(given.Project, &gitlab.CreateCommitOptions{
			Branch: new(fmt.Sprintf("demo-%d", number)), StartBranch: new("main"), CommitMessage: new("A file [ci skip]"),
			Actions: []*gitlab.CommitActionOptions{{
				Action: new(gitlab.FileCreate), FilePath: new("demo.txt"), Content: new("hello\n"),
			}},
		})
		commit = whole("created commit", made, response, err)
		check("created commit", commit.ID != "" && commit.CreatedAt != nil && commit.AuthoredDate != nil && commit.Stats != nil)
	}
	shown, response, err := user.Commits.GetCommit(given.Project, commit.ID, nil)
	shown = whole("commit", shown, response, err)
	check("commit", shown.ID == commit.ID && len(shown.ParentIDs) == 1 && shown.ProjectID == given.ProjectID)
	reverted, response, err := user.Commits.RevertCommit(given.Project, commit.ID, &gitlab.RevertCommitOptions{Branch: new("demo-2")})
	reverted = whole("reverted commit", reverted, response, err)
	check("reverted commit", strings.HasPrefix(reverted.Title, "Revert"))
	pages("commits", func(page gitlab.ListOptions) ([]*gitlab.Commit, *gitlab.Response, error) {
		return user.Commits.ListCommits(given.Project, &gitlab.ListCommitsOptions{ListOptions: page, RefName: new("demo-2")})
	})
	branches := pages("branches", func(page gitlab.ListOptions) ([]*gitlab.Branch, *gitlab.Response, error) {
		return user.Branches.ListBranches(given.Project, &gitlab.ListBranchesOptions{ListOptions: page})
	})
	for _, branch := range branches {
		check("branch", branch.Commit != nil && branch.Commit.ID != "" && branch.Default == (branch.Name == "main"))
	}
	main, response, err := user.Branches.GetBranch(given.Project, "main")
	main = whole("branch", main, response, err)
	check("branch", main.Protected && main.CanPush && main.Default)
	_, err = user.Branches.DeleteBranch(given.Project, "demo-0")
	fine("removed branch", err)
	linted, response, err := user.Validate.ProjectNamespaceLint(given.Project, &gitlab.ProjectNamespaceLintOptions{Content: new("job: {script: [\"true\"]}")})
	linted = whole("lint", linted, response, err)
	check("lint", linted.Valid && len(linted.Errors) == 0 && linted.MergedYaml != "")
	committed, response, err := user.Validate.ProjectLint(given.Project, &gitlab.ProjectLintOptions{})
	committed = whole("lint of what is committed", committed, response, err)
	check("lint of what is committed", committed.Valid)
}

func pipelines(given given, user *gitlab.Client) {
	made, response, err := user.Pipelines.CreatePipeline(given.Project, &gitlab.CreatePipelineOptions{Ref: new("main")})
	made = whole("created pipeline", made, response, err)
	check("created pipeline", made.ID > 0 && made.Source == "api" && made.User != nil && made.DetailedStatus != nil)
	all := pages("pipelines", func(page gitlab.ListOptions) ([]*gitlab.PipelineInfo, *gitlab.Response, error) {
		return user.Pipelines.ListProjectPipelines(given.Project, &gitlab.ListProjectPipelinesOptions{ListOptions: page})
	})
	for _, pipeline := range all {
		check("pipeline in a list", pipeline.ID > 0 && pipeline.Status != "" && pipeline.SHA != "" && pipeline.CreatedAt != nil)
	}
	shown, response, err := user.Pipelines.GetPipeline(given.Project, given.Pipeline)
	shown = whole("pipeline", shown, response, err)
	check("pipeline", shown.Status == "success" && shown.FinishedAt != nil && shown.StartedAt != nil)
	jobs := pages("jobs of a pipeline", func(page gitlab.ListOptions) ([]*gitlab.Job, *gitlab.Response, error) {
		return user.Jobs.ListPipelineJobs(given.Project, given.Pipeline, &gitlab.ListJobsOptions{ListOptions: page})
	})
	for _, job := range jobs {
		check("job in a pipeline", job.Pipeline.ID == given.Pipeline && job.Commit != nil && job.FailureReason == "")
	}
	cancelled, response, err := user.Pipelines.CancelPipelineBuild(given.Project, made.ID)
	cancelled = whole("cancelled pipeline", cancelled, response, err)
	check("cancelled pipeline", cancelled.Status == "canceled")
	job, response, err := user.Jobs.GetJob(given.Project, given.Job)
	job = whole("job", job, response, err)
	check("job", job.Status == "success" && job.Runner.ID == given.Ran && job.StartedAt != nil && len(job.TagList) == 1)
	trace, response, err := user.Jobs.GetTraceFile(given.Project, given.Job)
	text, _ := io.ReadAll(whole("trace", trace, response, err))
	check("trace", bytes.Contains(text, []byte("hello world!")))
}

// Refusals come as the client's own errors, with words.
func refusals(given given, user, unknown *gitlab.Client) {
	refused := func(what string, status int, _ any, _ *gitlab.Response, err error) {
		var refusal *gitlab.ErrorResponse
		if errors.Is(err, gitlab.ErrNotFound) && status == http.StatusNotFound {
			return
		}
		if !errors.As(err, &refusal) {
			problems = append(problems, fmt.Sprintf("%s: %v", what, err))
			return
		}
		check(fmt.Sprintf("%s: %v", what, err), refusal.Response.StatusCode == status && refusal.Message != "")
	}
	project, response, err := user.Projects.GetProject("acme/none", nil)
	refused("no project", http.StatusNotFound, project, response, err)
	runner, response, err := user.Users.CreateUserRunner(&gitlab.CreateUserRunnerOptions{RunnerType: new("instance_type")})
	refused("no right", http.StatusForbidden, runner, response, err)
	runner, response, err = user.Users.CreateUserRunner(&gitlab.CreateUserRunnerOptions{RunnerType: new("project_type")})
	refused("no parameter", http.StatusBadRequest, runner, response, err)
	runner, response, err = user.Users.CreateUserRunner(&gitlab.CreateUserRunnerOptions{
		RunnerType: new("project_type"), ProjectID: &given.ProjectID, MaximumTimeout: new(int64(1)),
	})
	refused("not valid", http.StatusBadRequest, runner, response, err)
	changed, response, err := user.Runners.UpdateRunnerDetails(given.Ran, &gitlab.UpdateRunnerDetailsOptions{MaximumTimeout: new(int64(1))})
	refused("not valid either", http.StatusBadRequest, changed, response, err)
	me, response, err := unknown.Users.CurrentUser()
	refused("no token", http.StatusUnauthorized, me, response, err)
}
