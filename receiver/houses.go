package nettapreceiver

import (
	"sync"

	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/cgroups"
	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// house is one configured receiver: what its signals share.
type house struct {
	config    *Config
	clock     *clock.Clock
	processes *process.Directory
	cgroups   *cgroups.Cgroups
	ofCgroups *books.Books
	contexts  *tracecontext.Contexts // nil: none are wanted
	viewing   *viewing               // nil: there is no view
	limit     *limit                 // nil: there is none
	hostID    sync.Once
	auditor   claim // of the signal that reports on the cgroups
	reporter  claim // of the signal that reports on the contexts
	users     int   // signals that entered and have not left; guarded by houses.mu
}

// houses holds one house a configuration, so that a receiver in the pipelines
// of several signals is one. The Collector's own sharedcomponent is internal.
type houses struct {
	mu       sync.Mutex
	byConfig map[*Config]*house
}

// enter returns the house of config, which stays until each that entered has left.
func (h *houses) enter(config *Config, logger *zap.Logger) *house {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byConfig == nil {
		h.byConfig = map[*Config]*house{}
	}
	found, ok := h.byConfig[config]
	if !ok {
		found = newHouse(config, logger)
		h.byConfig[config] = found
	}
	found.users++
	return found
}

func newHouse(config *Config, logger *zap.Logger) *house {
	clock, ofCgroups, limit := clock.New(), new(books.Books), newLimit(config, logger)
	h := &house{
		config: config, clock: clock, processes: newDirectory(config, clock),
		cgroups: cgroups.New(config.AvoidHooks, ofCgroups), ofCgroups: ofCgroups,
		contexts: newContexts(config, logger, limit), limit: limit,
	}
	h.processes.WatchCgroups(h.cgroups)
	if config.View.isOn() {
		h.viewing = newViewing(h)
	}
	return h
}

func (h *houses) leave(left *house) {
	h.mu.Lock()
	defer h.mu.Unlock()
	left.users--
	if left.users == 0 {
		delete(h.byConfig, left.config)
	}
}

// forView returns the house of instruments that run for the view alone.
func (h *house) forView() *house {
	return &house{
		config: h.config.forView(), clock: h.clock, processes: h.processes,
		cgroups: h.cgroups, ofCgroups: h.ofCgroups, contexts: h.contexts, viewing: h.viewing, limit: h.limit,
	}
}
