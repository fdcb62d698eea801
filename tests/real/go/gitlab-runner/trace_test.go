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
	payload := &job{ID: 3, Token: "job-token", Variables: []variable{{Key: "A", Value: "hush", Masked: true}}}
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
