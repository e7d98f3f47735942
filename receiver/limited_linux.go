package nettapreceiver

import (
	"context"
	"runtime"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/budget"
	"github.com/seed-7756021b/nettap/internal/calls"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/kernel"
)

const (
	timedEvery = 10 * time.Second
	timedFor   = 50 * time.Millisecond // of each timedEvery
)

// limited leaves out some of calls while the programs of all instruments take more of
// the machine than max_cpu.
type limited struct {
	instrument.Instrument[ptrace.Traces]
	calls   *calls.Calls
	logger  *zap.Logger
	control budget.Controller
	stop    context.CancelFunc
	stopped chan struct{}
}

func withLimit(c *Config, logger *zap.Logger, of *calls.Calls) instrument.Instrument[ptrace.Traces] {
	if c.MaxCPU == 0 {
		return of
	}
	return &limited{Instrument: of, calls: of, logger: logger, control: budget.Controller{Limit: c.MaxCPU.share()}}
}

// Begin implements [instrument.Instrument].
func (l *limited) Begin() error {
	if err := l.Instrument.Begin(); err != nil {
		return err
	}
	running, stop := context.WithCancel(context.Background())
	l.stop, l.stopped = stop, make(chan struct{})
	go l.run(running)
	return nil
}

// Shutdown implements [instrument.Instrument].
func (l *limited) Shutdown(ctx context.Context) error {
	if l.stop != nil {
		l.stop()
		<-l.stopped
		l.stop = nil
	}
	return l.Instrument.Shutdown(ctx)
}

// Audit implements auditor.
func (l *limited) Audit() error { return l.calls.Audit() }

func (l *limited) run(ctx context.Context) {
	defer close(l.stopped)
	exceeded := false
	for sleep(ctx, timedEvery-timedFor) {
		begun := time.Now()
		took, err := kernel.RunTime(func() { sleep(ctx, timedFor) })
		if err != nil {
			l.logger.Warn("max_cpu cannot be kept", zap.Error(err))
			return
		}
		share := float64(took) / float64(time.Since(begun)) / float64(runtime.NumCPU())
		before := l.control.Step()
		step := l.control.Observe(share, time.Now())
		if step != before {
			l.take(step, share)
		}
		if now := l.control.Exceeded(); now != exceeded {
			exceeded = now
			if exceeded {
				l.logger.Warn("max_cpu is exceeded without calls too: what remains is never left out", zap.Float64("share", share))
			}
		}
	}
}

func (l *limited) take(step budget.Step, share float64) {
	if err := l.calls.Reduce(step); err != nil {
		l.logger.Warn("max_cpu cannot be kept", zap.Error(err))
		return
	}
	l.logger.Warn("max_cpu: now on step "+step.String(), zap.String("not_seen", step.NotSeen()),
		zap.Float64("share", share), zap.Float64("limit", l.control.Limit))
}
