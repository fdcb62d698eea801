// config.toml as a file, and the machine's own name that is kept beside it.

package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// config is what this stand-in acts upon. Other keys are not looked at.
type config struct {
	Concurrent    int       `toml:"concurrent"`
	CheckInterval int       `toml:"check_interval"`
	Runners       []*runner `toml:"runners"`
}

// runner is one [[runners]].
type runner struct {
	Name      string `toml:"name"`
	URL       string `toml:"url"`
	Token     string `toml:"token"`
	TLSCAFile string `toml:"tls-ca-file"`
	Executor  string `toml:"executor"`
}

// loadConfig reads a file; one that is not there is empty.
func loadConfig(path string) (*config, error) {
	loaded := &config{Concurrent: 1}
	if _, err := toml.DecodeFile(path, loaded); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("decoding configuration file: %w", err)
	}
	return loaded, nil
}

var systemIDPattern = regexp.MustCompile(`^[sr]_[0-9a-zA-Z]{12}$`)

// systemID is the machine's name for GitLab: from its machine-id, or by chance, and always the same. That it cannot
// be kept is no error.
func systemID(configPath string) (string, error) {
	path := filepath.Join(filepath.Dir(configPath), ".runner_system_id")
	known, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
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
	} else {
		logLine("info", "Created missing unique system ID", fields{"system_id": id})
	}
	return id, nil
}
