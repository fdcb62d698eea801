// config.toml as a file: how gitlab-runner loads, checks and rewrites it, and the machine's own name that
// it keeps beside it.

package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

var errNotText = errors.New("expected a string or an array of strings")

func newConfig() *config {
	return &config{Concurrent: 1, SessionServer: sessionServer{SessionTimeout: 1800}}
}

func defaultConfigPath() string {
	if os.Geteuid() == 0 {
		return "/etc/gitlab-runner/config.toml"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "config.toml"
	}
	return filepath.Join(home, ".gitlab-runner", "config.toml")
}

// loadConfig reads a file; keys that nobody knows are ignored, as the real one does.
func loadConfig(path string) (*config, []string, error) {
	loaded := newConfig()
	meta, err := toml.DecodeFile(path, loaded)
	if err != nil {
		return nil, nil, err
	}
	if loaded.Concurrent == 0 {
		return nil, nil, errors.New("concurrent must be at least 1")
	}
	var unknown []string
	for _, key := range meta.Undecoded() {
		unknown = append(unknown, key.String())
	}
	for i, entry := range loaded.Runners {
		if entry.URL == "" || entry.Token == "" || entry.Executor == "" {
			return nil, nil, fmt.Errorf("runners.%d: url, token and executor are required", i)
		}
	}
	return loaded, unknown, nil
}

// loadIfPresent is loadConfig, where a missing file is an empty one.
func loadIfPresent(path string) (*config, error) {
	loaded, _, err := loadConfig(path)
	if errors.Is(err, os.ErrNotExist) {
		return newConfig(), nil
	}
	return loaded, err
}

// save writes the file from what was loaded: comments and unknown keys are lost.
func (c *config) save(path string) error {
	if c.ConnectionMaxAge == nil {
		age := 15 * time.Minute
		c.ConnectionMaxAge = &age
	}
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(c); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return err
	}
	// The mode above is only for files that were not there.
	return os.Chmod(path, 0o600)
}

func (c *config) find(matches func(*runner) bool) *runner {
	for _, entry := range c.Runners {
		if matches(entry) {
			return entry
		}
	}
	return nil
}

var systemIDPattern = regexp.MustCompile(`^[sr]_[0-9a-zA-Z]{12}$`)

// systemID is the machine's name for GitLab: from its machine-id, or by chance, and always the same.
func systemID(configPath string) (string, error) {
	path := filepath.Join(filepath.Dir(configPath), ".runner_system_id")
	known, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("loading system ID file: %w", err)
	}
	if id := strings.TrimSpace(string(known)); systemIDPattern.MatchString(id) {
		return id, nil
	}
	id := "r_" + strings.ToLower(rand.Text())[:12]
	if machine, err := os.ReadFile("/etc/machine-id"); err == nil && len(bytes.TrimSpace(machine)) > 0 {
		sum := hmac.New(sha256.New, bytes.TrimSpace(machine))
		sum.Write([]byte("gitlab-runner"))
		id = "s_" + hex.EncodeToString(sum.Sum(nil))[:12]
	}
	if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
		err = os.WriteFile(path, []byte(id), 0o600)
	}
	if err != nil {
		logLine("warning", "Couldn't save new system ID on state file. "+err.Error(),
			fields{"state_file": path, "system_id": id})
	}
	return id, nil
}
