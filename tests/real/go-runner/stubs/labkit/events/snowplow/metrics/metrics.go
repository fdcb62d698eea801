// Package metrics has the options of a collector that is never made.
package metrics

type CollectorOption func()

func WithCollectorNamespace(string) CollectorOption                       { return func() {} }
func WithCollectorBatchDeliveryDurationBuckets([]float64) CollectorOption { return func() {} }
