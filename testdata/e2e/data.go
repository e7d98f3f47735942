// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/seed-7756021b/nettap/internal/otlptest"
)

// Attributes are those of a resource together with those of its point, record or span.
type Attributes = otlptest.Attributes

// Point is the last point of a series.
type Point struct {
	Attributes  Attributes
	Start, Time time.Time
	Value       int64              // the last that was recorded
	Ended       bool               // the series ended with a point without a value
	Exemplars   []pmetric.Exemplar // of all points of the series
}

// Record is a log record.
type Record struct {
	Attributes     Attributes
	Event          string
	Time, Observed time.Time
	Body           string
	Severity       plog.SeverityNumber
	TraceID        pcommon.TraceID
}

// SpanKey identifies a span.
type SpanKey struct {
	Trace pcommon.TraceID
	Span  pcommon.SpanID
}

// Span is a span with its attributes and those of its resource.
type Span struct {
	ptrace.Span
	Attributes Attributes
}

// Key returns the ids of the span.
func (s Span) Key() SpanKey { return SpanKey{s.TraceID(), s.SpanID()} }

// Parent returns the ids of the span's parent. Without a parent the span id is empty.
func (s Span) Parent() SpanKey { return SpanKey{s.TraceID(), s.ParentSpanID()} }

// Logs returns every batch of log records that was written so far.
func (c *Collector) Logs() []plog.Logs {
	c.t.Helper()
	batches, _ := read(c, "logs.json", 0, (&plog.JSONUnmarshaler{}).UnmarshalLogs)
	return batches
}

// read returns the content of the whole lines of a file from an offset on, and the offset after
// them. A last line that is not complete yet is left for the next call.
func read[T any](c *Collector, name string, offset int64, unmarshal func([]byte) (T, error)) ([]T, int64) {
	c.t.Helper()
	file, err := os.Open(c.path(name))
	if os.IsNotExist(err) {
		return nil, offset
	}
	if err != nil {
		c.t.Fatal(err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.NewSectionReader(file, offset, math.MaxInt64-offset))
	if err != nil {
		c.t.Fatal(err)
	}
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	var batches []T
	for line := range bytes.Lines(whole) {
		batch, err := unmarshal(line)
		if err != nil {
			c.t.Fatalf("read %s: %v", name, err)
		}
		batches = append(batches, batch)
	}
	return batches, offset + int64(len(whole))
}

// series has the last point of each series that has been read so far, by metric and identity.
type series struct {
	offset int64
	points map[string]map[string]Point
}

// Points returns the last point of each series of a metric that has the wanted attributes. A
// series that began again with a new start time is another series.
func (c *Collector) Points(metric string, want Attributes) []Point {
	c.t.Helper()
	var batches []pmetric.Metrics
	batches, c.series.offset = read(c, "metrics.json", c.series.offset, (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics)
	for _, batch := range batches {
		c.series.add(batch)
	}
	points := c.series.points[metric]
	var found []Point
	for _, key := range slices.Sorted(maps.Keys(points)) {
		if point := points[key]; point.Attributes.Has(want) {
			found = append(found, point)
		}
	}
	return found
}

func (s *series) add(batch pmetric.Metrics) {
	if s.points == nil {
		s.points = map[string]map[string]Point{}
	}
	for _, resource := range batch.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, m := range scope.Metrics().All() {
				if s.points[m.Name()] == nil {
					s.points[m.Name()] = map[string]Point{}
				}
				collect(s.points[m.Name()], resource.Resource(), m)
			}
		}
	}
}

// collect adds the points of a sum. It ignores other metrics, such as the histograms of applications.
func collect(series map[string]Point, resource pcommon.Resource, m pmetric.Metric) {
	if m.Type() != pmetric.MetricTypeSum {
		return
	}
	for _, dataPoint := range m.Sum().DataPoints().All() {
		point := Point{
			Attributes: otlptest.Join(resource.Attributes(), dataPoint.Attributes()),
			Start:      dataPoint.StartTimestamp().AsTime(),
			Time:       dataPoint.Timestamp().AsTime(),
			Value:      dataPoint.IntValue(),
		}
		key := fmt.Sprint(point.Attributes, point.Start) // fmt sorts keys
		if dataPoint.Flags().NoRecordedValue() {
			point.Ended, point.Value = true, series[key].Value
		}
		point.Exemplars = slices.AppendSeq(series[key].Exemplars, func(yield func(pmetric.Exemplar) bool) {
			for _, exemplar := range dataPoint.Exemplars().All() {
				if !yield(exemplar) {
					return
				}
			}
		})
		series[key] = point
	}
}

// Value returns the sum of the values of [Collector.Points].
func (c *Collector) Value(metric string, want Attributes) int64 {
	c.t.Helper()
	var sum int64
	for _, point := range c.Points(metric, want) {
		sum += point.Value
	}
	return sum
}

// Records returns the log records that have the wanted attributes, in the order in which they were
// written. It leaves out those of listeners, because each server of a test has them.
func (c *Collector) Records(want Attributes) []Record {
	c.t.Helper()
	return slices.DeleteFunc(c.AllRecords(want), func(r Record) bool { return strings.HasPrefix(r.Event, "nettap.listener.") })
}

// AllRecords is [Collector.Records] with those of listeners.
func (c *Collector) AllRecords(want Attributes) []Record {
	c.t.Helper()
	var found []Record
	for _, batch := range c.Logs() {
		for _, resource := range batch.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, r := range scope.LogRecords().All() {
					record := Record{
						Attributes: otlptest.Join(resource.Resource().Attributes(), r.Attributes()),
						Event:      r.EventName(),
						Time:       r.Timestamp().AsTime(),
						Observed:   r.ObservedTimestamp().AsTime(),
						Body:       r.Body().AsString(),
						Severity:   r.SeverityNumber(),
						TraceID:    r.TraceID(),
					}
					if record.Attributes.Has(want) {
						found = append(found, record)
					}
				}
			}
		}
	}
	return found
}

// KernelSpans returns the spans of nettap that have the wanted attributes, both roots and others,
// in the order in which they were written.
func (c *Collector) KernelSpans(want Attributes) []Span {
	c.t.Helper()
	return c.spans("traces.json", want)
}

// ApplicationSpans returns the spans that applications exported and that have the wanted
// attributes, by their ids.
func (c *Collector) ApplicationSpans(want Attributes) map[SpanKey]Span {
	c.t.Helper()
	spans := map[SpanKey]Span{}
	for _, span := range c.spans("applications.json", want) {
		if _, twice := spans[span.Key()]; twice {
			c.t.Errorf("an application has two spans %v", span.Key())
		}
		spans[span.Key()] = span
	}
	return spans
}

func (c *Collector) spans(file string, want Attributes) []Span {
	c.t.Helper()
	batches, _ := read(c, file, 0, (&ptrace.JSONUnmarshaler{}).UnmarshalTraces)
	var found []Span
	for _, batch := range batches {
		for _, resource := range batch.ResourceSpans().All() {
			for _, scope := range resource.ScopeSpans().All() {
				for _, s := range scope.Spans().All() {
					span := Span{s, otlptest.Join(resource.Resource().Attributes(), s.Attributes())}
					if span.Attributes.Has(want) {
						found = append(found, span)
					}
				}
			}
		}
	}
	return found
}
