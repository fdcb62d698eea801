// A job's log on its way to GitLab: appended by ranges, masked, and closed with size and checksum.

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

var errCanceled = errors.New("canceled")

const (
	keepAlive  = 30 * time.Second
	finalTries = 10
)

type trace struct {
	peer  *client
	job   *job
	abort context.CancelCauseFunc

	mutex    sync.Mutex
	text     []byte
	streams  map[string]*stream
	stamps   bool
	masks    *strings.Replacer
	sent     int
	interval time.Duration
	gone     bool
	told     time.Time

	stop chan struct{}
	done sync.WaitGroup
}

func newTrace(peer *client, payload *job, abort context.CancelCauseFunc) *trace {
	var secrets []string
	for _, variable := range payload.Variables {
		if variable.Masked && variable.Value != "" {
			secrets = append(secrets, variable.Value)
		}
	}
	if payload.Token != "" {
		secrets = append(secrets, payload.Token)
	}
	// The longest first: one may be part of another.
	sort.Slice(secrets, func(i, j int) bool { return len(secrets[i]) > len(secrets[j]) })
	pairs := make([]string, 0, 2*len(secrets))
	for _, secret := range secrets {
		pairs = append(pairs, secret, "[MASKED]")
	}
	return &trace{
		peer: peer, job: payload, abort: abort, masks: strings.NewReplacer(pairs...),
		streams: map[string]*stream{}, stamps: stamped(payload),
		interval: reloadInterval, stop: make(chan struct{}),
	}
}

// stamped says whether the lines begin with times: since 19.0 unless the job's variables say otherwise.
func stamped(payload *job) bool {
	switch payload.value("FF_TIMESTAMPS") {
	case "true", "1":
		return true
	case "false", "0":
		return false
	}
	return atLeast(19, 0)
}

// executorStream is the runner's own; the others are what the job's commands print.
const executorStream, stdoutStream, stderrStream = "00O", "01O", "01E"

// longestPart is what a stream holds back of a line, its header included, before it writes a part of it.
const longestPart = 8 * 1024

// stream is one of the streams that a log is made of.
type stream struct {
	trace *trace
	name  string
	// line is what has no end yet.
	line []byte
	// cut says that the last line was written without its end.
	cut bool
}

func (t *trace) stream(name string) *stream {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.streams[name] == nil {
		t.streams[name] = &stream{trace: t, name: name}
	}
	return t.streams[name]
}

// Write writes to the runner's own stream.
func (t *trace) Write(more []byte) (int, error) {
	return t.stream(executorStream).Write(more)
}

// Write takes whole lines over. With stamps it also writes a part of a line out: after a carriage return, so that
// progress bars can be followed, and where the line is long; the stream's next line then continues it.
func (s *stream) Write(more []byte) (int, error) {
	s.trace.mutex.Lock()
	defer s.trace.mutex.Unlock()
	s.line = append(s.line, more...)
	for {
		end := bytes.IndexByte(s.line, '\n') + 1
		if end == 0 {
			break
		}
		s.emit(s.line[:end])
		s.line = s.line[end:]
	}
	long := len(s.line)+len(s.header()) > longestPart
	if s.trace.stamps && (long || bytes.IndexByte(s.line, '\r') >= 0) {
		s.flush()
	}
	return len(more), nil
}

func (s *stream) header() string {
	flag := " "
	if s.cut {
		flag = "+"
	}
	return time.Now().UTC().Format("2006-01-02T15:04:05.000000Z ") + s.name + flag
}

func (s *stream) emit(line []byte) {
	if s.trace.stamps {
		s.trace.text = append(s.trace.text, s.header()...)
	}
	s.trace.text = append(s.trace.text, s.trace.masks.Replace(string(line))...)
	s.cut = false
}

// flush writes out what has no end yet.
func (s *stream) flush() {
	if len(s.line) == 0 {
		return
	}
	if !s.trace.stamps {
		s.emit(s.line)
	} else {
		s.emit(append(s.line, '\n'))
		s.cut = true
	}
	s.line = nil
}

func (t *trace) note(colour, text string) {
	fmt.Fprintf(t, "\x1b[%s%s\x1b[0;m\n", colour, text)
}

// start tells GitLab that the job runs: nothing may run before it agreed.
func (t *trace) start(ctx context.Context) error {
	answer, err := t.put(ctx, map[string]any{"state": "running"})
	if err != nil {
		return err
	}
	if answer.status != http.StatusOK || t.isGone() {
		return errCanceled
	}
	t.done.Go(func() {
		for {
			select {
			case <-t.stop:
				return
			case <-time.After(t.pause()):
			}
			if !t.patch(context.Background()) && time.Since(t.told) > keepAlive {
				_, _ = t.put(context.Background(), map[string]any{"state": "running"})
			}
		}
	})
	return nil
}

func (t *trace) pause() time.Duration {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.interval
}

func (t *trace) isGone() bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.gone
}

// heed acts on what an answer says about the job.
func (t *trace) heed(answer reply) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if seconds, err := strconv.Atoi(answer.header.Get("X-GitLab-Trace-Update-Interval")); err == nil && seconds > 0 {
		t.interval = time.Duration(seconds) * time.Second
	}
	status := answer.header.Get("Job-Status")
	if answer.status == 401 || answer.status == 403 || answer.status == 404 || status == "canceled" || status == "failed" {
		t.gone = true
	}
	if t.gone || status == "canceling" {
		t.abort(errCanceled)
	}
}

func (t *trace) put(ctx context.Context, body map[string]any) (reply, error) {
	body["token"] = t.job.Token
	body["info"] = t.peer.info()
	t.told = time.Now()
	answer, err := t.peer.send(ctx, http.MethodPut, fmt.Sprintf("jobs/%d", t.job.ID), body)
	if err == nil {
		t.heed(answer)
	}
	return answer, err
}

// patch sends what is new; it says whether there was anything.
func (t *trace) patch(ctx context.Context) bool {
	t.mutex.Lock()
	from, text, gone := t.sent, t.text, t.gone
	t.mutex.Unlock()
	if from == len(text) || gone {
		return false
	}
	header := http.Header{
		"Content-Type": {"text/plain"}, "Job-Token": {t.job.Token},
		"Content-Range": {fmt.Sprintf("%d-%d", from, len(text)-1)},
	}
	path := fmt.Sprintf("jobs/%d/trace?debug_trace=false", t.job.ID)
	answer, err := t.peer.once(ctx, http.MethodPatch, path, header, text[from:])
	if err != nil {
		logLine("warning", "Appending trace to coordinator... failed", fields{"job": t.job.ID, "status": err})
		return true
	}
	t.told = time.Now()
	t.heed(answer)
	t.mutex.Lock()
	defer t.mutex.Unlock()
	switch answer.status {
	case http.StatusAccepted:
		t.sent = len(text)
	case http.StatusRequestedRangeNotSatisfiable:
		_, end, _ := strings.Cut(answer.header.Get("Range"), "-")
		if have, err := strconv.Atoi(end); err == nil && have <= len(text) {
			t.sent = have
		}
	}
	return true
}

// finish sends the rest and the outcome, again until GitLab has both.
func (t *trace) finish(outcome string, more map[string]any) {
	close(t.stop)
	t.done.Wait()
	t.mutex.Lock()
	for _, name := range slices.Sorted(maps.Keys(t.streams)) {
		t.streams[name].flush()
	}
	t.mutex.Unlock()
	ctx := context.Background()
	for range finalTries {
		for range finalTries {
			if !t.patch(ctx) {
				break
			}
		}
		if t.isGone() {
			return
		}
		body := map[string]any{"state": outcome, "output": map[string]any{
			"checksum": fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE(t.text)), "bytesize": len(t.text),
		}}
		body["checksum"] = fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE(t.text))
		for name, value := range more {
			body[name] = value
		}
		answer, err := t.put(ctx, body)
		if err == nil && answer.status == http.StatusOK || t.isGone() {
			return
		}
		if err == nil && answer.status == http.StatusPreconditionFailed {
			t.mutex.Lock()
			t.sent = 0
			t.mutex.Unlock()
			continue
		}
		time.Sleep(t.pause())
	}
	logLine("error", "Submitting job to coordinator... failed", fields{"job": t.job.ID})
}
