// Package api has the names of the `wrapper` command's service. Our gitlab-runner has no such command.
package api

import (
	"context"
	"errors"
)

type Status int

const (
	StatusUnknown Status = iota
	StatusRunning
	StatusInShutdown
	StatusStopped
)

func (s Status) String() string {
	return [...]string{"unknown", "running", "in shutdown", "stopped"}[s]
}

var ErrProcessNotInitialized = errors.New("process not initialized")

type ShutdownCallbackDef interface {
	URL() string
	Method() string
}

type InitGracefulShutdownRequest interface {
	ShutdownCallbackDef() ShutdownCallbackDef
}

type ShutdownCallback interface {
	Run(context.Context)
}

func NewShutdownCallback(any, ShutdownCallbackDef) ShutdownCallback { return nil }
