// SPDX-License-Identifier: Apache-2.0

package view

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// clock determines the period of the next reading.
type clock struct {
	last  int64 // ms since 1970, time of the last reading
	seq   int64 // of this reading
	looks looks
}

func (c *clock) read(now, started int64) period {
	if c.seq == 0 {
		c.last = started
	}
	p := period{from: min(c.last, now-1), to: now}
	c.last = now
	c.seq++
	c.looks.add(p)
	return p
}

// pointsOf calls visit for each point of the sums in a scope, with the metric's name.
func pointsOf(resource pmetric.ResourceMetrics, visit func(metric string, point pmetric.NumberDataPoint)) {
	scopes := resource.ScopeMetrics()
	for i := range scopes.Len() {
		metrics := scopes.At(i).Metrics()
		for j := range metrics.Len() {
			metric := metrics.At(j)
			if metric.Type() != pmetric.MetricTypeSum {
				continue
			}
			name, points := metric.Name(), metric.Sum().DataPoints()
			for k := range points.Len() {
				visit(name, points.At(k))
			}
		}
	}
}

// Traffic takes what the instrument traffic has delivered: the present values of all its series.
func (v *View) Traffic(metrics pmetric.Metrics) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.processes.clock.read(v.now(), v.started)
	resources := metrics.ResourceMetrics()
	for i := range resources.Len() {
		resource := resources.At(i)
		if _, ofProcess := resource.Resource().Attributes().Get("process.pid"); ofProcess {
			v.processes.enter(resource)
			continue
		}
		v.learnHost(resource.Resource())
		pointsOf(resource, v.interfaces.enter)
	}
	v.processes.settle(p)
	v.interfaces.settle(p)
	v.prune(p.to)
}

// Drops takes what the instrument drops has delivered.
func (v *View) Drops(metrics pmetric.Metrics) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.drops.clock.read(v.now(), v.started)
	for _, others := range []*drops{&v.losses, &v.resets, &v.unseen} {
		others.clock.read(v.now(), v.started)
	}
	resources := metrics.ResourceMetrics()
	for i := range resources.Len() {
		v.learnHost(resources.At(i).Resource())
		v.enterDrops(resources.At(i))
	}
	v.drops.settle(p)
	v.losses.settle(p)
	v.resets.settle(p)
	v.unseen.settle(p)
}

func (v *View) enterDrops(resource pmetric.ResourceMetrics) {
	var of *process
	pointsOf(resource, func(metric string, point pmetric.NumberDataPoint) {
		switch metric {
		case "nettap.packet.dropped":
			v.drops.enter(nil, "", point)
		case "nettap.drop.unseen":
			v.unseen.enter(nil, "", point)
		case "nettap.process.packet.dropped", "nettap.tcp.reset":
			if of == nil {
				of = v.processes.find(resource.Resource())
			}
			switch {
			case of == nil: // there is no room for it
			case metric == "nettap.process.packet.dropped":
				v.losses.enter(of, "", point)
			case of == v.processes.none:
				v.resets.enter(nil, "", point)
			default:
				v.resets.enter(of, "", point)
			}
		}
	})
}

func (v *View) learnHost(resource pcommon.Resource) {
	if id, ok := resource.Attributes().Get("host.id"); ok {
		v.hostID = clean(id.Str())
	}
}

// text returns an attribute as text that can be shown.
func text(attributes pcommon.Map, key string) string {
	value, ok := attributes.Get(key)
	if !ok {
		return ""
	}
	return clean(value.AsString())
}

func whole(attributes pcommon.Map, key string) int64 {
	if n := wholeIfAny(attributes, key); n != nil {
		return *n
	}
	return 0
}

func wholeIfAny(attributes pcommon.Map, key string) *int64 {
	value, ok := attributes.Get(key)
	if !ok || value.Type() != pcommon.ValueTypeInt {
		return nil
	}
	n := value.Int()
	return &n
}

// seconds returns an attribute with the unit s in ms.
func seconds(attributes pcommon.Map, key string) (ms float64, ok bool) {
	value, ok := attributes.Get(key)
	if !ok || value.Type() != pcommon.ValueTypeDouble {
		return 0, false
	}
	return value.Double() * 1000, true
}
