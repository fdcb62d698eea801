// A job from its payload to its end: stages in the order of the real one, each in a section of the log.

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

type job struct {
	ID      int64  `json:"id"`
	Token   string `json:"token"`
	JobInfo struct {
		Name        string `json:"name"`
		Stage       string `json:"stage"`
		ProjectID   int64  `json:"project_id"`
		ProjectName string `json:"project_name"`
	} `json:"job_info"`
	GitInfo struct {
		RepoURL   string `json:"repo_url"`
		Ref       string `json:"ref"`
		SHA       string `json:"sha"`
		BeforeSHA string `json:"before_sha"`
	} `json:"git_info"`
	RunnerInfo struct {
		Timeout int64 `json:"timeout"`
	} `json:"runner_info"`
	Variables []variable `json:"variables"`
	Steps     []struct {
		Name    string   `json:"name"`
		Script  []string `json:"script"`
		Timeout int64    `json:"timeout"`
		When    string   `json:"when"`
	} `json:"steps"`
	Image *struct {
		Name         string   `json:"name"`
		Entrypoint   []string `json:"entrypoint"`
		PullPolicies []string `json:"pull_policy"`
	} `json:"image"`
	Services    []any        `json:"services"`
	Artifacts   []any        `json:"artifacts"`
	Cache       []any        `json:"cache"`
	Credentials []credential `json:"credentials"`
	Features    struct {
		TraceSections  bool     `json:"trace_sections"`
		FailureReasons []string `json:"failure_reasons"`
	} `json:"features"`
}

type variable struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	File   bool   `json:"file"`
	Masked bool   `json:"masked"`
}

type credential struct {
	Type     string `json:"type"`
	URL      string `json:"url"`
	Username string `json:"username"`
	Password string `json:"password"`
}

func (j *job) value(key string) string {
	for _, variable := range slices.Backward(j.Variables) {
		if variable.Key == key {
			return variable.Value
		}
	}
	return ""
}

// A failure with one of GitLab's reasons; those of the runner itself are system failures.
type failure struct {
	reason string
	err    error
	code   int
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func scriptFailed(code int, text string) error {
	return &failure{reason: "script_failure", code: code, err: errors.New(text)}
}

// misconfigured is a failure of the runner that is not called a system failure.
func misconfigured(format string, args ...any) error {
	return &failure{reason: "runner_system_failure", err: fmt.Errorf(format, args...)}
}

// stage is a script for the container or shell that is to run it.
type stage struct {
	name, title, script string
	helper              bool
}

type executor interface {
	// describe is what the log says before anything happens.
	describe() []string
	// prepare may fail for reasons that pass; it is tried three times.
	prepare(ctx context.Context) error
	// run runs one script to its end, its output goes to the log.
	run(ctx context.Context, stage stage) error
	// root is the folder for sources.
	root() string
	cleanup()
}

func (s *service) runJob(jobs context.Context, entry *runner, peer *client, payload *job) string {
	ctx, abort := context.WithCancelCause(jobs)
	defer abort(nil)
	log := newTrace(peer, payload, abort)
	if err := log.start(ctx); err != nil {
		logLine("warning", "Job was not started", fields{"job": payload.ID, "status": err})
		return "canceled"
	}
	timeout := time.Duration(payload.RunnerInfo.Timeout) * time.Second
	limited, release := context.WithTimeoutCause(ctx, timeout, &failure{
		reason: "job_execution_timeout", err: fmt.Errorf("execution took longer than %s seconds", timeout),
	})
	defer release()
	err := s.play(limited, entry, payload, log)
	if cause := context.Cause(limited); cause != nil && err != nil {
		err = cause
	}
	if err == nil {
		log.note("32;1m", "Job succeeded")
		log.finish("success", map[string]any{"exit_code": 0})
		return "success"
	}
	more := map[string]any{}
	var known *failure
	if errors.As(err, &known) {
		log.note("31;1m", "ERROR: Job failed: "+err.Error())
		more["failure_reason"] = known.reason
		if known.reason == "script_failure" {
			more["exit_code"] = known.code
		}
	} else {
		log.note("31;1m", "ERROR: Job failed (system failure): "+err.Error())
		more["failure_reason"] = "runner_system_failure"
	}
	if !slices.Contains(payload.Features.FailureReasons, more["failure_reason"].(string)) {
		more["failure_reason"] = "runner_system_failure"
		if known != nil && known.reason == "script_failure" {
			more["failure_reason"] = known.reason
		}
	}
	log.finish("failed", more)
	return "failed"
}

func section(log *trace, sections bool, name, title string, inside func() error) error {
	if sections {
		fmt.Fprintf(log, "section_start:%d:%s\r\x1b[0K", time.Now().Unix(), name)
	}
	log.note("0K\x1b[36;1m", title)
	err := inside()
	if sections {
		fmt.Fprintf(log, "section_end:%d:%s\r\x1b[0K", time.Now().Unix(), name)
	}
	return err
}

func (s *service) play(ctx context.Context, entry *runner, payload *job, log *trace) error {
	log.note("0K", fmt.Sprintf("Running with gitlab-runner %s (%s)", version, revision))
	log.note("0K", fmt.Sprintf("  on %s %s, system ID: %s", entry.Name, short(entry.Token), s.system))
	if len(payload.Services)+len(payload.Artifacts)+len(payload.Cache) > 0 {
		return misconfigured("this stand-in has no services, artifacts and caches")
	}
	if names := refused(entry); len(names) > 0 {
		return misconfigured("this stand-in does not know the settings %s", strings.Join(names, ", "))
	}
	sections := payload.Features.TraceSections
	var runs executor
	err := section(log, sections, "prepare_executor",
		fmt.Sprintf("Preparing the %q executor", entry.Executor), func() (err error) {
			if entry.Executor == "shell" {
				runs = newShell(s, entry, payload, log)
			} else if runs, err = newPod(entry, payload, log); err != nil {
				return err
			}
			for _, line := range runs.describe() {
				log.note("0K", line)
			}
			return prepareWithRetries(ctx, runs, log)
		})
	if runs != nil {
		defer runs.cleanup()
	}
	if err != nil {
		return err
	}
	return playStages(ctx, payload, runs, log)
}

func prepareWithRetries(ctx context.Context, runs executor, log *trace) error {
	for try := 1; ; try++ {
		err := runs.prepare(ctx)
		if err == nil || try == 3 || errors.As(err, new(*failure)) || ctx.Err() != nil {
			return err
		}
		log.note("31;1m", "ERROR: Preparation failed: "+err.Error())
		log.note("0K", "Will be retried in 3s ...")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(3 * time.Second):
		}
	}
}

func playStages(ctx context.Context, payload *job, runs executor, log *trace) error {
	host, _ := os.Hostname()
	folder := path.Join(runs.root(), path.Clean("/"+payload.value("CI_PROJECT_PATH")))
	run := func(ctx context.Context, one stage) error {
		one.script = prelude(payload, folder) + one.script
		return section(log, payload.Features.TraceSections, one.name, one.title, func() error {
			return runs.run(ctx, one)
		})
	}
	err := run(ctx, stage{
		name: "prepare_script", title: "Preparing environment", helper: true,
		script: "printf 'Running on %s via %s...\\n' \"$(hostname)\" " + quote(host) + "\n",
	})
	if err != nil {
		var known *failure
		if errors.As(err, &known) {
			return &failure{known.reason, fmt.Errorf("prepare environment: %w", known.err), known.code}
		}
		return fmt.Errorf("prepare environment: %w. Check https://docs.gitlab.com/runner/shells/"+
			"#shell-profile-loading for more information", err)
	}
	sources := "echo 'Skipping Git repository setup'\necho 'Skipping Git checkout'\n"
	if strategy := payload.value("GIT_STRATEGY"); strategy != "none" && strategy != "empty" {
		sources = "echo 'This stand-in has no git: the folder for the sources stays empty'\n"
	}
	err = run(ctx, stage{
		name: "get_sources", title: "Getting source from Git repository", helper: true,
		script: "mkdir -p " + quote(folder) + "\nchmod 777 " + quote(folder) + "\n" + sources,
	})
	for _, step := range payload.Steps {
		wanted := step.When == "always" || (step.When == "on_failure") == (err != nil)
		if !wanted || ctx.Err() != nil {
			continue
		}
		name := step.Name
		if name == "script" {
			name = "step_script"
		}
		failed := run(ctx, stage{
			name: name, title: fmt.Sprintf("Executing %q stage of the job script", name),
			script: "cd " + quote(folder) + "\n" + stepScript(step.Script),
		})
		if failed != nil && step.Name == "after_script" {
			log.note("0;33m", "WARNING: after_script failed, but job will continue unaffected: "+failed.Error())
		} else if err == nil {
			err = failed
		}
	}
	if ctx.Err() == nil {
		cleaned := run(ctx, stage{
			name: "cleanup_file_variables", title: "Cleaning up project directory and file based variables",
			helper: true, script: "rm -rf " + quote(folder+".tmp") + "\n",
		})
		if err == nil && cleaned != nil {
			err = cleaned
		}
	}
	return err
}

// prelude sets the variables of a job.
func prelude(payload *job, folder string) string {
	var text strings.Builder
	text.WriteString("set -e\n(set -o pipefail) 2>/dev/null && set -o pipefail\n")
	set := func(key, value string) { fmt.Fprintf(&text, "export %s=%s\n", key, quote(value)) }
	set("CI_PROJECT_DIR", folder)
	for _, variable := range payload.Variables {
		if !identifier(variable.Key) {
			continue
		}
		if !variable.File {
			set(variable.Key, variable.Value)
			continue
		}
		file := path.Join(folder+".tmp", variable.Key)
		fmt.Fprintf(&text, "mkdir -p %s\n[ -e %s ] || printf %%s %s >%s\n",
			quote(folder+".tmp"), quote(file), quote(variable.Value), quote(file))
		set(variable.Key, file)
	}
	return text.String()
}

// stepScript shows each command before it runs.
func stepScript(commands []string) string {
	var text strings.Builder
	for _, command := range commands {
		shown, _, more := strings.Cut(strings.TrimSpace(command), "\n")
		if more {
			shown += " # collapsed multi-line command"
		}
		fmt.Fprintf(&text, "printf '%%s\\n' %s\n%s\n", quote("\x1b[32;1m$ "+shown+"\x1b[0;m"), command)
	}
	return text.String()
}

func identifier(name string) bool {
	for i, letter := range name {
		digit := letter >= '0' && letter <= '9'
		if letter != '_' && (letter < 'A' || letter > 'Z') && (letter < 'a' || letter > 'z') && (!digit || i == 0) {
			return false
		}
	}
	return name != ""
}

// quote makes one word of the shell.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
