// SPDX-License-Identifier: Apache-2.0

// Package view shows what the receiver's instruments observe while it happens, over HTTP: as
// tables, as JSON and as a page. It gets the telemetry that the instruments deliver, and depends
// neither on the kernel nor on the Collector's pipelines.
package view

import (
	"context"
	"maps"
	"strconv"
	"sync"
	"time"
)

// Options are what a view has to know about its surroundings.
type Options struct {
	Instance     string // changes when the receiver restarts
	Host         string // the machine's name
	TraceURL     string // address of a trace, with {trace_id}; "" if there is none
	CommandLines bool   // show them

	Now    func() time.Time
	Health func() Health                              // the instruments, the limit, and what is not seen here
	Cost   func() (cpu time.Duration, resident int64) // of this process, since its start
	// Explain returns what a drop means and what to do about it. Both are "" if that is not
	// known.
	Explain func(reason, symbol, class string) (why, advice string)
}

// View keeps the last 15 minutes. It may be used by several goroutines.
type View struct {
	options Options

	mu         sync.Mutex
	receiver   string // its id in the configuration
	started    int64  // ms since 1970
	seq        int64
	ids        int64 // number of ids given out
	eventIDs   int64
	processes  processes
	interfaces interfaces
	drops      drops
	losses     drops // drops of processes
	resets     drops // TCP resets, of processes or of none
	unseen     drops // what counters of the kernel have beyond the drops
	deeds      drops // what processes did with their connections
	measures   measures
	listeners  listeners
	accepts    []Accept // oldest first
	notices    []Notice // likewise
	packets    []Notice // likewise, of single dropped packets
	calls      calls
	dropped    map[string]int
	pruned     int64
	hostID     string
	cost       Cost
	costAt     int64
	costCPU    time.Duration
	readMS     float64
	told       Health // the state of the instruments at the last tick
	fresh      fresh
	last       fresh // what had happened by the last tick

	shared    sharedEvent
	followers int
	waiting   int           // number of requests that wait for the next tick
	closed    chan struct{} // closed when no requests are answered any more
	watchers  int
	watched   chan struct{} // closed while someone watches
	tick      chan struct{} // closed at the next tick
}

// The bounds of what is kept. At all of them the view takes some 25 MB.
const (
	maxProcesses  = 6000
	maxRows       = 9000 // of processes by interface
	maxInterfaces = 256
	maxDrops      = 2048 // and as many losses of processes
	maxListeners  = 1024
	maxAccepts    = 2000
	maxNotices    = 2000 // and as many dropped packets
	maxCalls      = 1000
	maxNodes      = 30_000 // of all calls together
	keep          = 15 * 60 * 1000
)

// New returns a view that no one watches.
func New(options Options) *View {
	v := &View{
		options: options, started: options.Now().UnixMilli(), dropped: map[string]int{},
		watched: make(chan struct{}), tick: make(chan struct{}), closed: make(chan struct{}),
	}
	v.pruned = v.started
	v.processes.init(v)
	v.interfaces.init(v)
	v.drops.init(v, "drops", &v.fresh.gone.Drops)
	v.losses.init(v, "losses", &v.fresh.gone.Losses)
	v.resets.init(v, "resets", &v.fresh.gone.Resets)
	v.unseen.init(v, "unseen", &v.fresh.gone.Unseen)
	v.deeds.init(v, "deeds", &v.fresh.gone.Deeds)
	v.listeners.init(v)
	return v
}

// Open lets the view answer requests until it is closed. receiver is the receiver's id in the
// configuration.
func (v *View) Open(receiver string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.receiver, v.closed = receiver, make(chan struct{})
}

func (v *View) now() int64 { return v.options.Now().UnixMilli() }

// newID returns an id that no other object has.
func (v *View) newID() string {
	v.ids++
	return strconv.FormatInt(v.ids, 10)
}

func (v *View) newEventID() string {
	v.eventIDs++
	return strconv.FormatInt(v.eventIDs, 10)
}

// leaveOut records that there was no room for something.
func (v *View) leaveOut(what string) { v.dropped[what]++ }

// watch records that someone watches until release is called.
func (v *View) watch() (release func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watchers++
	if v.watchers == 1 {
		v.takeFresh()
		v.fresh.since = v.now()
		close(v.watched)
	}
	return sync.OnceFunc(func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.watchers--
		if v.watchers == 0 {
			v.watched = make(chan struct{})
		}
	})
}

// IsWatched reports whether someone watches.
func (v *View) IsWatched() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.watchers > 0
}

// AwaitWatcher waits until someone watches, and reports whether this happened before ctx ended.
func (v *View) AwaitWatcher(ctx context.Context) bool {
	v.mu.Lock()
	watched := v.watched
	v.mu.Unlock()
	select {
	case <-ctx.Done():
		return false
	case <-watched:
		return ctx.Err() == nil
	}
}

// Tick ends a second in which the instruments were read, and wakes the requests that follow
// something. reading is how long the read took.
func (v *View) Tick(reading time.Duration) {
	var told Health
	if v.options.Health != nil { // without the lock, since the receiver has locks of its own
		told = v.options.Health()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.told = told
	v.readMS = float64(reading.Microseconds()) / 1000
	v.measureCost(v.now())
	v.prune(v.now())
	v.seq++
	v.waiting = 0
	v.last, v.fresh.since = v.takeFresh(), v.now()
	close(v.tick)
	v.tick = make(chan struct{})
}

func (v *View) measureCost(now int64) {
	if v.options.Cost == nil || now-v.costAt < 1000 && v.costAt != 0 {
		return
	}
	cpu, resident := v.options.Cost()
	if v.costAt != 0 && now > v.costAt {
		v.cost.CPUPercent = 100 * float64((cpu - v.costCPU).Milliseconds()) / float64(now-v.costAt)
	}
	v.cost.MemoryBytes, v.costAt, v.costCPU = resident, now, cpu
}

// health returns the state of the view and of the instruments.
func (v *View) health() Health {
	h := v.told
	h.Watchers, h.Cost = v.followers, v.cost
	h.View = Own{MemoryBytes: v.memory(), ReadMS: v.readMS, Dropped: maps.Clone(v.dropped)}
	return h
}

// prune forgets what is too old, from time to time.
func (v *View) prune(now int64) {
	if now-v.pruned < coarseStep && now >= v.pruned {
		return
	}
	v.pruned = now
	old := now - keep
	v.listeners.prune(old)
	v.processes.prune(old)
	v.interfaces.prune(old)
	v.drops.prune(old)
	v.losses.prune(old)
	v.resets.prune(old)
	v.unseen.prune(old)
	v.deeds.prune(old)
	for _, notices := range []*[]Notice{&v.notices, &v.packets} {
		for len(*notices) > 0 && (*notices)[0].AtMS < old {
			*notices = (*notices)[1:]
		}
	}
	for len(v.accepts) > 0 && v.accepts[0].AtMS < old {
		v.accepts = v.accepts[1:]
	}
	v.calls.prune(old)
}
