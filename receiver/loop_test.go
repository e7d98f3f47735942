// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// pipeline is a consumer that records the bodies or values that it takes. It returns the next answer to
// each offer, or takes it if there is no answer left.
type pipeline struct {
	answers []error
	spoil   bool // it changes what it is offered, as a processor may do

	mu     sync.Mutex
	offers int
	took   []string
}

func took(p *pipeline) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.took)
}

func offers(p *pipeline) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offers
}

func (p *pipeline) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.answer(ctx); err != nil {
		if p.spoil {
			logs.ResourceLogs().RemoveIf(func(plog.ResourceLogs) bool { return true })
		}
		return err
	}
	for _, resource := range logs.ResourceLogs().All() {
		for _, record := range resource.ScopeLogs().At(0).LogRecords().All() {
			p.took = append(p.took, record.Body().Str())
		}
	}
	return nil
}

func (p *pipeline) ConsumeMetrics(ctx context.Context, metrics pmetric.Metrics) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.answer(ctx); err != nil {
		return err
	}
	for _, point := range metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().All() {
		p.took = append(p.took, string(rune('0'+point.IntValue())))
	}
	return nil
}

func (p *pipeline) ConsumeTraces(ctx context.Context, traces ptrace.Traces) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.answer(ctx); err != nil {
		return err
	}
	for _, span := range traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
		p.took = append(p.took, span.Name())
	}
	return nil
}

func (p *pipeline) answer(ctx context.Context) error {
	p.offers++
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(p.answers) == 0 {
		return nil
	}
	err := p.answers[0]
	p.answers = p.answers[1:]
	return err
}

func (*pipeline) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

var everySecond = InstrumentConfig{CollectionInterval: time.Second, InitialDelay: 10 * time.Second}

func logsLoop(t *testing.T, instrument instrument.Instrument[plog.Logs], next consumer.Logs) (*signalLoop[plog.Logs], *stats.Recorder) {
	t.Helper()
	consumer, err := newLogsConsumer(receivertest.NewNopSettings(metadata.Type), next)
	if err != nil {
		t.Fatal(err)
	}
	b := new(stats.Recorder)
	return newSignalLoop(configuredInstrument[plog.Logs]{"accepts", everySecond, b, instrument}, consumer, zap.NewNop()), b
}

func metricsLoop(t *testing.T, instrument instrument.Instrument[pmetric.Metrics], next consumer.Metrics, logger *zap.Logger) *signalLoop[pmetric.Metrics] {
	t.Helper()
	consumer, err := newMetricsConsumer(receivertest.NewNopSettings(metadata.Type), next)
	if err != nil {
		t.Fatal(err)
	}
	return newSignalLoop(configuredInstrument[pmetric.Metrics]{"traffic", everySecond, new(stats.Recorder), instrument}, consumer, logger)
}

func TestLoopCollectsAfterTheDelayAndOnTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		instrument, pipeline := fakeMetrics(points(1), points(2), points(3)), &pipeline{}
		l := metricsLoop(t, instrument, pipeline, zap.NewNop())
		starting, started := context.WithCancel(t.Context())
		if err := errors.Join(l.Start(starting), l.Enable()); err != nil {
			t.Fatal(err)
		}
		started() // the loop must outlive Start's context

		for _, step := range []struct {
			after time.Duration
			want  []string
		}{
			{9500 * time.Millisecond, nil},
			{time.Second, []string{"1"}},
			{time.Second, []string{"1", "2"}},
		} {
			time.Sleep(step.after)
			synctest.Wait()
			if diff := cmp.Diff(step.want, took(pipeline)); diff != "" {
				t.Errorf("taken points differ (-want +got):\n%s", diff)
			}
		}

		if err := l.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"1", "2", "3"}, took(pipeline)); diff != "" {
			t.Errorf("a shutdown delivers what is left (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"start", "begin", "collect", "delivered", "collect", "delivered", "collect", "delivered", "shutdown"}, instrument.log); diff != "" {
			t.Errorf("deeds differ (-want +got):\n%s", diff)
		}
	})
}

func TestLoopDelivers(t *testing.T) {
	permanent := consumererror.NewPermanent(errors.New("no such tenant"))
	for name, test := range map[string]struct {
		answers      []error
		spoil        bool
		want         []string
		wantExported uint64
		wantLost     map[string]uint64
	}{
		"events that are taken": {
			want: []string{"a", "b", "c", "d"}, wantExported: 4,
		},
		"events that are taken later, once": {
			answers: []error{errBusy, errBusy, errBusy},
			want:    []string{"a", "b", "c", "d"}, wantExported: 4,
		},
		"the original again, when a processor changed what was refused": {
			answers: []error{errBusy}, spoil: true,
			want: []string{"a", "b", "c", "d"}, wantExported: 4,
		},
		"only what is left, when a part was taken": {
			answers: []error{consumererror.NewLogs(errBusy, records("c"))},
			want:    []string{"c", "d"}, wantExported: 4,
		},
		"nothing that is refused for good, and counts it": {
			answers: []error{permanent},
			want:    []string{"d"}, wantExported: 1, wantLost: map[string]uint64{"refused": 3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pipeline := &pipeline{answers: test.answers, spoil: test.spoil}
				l, b := logsLoop(t, fakeLogs(records("a", "b", "c"), records("d")), pipeline)
				if err := errors.Join(l.Start(t.Context()), l.Enable()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if err := l.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, took(pipeline)); diff != "" {
					t.Errorf("taken records differ (-want +got):\n%s", diff)
				}
				want := stats.Totals{Counts: stats.Counts{Exported: test.wantExported, Lost: test.wantLost}}
				if diff := cmp.Diff(want, b.Read()); diff != "" {
					t.Errorf("statistics differ (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestLoopCountsATraceAsOneEvent(t *testing.T) {
	permanent := consumererror.NewPermanent(errors.New("no such tenant"))
	for name, test := range map[string]struct {
		answers      []error
		want         []string
		wantExported uint64
		wantLost     map[string]uint64
	}{
		"that is taken": {
			want: []string{"a", "a'", "b", "b'"}, wantExported: 2,
		},
		"that is taken later, when a part was taken before": {
			answers: []error{consumererror.NewTraces(errBusy, trees("b"))},
			want:    []string{"b", "b'"}, wantExported: 2,
		},
		"that is refused for good": {
			answers: []error{permanent}, wantLost: map[string]uint64{"refused": 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pipeline, b := &pipeline{answers: test.answers}, new(stats.Recorder)
				consumer, err := newTracesConsumer(receivertest.NewNopSettings(metadata.Type), pipeline)
				if err != nil {
					t.Fatal(err)
				}
				l := newSignalLoop(configuredInstrument[ptrace.Traces]{"calls", everySecond, b, fakeTraces(trees("a", "b"))}, consumer, zap.NewNop())
				if err := errors.Join(l.Start(t.Context()), l.Enable()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if err := l.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, took(pipeline)); diff != "" {
					t.Errorf("taken spans differ (-want +got):\n%s", diff)
				}
				want := stats.Totals{Counts: stats.Counts{Exported: test.wantExported, Lost: test.wantLost}}
				if diff := cmp.Diff(want, b.Read()); diff != "" {
					t.Errorf("statistics differ (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestLoopLeavesTheRingAloneWhileABatchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipeline := &pipeline{}
		for range 10 {
			pipeline.answers = append(pipeline.answers, errBusy)
		}
		instrument := fakeLogs(records("a"), records("b"))
		l, _ := logsLoop(t, instrument, pipeline)
		if err := errors.Join(l.Start(t.Context()), l.Enable()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		if got := instrument.count("collect"); got != 1 || offers(pipeline) < 2 {
			t.Errorf("collected %d times and offered %d times, want 1 and some", got, offers(pipeline))
		}
		time.Sleep(time.Minute)
		if err := l.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"a", "b"}, took(pipeline)); diff != "" {
			t.Errorf("taken records differ (-want +got):\n%s", diff)
		}
	})
}

func TestLoopShutdownWithABusyPipeline(t *testing.T) {
	for name, test := range map[string]struct {
		busyFor      int // how many offers it refuses
		want         []string
		wantExported uint64
		wantLost     map[string]uint64
	}{
		"the batch that waits and the last one are delivered, if the pipeline takes them soon": {
			// The pauses between offers are random: seven take 1.6 to 4.8 s. The first one begins a second before the shutdown.
			busyFor: 7, want: []string{"a", "b"}, wantExported: 2,
		},
		"what it never takes is counted as lost, and the shutdown does not wait for ever": {
			busyFor: 1 << 20, wantLost: map[string]uint64{"refused": 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pipeline := &pipeline{}
				for range test.busyFor {
					pipeline.answers = append(pipeline.answers, errBusy)
				}
				l, b := logsLoop(t, fakeLogs(records("a"), records("b")), pipeline)
				if err := errors.Join(l.Start(t.Context()), l.Enable()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(11 * time.Second)
				begin := time.Now()
				if err := l.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begin); took > lastDelivery {
					t.Errorf("the shutdown took %v, want at most %v", took, lastDelivery)
				}
				if diff := cmp.Diff(test.want, took(pipeline)); diff != "" {
					t.Errorf("taken records differ (-want +got):\n%s", diff)
				}
				want := stats.Totals{Counts: stats.Counts{Exported: test.wantExported, Lost: test.wantLost}}
				if diff := cmp.Diff(want, b.Read()); diff != "" {
					t.Errorf("statistics differ (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestLoopDropsPointsThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		instrument, pipeline := fakeMetrics(points(1), points(2)), &pipeline{answers: []error{errBusy}}
		l := metricsLoop(t, instrument, pipeline, zap.NewNop())
		if err := errors.Join(l.Start(t.Context()), l.Enable()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Second + 1500*time.Millisecond)
		if err := l.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"2"}, took(pipeline)); diff != "" {
			t.Errorf("taken points differ (-want +got):\n%s", diff)
		}
		want := []string{"start", "begin", "collect", "collect", "delivered", "collect", "shutdown"}
		if diff := cmp.Diff(want, instrument.log); diff != "" {
			t.Errorf("the instrument was told otherwise what was delivered (-want +got):\n%s", diff)
		}
	})
}

func TestLoopSendsWhatAnIncompleteReadingGave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, log := observer.New(zap.WarnLevel)
		pipeline := &pipeline{}
		instrument := fakeMetrics(points(1), points(2), points(3), points(4))
		once, other := errors.New("map is gone"), errors.New("clock is gone")
		instrument.errs = []error{once, once, other, nil, once}
		l := metricsLoop(t, instrument, pipeline, zap.New(core))
		if err := errors.Join(l.Start(t.Context()), l.Enable()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := l.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"1", "2", "3", "4"}, took(pipeline)); diff != "" {
			t.Errorf("taken points differ (-want +got):\n%s", diff)
		}
		var logged []any
		for _, entry := range log.All() {
			logged = append(logged, entry.ContextMap()["error"])
		}
		if diff := cmp.Diff([]any{once.Error(), other.Error(), once.Error()}, logged); diff != "" {
			t.Errorf("an error that stays is logged once (-want +got):\n%s", diff)
		}
		if got := l.recorder.Read().CollectErrors; got != 4 {
			t.Errorf("%d readings are counted as incomplete, want 4", got)
		}
		if totals := l.recorder.Read(); totals.Scraped != 4 || totals.Errored != 4 {
			t.Errorf("%d points are counted and %d that could not be read, want 4 and 4", totals.Scraped, totals.Errored)
		}
	})
}

func TestCountErrors(t *testing.T) {
	one := errors.New("a map is gone")
	for name, test := range map[string]struct {
		err  error
		want uint64
	}{
		"none":              {nil, 0},
		"one":               {one, 1},
		"one with a reason": {fmt.Errorf("read drops: %w", one), 1},
		"several":           {errors.Join(one, one, one), 3},
		"several in one":    {errors.Join(one, fmt.Errorf("read drops: %w", errors.Join(one, one))), 3},
	} {
		t.Run(name, func(t *testing.T) {
			if got := countErrors(test.err); got != test.want {
				t.Errorf("countErrors() = %d, want %d", got, test.want)
			}
		})
	}
}

func TestLoopOfAnInstrumentThatDoesNotStart(t *testing.T) {
	instrument := fakeLogs()
	instrument.startErr = errors.New("no BTF")
	l, _ := logsLoop(t, instrument, &pipeline{})
	if err := l.Start(t.Context()); !errors.Is(err, instrument.startErr) {
		t.Errorf("Start: %v, want %v", err, instrument.startErr)
	}
	if err := l.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if diff := cmp.Diff([]string{"start", "shutdown"}, instrument.log); diff != "" {
		t.Errorf("deeds differ (-want +got):\n%s", diff)
	}
}
