// The service commands: gitlab-runner installs itself as a systemd unit and starts it.

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	if *more["user"] == "" && *more["init-user"] == "" {
		return errors.New("Please specify user that will run gitlab-runner service")
	}
	if *more["user"] != "" && *more["init-user"] != "" {
		return errors.New("Only one of 'user' or 'init-user' can be specified.")
	}
	if err := firstConfig(*more["config"]); err != nil {
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

// firstConfig writes config.toml where there is none, before the service is installed. One that cannot be
// loaded ends the installation. (Like the real one, it looks at the path of --config, or the default path,
// whatever --init-user says.)
func firstConfig(path string) error {
	if _, err := os.Stat(path); err == nil {
		_, _, err := loadConfig(path)
		return err
	}
	text := "concurrent = 1\ncheck_interval = 0\nshutdown_timeout = 0\n\n[session_server]\n  session_timeout = 1800\n"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
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
