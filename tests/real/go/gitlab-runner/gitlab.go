// GitLab's API for runners, by Go's own TLS with the CA that the settings name.

package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

type reply struct {
	status int
	// text is how it appears in the log when it is a refusal.
	text string
}

// info is what a runner tells of itself.
func info(entry *runner) map[string]any {
	return map[string]any{
		"name": "gitlab-runner", "version": version, "revision": revision, "platform": runtime.GOOS,
		"architecture": runtime.GOARCH, "executor": entry.Executor, "shell": "bash", "features": map[string]bool{},
	}
}

func client(entry *runner) *http.Client {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	// Like the real one it takes a CA that cannot be read for none.
	if pem, err := os.ReadFile(entry.TLSCAFile); err == nil {
		if settings.RootCAs, err = x509.SystemCertPool(); err != nil {
			settings.RootCAs = x509.NewCertPool()
		}
		settings.RootCAs.AppendCertsFromPEM(pem)
	}
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: settings}}
}

// send posts a request, and tries again when the server says that it cannot just now. It adds the request's own
// name to what is logged of it.
func send(entry *runner, path string, body map[string]any, about fields) (reply, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return reply{}, err
	}
	url := strings.TrimSuffix(entry.URL, "/") + "/api/v4/" + path
	name := make([]byte, 16)
	_, _ = rand.Read(name)
	correlation := hex.EncodeToString(name)
	about["correlation_id"] = correlation
	pause := 100 * time.Millisecond
	for attempt := 1; ; attempt++ {
		request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(text))
		if err != nil {
			return reply{}, err
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept", "application/json")
		request.Header.Set("Runner-Token", entry.Token)
		request.Header.Set("X-Request-Id", correlation)
		request.Header.Set("User-Agent", fmt.Sprintf("gitlab-runner %s (stand-in; %s; %s/%s)",
			version, runtime.Version(), runtime.GOOS, runtime.GOARCH))
		answer, err := client(entry).Do(request)
		if err != nil {
			return reply{}, fmt.Errorf("execute JSON request: execute request: couldn't execute POST against %s: %w", url, err)
		}
		said, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
		_ = answer.Body.Close()
		busy := answer.StatusCode == 408 || answer.StatusCode == 429 || answer.StatusCode >= 500
		if busy && attempt < 5 {
			if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
				pause = time.Duration(seconds) * time.Second
			}
			logLine("info", "Waiting before making the next call", fields{"context": "ratelimit-requester-gitlab-request",
				"duration": pause, "method": request.Method, "url": url})
			time.Sleep(pause)
			continue
		}
		return reply{answer.StatusCode, statusText(answer, said, url)}, nil
	}
}

// statusText is how a refusal appears in the log.
func statusText(answer *http.Response, body []byte, url string) string {
	text := fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") {
		return text
	}
	var said struct{ Message string }
	_ = json.Unmarshal(body, &said)
	if said.Message != "" && said.Message != text {
		text += " (" + said.Message + ")"
	}
	return fmt.Sprintf("POST %s: %s", url, text)
}
