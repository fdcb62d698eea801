// The network side: GitLab's API for runners, by Go's own TLS with the CA that the settings name.

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// client speaks to the GitLab of one runner.
type client struct {
	http     *http.Client
	base     string
	token    string
	systemID string
	executor string
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

// newClient reads the runner's certificates anew, so that a changed file needs no restart.
func newClient(r *runner, configPath, system string) (*client, error) {
	base := strings.TrimSuffix(strings.TrimSuffix(os.ExpandEnv(r.URL), "/"), "/ci")
	parsed, err := url.Parse(base)
	if err != nil || parsed.Host == "" {
		return nil, fmt.Errorf("not a URL: %s", r.URL)
	}
	ca := r.TLSCAFile
	if ca == "" {
		guess := filepath.Join(filepath.Dir(configPath), "certs", parsed.Hostname()+".crt")
		if _, err := os.Stat(guess); err == nil {
			ca = guess
		}
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		if settings.RootCAs, err = x509.SystemCertPool(); err != nil {
			settings.RootCAs = x509.NewCertPool()
		}
		if !settings.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	}
	if r.TLSCertFile != "" {
		pair, err := tls.LoadX509KeyPair(r.TLSCertFile, r.TLSKeyFile)
		if err != nil {
			return nil, err
		}
		settings.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: settings, TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout: 90 * time.Second,
	}
	return &client{
		http: &http.Client{Transport: transport}, base: base + "/api/v4/", token: os.ExpandEnv(r.Token),
		systemID: system, executor: r.Executor,
	}, nil
}

// info is what a runner tells of itself.
func (c *client) info() map[string]any {
	has := map[string]bool{}
	for _, name := range []string{
		"variables", "image", "masking", "trace_reset", "trace_checksum", "trace_size", "refspecs",
		"cancelable", "cancel_gracefully", "raw_variables", "return_exit_code", "multi_build_steps",
		"upload_multiple_artifacts",
	} {
		has[name] = true
	}
	return map[string]any{
		"name": "gitlab-runner", "version": version, "revision": revision, "platform": runtime.GOOS,
		"architecture": runtime.GOARCH, "executor": c.executor, "shell": "bash", "features": has,
		"config": map[string]any{},
	}
}

func (c *client) once(ctx context.Context, method, path string, header http.Header, body []byte) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("User-Agent", fmt.Sprintf("gitlab-runner %s (stand-in; %s; %s/%s)",
		version, runtime.Version(), runtime.GOOS, runtime.GOARCH))
	answer, err := c.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 16<<20))
	return reply{answer.StatusCode, answer.Header, text}, err
}

// send tries again when the server says that it cannot just now.
func (c *client) send(ctx context.Context, method, path string, body map[string]any) (reply, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return reply{}, err
	}
	header := http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json"}, "Runner-Token": {c.token},
	}
	pause := time.Second
	for attempt := 1; ; attempt++ {
		answer, err := c.once(ctx, method, path, header, text)
		busy := answer.status == 408 || answer.status == 429 || answer.status >= 500
		if err != nil || !busy || attempt == 5 || path == "jobs/request" {
			return answer, err
		}
		if seconds, err := strconv.Atoi(answer.header.Get("Retry-After")); err == nil {
			pause = time.Duration(seconds) * time.Second
		}
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-time.After(min(pause, 30*time.Second)):
		}
		pause *= 2
	}
}

// decode reads the answer, which must be JSON.
func (r reply) decode(into any) error {
	if kind := r.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		return fmt.Errorf("server should return application/json, got %q", kind)
	}
	return json.Unmarshal(r.body, into)
}

// statusText is how a refusal appears in the log.
func (r reply) statusText() string {
	text := fmt.Sprintf("%d %s", r.status, http.StatusText(r.status))
	var body struct{ Message, Error any }
	if json.Unmarshal(r.body, &body) == nil {
		for _, said := range []any{body.Message, body.Error} {
			if said != nil {
				text += fmt.Sprintf(" (%v)", said)
			}
		}
	}
	return text
}

// credentials is the answer to verify and to reset.
type credentials struct {
	ID      int64      `json:"id"`
	Token   string     `json:"token"`
	Expires *time.Time `json:"token_expires_at"`
}

func (c credentials) apply(r *runner) {
	if c.ID != 0 {
		r.ID = c.ID
	}
	r.Token = c.Token
	r.TokenObtainedAt = time.Now().UTC().Truncate(time.Second)
	r.TokenExpiresAt = time.Time{}
	if c.Expires != nil {
		r.TokenExpiresAt = c.Expires.UTC().Truncate(time.Second)
	}
}

// verdict is what GitLab makes of a token.
type verdict int

const (
	valid verdict = iota
	removed
	unknownYet
)

// verify asks whether the token is good, and says so in the real one's words.
func (c *client) verify(ctx context.Context) (verdict, credentials) {
	var found credentials
	about := fields{"runner": short(c.token)}
	body := map[string]any{"token": c.token, "system_id": c.systemID, "info": c.info()}
	answer, err := c.send(ctx, http.MethodPost, "runners/verify", body)
	created := strings.HasPrefix(c.token, "glrt-")
	switch {
	case err != nil:
		about["status"] = "couldn't execute POST against " + c.base + "runners/verify: " + err.Error()
		logLine("error", "Verifying runner... failed", about)
		return unknownYet, found
	case answer.status == http.StatusOK:
		// Old servers answer in plain text.
		_ = answer.decode(&found)
		if created {
			logLine("info", "Verifying runner... is valid", about)
		} else {
			logLine("info", "Verifying runner... is alive", about)
		}
		return valid, found
	case answer.status == http.StatusForbidden:
		about["status"] = answer.statusText()
		if created {
			logLine("error", "Verifying runner... is not valid", about)
		} else {
			logLine("error", "Verifying runner... is removed", about)
		}
		return removed, found
	default:
		about["status"] = answer.statusText()
		logLine("error", "Verifying runner... failed", about)
		return unknownYet, found
	}
}
