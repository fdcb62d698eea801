// Package extended refuses to connect to a step runner: jobs with `run:` are not supported.
package extended

import (
	"context"
	"errors"
	"io"

	"gitlab.com/gitlab-org/step-runner/pkg/api/client"
)

var errUnsupported = errors.New("steps are not supported by this build of the runner")

type FollowOutput struct{ Logs io.Writer }

type Client struct{}

func New(any) (*Client, error) { return nil, errUnsupported }

func (*Client) CloseConn() error { return nil }

func (*Client) Cancel(context.Context, string) error { return errUnsupported }

func (*Client) RunAndFollow(context.Context, *client.RunRequest, *FollowOutput) (client.Status, error) {
	return client.Status{}, errUnsupported
}
