// The command run: a service that asks for jobs, watches config.toml, and ends by signals.

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const interval = 3 * time.Second

func runCommand(args []string) error {
	set := newOptions("run")
	config, folder := set.config(), set.text("", "working-directory", "d")
	// Jobs of the shell executor run as this user, and there are none.
	set.text("", "user", "u")
	set.text("", "service", "n")
	if err := set.parse(args); err != nil {
		return err
	}
	path, err := filepath.Abs(*config)
	if err != nil {
		return err
	}
	if *folder != "" {
		if err := os.Chdir(*folder); err != nil {
			return err
		}
	}
	logLine("info", "Starting multi-runner from "+path+"...", fields{"builds": 0, "max_builds": 0})
	system, err := systemID(path)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	runners, modified := []*runner(nil), time.Time{}
	for {
		runners, modified = reload(path, runners, modified)
		for _, entry := range runners {
			ask(entry, system)
		}
		select {
		case received := <-signals:
			logLine("warning", "[runWait] received stop signal", fields{"builds": 0, "max_builds": 1, "stop-signal": received})
			logLine("info", "All workers stopped.", fields{"builds": 0, "max_builds": 1})
			return nil
		case <-time.After(interval):
		}
	}
}

// reload reads the file if it is newer than what was read, and keeps what was read if it is not good.
func reload(path string, runners []*runner, modified time.Time) ([]*runner, time.Time) {
	status, err := os.Stat(path)
	if err != nil {
		logLine("error", fmt.Sprint("Failed to load config ", err), fields{"builds": 0, "max_builds": 1})
		return runners, modified
	}
	if !status.ModTime().After(modified) {
		return runners, modified
	}
	loaded, err := loadConfig(path)
	if err != nil {
		logLine("error", fmt.Sprint("Failed to load config ", err), fields{"builds": 0, "max_builds": 1})
		return runners, status.ModTime()
	}
	logLine("info", "Configuration loaded", fields{"builds": 0, "max_builds": loaded.Concurrent})
	return loaded.Runners, status.ModTime()
}

// ask requests a job, which this stand-in cannot run: it leaves it, and says so.
func ask(entry *runner, system string) {
	about := fields{"runner": short(entry.Token)}
	body := map[string]any{"token": entry.Token, "system_id": system, "info": info(entry)}
	answer, err := send(entry, "jobs/request", body, about)
	switch {
	case err != nil:
		about["status"] = err
		logLine("warning", "Checking for jobs... failed", about)
	case answer.status == http.StatusCreated:
		logLine("error", "This stand-in runs no jobs", about)
	case answer.status == http.StatusForbidden:
		about["status"] = answer.text
		logLine("error", "Checking for jobs... forbidden", about)
	}
}
