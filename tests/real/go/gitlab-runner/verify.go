// The commands that look after config.toml: list and verify.

package main

import (
	"errors"
	"net/http"
)

func listCommand(args []string) error {
	set := newOptions("list")
	path := set.config()
	if err := set.parse(args); err != nil {
		return err
	}
	loaded, err := loadConfig(*path)
	if err != nil {
		// No error: whoever asks has to look at the words.
		logLine("warning", err.Error(), nil)
		return nil
	}
	if _, err := systemID(*path); err != nil {
		return err
	}
	logLine("info", "Listing configured runners", fields{"ConfigFile": *path})
	for _, entry := range loaded.Runners {
		logLine("info", entry.Name, fields{"Executor": entry.Executor, "Token": entry.Token, "URL": entry.URL})
	}
	return nil
}

func verifyCommand(args []string) error {
	set := newOptions("verify")
	path, name := set.config(), set.text("", "name", "n")
	if err := set.parse(args); err != nil {
		return err
	}
	logLine("info", "Running in system-mode.", nil)
	logLine("info", "", nil)
	loaded, err := loadConfig(*path)
	if err != nil {
		return err
	}
	system, err := systemID(*path)
	if err != nil {
		return err
	}
	checked, refused := 0, 0
	for _, entry := range loaded.Runners {
		if *name != "" && entry.Name != *name {
			continue
		}
		checked++
		if !verify(entry, system) {
			refused++
		}
	}
	if *name != "" && checked == 0 {
		return errors.New("mutate config: no runner matches the filtering parameters")
	}
	if refused > 0 {
		return errors.New("Failed to verify runners")
	}
	return nil
}

// verify asks GitLab for its verdict and says it. Only a refusal counts as one: that nobody was reached does not.
func verify(entry *runner, system string) bool {
	about := fields{"runner": short(entry.Token), "runner_name": entry.Name}
	body := map[string]any{"token": entry.Token, "system_id": system, "info": info(entry)}
	answer, err := send(entry, "runners/verify", body, about)
	switch {
	case err != nil:
		about["status"] = err
		logLine("error", "Verifying runner... failed", about)
	case answer.status == http.StatusOK:
		logLine("info", "Verifying runner... is valid", about)
	case answer.status == http.StatusForbidden:
		logLine("info", "Verifying runner... is not valid", about)
		return false
	default:
		about["status"] = answer.text
		logLine("error", "Verifying runner... failed", about)
	}
	return true
}
