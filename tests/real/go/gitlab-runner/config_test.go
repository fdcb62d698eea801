// What must hold of config.toml: loading, checking and rewriting it.

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const sample = `# ours
concurrent = 4
[[runners]]
  name = "acme" # a comment
  url = "https://gitlab.test"
  token = "glrt-t3_abcdefghijkl"
  executor = "kubernetes"
  [runners.kubernetes]
    host = "https://k.test"
    pull_policy = "if-not-present"
    automount_service_account_token = false
    [runners.kubernetes.pod_security_context.seccomp_profile]
      type = "RuntimeDefault"
    [[runners.kubernetes.volumes.empty_dir]]
      name = "tmp"
      mount_path = "/tmp"
[[runners]]
  name = "foreign"
  url = "https://gitlab.test"
  token = "glrt-other"
  executor = "docker"
  [runners.docker]
    image = "alpine"
    volumes = ["/cache"]
`

func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAFileIsRewrittenWithoutCommentsButWithAllSettings(t *testing.T) {
	path := written(t, sample)
	loaded, unknown, err := loadConfig(path)
	if err != nil || len(unknown) > 0 {
		t.Fatal(err, unknown)
	}
	expires := time.Now().Add(time.Hour)
	credentials{ID: 7, Token: "glrt-new", Expires: &expires}.apply(loaded.Runners[0])
	if err := loaded.save(path); err != nil {
		t.Fatal(err)
	}
	status, _ := os.Stat(path)
	text, _ := os.ReadFile(path)
	if status.Mode().Perm() != 0o600 || strings.Contains(string(text), "#") {
		t.Errorf("%s\n%s", status.Mode(), text)
	}
	for _, line := range []string{
		"concurrent = 4", "  id = 7", `  token = "glrt-new"`, "automount_service_account_token = false",
		`pull_policy = ["if-not-present"]`, "[runners.kubernetes.dns_config]", `volumes = ["/cache"]`,
		"[[runners.kubernetes.volumes.empty_dir]]", "[session_server]",
	} {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	if _, unknown, err = loadConfig(path); err != nil || len(unknown) > 0 {
		t.Error(err, unknown)
	}
}

func TestUnknownKeysAndHalfEntriesAreFound(t *testing.T) {
	_, unknown, err := loadConfig(written(t, strings.Replace(sample, "host =", "hosst =", 1)))
	if err != nil || strings.Join(unknown, " ") != "runners.kubernetes.hosst" {
		t.Error(err, unknown)
	}
	for _, broken := range []string{
		strings.Replace(sample, "concurrent = 4", "concurrent = 0", 1),
		strings.Replace(sample, `url = "https://gitlab.test"`, "", 1),
		sample + "[[runners",
		strings.Replace(sample, `"if-not-present"`, "3", 1),
	} {
		if _, _, err := loadConfig(written(t, broken)); err == nil {
			t.Errorf("accepted: %s", broken)
		}
	}
}

func TestTheSystemIDStaysTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "config.toml")
	first, err := systemID(path)
	if err != nil || !systemIDPattern.MatchString(first) {
		t.Fatal(first, err)
	}
	kept := filepath.Join(filepath.Dir(path), ".runner_system_id")
	if err := os.WriteFile(kept, []byte("r_000000000000"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, _ := systemID(path); again != "r_000000000000" {
		t.Error(again)
	}
}

func TestSettingsThatAreNotActedUponAreNamed(t *testing.T) {
	loaded, _, err := loadConfig(written(t, strings.Replace(sample, "host =", "dns_policy = \"none\"\n host =", 1)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = newPod(loaded.Runners[0], &job{}, nil)
	if err == nil || !strings.Contains(err.Error(), "dns_policy") {
		t.Error(err)
	}
}

func TestVersionsAreCompared(t *testing.T) {
	defer func(kept string) { version = kept }(version)
	for text, newer := range map[string]bool{"19.4.1": true, "19.3.0": true, "19.2.9": false, "18.11.0": false, "20.0.0": true} {
		if version = text; atLeast(19, 3) != newer {
			t.Error(text)
		}
	}
}
