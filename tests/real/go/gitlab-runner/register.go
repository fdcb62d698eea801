// The command register: it checks a token with GitLab and appends a [[runners]] to config.toml.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// serverSide are the options that GitLab keeps: with a glrt- token they are refused.
var serverSide = map[string]string{
	"tag-list": "RUNNER_TAG_LIST", "run-untagged": "REGISTER_RUN_UNTAGGED", "locked": "REGISTER_LOCKED",
	"access-level": "REGISTER_ACCESS_LEVEL", "maximum-timeout": "REGISTER_MAXIMUM_TIMEOUT",
	"paused": "REGISTER_PAUSED", "maintenance-note": "REGISTER_MAINTENANCE_NOTE",
}

// option is a flag that also an environment variable sets.
func option(set *flag.FlagSet, into any, env string, names ...string) {
	var store func(string) error
	switch into := into.(type) {
	case *string:
		store = func(text string) error { *into = text; return nil }
	case *int:
		store = func(text string) (err error) { *into, err = strconv.Atoi(text); return err }
	case *bool:
		store = func(text string) (err error) { *into, err = strconv.ParseBool(text); return err }
	case **bool:
		store = func(text string) error {
			value, err := strconv.ParseBool(text)
			*into = &value
			return err
		}
	case *stringOrArray:
		store = func(text string) error { *into = append(*into, text); return nil }
	case *[]string:
		store = func(text string) error { *into = append(*into, text); return nil }
	default:
		panic(fmt.Sprintf("an option of type %T", into))
	}
	if value := os.Getenv(env); value != "" {
		if err := store(value); err != nil {
			logLine("warning", "ignoring "+env+": "+err.Error(), nil)
		}
	}
	for _, name := range names {
		switch into.(type) {
		case *bool, **bool:
			set.BoolFunc(name, "", store)
		default:
			set.Func(name, "", store)
		}
	}
}

func registerOptions(set *flag.FlagSet, entry *runner) {
	hostname, _ := os.Hostname()
	entry.Name = hostname
	option(set, &entry.Name, "RUNNER_NAME", "name", "description")
	option(set, &entry.URL, "CI_SERVER_URL", "url", "u")
	option(set, &entry.Token, "CI_SERVER_TOKEN", "token", "t")
	option(set, &entry.Executor, "RUNNER_EXECUTOR", "executor")
	option(set, &entry.TLSCAFile, "CI_SERVER_TLS_CA_FILE", "tls-ca-file")
	option(set, &entry.Limit, "RUNNER_LIMIT", "limit")
	option(set, &entry.RequestConcurrency, "RUNNER_REQUEST_CONCURRENCY", "request-concurrency")
	option(set, &entry.Environment, "RUNNER_ENV", "env")
	kubernetes := entry.Kubernetes
	for name, into := range map[string]any{
		"host": &kubernetes.Host, "ca-file": &kubernetes.CAFile, "cert-file": &kubernetes.CertFile,
		"key-file": &kubernetes.KeyFile, "bearer_token": &kubernetes.BearerToken,
		"bearer_token_overwrite_allowed": &kubernetes.BearerTokenOverwriteAllowed,
		"namespace":                      &kubernetes.Namespace, "image": &kubernetes.Image,
		"helper-image": &kubernetes.HelperImage, "pull-policy": &kubernetes.PullPolicy,
		"service-account":                 &kubernetes.ServiceAccount,
		"image-pull-secrets":              &kubernetes.ImagePullSecrets,
		"automount-service-account-token": &kubernetes.AutomountServiceAccountToken,
		"print-pod-warning-events":        &kubernetes.PrintPodWarningEvents,
		"poll-timeout":                    &kubernetes.PollTimeout,
	} {
		option(set, into, "KUBERNETES_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")), "kubernetes-"+name)
	}
	option(set, &kubernetes.Context, "KUBECTL_CONTEXT", "kubernetes-context")
}

// merge fills what is empty from a template.
func merge(into, from reflect.Value) {
	for i := range into.NumField() {
		target, source := into.Field(i), from.Field(i)
		switch {
		case target.IsZero():
			target.Set(source)
		case target.Kind() == reflect.Struct && target.Type().PkgPath() == into.Type().PkgPath():
			merge(target, source)
		case target.Kind() == reflect.Pointer && target.Type().Elem().Kind() == reflect.Struct && !source.IsNil():
			merge(target.Elem(), source.Elem())
		}
	}
}

func mergeTemplate(entry *runner, path string) error {
	var template config
	if _, err := toml.DecodeFile(path, &template); err != nil {
		return err
	}
	if len(template.Runners) != 1 {
		return errors.New("a template must have exactly one [[runners]]")
	}
	template.Runners[0].Token = ""
	merge(reflect.ValueOf(entry).Elem(), reflect.ValueOf(template.Runners[0]).Elem())
	return nil
}

// dressed adds the empty tables with which the real one writes a new entry.
func dressed(entry *runner) {
	if entry.Cache == nil {
		entry.Cache = &cacheConfig{}
	}
	entry.Cache.S3 = or(entry.Cache.S3)
	entry.Cache.GCS = or(entry.Cache.GCS)
	entry.Cache.Azure = or(entry.Cache.Azure)
	if entry.Executor != "kubernetes" {
		entry.Kubernetes = nil
		return
	}
	kubernetes := entry.Kubernetes
	kubernetes.ServiceContext = or(kubernetes.ServiceContext)
	for _, context := range []*containerSecurityContext{
		&kubernetes.InitPermissionsContext, &kubernetes.BuildContext, &kubernetes.HelperContext,
		kubernetes.ServiceContext,
	} {
		context.Capabilities = or(context.Capabilities)
	}
}

func or[T any](value *T) *T {
	if value != nil {
		return value
	}
	return new(T)
}

func registerCommand(args []string) error {
	entry := &runner{Kubernetes: &kubernetesConfig{}}
	set := flags("register")
	path := configFlag(set)
	var quiet bool
	option(set, &quiet, "REGISTER_NON_INTERACTIVE", "non-interactive", "n")
	set.Bool("leave-runner", false, "")
	var template, registration string
	option(set, &template, "TEMPLATE_CONFIG_FILE", "template-config")
	option(set, &registration, "REGISTRATION_TOKEN", "registration-token", "r")
	registerOptions(set, entry)
	var reserved []string
	for name, env := range serverSide {
		note := func(value string) error {
			if name != "locked" || value != "true" {
				reserved = append(reserved, "--"+name)
			}
			return nil
		}
		if value := os.Getenv(env); value != "" {
			_ = note(value)
		}
		if name == "run-untagged" || name == "locked" || name == "paused" {
			set.BoolFunc(name, "", note)
		} else {
			set.Func(name, "", note)
		}
	}
	if err := parse(set, args); err != nil {
		return err
	}
	if !quiet {
		return errors.New("this stand-in asks nothing: --non-interactive is needed")
	}
	if template != "" {
		if err := mergeTemplate(entry, template); err != nil {
			return fmt.Errorf("template %s: %w", template, err)
		}
	}
	switch {
	case strings.HasPrefix(registration, "glrt-"):
		if len(reserved) > 0 {
			logLine("warning", "ignoring what GitLab keeps: "+strings.Join(reserved, " "), nil)
		}
		entry.Token, reserved = registration, nil
	case registration != "":
		return errors.New("this stand-in does not register by registration tokens")
	}
	slices.Sort(reserved)
	if strings.HasPrefix(entry.Token, "glrt-") && len(reserved) > 0 {
		return fmt.Errorf("runner configuration other than name and executor configuration is reserved, "+
			"GitLab keeps it for runners with a glrt- token: leave out %s", strings.Join(reserved, " "))
	}
	for name, value := range map[string]string{
		"url": entry.URL, "token": entry.Token, "executor": entry.Executor,
	} {
		if value == "" {
			logLine("panic", "The "+name+" needs to be entered", nil)
			return errSaid
		}
	}
	return appendRunner(entry, *path)
}

func appendRunner(entry *runner, path string) error {
	loaded, err := loadIfPresent(path)
	if err != nil {
		return err
	}
	system, err := systemID(path)
	if err != nil {
		return err
	}
	if loaded.find(func(r *runner) bool { return r.Token == entry.Token }) != nil {
		logLine("warning", "A runner with this system ID and token has already been registered.", nil)
	}
	peer, err := newClient(entry, path, system)
	if err != nil {
		return err
	}
	result, found := peer.verify(context.Background())
	if result != valid || found.ID == 0 {
		logLine("panic", "Failed to verify the runner.", nil)
		return errSaid
	}
	found.apply(entry)
	dressed(entry)
	loaded.Runners = append(loaded.Runners, entry)
	if err := loaded.save(path); err != nil {
		return err
	}
	logLine("info", "Runner registered successfully. A running one reloads its configuration by itself.", nil)
	logLine("info", fmt.Sprintf("Configuration (with the authentication token) was saved in %q", path), nil)
	return nil
}
