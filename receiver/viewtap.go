// SPDX-License-Identifier: Apache-2.0

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

// viewTap is how a view observes a loop. It is shown what the pipelines get, and may read the
// instrument in between if that can be peeked at.
type viewTap[T instrument.Telemetry] struct {
	mu   sync.Mutex // guards the instrument, which the loop and the view use in turn
	show func(T)    // nil if no one watches

	// partial means that the pipelines get points without something that distinguishes series.
	// These are not shown, and the view reads the instrument itself.
	partial bool

	last atomic.Pointer[reading]
}

// reading is when an instrument was last read, and the error of that.
type reading struct {
	at  time.Time
	err error
}

// withView lets a view observe the loop.
func (l *signalLoop[T]) withView(v *viewServer) *signalLoop[T] {
	if v == nil {
		return l
	}
	l.view.show, _ = v.consumers()[l.name].(func(T))
	l.view.partial = v.shared.config.isPartial(l.name)
	return l
}

func (l *signalLoop[T]) collect(ctx context.Context) (T, error) {
	l.view.mu.Lock()
	defer l.view.mu.Unlock()
	batch, err := l.instrument.Collect(ctx)
	l.view.last.Store(&reading{time.Now(), err})
	if l.view.show == nil {
		return batch, err
	}
	if l.view.partial && !isEvents(batch) {
		l.peek(ctx)
	} else if items(batch) > 0 {
		l.show(batch)
	}
	return batch, err
}

func (l *signalLoop[T]) delivered(i instrument.Deliverer) {
	l.view.mu.Lock()
	defer l.view.mu.Unlock()
	i.Delivered()
}

// refreshView shows the present state.
func (l *signalLoop[T]) refreshView(ctx context.Context) {
	l.view.mu.Lock()
	defer l.view.mu.Unlock()
	if l.view.show != nil {
		l.peek(ctx)
	}
}

func (l *signalLoop[T]) peek(ctx context.Context) {
	i, ok := l.instrument.(instrument.Peeker[T])
	if !ok {
		return
	}
	batch, err := i.Peek(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return
	}
	l.view.last.Store(&reading{time.Now(), err})
	if items(batch) > 0 {
		l.show(batch)
	}
}

// show shows a batch. What goes wrong in the view does not affect the pipelines: a view that
// panics is not shown anything any more.
func (l *signalLoop[T]) show(batch T) {
	defer func() {
		if wrong := recover(); wrong != nil {
			l.view.show = nil
			l.logger.Error("the view cannot show this instrument any more", zap.Any("panic", wrong), zap.Stack("stack"))
		}
	}()
	l.view.show(batch)
}

func (l *signalLoop[T]) lastReading() reading {
	if last := l.view.last.Load(); last != nil {
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
