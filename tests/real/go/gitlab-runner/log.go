// What gitlab-runner writes about itself: to standard error, for people or as JSON.

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// errSaid ends a command whose error was logged already.
var errSaid = errors.New("")

type fields map[string]any

var (
	logFormat atomic.Value
	logMutex  sync.Mutex
)

// logLine writes one line at a level: info, warning, error, fatal or panic.
func logLine(level, message string, more fields) {
	var line strings.Builder
	switch logFormat.Load() {
	case "json":
		all := fields{"level": level, "msg": message, "time": time.Now().Format(time.RFC3339)}
		for name, value := range more {
			all[name] = fmt.Sprint(value)
		}
		text, _ := json.Marshal(all)
		line.Write(text)
	default:
		if level != "info" {
			line.WriteString(strings.ToUpper(level) + ": ")
		}
		if len(more) > 0 {
			message = fmt.Sprintf("%-50s ", message)
		}
		line.WriteString(message)
		names := make([]string, 0, len(more))
		for name := range more {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			fmt.Fprintf(&line, " %s=%v", name, more[name])
		}
	}
	line.WriteByte('\n')
	logMutex.Lock()
	defer logMutex.Unlock()
	fmt.Fprint(os.Stderr, line.String())
}

// short is as much of a token as may be seen.
func short(token string) string {
	for _, prefix := range []string{"glrt-", "t1_", "t2_", "t3_"} {
		token = strings.TrimPrefix(token, prefix)
	}
	return token[:min(len(token), 9)]
}
