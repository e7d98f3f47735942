// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"errors"
	"slices"
	"sync"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/seed-7756021b/nettap/internal/calls"
	"github.com/seed-7756021b/nettap/internal/instrument"
)

// fake is an instrument that reports what a test gives it, and records how it is used.
type fake[T instrument.Telemetry] struct {
	mu        sync.Mutex
	empty     func() T
	batches   []T
	startErr  error
	enableErr error
	errs      []error // what the next calls of Collect return
	log       []string
}

func (f *fake[T]) Start(context.Context) error {
	f.note("start")
	return f.startErr
}

func (f *fake[T]) Enable() error {
	f.note("begin")
	return f.enableErr
}

func (f *fake[T]) Collect(context.Context) (T, error) {
	f.note("collect")
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	if len(f.errs) > 0 {
		err, f.errs = f.errs[0], f.errs[1:]
	}
	if len(f.batches) == 0 {
		return f.empty(), err
	}
	batch := f.batches[0]
	f.batches = f.batches[1:]
	return batch, err
}

func (f *fake[T]) Delivered() { f.note("delivered") }

func (f *fake[T]) Shutdown(context.Context) error {
	f.note("shutdown")
	return nil
}

func (f *fake[T]) note(deed string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, deed)
}

func (f *fake[T]) count(deed string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(f.log), func(noted string) bool { return noted != deed }))
}

func fakeLogs(batches ...plog.Logs) *fake[plog.Logs] {
	return &fake[plog.Logs]{empty: plog.NewLogs, batches: batches}
}

func fakeMetrics(batches ...pmetric.Metrics) *fake[pmetric.Metrics] {
	return &fake[pmetric.Metrics]{empty: pmetric.NewMetrics, batches: batches}
}

func fakeTraces(batches ...ptrace.Traces) *fake[ptrace.Traces] {
	return &fake[ptrace.Traces]{empty: ptrace.NewTraces, batches: batches}
}

// trees returns a batch of traces with these names, each with two spans.
func trees(names ...string) ptrace.Traces {
	traces := ptrace.NewTraces()
	all := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	for _, name := range names {
		root := all.AppendEmpty()
		root.SetName(name)
		root.SetParentSpanID([8]byte{9}) // a span of an application
		root.Attributes().PutStr(calls.RootAttribute, "slow")
		child := all.AppendEmpty()
		child.SetName(name + "'")
		child.SetParentSpanID([8]byte{1})
	}
	return traces
}

// records returns a batch of log records with these bodies.
func records(bodies ...string) plog.Logs {
	logs := plog.NewLogs()
	all := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	for _, body := range bodies {
		all.AppendEmpty().Body().SetStr(body)
	}
	return logs
}

// points returns a batch of points with these values.
func points(values ...int64) pmetric.Metrics {
	metrics := pmetric.NewMetrics()
	all := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty().SetEmptySum().DataPoints()
	for _, value := range values {
		all.AppendEmpty().SetIntValue(value)
	}
	return metrics
}

var errBusy = errors.New("busy")
