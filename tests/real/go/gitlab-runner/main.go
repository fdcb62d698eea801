// Command gitlab-runner stands in for GitLab's runner of the same name in tests: it has the commands that a
// launch script and a package need, asks GitLab for jobs, and runs them in pods by client-go, with the
// same requests in the same order, or in a shell. What it does not do, it refuses.
//
// This file stands in for the command line.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
)

// version is set by the build: other versions of the real one have other commands and settings.
var version = "19.4.1"

const revision = "d79f3e7b"

var commands = map[string]func(args []string) error{
	"run":        runCommand,
	"register":   registerCommand,
	"verify":     verifyCommand,
	"unregister": unregisterCommand,
	"list":       listCommand,
	"lint":       lintCommand,
	"install":    installCommand,
	"uninstall":  uninstallCommand,
	"start":      systemctlCommand("start"),
	"stop":       systemctlCommand("stop"),
	"restart":    systemctlCommand("restart"),
	"status":     statusCommand,
}

// atLeast says whether this version has what the real one has since then.
func atLeast(major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	ours, errMajor := strconv.Atoi(parts[0])
	also, errMinor := strconv.Atoi(parts[1])
	return errMajor == nil && errMinor == nil && (ours > major || ours == major && also >= minor)
}

func main() {
	os.Exit(execute(os.Args[1:]))
}

func execute(args []string) int {
	global := flags("gitlab-runner")
	format := global.String("log-format", "runner", "")
	global.String("log-level", "info", "")
	global.Bool("debug", false, "")
	showVersion := global.Bool("version", false, "")
	global.BoolVar(showVersion, "v", false, "")
	if err := global.Parse(args); err != nil {
		return failed(err)
	}
	logFormat.Store(*format)
	if *showVersion {
		printVersion()
		return 0
	}
	if global.NArg() == 0 {
		names := make([]string, 0, len(commands))
		for name := range commands {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Printf("usage: gitlab-runner COMMAND [OPTION...]\ncommands: %s\n", strings.Join(names, " "))
		return 0
	}
	command, known := commands[global.Arg(0)]
	if !known || global.Arg(0) == "lint" && !atLeast(19, 3) {
		return failed(fmt.Errorf("no such command: %s", global.Arg(0)))
	}
	if err := command(global.Args()[1:]); err != nil {
		return failed(err)
	}
	return 0
}

func failed(err error) int {
	if !errors.Is(err, errSaid) {
		logLine("fatal", err.Error(), nil)
	}
	return 1
}

func printVersion() {
	fmt.Printf("Version:      %s\nGit revision: %s\nGit branch:   stand-in\nGO version:   %s\n",
		version, revision, runtime.Version())
	fmt.Printf("Built:        2026-11-01T00:00:00+0000\nOS/Arch:      %s/%s\n", runtime.GOOS, runtime.GOARCH)
}

func flags(name string) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(os.Stderr)
	return set
}

func configFlag(set *flag.FlagSet) *string {
	path := os.Getenv("CONFIG_FILE")
	if path == "" {
		path = defaultConfigPath()
	}
	file := set.String("config", path, "")
	set.StringVar(file, "c", path, "")
	return file
}

// parse refuses what is left over.
func parse(set *flag.FlagSet, args []string) error {
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("unexpected argument: %s", set.Arg(0))
	}
	return nil
}
