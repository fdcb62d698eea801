// The shell executor: the job's script in a shell of this machine, as the user of the service.

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

type shell struct {
	service *service
	job     *job
	log     *trace
	builds  string
}

func newShell(s *service, entry *runner, payload *job, log *trace) *shell {
	builds := entry.BuildsDir
	if builds == "" {
		builds = filepath.Join(s.folder, "builds")
	}
	return &shell{s, payload, log, path.Join(builds, short(entry.Token), "0")}
}

func (s *shell) describe() []string            { return []string{"Using Shell (sh) executor..."} }
func (s *shell) prepare(context.Context) error { return nil }
func (s *shell) root() string                  { return s.builds }
func (s *shell) cleanup()                      {}

func (s *shell) run(ctx context.Context, stage stage) error {
	// Read to its end before it begins, so that no command can eat the rest of the script.
	const whole = `script=$(cat) && eval "$script" </dev/null`
	command := exec.CommandContext(ctx, "sh", "-c", whole)
	if os.Geteuid() == 0 && s.service.user != "" {
		command = exec.CommandContext(ctx, "su", "-s", "/bin/sh", s.service.user, "-c", whole)
	}
	command.Stdin = strings.NewReader(stage.script)
	command.Stdout, command.Stderr = s.log.stream(stdoutStream), s.log.stream(stderrStream)
	command.Dir = s.service.folder
	// The whole group ends, not only the shell.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	err := command.Run()
	var exited *exec.ExitError
	if errors.As(err, &exited) && exited.Exited() {
		return scriptFailed(exited.ExitCode(), fmt.Sprintf("exit status %d", exited.ExitCode()))
	}
	return err
}
