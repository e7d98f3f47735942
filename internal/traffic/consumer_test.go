// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// consumer reads what is published like any OTLP consumer, and reports what is wrong with the series.
type consumer struct {
	series map[string]*stream
	wrong  []string
}

// stream is what the points of a series have said so far.
type stream struct {
	metric      string
	attributes  map[string]any // of its resource and its own
	start, last time.Time
	value       int64 // since start
	before      int64 // of all starts before
	began       time.Time
	ended       bool
}

func newConsumer() *consumer { return &consumer{series: map[string]*stream{}} }

// read reads a batch. It must have a point of each series that has not ended.
func (c *consumer) read(metrics pmetric.Metrics, at time.Time) {
	points := map[string]time.Time{} // when the last one started
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for _, p := range metric.Sum().DataPoints().All() {
					key := keyOf(metric.Name(), resource.Resource().Attributes(), p.Attributes())
					start, another := points[key]
					if another && !p.Flags().NoRecordedValue() && !p.StartTimestamp().AsTime().After(start) {
						c.complain(key, "has two points of one start in one batch")
					}
					points[key] = p.StartTimestamp().AsTime()
					c.point(key, metric, resource.Resource().Attributes(), p, at)
				}
			}
		}
	}
	for key, s := range c.series {
		if _, said := points[key]; !s.ended && !said {
			c.complain(key, "stopped and has not ended")
			s.ended = true
		}
	}
}

func (c *consumer) point(key string, metric pmetric.Metric, resource pcommon.Map, p pmetric.NumberDataPoint, at time.Time) {
	s := c.series[key]
	start := p.StartTimestamp().AsTime()
	if p.Flags().NoRecordedValue() {
		if s == nil || s.ended {
			c.complain(key, "ends and was not there")
			return
		}
		s.ended = true
		return
	}
	monotonic := metric.Sum().IsMonotonic()
	switch {
	case s == nil:
		all := resource.AsRaw()
		for name, value := range p.Attributes().All() {
			all[name] = value.AsRaw()
		}
		s = &stream{metric: metric.Name(), attributes: all, start: start, began: at}
		c.series[key] = s
	case start.Before(s.start):
		c.complain(key, "begins anew before its last start")
	case start.After(s.start):
		s.before += s.value
		s.start, s.value, s.began = start, 0, at
	case monotonic && s.ended:
		c.complain(key, "has a point after its end")
	}
	if monotonic && p.IntValue() < s.value {
		c.complain(key, fmt.Sprintf("goes back from %d to %d", s.value, p.IntValue()))
	}
	if start.After(at) {
		c.complain(key, "starts in the future")
	}
	s.value, s.last, s.ended = p.IntValue(), at, false
}

func (c *consumer) complain(key, what string) { c.wrong = append(c.wrong, key+" "+what) }

// sum adds up all values of a metric, including those of earlier starts.
func (c *consumer) sum(metric string, matches func(s *stream) bool) int64 {
	var sum int64
	for _, s := range c.series {
		if s.metric == metric && matches(s) {
			sum += s.before + s.value
		}
	}
	return sum
}

// keyOf names a series. The attributes of a series come in the same order each time.
func keyOf(metric string, resource, own pcommon.Map) string {
	var key strings.Builder
	key.WriteString(metric)
	for _, attributes := range []pcommon.Map{resource, own} {
		for name, value := range attributes.All() {
			key.WriteString("," + name + "=" + value.AsString())
		}
	}
	return key.String()
}
