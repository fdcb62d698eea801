// The service commands: gitlab-runner installs itself as a systemd unit and starts it.

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

const unitFolder = "/etc/systemd/system/"

func serviceFlags(command string, args []string) (name string, more map[string]*string, err error) {
	set := flags(command)
	for _, flag := range []string{"service", "n"} {
		set.StringVar(&name, flag, "gitlab-runner", "")
	}
	more = map[string]*string{}
	if command == "install" {
		more["config"] = configFlag(set)
		home, _ := os.Getwd()
		for flag, also := range map[string]string{"working-directory": "d", "user": "u", "init-user": ""} {
			fallback := ""
			if flag == "working-directory" {
				fallback = home
			}
			more[flag] = set.String(flag, fallback, "")
			if also != "" {
				set.StringVar(more[flag], also, fallback, "")
			}
		}
	}
	return name, more, parse(set, args)
}

func systemctl(args ...string) error {
	if _, err := exec.LookPath("systemctl"); err != nil {
		return errors.New("this stand-in knows no service manager but systemd")
	}
	output, err := exec.Command("systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}

// unit is the file; the arguments stand in double quotes, as the real one writes them.
func unit(name, executable string, more map[string]*string) string {
	arguments := []string{"run", "--config", *more["config"]}
	arguments = append(arguments, "--working-directory", *more["working-directory"], "--service", name)
	user := ""
	switch {
	case *more["init-user"] != "":
		user = "User=" + *more["init-user"] + "\n"
	case *more["user"] != "":
		arguments = append(arguments, "--user", *more["user"])
	}
	for i, argument := range arguments {
		arguments[i] = fmt.Sprintf("%q", argument)
	}
	return fmt.Sprintf(`[Unit]
Description=GitLab Runner
ConditionFileIsExecutable=%s
After=network.target

[Service]
StartLimitInterval=5
StartLimitBurst=10
ExecStart=%s %s
%sRestart=always
RestartSec=120
EnvironmentFile=-/etc/sysconfig/gitlab-runner

[Install]
WantedBy=multi-user.target
`, executable, executable, strings.Join(arguments, " "), user)
}

func installCommand(args []string) error {
	name, more, err := serviceFlags("install", args)
	if err != nil {
		return err
	}
	path := unitFolder + name + ".service"
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("init already exists: %s", path)
	}
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(unit(name, executable, more)), 0o644); err != nil {
		return err
	}
	if err := systemctl("enable", name+".service"); err != nil {
		return err
	}
	return systemctl("daemon-reload")
}

func uninstallCommand(args []string) error {
	name, _, err := serviceFlags("uninstall", args)
	if err != nil {
		return err
	}
	if err := systemctl("disable", name+".service"); err != nil {
		return err
	}
	if err := os.Remove(unitFolder + name + ".service"); err != nil {
		return err
	}
	return systemctl("daemon-reload")
}

func systemctlCommand(verb string) func([]string) error {
	return func(args []string) error {
		name, _, err := serviceFlags(verb, args)
		if err != nil {
			return err
		}
		return systemctl(verb, name+".service")
	}
}

func statusCommand(args []string) error {
	name, _, err := serviceFlags("status", args)
	if err != nil {
		return err
	}
	if err := systemctl("is-active", "--quiet", name+".service"); err != nil {
		fmt.Printf("%s: Service is not running\n", name)
		return errSaid
	}
	fmt.Printf("%s: Service is running\n", name)
	return nil
}
