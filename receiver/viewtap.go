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

// viewTap is how a view looks on at a loop: it is shown what the pipelines get, and may look
// in between where an instrument can be peeked at.
type viewTap[T instrument.Telemetry] struct {
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

// withView lets a view look on.
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

// refreshView shows what there is to see now.
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

// show shows a batch. What goes wrong in there is nothing to the pipelines: a view that
// panics is shown no more.
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
