// Command proxy says which proxy Go takes to a URL: the reference that
// tests/kubectl holds the choice of outrigger against.
//
// It reads one JSON object per line and answers each with one line, in order:
//
//	in:  {"env": {NAME: value}, "url"}
//	out: {"proxy": URL or "", "error"}
package main

import (
	"bufio"
	"encoding/json"
	"net/url"
	"os"

	"golang.org/x/net/http/httpproxy"
)

type question struct {
	Env map[string]string `json:"env"`
	URL string            `json:"url"`
}

type answer struct {
	Proxy string `json:"proxy"`
	Error string `json:"error"`
}

func ask(q question) answer {
	os.Clearenv()
	for name, value := range q.Env {
		os.Setenv(name, value)
	}
	target, err := url.Parse(q.URL)
	if err != nil {
		return answer{Error: err.Error()}
	}
	proxy, err := httpproxy.FromEnvironment().ProxyFunc()(target)
	if err != nil {
		return answer{Error: err.Error()}
	}
	if proxy == nil {
		return answer{}
	}
	return answer{Proxy: proxy.String()}
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	for in.Scan() {
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			panic(err)
		}
		if err := encoder.Encode(ask(q)); err != nil {
			panic(err)
		}
	}
}
