// The commands that look after config.toml without running jobs: verify, list, lint, unregister.

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// selector is how these commands name a runner.
type selector struct{ name, url, token string }

func selectorFlags(args []string, command string) (path string, wanted selector, more map[string]*bool, err error) {
	set := flags(command)
	file := configFlag(set)
	for _, name := range []string{"name", "n"} {
		set.StringVar(&wanted.name, name, "", "")
	}
	for _, name := range []string{"url", "u"} {
		set.StringVar(&wanted.url, name, "", "")
	}
	for _, name := range []string{"token", "t"} {
		set.StringVar(&wanted.token, name, "", "")
	}
	more = map[string]*bool{"delete": set.Bool("delete", false, ""), "all-runners": set.Bool("all-runners", false, "")}
	err = parse(set, args)
	return *file, wanted, more, err
}

func (s selector) given() bool { return s != selector{} }

func (s selector) matches(r *runner) bool {
	return s.name != "" && r.Name == s.name || s.url == r.URL && s.token == r.Token
}

func verifyCommand(args []string) error {
	path, wanted, more, err := selectorFlags(args, "verify")
	if err != nil {
		return err
	}
	loaded, _, err := loadConfig(path)
	if err != nil {
		return err
	}
	system, err := systemID(path)
	if err != nil {
		return err
	}
	var kept []*runner
	checked := 0
	for _, entry := range loaded.Runners {
		if wanted.given() && !wanted.matches(entry) {
			kept = append(kept, entry)
			continue
		}
		checked++
		peer, err := newClient(entry, path, system)
		if err != nil {
			logLine("error", "Verifying runner... failed", fields{"runner": short(entry.Token), "status": err})
			kept = append(kept, entry)
			continue
		}
		if verdict, _ := peer.verify(context.Background()); verdict != removed {
			kept = append(kept, entry)
		}
	}
	if wanted.given() && checked == 0 {
		return errors.New("no runner matches the filtering parameters")
	}
	if len(kept) == len(loaded.Runners) {
		return nil
	}
	if !*more["delete"] {
		return errors.New("failed to verify runners")
	}
	loaded.Runners = kept
	logLine("info", "Updated "+path, nil)
	return loaded.save(path)
}

func listCommand(args []string) error {
	path, _, _, err := selectorFlags(args, "list")
	if err != nil {
		return err
	}
	loaded, err := loadIfPresent(path)
	if err != nil {
		// No error: whoever asks has to look at the words.
		logLine("warning", err.Error(), nil)
		return nil
	}
	if _, err := systemID(path); err != nil {
		return err
	}
	logLine("info", "Listing configured runners", fields{"ConfigFile": path})
	for _, entry := range loaded.Runners {
		logLine("info", entry.Name, fields{"Executor": entry.Executor, "Token": entry.Token, "URL": entry.URL})
	}
	return nil
}

func lintCommand(args []string) error {
	path, _, _, err := selectorFlags(args, "lint")
	if err != nil {
		return err
	}
	loaded, unknown, err := loadConfig(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(unknown) > 0 {
		return fmt.Errorf("%s: unknown keys: %s", path, strings.Join(unknown, ", "))
	}
	logLine("info", "Configuration is valid", fields{"runners": len(loaded.Runners)})
	return nil
}

func unregisterCommand(args []string) error {
	path, wanted, more, err := selectorFlags(args, "unregister")
	if err != nil {
		return err
	}
	if *more["all-runners"] {
		return errors.New("this stand-in unregisters one runner at a time")
	}
	if !wanted.given() {
		return errors.New("at least one of --name and --token is needed")
	}
	loaded, _, err := loadConfig(path)
	if err != nil {
		return err
	}
	entry := loaded.find(func(r *runner) bool {
		return wanted.name != "" && r.Name == wanted.name || wanted.name == "" && r.Token == wanted.token
	})
	if entry == nil {
		return errors.New("no runner matches the filtering parameters")
	}
	if err := unregister(entry, path); err != nil {
		logLine("error", "Unregistering runner from GitLab failed",
			fields{"runner": short(entry.Token), "status": err})
		return fmt.Errorf("failed to unregister runner %s", entry.Name)
	}
	logLine("info", "Unregistering runner manager from GitLab succeeded", fields{"runner": short(entry.Token)})
	var kept []*runner
	for _, other := range loaded.Runners {
		if other != entry {
			kept = append(kept, other)
		}
	}
	loaded.Runners = kept
	logLine("info", "Updated "+path, nil)
	return loaded.save(path)
}

// unregister takes this machine from its runner, or a runner of the old kind as a whole.
func unregister(entry *runner, path string) error {
	system, err := systemID(path)
	if err != nil {
		return err
	}
	peer, err := newClient(entry, path, system)
	if err != nil {
		return err
	}
	target, body := "runners", map[string]any{"token": peer.token}
	if strings.HasPrefix(peer.token, "glrt-") {
		target, body["system_id"] = "runners/managers", system
	}
	answer, err := peer.send(context.Background(), http.MethodDelete, target, body)
	if err == nil && answer.status != http.StatusNoContent {
		err = errors.New(answer.statusText())
	}
	return err
}
