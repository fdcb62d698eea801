// Package fields names fields of log lines as the runner's default log schema, version 0, prints them.
package fields

const (
	HTTPStatusCode = "status"
	DurationS      = "duration_s"
)

// Deprecated and VariantVersion are empty: with the default schema nothing is printed under a second name.
var (
	Deprecated     = map[string]struct{ Standard string }{}
	VariantVersion = map[string]int{}
)
