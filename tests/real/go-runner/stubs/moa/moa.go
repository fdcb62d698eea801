// Package moa stands where GitLab's expression language is, for a runner that gets no job inputs: a job with
// inputs is refused.
package moa

import (
	"errors"

	"gitlab.com/gitlab-org/moa/ast"
)

// ParseTemplate refuses: templates with expressions are not supported.
func ParseTemplate(string) (ast.Expr, error) {
	return nil, errors.New("expressions are not supported by this build of the runner")
}

// EscapeTemplate gives the text back: what it is for is refused elsewhere.
func EscapeTemplate(text string) string { return text }
