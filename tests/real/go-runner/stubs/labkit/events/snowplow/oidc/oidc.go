// Package oidc has the options of a source of tokens that gives none.
package oidc

type Option func()

type Source struct{}

func WithSkipIfUnsupportedCloud(bool) Option { return func() {} }

func NewSource(...Option) *Source { return &Source{} }
