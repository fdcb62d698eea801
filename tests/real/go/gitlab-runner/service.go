// The service commands, by the library that also the real one manages its systemd unit with.

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kardianos/service"
)

// program is what the library starts when it runs a service itself, which it never does here.
type program struct{}

func (program) Start(service.Service) error { return nil }
func (program) Stop(service.Service) error  { return nil }

func unit(name string, arguments []string, user string) (service.Service, error) {
	return service.New(program{}, &service.Config{
		Name: name, DisplayName: name, Description: "GitLab Runner", Arguments: append([]string{"run"}, arguments...),
		UserName: user, Dependencies: []string{"After=network.target"},
		Option: service.KeyValue{"Restart": "always"},
	})
}

func installCommand(args []string) error {
	set := newOptions("install")
	config, name := set.config(), set.text("gitlab-runner", "service", "n")
	here, _ := os.Getwd()
	folder := set.text(here, "working-directory", "d")
	user, initUser := set.text("", "user", "u"), set.text("", "init-user", "i")
	if err := set.parse(args); err != nil {
		return err
	}
	if *user != "" && *initUser != "" {
		return errors.New("Only one of 'user' or 'init-user' can be specified.")
	}
	if *user == "" && *initUser == "" {
		return errors.New("Please specify user that will run gitlab-runner service")
	}
	path := *config
	if *initUser != "" && !given(set, "config", "c") {
		path = filepath.Join("/home", *initUser, "config.toml")
	}
	arguments := []string{"--config", path, "--working-directory", *folder, "--service", *name}
	if *user != "" {
		arguments = append(arguments, "--user", *user)
	}
	installed, err := unit(*name, arguments, *initUser)
	if err != nil {
		return err
	}
	// Like the real one, it looks at --config or the default path, whatever --init-user says.
	if err := firstConfig(*config); err != nil {
		return err
	}
	return service.Control(installed, "install")
}

func given(set options, names ...string) bool {
	for _, name := range names {
		if flag := set.Lookup(name); flag != nil && flag.Value.String() != flag.DefValue {
			return true
		}
	}
	return false
}

// firstConfig writes config.toml where there is none, before the service is installed. One that cannot be loaded
// ends the installation.
func firstConfig(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		_, err := loadConfig(path)
		return err
	}
	text := "concurrent = 1\ncheck_interval = 0\nshutdown_timeout = 0\n\n[session_server]\n  session_timeout = 1800\n"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// serviceCommand is a command that takes nothing but the service's name.
func serviceCommand(do func(service.Service, string) error) func([]string) error {
	return func(args []string) error {
		set := newOptions("service")
		name := set.text("gitlab-runner", "service", "n")
		if err := set.parse(args); err != nil {
			return err
		}
		installed, err := unit(*name, nil, "")
		if err != nil {
			return err
		}
		return do(installed, *name)
	}
}

func control(action string) func(service.Service, string) error {
	return func(installed service.Service, _ string) error { return service.Control(installed, action) }
}

func uninstall(installed service.Service, _ string) error {
	return service.Control(installed, "uninstall")
}

func status(installed service.Service, name string) error {
	state, err := installed.Status()
	switch {
	case state == service.StatusRunning:
		fmt.Printf("%s: Service is running\n", name)
		return nil
	case state == service.StatusStopped:
		fmt.Fprintf(os.Stderr, "%s: Service has stopped\n", name)
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	default:
		fmt.Fprintf(os.Stderr, "%s: Service status unknown\n", name)
	}
	return errSaid
}
