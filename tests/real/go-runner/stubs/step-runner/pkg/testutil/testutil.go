// Package testutil is empty. The runner's tests import it, and `go mod tidy` wants it to exist.
package testutil
