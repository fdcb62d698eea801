// Command gitlab-runner stands in for GitLab's runner of the same name where the real one cannot be had: it plays
// versions before 19.3, which have no `lint`. It has what a package and a launch script need of such a version
// (--version, list, verify, the service commands, run) and runs no jobs: those are the real one's. What both have
// is compared by the trial `bed_runners_agree`.
//
// This file is the command line.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
)

// version is set by the build.
var version = "17.9.0"

const revision = "d79f3e7b"

var commands = map[string]func(args []string) error{
	"run":       runCommand,
	"verify":    verifyCommand,
	"list":      listCommand,
	"install":   installCommand,
	"uninstall": serviceCommand(uninstall),
	"start":     serviceCommand(control("start")),
	"stop":      serviceCommand(control("stop")),
	"restart":   serviceCommand(control("restart")),
	"status":    serviceCommand(status),
}

func main() {
	os.Exit(execute(os.Args[1:]))
}

func execute(args []string) int {
	if len(args) == 1 && (args[0] == "--version" || args[0] == "-v") {
		fmt.Printf("Version:      %s\nGit revision: %s\nGit branch:   stand-in\nGO version:   %s\n",
			version, revision, runtime.Version())
		fmt.Printf("Built:        \nOS/Arch:      %s/%s\n", runtime.GOOS, runtime.GOARCH)
		return 0
	}
	if len(args) == 0 {
		fmt.Println("usage: gitlab-runner COMMAND [OPTION...]")
		return 0
	}
	logLine("info", "Runtime platform", fields{"arch": runtime.GOARCH, "os": runtime.GOOS, "pid": os.Getpid(),
		"revision": revision, "version": version})
	command, known := commands[args[0]]
	if !known {
		return failed(fmt.Errorf("Command %s not found.", args[0]))
	}
	if err := command(args[1:]); err != nil {
		return failed(err)
	}
	return 0
}

// errSaid ends a command whose error was said already.
var errSaid = errors.New("")

func failed(err error) int {
	if !errors.Is(err, errSaid) {
		logLine("fatal", err.Error(), nil)
	}
	return 1
}

// options are the flags of one command, each under all its names.
type options struct{ *flag.FlagSet }

func newOptions(command string) options {
	set := flag.NewFlagSet(command, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	return options{set}
}

func (o options) text(fallback string, names ...string) *string {
	value := fallback
	for _, name := range names {
		o.StringVar(&value, name, fallback, "")
	}
	return &value
}

func (o options) config() *string {
	path := os.Getenv("CONFIG_FILE")
	if path == "" {
		path = "/etc/gitlab-runner/config.toml"
	}
	return o.text(path, "config", "c")
}

// parse refuses what is left over.
func (o options) parse(args []string) error {
	if err := o.Parse(args); err != nil {
		return err
	}
	if o.NArg() > 0 {
		return fmt.Errorf("unexpected argument: %s", o.Arg(0))
	}
	return nil
}
