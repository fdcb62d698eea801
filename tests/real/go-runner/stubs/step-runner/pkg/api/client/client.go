// Package client has the names of a step runner's answers. There is no step runner to give one.
package client

import "time"

type State int

const (
	StateUnspecified State = iota
	StateSuccess
	StateCancelled
)

func (s State) String() string {
	switch s {
	case StateSuccess:
		return "success"
	case StateCancelled:
		return "cancelled"
	default:
		return "unspecified"
	}
}

type ErrorKind int

const (
	ErrorUnknown ErrorKind = iota
	ErrorInternal
	ErrorStepFailure
	ErrorCancelled
	ErrorTimeout
)

type Status struct {
	State     State
	ErrorKind ErrorKind
	Message   string
}

type Variable struct {
	Key, Value   string
	File, Masked bool
}

type RunRequest struct {
	Id        string
	WorkDir   string
	BuildDir  string
	Steps     string
	Timeout   *time.Duration
	Env       map[string]string
	Variables []Variable
}
