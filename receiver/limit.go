// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/budget"
	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// The programs are timed for timedFor in each timedEvery, since being timed slows them down.
const (
	timedEvery = 10 * time.Second
	timedFor   = 50 * time.Millisecond
)

// longestInterval is the longest collection interval that the last step sets.
const longestInterval = time.Minute

// limit keeps what nettap takes of the machine below max_cpu. It has the present step of calls and
// the loops. A nil limit measures and limits nothing.
type limit struct {
	logger   *zap.Logger
	isChosen bool // the user has set max_cpu
	share    float64

	every, timed time.Duration
	rest         time.Duration // see [budget.Controller]
	programs     func(wait func()) (ran, during time.Duration, err error)

	loops    atomic.Int64 // the CPU time that loops have used, in ns
	reported assignment   // the signal that reports on the limit

	mu         sync.Mutex
	control    budget.Controller
	usage      usage
	calls      reducible // nil if they do not run
	counters   int       // number of running instruments that read counters
	references int       // number of running signals
	stop       context.CancelFunc
	stopped    chan struct{}
}

// usage is what nettap took recently, as parts of the machine's CPU time.
type usage struct {
	programs, loops float64
	step            budget.Step
	exceeded        bool // although everything that can be left out is
	measured        bool
	refused         error // why it cannot be measured
}

// reducible is an instrument that can leave out some of its work.
type reducible interface {
	Reduces(step budget.Step) bool
	Reduce(step budget.Step) error
}

func newLimit(c *Config, logger *zap.Logger) *limit {
	if c.MaxCPU == 0 {
		return nil
	}
	return &limit{logger: logger, isChosen: c.maxCPUIsSet, share: c.MaxCPU.share(), every: timedEvery, timed: timedFor, programs: programTime}
}

// acquire records that a signal runs. While any signal runs, what nettap takes is measured.
func (l *limit) acquire() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.references++; l.references > 1 {
		return
	}
	l.control = budget.Controller{Limit: l.share, Rest: l.rest, Changes: l.changes}
	l.usage = usage{}
	running, stop := context.WithCancel(context.Background())
	l.stop, l.stopped = stop, make(chan struct{})
	go l.run(running, l.stopped)
}

// release records that a signal has ended.
func (l *limit) release() {
	if l == nil {
		return
	}
	l.mu.Lock()
	l.references--
	last := l.references == 0
	l.mu.Unlock()
	if last {
		l.stop()
		<-l.stopped
	}
}

// add lets the limit reduce an instrument that has started.
func (l *limit) add(calls reducible) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = calls
	if l.usage.step == budget.Full {
		return nil
	}
	return calls.Reduce(l.usage.step)
}

// remove ends what add began, because the instrument is about to stop.
func (l *limit) remove() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = nil
}

// count changes the number of instruments that read counters.
func (l *limit) count(more int) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counters += more
}

// interval returns the time between two reads of counters.
func (l *limit) interval(configured time.Duration) time.Duration {
	if l == nil || l.read().step < budget.LongIntervals {
		return configured
	}
	return max(configured, min(4*configured, longestInterval))
}

// measureWork does work on behalf of nettap, and counts the CPU time that it takes.
func (l *limit) measureWork(work func()) {
	if l == nil {
		work()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime()
	work()
	l.loops.Add(int64(threadTime() - before))
}

func (l *limit) read() usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.usage
}

func (l *limit) run(ctx context.Context, stopped chan<- struct{}) {
	defer close(stopped)
	if _, _, err := l.programs(func() {}); err != nil { // so that this is known from the start
		l.refuse(err)
		return
	}
	begun, loops := time.Now(), l.loops.Load()
	for sleep(ctx, l.every-l.timed) {
		var now usage
		var err error
		l.measureWork(func() { now.programs, err = l.measure(ctx) })
		if err != nil {
			l.refuse(err)
			return
		}
		if ctx.Err() != nil {
			return
		}
		processors, err := host.Processors()
		if err != nil {
			l.refuse(err)
			return
		}
		spent, passed := l.loops.Load(), time.Since(begun)
		now.loops = float64(spent-loops) / float64(passed)
		begun, loops = begun.Add(passed), spent
		now.programs /= float64(processors)
		now.loops /= float64(processors)
		l.observe(now)
	}
}

// measure returns how many processors the programs kept busy during a short time.
func (l *limit) measure(ctx context.Context) (float64, error) {
	ran, during, err := l.programs(func() { sleep(ctx, l.timed) })
	return float64(ran) / float64(max(during, 1)), err
}

// refuse records why nothing can be measured, and so nothing is limited.
func (l *limit) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.usage.refused = err
	log := l.logger.Info
	if l.isChosen || l.usage.step > budget.Full {
		log = l.logger.Warn
	}
	log("max_cpu is off: what nettap takes cannot be measured", zap.Error(err))
}

// observe applies what was measured, and the step that follows from it.
func (l *limit) observe(now usage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.usage
	now.measured = true
	now.step = l.control.Observe(now.programs+now.loops, time.Now())
	now.exceeded = l.control.Exceeded()
	l.usage = now
	if now.step != before.step && l.calls != nil {
		if err := l.calls.Reduce(now.step); err != nil {
			l.logger.Warn("max_cpu: calls cannot take step "+now.step.String(), zap.Error(err))
		}
	}
	fields := []zap.Field{
		zap.Stringer("programs", percentOf(now.programs)), zap.Stringer("loops", percentOf(now.loops)),
		zap.Stringer("max_cpu", percentOf(l.share)), zap.String("not_seen", now.step.NotSeen()),
	}
	switch {
	case now.step > before.step:
		l.logger.Warn("max_cpu is exceeded: now on step "+now.step.String(), fields...)
	case now.step < before.step:
		l.logger.Info("max_cpu is kept: back on step "+now.step.String(), fields...)
	}
	switch {
	case now.exceeded && !before.exceeded:
		l.logger.Warn("max_cpu is exceeded by what is never left out, on step "+now.step.String(), fields...)
	case before.exceeded && !now.exceeded:
		l.logger.Info("max_cpu is no longer exceeded, on step "+now.step.String(), fields...)
	}
}

// changes reports whether a step leaves out anything that runs. observe calls it.
func (l *limit) changes(step budget.Step) bool {
	if step == budget.LongIntervals {
		return l.counters > 0
	}
	return l.calls != nil && l.calls.Reduces(step)
}
