// Package snowplow refuses to send usage events.
package snowplow

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"gitlab.com/gitlab-org/labkit/v2/events/snowplow/metrics"
	"gitlab.com/gitlab-org/labkit/v2/events/snowplow/oidc"
)

var errUnsupported = errors.New("usage events are not supported by this build of the runner")

type SendResult struct {
	EventCount int
	StatusCode int
	Err        error
}

type SendCallback func(successes, failures []SendResult)

type EmitterOption func()

type Emitter struct{}

type Tracker struct{}

type BillingEventRequiredInput struct {
	Category, EventType, Realm, UnitOfMeasure string

	Quantity float64
}

type BillingEventOptionalInput struct {
	Subject, DeploymentType, InstanceID, UniqueInstanceID string

	ProjectID, NamespaceID, RootNamespaceID, OrganizationID int64

	Metadata map[string]any
}

func WithCallback(SendCallback) EmitterOption                              { return func() {} }
func WithTokenSource(*oidc.Source) EmitterOption                           { return func() {} }
func WithMetricsCollectorOptions(...metrics.CollectorOption) EmitterOption { return func() {} }

func NewEmitter(string, ...EmitterOption) (*Emitter, error) { return nil, errUnsupported }

func (*Emitter) Collector() prometheus.Collector { return nil }

func NewTracker(string, *Emitter) (*Tracker, error) { return nil, errUnsupported }

func (*Tracker) TrackBillingEventWithOptionalInput(BillingEventRequiredInput, BillingEventOptionalInput) error {
	return errUnsupported
}

func (*Tracker) Stop() {}
