package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Attributes are those of a resource and of a point or record together. Numbers
// are int64 or float64, as in pdata.
type Attributes map[string]any

// has says whether a has each of the wanted attributes; int counts as int64, and
// nil means that the attribute must be absent.
func (a Attributes) has(want Attributes) bool {
	for key, value := range want {
		if n, ok := value.(int); ok {
			value = int64(n)
		}
		if a[key] != value {
			return false
		}
	}
	return true
}

// Point is the last one of a series.
type Point struct {
	Attributes  Attributes
	Start, Time time.Time
	Value       int64 // the last recorded one
	Ended       bool  // NoRecordedValue came after it
}

// Record is a log record.
type Record struct {
	Attributes     Attributes
	Event          string
	Time, Observed time.Time
	Body           string
	Severity       plog.SeverityNumber
}

// Metrics returns every batch of metrics that came out so far.
func (c *Collector) Metrics() []pmetric.Metrics {
	c.t.Helper()
	return read(c, "metrics.json", (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics)
}

// Logs returns every batch of log records that came out so far.
func (c *Collector) Logs() []plog.Logs {
	c.t.Helper()
	return read(c, "logs.json", (&plog.JSONUnmarshaler{}).UnmarshalLogs)
}

// read returns what is on the whole lines of a file; the last may be half written.
func read[T any](c *Collector, name string, unmarshal func([]byte) (T, error)) []T {
	c.t.Helper()
	content, err := os.ReadFile(c.path(name))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	var batches []T
	for line := range bytes.Lines(content[:bytes.LastIndexByte(content, '\n')+1]) {
		batch, err := unmarshal(line)
		if err != nil {
			c.t.Fatalf("read %s: %v", name, err)
		}
		batches = append(batches, batch)
	}
	return batches
}

// Points returns the last point of each series of a metric that has the wanted
// attributes, of its resource or its own. A series that began again with a new
// start time is another series.
func (c *Collector) Points(metric string, want Attributes) []Point {
	c.t.Helper()
	series := map[string]Point{}
	for _, batch := range c.Metrics() {
		for _, resource := range batch.ResourceMetrics().All() {
			for _, scope := range resource.ScopeMetrics().All() {
				for _, m := range scope.Metrics().All() {
					if m.Name() == metric {
						collect(series, resource.Resource(), m)
					}
				}
			}
		}
	}
	var found []Point
	for _, key := range slices.Sorted(maps.Keys(series)) {
		if point := series[key]; point.Attributes.has(want) {
			found = append(found, point)
		}
	}
	return found
}

func collect(series map[string]Point, resource pcommon.Resource, m pmetric.Metric) {
	for _, dataPoint := range m.Sum().DataPoints().All() {
		point := Point{
			Attributes: join(resource.Attributes(), dataPoint.Attributes()),
			Start:      dataPoint.StartTimestamp().AsTime(),
			Time:       dataPoint.Timestamp().AsTime(),
			Value:      dataPoint.IntValue(),
		}
		key := fmt.Sprint(point.Attributes, point.Start) // fmt sorts keys
		if dataPoint.Flags().NoRecordedValue() {
			point.Ended, point.Value = true, series[key].Value
		}
		series[key] = point
	}
}

// Value returns the sum over [Collector.Points].
func (c *Collector) Value(metric string, want Attributes) int64 {
	c.t.Helper()
	var sum int64
	for _, point := range c.Points(metric, want) {
		sum += point.Value
	}
	return sum
}

// Records returns the log records that have the wanted attributes, of their
// resource or their own, in the order they came out.
func (c *Collector) Records(want Attributes) []Record {
	c.t.Helper()
	var found []Record
	for _, batch := range c.Logs() {
		for _, resource := range batch.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, r := range scope.LogRecords().All() {
					record := Record{
						Attributes: join(resource.Resource().Attributes(), r.Attributes()),
						Event:      r.EventName(),
						Time:       r.Timestamp().AsTime(),
						Observed:   r.ObservedTimestamp().AsTime(),
						Body:       r.Body().AsString(),
						Severity:   r.SeverityNumber(),
					}
					if record.Attributes.has(want) {
						found = append(found, record)
					}
				}
			}
		}
	}
	return found
}

func join(resource, own pcommon.Map) Attributes {
	all := Attributes(resource.AsRaw())
	maps.Copy(all, own.AsRaw())
	return all
}
