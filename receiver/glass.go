package nettapreceiver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/instrument"
)

// glass is how a view looks on at a loop: it is shown what the pipelines get, and may look
// in between where an instrument can be peeked at.
type glass[T instrument.Telemetry] struct {
	mu   sync.Mutex // for the instrument: the loop and the view have it in turns
	show func(T)    // nil: nobody looks on

	// partial says that the configuration leaves out of what the pipelines get what tells
	// series apart: then it is not shown, and the view looks for itself.
	partial bool

	last atomic.Pointer[reading]
}

// reading is when an instrument was last read, and what was wrong then.
type reading struct {
	at  time.Time
	err error
}

// shownBy lets a view look on.
func (l *loop[T]) shownBy(v *viewing) *loop[T] {
	if v == nil {
		return l
	}
	l.glass.show, _ = v.takers()[l.name].(func(T))
	l.glass.partial = v.house.config.isPartial(l.name)
	return l
}

func (l *loop[T]) collect(ctx context.Context) (T, error) {
	l.glass.mu.Lock()
	defer l.glass.mu.Unlock()
	batch, err := l.instrument.Collect(ctx)
	l.glass.last.Store(&reading{time.Now(), err})
	if l.glass.show == nil {
		return batch, err
	}
	if l.glass.partial && !isEvents(batch) {
		l.peek(ctx)
	} else if items(batch) > 0 {
		l.present(batch)
	}
	return batch, err
}

func (l *loop[T]) delivered(i instrument.Deliverer) {
	l.glass.mu.Lock()
	defer l.glass.mu.Unlock()
	i.Delivered()
}

// look shows what there is to see now.
func (l *loop[T]) look(ctx context.Context) {
	l.glass.mu.Lock()
	defer l.glass.mu.Unlock()
	if l.glass.show != nil {
		l.peek(ctx)
	}
}

func (l *loop[T]) peek(ctx context.Context) {
	i, ok := l.instrument.(instrument.Peeker[T])
	if !ok {
		return
	}
	batch, err := i.Peek(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return
	}
	l.glass.last.Store(&reading{time.Now(), err})
	if items(batch) > 0 {
		l.present(batch)
	}
}

// present shows a batch. What goes wrong in there is nothing to the pipelines: a view that
// panics is shown no more.
func (l *loop[T]) present(batch T) {
	defer func() {
		if wrong := recover(); wrong != nil {
			l.glass.show = nil
			l.logger.Error("the view cannot show this instrument any more", zap.Any("panic", wrong), zap.Stack("stack"))
		}
	}()
	l.glass.show(batch)
}

func (l *loop[T]) lately() reading {
	if last := l.glass.last.Load(); last != nil {
		return *last
	}
	return reading{}
}

func items[T instrument.Telemetry](batch T) int {
	switch b := any(batch).(type) {
	case pmetric.Metrics:
		return b.DataPointCount()
	case plog.Logs:
		return b.LogRecordCount()
	case ptrace.Traces:
		return b.SpanCount()
	}
	return 0
}

func isEvents[T instrument.Telemetry](batch T) bool {
	_, metrics := any(batch).(pmetric.Metrics)
	return !metrics
}
