// Package proxy refuses to pass steps on.
package proxy

import (
	"errors"
	"io"
)

func Proxy(io.Reader, io.Writer, io.ReadWriteCloser) error {
	return errors.New("steps are not supported by this build of the runner")
}
