// What gitlab-runner writes about itself to standard error, in colours wherever that goes.

package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

type fields map[string]any

// logLine writes one line at a level: info, warning, error or fatal.
func logLine(level, message string, more fields) {
	const reset = "\x1b[0;m"
	color, prefix := "", ""
	switch level {
	case "warning":
		color, prefix = "\x1b[0;33m", "WARNING: "
	case "error", "fatal":
		color, prefix = "\x1b[31;1m", strings.ToUpper(level)+": "
	}
	line := fmt.Sprintf("%s%s%-*s%s ", color, prefix, 50-len(prefix), message, reset)
	for _, name := range slices.Sorted(maps.Keys(more)) {
		line += fmt.Sprintf(" %s%s%s=%v", color, name, reset, more[name])
	}
	fmt.Fprintln(os.Stderr, line)
}

// short is as much of a token as may be seen. It begins and ends with a letter or a digit, as a label's value has to.
func short(token string) string {
	for _, prefix := range []string{"glrt-", "t1_", "t2_", "t3_"} {
		token = strings.TrimPrefix(token, prefix)
	}
	text := []byte(token[:min(len(token), 9)])
	if len(text) > 0 && !isAlphaNum(text[0]) {
		text = append([]byte("r"), text[:len(text)-1]...)
	}
	if last := len(text) - 1; last >= 0 && !isAlphaNum(text[last]) {
		text[last] = 'r'
	}
	return string(text)
}

func isAlphaNum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
