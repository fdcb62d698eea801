// Package di refuses to make a step runner's service.
package di

import (
	"errors"
	"log/slog"

	"gitlab.com/gitlab-org/step-runner/pkg/runner"
	"gitlab.com/gitlab-org/step-runner/proto"
)

type Container struct{}

func NewContainer(options ...func(*Container)) *Container { return &Container{} }

func WithBuiltinFunc(string, runner.BuiltinFunction) func(*Container) { return func(*Container) {} }

func WithOperatorLogger(*slog.Logger) func(*Container) { return func(*Container) {} }

func (*Container) StepRunnerService() (proto.StepRunnerServer, error) {
	return nil, errors.New("steps are not supported by this build of the runner")
}
