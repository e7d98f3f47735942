// SPDX-License-Identifier: Apache-2.0

package view

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// The symbols of what processes do with connections, which is counted as drops are.
const (
	connectDeed    = "connect"
	retransmitDeed = "retransmit"
)

// latest is what the last reading of an instrument contained, in place of what the one before did.
type latest[T any] struct {
	all     []T
	updated int64 // number of the tick after which it was read
}

// measures are the measures of processes that instruments deliver if they are turned on.
type measures struct {
	queues     latest[Queue]
	roundTrips latest[Duration]
	waits      latest[Duration]
}

// The bound of each of them.
const maxMeasures = 2048

// Queues takes what the instrument listeners has delivered: how full accept queues are.
func (v *View) Queues(metrics pmetric.Metrics) {
	v.mu.Lock()
	defer v.mu.Unlock()
	found := map[Queue]int{}
	var all []Queue
	v.eachOfProcess(metrics, func(p *process, metric pmetric.Metric) {
		if metric.Type() != pmetric.MetricTypeGauge {
			return
		}
		for _, point := range metric.Gauge().DataPoints().All() {
			if point.Flags().NoRecordedValue() {
				continue
			}
			at := Queue{Process: p.ID, Socket: whole(point.Attributes(), "nettap.listener.socket.inode"), Local: endOf(point.Attributes(), "network.local")}
			index, known := found[at]
			if !known {
				if len(all) >= maxMeasures {
					v.leaveOut("queues")
					continue
				}
				index = len(all)
				found[at] = index
				all = append(all, at)
				p.active = v.now()
			}
			switch metric.Name() {
			case "nettap.listener.queue.length":
				all[index].Length = point.IntValue()
			case "nettap.listener.queue.limit":
				all[index].Limit = point.IntValue()
			}
		}
	})
	v.measures.queues = latest[Queue]{all, v.seq}
	v.prune(v.now())
}

// Connections takes what the instrument connections has delivered: how many connections each
// process began, what it retransmitted, and its round-trip times.
func (v *View) Connections(metrics pmetric.Metrics) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := v.deeds.clock.read(v.now(), v.started)
	var trips []Duration
	v.eachOfProcess(metrics, func(p *process, metric pmetric.Metric) {
		switch metric.Name() {
		case "nettap.process.tcp.connects":
			v.enterDeeds(p, connectDeed, metric)
		case "nettap.process.tcp.retransmits":
			v.enterDeeds(p, retransmitDeed, metric)
		case "nettap.process.tcp.rtt":
			trips = v.enterDurations(trips, p, metric, func(a pcommon.Map) Duration {
				return Duration{Kind: "round_trip", Part: text(a, "nettap.connection.role")}
			})
		}
	})
	v.deeds.settle(at)
	v.measures.roundTrips = latest[Duration]{trips, v.seq}
	v.prune(v.now())
}

func (v *View) enterDeeds(p *process, deed string, metric pmetric.Metric) {
	if metric.Type() != pmetric.MetricTypeSum {
		return
	}
	for _, point := range metric.Sum().DataPoints().All() {
		v.deeds.enter(p, deed, point)
	}
}

// WaitDurations takes what the instrument wait_durations has delivered: how long processes waited.
func (v *View) WaitDurations(metrics pmetric.Metrics) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var waits []Duration
	v.eachOfProcess(metrics, func(p *process, metric pmetric.Metric) {
		if metric.Name() != "nettap.socket.wait.duration" {
			return
		}
		waits = v.enterDurations(waits, p, metric, func(a pcommon.Map) Duration {
			return Duration{Kind: "wait", Part: text(a, "nettap.wait.part"), Local: endOf(a, "network.local"), Peer: endOf(a, "network.peer")}
		})
	})
	v.measures.waits = latest[Duration]{waits, v.seq}
	v.prune(v.now())
}

// eachOfProcess calls visit for each metric of a process for which there is room. What belongs to
// no process is of [processes.none].
func (v *View) eachOfProcess(metrics pmetric.Metrics, visit func(*process, pmetric.Metric)) {
	for _, resource := range metrics.ResourceMetrics().All() {
		p := v.processes.find(resource.Resource())
		if p == nil {
			continue
		}
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				visit(p, metric)
			}
		}
	}
}

// enterDurations appends the distributions of a metric in which there is something.
func (v *View) enterDurations(to []Duration, p *process, metric pmetric.Metric, of func(pcommon.Map) Duration) []Duration {
	if metric.Type() != pmetric.MetricTypeHistogram {
		return to
	}
	for _, point := range metric.Histogram().DataPoints().All() {
		if point.Flags().NoRecordedValue() || point.Count() == 0 {
			continue
		}
		if len(to) >= maxMeasures {
			v.leaveOut("durations")
			continue
		}
		d := of(point.Attributes())
		d.Process, d.Count = p.ID, point.Count()
		d.MeanMS = 1000 * point.Sum() / float64(point.Count())
		d.MostMS = mostOf(point)
		to = append(to, d)
		p.active = v.now()
	}
	return to
}

// mostOf returns the bound in ms below which 99 % are, or nil if there is none.
func mostOf(point pmetric.HistogramDataPoint) *float64 {
	counts, bounds, below := point.BucketCounts(), point.ExplicitBounds(), uint64(0)
	for i := range min(counts.Len(), bounds.Len()) {
		if below += counts.At(i); 100*below >= 99*point.Count() {
			ms := 1000 * bounds.At(i)
			return &ms
		}
	}
	return nil
}

// show returns the selected measures of all kinds.
func (m *measures) show(s *selection) (queues []Queue, durations []Duration) {
	queues, durations = []Queue{}, []Duration{}
	for _, q := range m.queues.all {
		if s.queue(&q) {
			queues = append(queues, q)
		}
	}
	for _, all := range [][]Duration{m.roundTrips.all, m.waits.all} {
		for _, d := range all {
			if s.duration(&d) {
				durations = append(durations, d)
			}
		}
	}
	return queues, durations
}

// news returns the selected measures if any of their kind was read since a tick.
func (m *measures) news(s *selection, since int64) (queues *[]Queue, durations *[]Duration) {
	q, d := m.show(s)
	if m.queues.updated >= since {
		queues = &q
	}
	if max(m.roundTrips.updated, m.waits.updated) >= since {
		durations = &d
	}
	return queues, durations
}

func (s *selection) queue(q *Queue) bool { return s.event(q.Process, connection{local: q.Local}) }

func (s *selection) duration(d *Duration) bool {
	return s.event(d.Process, connection{d.Local, d.Peer}, d.Kind, d.Part)
}
