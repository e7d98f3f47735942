// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/cgroups"
	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/places"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// sharedReceiver is one configured receiver: what the receivers of its signals have in common.
type sharedReceiver struct {
	config           *Config
	clock            *clock.Clock
	processes        *process.Directory
	cgroups          *cgroups.Cgroups
	cgroupsStats     *stats.Recorder
	places           *places.Places
	contexts         *tracecontext.Contexts // nil if none are wanted
	viewServer       *viewServer            // nil if there is no view
	limit            *limit                 // nil if there is none
	calls            sharedCalls
	hostIDWarned     sync.Once
	cgroupsReported  assignment // the signal that reports on the cgroups
	contextsReported assignment // the signal that reports on the contexts
	references       int        // number of acquire calls without release; guarded by sharedReceivers.mu
}

// sharedReceivers has one sharedReceiver for each configuration, so that a receiver in the
// pipelines of several signals exists once. The Collector's own package sharedcomponent is
// internal.
type sharedReceivers struct {
	mu       sync.Mutex
	byConfig map[*Config]*sharedReceiver
	all      []*signalReceiver // those that were not shut down
}

func (s *sharedReceivers) add(r *signalReceiver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, r)
}

func (s *sharedReceivers) remove(r *signalReceiver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(other *signalReceiver) bool { return other == r })
}

// loadAll loads the instruments of all receivers of this process that are about to start, and
// those of their views. On nil it does nothing.
func (s *sharedReceivers) loadAll(ctx context.Context) {
	if s == nil {
		return
	}
	s.mu.Lock()
	all := slices.Clone(s.all)
	s.mu.Unlock()
	for _, r := range all {
		r.load(ctx)
		r.shared.viewServer.loadViewOnly(ctx, r)
	}
}

// acquire returns the shared receiver of a configuration, which exists until release was called as
// often.
func (s *sharedReceivers) acquire(config *Config, logger *zap.Logger) *sharedReceiver {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byConfig == nil {
		s.byConfig = map[*Config]*sharedReceiver{}
	}
	found, ok := s.byConfig[config]
	if !ok {
		found = newSharedReceiver(config, logger)
		s.byConfig[config] = found
	}
	found.references++
	return found
}

func newSharedReceiver(config *Config, logger *zap.Logger) *sharedReceiver {
	clock, cgroupsStats, limit, at := clock.New(), new(stats.Recorder), newLimit(config, logger), newPlaces(config)
	shared := &sharedReceiver{
		config: config, clock: clock, processes: newDirectory(config, clock),
		cgroups: cgroups.New(config.AvoidHooks, cgroupsStats), cgroupsStats: cgroupsStats,
		places: at, contexts: newContexts(config, logger, limit, at), limit: limit,
	}
	shared.processes.WatchCgroups(shared.cgroups)
	if config.View.isOn() {
		shared.viewServer = newViewServer(shared)
	}
	return shared
}

func (s *sharedReceivers) release(left *sharedReceiver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left.references--
	if left.references == 0 {
		delete(s.byConfig, left.config)
	}
}

// forView returns what is shared by instruments that run only for the view.
func (s *sharedReceiver) forView() *sharedReceiver {
	return &sharedReceiver{
		config: s.config.forView(), clock: s.clock, processes: s.processes,
		cgroups: s.cgroups, cgroupsStats: s.cgroupsStats, places: s.places, contexts: s.contexts, viewServer: s.viewServer, limit: s.limit,
	}
}
