// The command run: the service that asks for jobs, keeps watching config.toml, and ends by signals.

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	reloadInterval = 3 * time.Second
	// rotateAfter is the part of its life after which a token is replaced.
	rotateAfter = 0.75
)

type service struct {
	path, folder, user, system string

	config   *config
	modified time.Time

	mutex    sync.Mutex
	asking   map[string]int
	running  map[string]int
	refusals map[string]int
	disabled map[string]time.Time
	work     sync.WaitGroup
}

func runCommand(args []string) error {
	set := flags("run")
	s := &service{
		asking: map[string]int{}, running: map[string]int{}, refusals: map[string]int{},
		disabled: map[string]time.Time{},
	}
	path := configFlag(set)
	for _, name := range []string{"working-directory", "d"} {
		set.StringVar(&s.folder, name, "", "")
	}
	for _, name := range []string{"user", "u"} {
		set.StringVar(&s.user, name, "", "")
	}
	set.String("service", "gitlab-runner", "")
	set.Bool("syslog", false, "")
	if err := parse(set, args); err != nil {
		return err
	}
	var err error
	if s.path, err = filepath.Abs(*path); err != nil {
		return err
	}
	if s.folder != "" {
		if err := os.Chdir(s.folder); err != nil {
			return err
		}
	}
	if s.folder, err = os.Getwd(); err != nil {
		return err
	}
	logLine("info", "Starting multi-runner from "+s.path+"...", fields{"builds": 0})
	if s.system, err = systemID(s.path); err != nil {
		return err
	}
	if err := s.reload(); err != nil {
		return err
	}
	return s.loop()
}

// reload replaces the settings, or keeps the old ones if the file is not good.
func (s *service) reload() error {
	status, err := os.Stat(s.path)
	if errors.Is(err, os.ErrNotExist) && s.config == nil {
		s.config = newConfig()
		return nil
	}
	if err != nil {
		return err
	}
	s.modified = status.ModTime()
	loaded, _, err := loadConfig(s.path)
	if err != nil {
		return err
	}
	s.config = loaded
	if loaded.LogFormat != nil {
		logFormat.Store(*loaded.LogFormat)
	}
	logLine("info", "Configuration loaded", fields{"builds": s.total(), "runners": len(loaded.Runners)})
	for _, entry := range loaded.Runners {
		if entry.Executor != "kubernetes" && entry.Executor != "shell" {
			logLine("warning", "This stand-in runs no jobs with executor "+entry.Executor,
				fields{"runner": short(entry.Token)})
		}
	}
	return nil
}

func (s *service) reloadIfChanged(force bool) {
	status, err := os.Stat(s.path)
	if err != nil {
		logLine("error", "Failed to load config "+err.Error(), nil)
		return
	}
	// A file with an older time than the one that is loaded is not looked at.
	if !force && !status.ModTime().After(s.modified) {
		return
	}
	if err := s.reload(); err != nil {
		logLine("error", "Failed to load config "+s.path+": "+err.Error(), nil)
	}
}

func (s *service) loop() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	jobs, abort := context.WithCancelCause(context.Background())
	defer abort(nil)
	var lastAsked time.Time
	for {
		s.reloadIfChanged(false)
		s.rotate()
		interval := reloadInterval
		if s.config.CheckInterval > 0 {
			interval = time.Duration(s.config.CheckInterval) * time.Second
		}
		if time.Since(lastAsked) >= interval {
			lastAsked = time.Now()
			for _, entry := range s.config.Runners {
				s.ask(jobs, entry)
			}
		}
		select {
		case received := <-signals:
			if received == syscall.SIGHUP {
				s.reloadIfChanged(true)
				continue
			}
			return s.shutdown(received, signals, abort)
		case <-time.After(min(interval, reloadInterval)):
		}
	}
}

// shutdown waits for running jobs after SIGQUIT, and ends them after any other signal.
func (s *service) shutdown(received os.Signal, signals chan os.Signal, abort context.CancelCauseFunc) error {
	logLine("warning", fmt.Sprintf("[runWait] received stop signal: %s", received), fields{"builds": s.total()})
	done := make(chan struct{})
	go func() { s.work.Wait(); close(done) }()
	for received == syscall.SIGQUIT {
		select {
		case <-done:
			logLine("info", "All workers stopped.", nil)
			return nil
		case received = <-signals:
		}
	}
	abort(fmt.Errorf("aborted: %s", received))
	timeout := 30 * time.Second
	if s.config.ShutdownTimeout > 0 {
		timeout = time.Duration(s.config.ShutdownTimeout) * time.Second
	}
	select {
	case <-done:
		logLine("info", "All workers stopped. Can exit now", nil)
		return nil
	case <-time.After(timeout):
		return errors.New("shutdown timed out")
	}
}

func (s *service) total() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	sum := 0
	for _, count := range s.running {
		sum += count
	}
	return sum
}

// reserve takes a place for a job, if the limits leave one.
func (s *service) reserve(entry *runner) bool {
	total := s.total()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	key := entry.URL + entry.Token
	asking := 0
	for _, count := range s.asking {
		asking += count
	}
	free := total+asking < s.config.Concurrent && s.asking[key] < max(entry.RequestConcurrency, 1)
	free = free && (entry.Limit == 0 || s.running[key]+s.asking[key] < entry.Limit)
	if !free || time.Now().Before(s.disabled[key]) {
		return false
	}
	s.asking[key]++
	return true
}

// ask requests a job in the background, and runs it. The entry stays as it was when it asked.
func (s *service) ask(jobs context.Context, entry *runner) {
	if entry.Executor != "kubernetes" && entry.Executor != "shell" || !s.reserve(entry) {
		return
	}
	key := entry.URL + entry.Token
	s.work.Go(func() {
		peer, payload, err := s.request(jobs, entry)
		s.mutex.Lock()
		s.asking[key]--
		if payload != nil {
			s.running[key]++
		}
		s.mutex.Unlock()
		if err != nil {
			logLine("error", "Checking for jobs... failed", fields{"runner": short(entry.Token), "status": err})
		}
		if payload == nil {
			return
		}
		about := fields{"job": payload.ID, "runner": short(entry.Token)}
		logLine("info", "Checking for jobs... received", about)
		outcome := s.runJob(jobs, entry, peer, payload)
		about["outcome"] = outcome
		logLine("info", "Job finished", about)
		s.mutex.Lock()
		s.running[key]--
		s.mutex.Unlock()
	})
}

var lastUpdates sync.Map

func (s *service) request(ctx context.Context, entry *runner) (*client, *job, error) {
	peer, err := newClient(entry, s.path, s.system)
	if err != nil {
		return nil, nil, err
	}
	key := entry.URL + entry.Token
	seen, _ := lastUpdates.LoadOrStore(key, "")
	body := map[string]any{
		"info": peer.info(), "token": peer.token, "system_id": s.system, "last_update": seen,
	}
	answer, err := peer.send(ctx, http.MethodPost, "jobs/request", body)
	if err != nil {
		return nil, nil, err
	}
	if update := answer.header.Get("X-GitLab-Last-Update"); update != "" {
		lastUpdates.Store(key, update)
	}
	s.healthy(entry, answer.status)
	switch answer.status {
	case http.StatusCreated:
		payload := &job{}
		if err := answer.decode(payload); err != nil {
			return nil, nil, err
		}
		return peer, payload, nil
	case http.StatusNoContent:
		return nil, nil, nil
	case http.StatusForbidden:
		logLine("error", "Checking for jobs... forbidden",
			fields{"runner": short(entry.Token), "status": answer.statusText()})
		return nil, nil, nil
	default:
		return nil, nil, errors.New(answer.statusText())
	}
}

// healthy counts refusals: after some in a row the runner is left alone for a while.
func (s *service) healthy(entry *runner, status int) {
	key := entry.URL + entry.Token
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if status < 400 || status >= 500 || status == http.StatusTooManyRequests {
		s.refusals[key] = 0
		return
	}
	s.refusals[key]++
	limit, pause := entry.UnhealthyRequestsLimit, time.Hour
	if limit == 0 {
		limit = 3
	}
	if entry.UnhealthyInterval != nil {
		pause = *entry.UnhealthyInterval
	}
	if s.refusals[key] >= limit {
		s.refusals[key] = 0
		s.disabled[key] = time.Now().Add(pause)
		logLine("error", fmt.Sprintf("Runner %q is unhealthy and will be disabled for %s", entry.Name, pause),
			fields{"runner": short(entry.Token)})
	}
}

// rotate replaces tokens that near their end, and writes the file anew.
func (s *service) rotate() {
	for _, entry := range s.config.Runners {
		if entry.TokenExpiresAt.IsZero() {
			continue
		}
		life := entry.TokenExpiresAt.Sub(entry.TokenObtainedAt)
		due := entry.TokenObtainedAt.Add(time.Duration(float64(life) * rotateAfter))
		if time.Now().Before(due) {
			continue
		}
		if err := s.resetToken(entry); err != nil {
			logLine("error", "Resetting runner authentication token... failed",
				fields{"runner": short(entry.Token), "status": err})
		}
	}
}

func (s *service) resetToken(entry *runner) error {
	peer, err := newClient(entry, s.path, s.system)
	if err != nil {
		return err
	}
	path := "runners/reset_authentication_token"
	body := map[string]any{"token": peer.token, "system_id": s.system}
	answer, err := peer.send(context.Background(), http.MethodPost, path, body)
	if err != nil {
		return err
	}
	if answer.status != http.StatusCreated {
		return errors.New(answer.statusText())
	}
	var fresh credentials
	if err := answer.decode(&fresh); err != nil {
		return err
	}
	// Somebody may have changed the file meanwhile.
	loaded, _, err := loadConfig(s.path)
	if err != nil {
		return err
	}
	same := loaded.find(func(r *runner) bool { return r.URL == entry.URL && r.Token == entry.Token })
	fresh.apply(entry)
	if same == nil {
		return errors.New("the runner is no longer in " + s.path)
	}
	fresh.apply(same)
	if err := loaded.save(s.path); err != nil {
		return err
	}
	logLine("info", "Resetting runner authentication token... succeeded", fields{"runner": short(fresh.Token)})
	return s.reload()
}
