// What must hold of logs: on their way to GitLab, and on their way out of the pod.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// coordinator keeps a log as GitLab does, and loses the first portion once.
type coordinator struct {
	log   bytes.Buffer
	lost  bool
	final map[string]any
}

func (c *coordinator) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	answer.Header().Set("Content-Type", "application/json")
	if request.Method == http.MethodPut {
		var told map[string]any
		_ = json.Unmarshal(body, &told)
		output, _ := told["output"].(map[string]any)
		switch {
		case told["state"] == "running":
		case int(output["bytesize"].(float64)) != c.log.Len():
			answer.WriteHeader(http.StatusPreconditionFailed)
		default:
			c.final = told
		}
		return
	}
	var from, to int
	_, _ = fmt.Sscanf(request.Header.Get("Content-Range"), "%d-%d", &from, &to)
	if c.log.Len() > 0 && !c.lost {
		c.lost = true
		c.log.Truncate(c.log.Len() / 2)
	}
	if from != c.log.Len() || to-from+1 != len(body) {
		answer.Header().Set("Range", fmt.Sprintf("0-%d", c.log.Len()))
		answer.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	c.log.Write(body)
	answer.WriteHeader(http.StatusAccepted)
}

func TestALogArrivesWholeAndMasked(t *testing.T) {
	server := &coordinator{}
	host := httptest.NewServer(server)
	defer host.Close()
	peer, err := newClient(&runner{URL: host.URL, Token: "glrt-x", Executor: "shell"}, "/none/config.toml", "s_1")
	if err != nil {
		t.Fatal(err)
	}
	payload := &job{ID: 3, Token: "job-token", Variables: []variable{
		{Key: "A", Value: "hush", Masked: true}, {Key: "FF_TIMESTAMPS", Value: "false"},
	}}
	log := newTrace(peer, payload, func(cause error) { t.Error(cause) })
	if err := log.start(context.Background()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(log, "one hu")
	fmt.Fprint(log, "sh\ntwo ")
	log.patch(context.Background())
	fmt.Fprint(log, "job-token\nthree")
	log.finish("success", map[string]any{"exit_code": 0})
	if text := server.log.String(); text != "one [MASKED]\ntwo [MASKED]\nthree" || server.final["state"] != "success" {
		t.Errorf("%q %v", text, server.final)
	}
}

// A section as the real one wrote it (19.4.0): its title continues its marker, and a progress bar itself.
func TestLinesBeginWithTimesAndStreams(t *testing.T) {
	payload := &job{ID: 3, Token: "job-token", Variables: []variable{{Key: "A", Value: "hush", Masked: true}}}
	log := newTrace(nil, payload, nil)
	work := log.stream(stdoutStream)
	err := section(log, true, "step_script", "Executing", func() error {
		fmt.Fprint(work, "10 %\r")
		fmt.Fprint(log.stream(stderrStream), "care")
		fmt.Fprint(work, "100 % hush\nlast ")
		fmt.Fprint(work, strings.Repeat("x", longestPart))
		fmt.Fprint(work, "end\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	log.note("32;1m", "Job succeeded")
	for _, one := range log.streams {
		one.flush()
	}
	times := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z |:\d{10}:`)
	expected := "00O section_startstep_script\r\x1b[0K\n00O+\x1b[0K\x1b[36;1mExecuting\x1b[0;m\n" +
		"01O 10 %\r\n01O+100 % [MASKED]\n01O last " + strings.Repeat("x", longestPart) + "\n01O+end\n" +
		"00O section_endstep_script\r\x1b[0K\n00O+\x1b[32;1mJob succeeded\x1b[0;m\n01E care\n"
	if text := times.ReplaceAllString(string(log.text), ""); text != expected {
		t.Errorf("%q\n%q", text, expected)
	}
}

func TestTimesCanBeSwitchedOffAndCameWithNineteen(t *testing.T) {
	defer func(before string) { version = before }(version)
	for _, one := range []struct {
		version, value string
		stamped        bool
	}{{"19.0.0", "", true}, {"18.11.0", "", false}, {"18.11.0", "true", true}, {"19.4.0", "false", false}} {
		version = one.version
		payload := &job{Variables: []variable{{Key: "FF_TIMESTAMPS", Value: one.value}}}
		if stamped(payload) != one.stamped {
			t.Errorf("%v", one)
		}
	}
}

func TestStagesEndByTheirLastLine(t *testing.T) {
	var log strings.Builder
	reader := &tail{log: &log}
	ended := reader.expect("/scripts/one")
	other := `{"command_exit_code": 1, "script": "/scripts/two"}`
	for _, portion := range []string{"a\nb", "c\n" + other + "\nno newline{\"command_exit", `_code": 3, "script": "/scripts/one"}` + "\n"} {
		if _, err := reader.Write([]byte(portion)); err != nil {
			t.Fatal(err)
		}
	}
	if log.String() != "a\nbc\n"+other+"\nno newline\n" {
		t.Errorf("%q", log.String())
	}
	if code := <-ended; code != 3 {
		t.Error(code)
	}
}
