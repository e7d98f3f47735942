// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/procfs"

	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/view"
)

// health returns the state of the instruments, and what is not seen here.
func (v *viewServer) health() view.Health {
	c, running := v.shared.config, v.all()
	var all []view.Instrument
	var notSeen []string
	for _, k := range shownInstruments(c, running) {
		i := view.Instrument{Name: k.name, Signal: k.signal, State: "off", Why: "no signal has it", IntervalS: k.config.CollectionInterval.Seconds()}
		if !k.config.Enabled {
			i.Why = k.name + ".enabled is false"
		}
		for _, r := range running {
			fill(&i, r, k.name)
		}
		if i.State != "running" {
			notSeen = append(notSeen, fmt.Sprintf("%s: nothing, since %s.", k.name, i.Why))
		}
		all = append(all, i)
	}
	if watch := v.shared.cgroupsStats.Read(); len(watch.Hooks) > 0 {
		all = append(all, runningOf("cgroups", watch))
	}
	if hooks, runs := v.shared.contexts.Hooks(); runs {
		all = append(all, runningOf("trace_context", stats.Totals{Hooks: hooks}))
	}
	for _, i := range all {
		for _, hook := range i.Hooks {
			if hook.NotSeen != "" {
				notSeen = append(notSeen, fmt.Sprintf("%s: %s.", i.Name, hook.NotSeen))
			}
		}
	}
	if c.Traffic.Enabled && c.Traffic.Namespaces == namespacesHost {
		notSeen = append(notSeen, "traffic: the accounts of interfaces in other network namespaces, since traffic.namespaces is host.")
	}
	limit, leftOut := v.shared.limit.shown()
	if leftOut != "" {
		notSeen = append(notSeen, fmt.Sprintf("max_cpu: %s, on step %s.", leftOut, limit.Step))
	}
	return view.Health{Instruments: all, Limit: limit, NotSeen: notSeen}
}

// shownInstrument is an instrument whose state the view shows.
type shownInstrument struct {
	name, signal string
	config       InstrumentConfig
}

// shownInstruments returns the four instruments that are on by default, and the others that are on.
func shownInstruments(c *Config, running []*signalReceiver) []shownInstrument {
	all := []shownInstrument{
		{"traffic", signalMetrics, c.Traffic.InstrumentConfig},
		{"drops", signalMetrics, c.Drops.InstrumentConfig},
		{"accepts", signalLogs, c.Accepts.InstrumentConfig},
		{"calls", signalTraces, c.Calls.InstrumentConfig},
	}
	for _, r := range running {
		for _, l := range r.loops {
			name := l.namedStats().name
			if !slices.ContainsFunc(all, func(s shownInstrument) bool { return s.name == name }) {
				all = append(all, shownInstrument{name, r.signal, InstrumentConfig{Enabled: true, CollectionInterval: l.interval()}})
			}
		}
	}
	return all
}

// shown returns what the view shows of a limit, or nil if there is none, and what is not seen
// because of it.
func (l *limit) shown() (limit *view.Limit, notSeen string) {
	if l == nil {
		return nil, ""
	}
	usage := l.read()
	limit = &view.Limit{
		MaxPercent: 100 * l.share, ProgramsPercent: 100 * usage.programs, LoopsPercent: 100 * usage.loops,
		Step: usage.step.String(), Exceeded: usage.exceeded,
	}
	switch {
	case usage.refused != nil:
		limit.Why = usage.refused.Error()
	case !usage.measured:
		limit.Why = "it is not measured yet"
	}
	return limit, usage.step.NotSeen()
}

// fill fills in the state of an instrument if it belongs to the signal of r.
func fill(i *view.Instrument, r *signalReceiver, name string) {
	if err := r.failed[name]; err != nil {
		i.State, i.Why = "failed", err.Error()
	}
	for _, l := range r.running {
		named := l.namedStats()
		if named.name != name {
			continue
		}
		enter(i, named.totals)
		i.For = "pipeline"
		if r.viewOnly {
			i.For = "view"
		}
		last := l.lastReading()
		if !last.at.IsZero() {
			i.ReadMS = last.at.UnixMilli()
		}
		if last.err != nil {
			i.Error = last.err.Error()
		}
	}
}

func runningOf(name string, totals stats.Totals) view.Instrument {
	i := view.Instrument{Name: name}
	enter(&i, totals)
	return i
}

// enter fills in what an instrument has counted.
func enter(i *view.Instrument, totals stats.Totals) {
	i.State, i.Why = "running", ""
	for _, hook := range totals.Hooks {
		i.Hooks = append(i.Hooks, view.Hook{Job: hook.Job, Name: hook.Name, NotSeen: hook.NotSeen, Unproven: hook.Unproven, Refused: hook.Refused})
	}
	slices.SortStableFunc(i.Hooks, func(a, b view.Hook) int { return cmp.Compare(a.Job, b.Job) })
	i.Seen, i.Exported, i.Aggregated, i.SampledOut = totals.Seen, totals.Exported, totals.Aggregated, totals.SampledOut
	i.RateLimited, i.Lost = maps.Clone(totals.RateLimited), maps.Clone(totals.Lost)
	i.MissedRuns, i.Copies, i.WithoutProcess, i.Unmeasured = totals.MissedRuns, totals.Copies, totals.WithoutProcess, totals.Unmeasured
	for name, m := range totals.Maps {
		if i.Maps == nil {
			i.Maps = map[string]view.MapUsage{}
		}
		i.Maps[name] = view.MapUsage{Entries: m.Entries, Limit: m.Limit}
	}
}

// processCost returns the CPU time of this process and its resident memory in bytes.
func processCost() (cpu time.Duration, resident int64) {
	self, err := procfs.Self()
	if err != nil {
		return 0, 0
	}
	stat, err := self.Stat()
	if err != nil {
		return 0, 0
	}
	return time.Duration(stat.CPUTime() * float64(time.Second)), int64(stat.ResidentMemory())
}
