// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-7756021b/nettap/internal/budget"
	"github.com/seed-7756021b/nettap/internal/kernel/host"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/metadatatest"
	"github.com/seed-7756021b/nettap/internal/view"
)

// reduced records the steps that it takes.
type reduced struct {
	mu    sync.Mutex
	steps []budget.Step
}

func (r *reduced) Reduces(step budget.Step) bool { return step != budget.NoInnerFunctions }

func (r *reduced) Reduce(step budget.Step) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, step)
	return nil
}

// taken returns the steps since the previous call.
func (r *reduced) taken() []budget.Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	steps := r.steps
	r.steps = nil
	return steps
}

// burden is the share of the machine that simulated programs keep busy.
type burden struct {
	mu    sync.Mutex
	share float64
}

func (l *burden) change(share float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.share = share
}

func (l *burden) programs(wait func()) (ran, during time.Duration, err error) {
	processors, err := host.Processors()
	begun := time.Now()
	wait()
	during = time.Since(begun)
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.share * float64(during) * float64(processors)), during, err
}

func limitTo(maxCPU percent, of *burden) (*limit, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.InfoLevel)
	config := createDefaultConfig().(*Config)
	config.MaxCPU = maxCPU
	l := newLimit(config, zap.New(core))
	l.programs = of.programs
	return l, logs
}

func messages(logs *observer.ObservedLogs) []string {
	var all []string
	for _, entry := range logs.TakeAll() {
		all = append(all, entry.Level.String()+": "+entry.Message)
	}
	return all
}

func TestLimitTakesStepsForwardAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of, calls := &burden{share: 0.03}, &reduced{}
		l, logs := limitTo(2, of)
		l.acquire()
		l.acquire()
		l.count(1)
		if err := l.add(calls); err != nil {
			t.Fatal(err)
		}
		expect := func(what string, want usage, steps []budget.Step, lines ...string) {
			t.Helper()
			synctest.Wait()
			got := l.read()
			got.loops, got.programs = 0, float64(int(1000*got.programs+0.5))/1000
			if got != want {
				t.Errorf("%s: usage is %+v, want %+v", what, got, want)
			}
			if diff := cmp.Diff(steps, calls.taken()); diff != "" {
				t.Errorf("%s: steps of calls differ (-want +got):\n%s", what, diff)
			}
			if diff := cmp.Diff(lines, messages(logs)); diff != "" {
				t.Errorf("%s: log differs (-want +got):\n%s", what, diff)
			}
		}
		time.Sleep(25 * time.Second)
		expect("two above it", usage{measured: true, programs: 0.03}, nil)
		time.Sleep(10 * time.Second)
		expect("three", usage{measured: true, programs: 0.03, step: budget.NoSampledTrees}, []budget.Step{budget.NoSampledTrees},
			"warn: max_cpu is exceeded: now on step no_sampled_trees")
		time.Sleep(60 * time.Second)
		expect("nine", usage{measured: true, programs: 0.03, step: budget.LongIntervals}, []budget.Step{budget.NoCalls, budget.LongIntervals},
			"warn: max_cpu is exceeded: now on step no_calls", "warn: max_cpu is exceeded: now on step long_intervals")
		time.Sleep(30 * time.Second)
		expect("twelve", usage{measured: true, programs: 0.03, step: budget.LongIntervals, exceeded: true}, nil,
			"warn: max_cpu is exceeded by what is never left out, on step long_intervals")
		of.change(0.001)
		time.Sleep(11 * time.Minute)
		expect("eleven minutes below", usage{measured: true, programs: 0.001, step: budget.NoSampledTrees},
			[]budget.Step{budget.NoCalls, budget.NoSampledTrees},
			"info: max_cpu is no longer exceeded, on step long_intervals",
			"info: max_cpu is kept: back on step no_calls", "info: max_cpu is kept: back on step no_sampled_trees")

		late := &reduced{}
		if err := l.add(late); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]budget.Step{budget.NoSampledTrees}, late.taken()); diff != "" {
			t.Errorf("who joins takes other steps (-want +got):\n%s", diff)
		}
		l.remove()
		time.Sleep(10 * time.Minute)
		if steps := late.taken(); steps != nil {
			t.Errorf("who parted took %v", steps)
		}
		l.release()
		l.release()
	})
}

// TestLimitCountsLoops requires that the CPU time of loops counts like that of programs.
func TestLimitCountsLoops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := limitTo(50, &burden{})
		processors, err := host.Processors()
		if err != nil {
			t.Fatal(err)
		}
		l.acquire()
		defer l.release()
		for range 3 {
			synctest.Wait()
			l.loops.Add(int64(timedEvery) * int64(processors) * 3 / 4)
			time.Sleep(timedEvery)
		}
		synctest.Wait()
		if got := l.read(); got.loops < 0.74 || got.loops > 0.76 {
			t.Errorf("the loops took %v of the machine, want 0.75", got.loops)
		}
		if diff := cmp.Diff([]string{"warn: max_cpu is exceeded by what is never left out, on step full"}, messages(logs)); diff != "" {
			t.Errorf("log differs (-want +got):\n%s", diff)
		}
	})
}

// TestLimitTimesWork requires that only the CPU time of work counts, and not the time in which it waits.
func TestLimitTimesWork(t *testing.T) {
	l, _ := limitTo(2, &burden{})
	const busy = 30 * time.Millisecond
	l.measureWork(func() {
		for begun := threadTime(); threadTime()-begun < busy; {
		}
		time.Sleep(10 * busy)
	})
	if took := time.Duration(l.loops.Load()); took < busy || took > 5*busy {
		t.Errorf("it took %v, want %v", took, busy)
	}
	done := false
	(*limit)(nil).measureWork(func() { done = true })
	if !done {
		t.Error("without a limit nothing is done")
	}
}

func TestLimitThatCannotMeasure(t *testing.T) {
	for name, test := range map[string]struct {
		set  bool
		want string
	}{
		"by default":  {false, "info"},
		"of the user": {true, "warn"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, logs := limitTo(2, &burden{})
				l.isChosen = test.set
				l.programs = func(func()) (time.Duration, time.Duration, error) { return 0, 0, errors.New("no") }
				l.acquire()
				time.Sleep(time.Hour)
				l.release()
				if diff := cmp.Diff([]string{test.want + ": max_cpu is off: what nettap takes cannot be measured"}, messages(logs)); diff != "" {
					t.Errorf("log differs (-want +got):\n%s", diff)
				}
				want := &view.Limit{MaxPercent: 2, Step: "full", Why: "no"}
				if got, notSeen := l.shown(); notSeen != "" || !cmp.Equal(want, got) {
					t.Errorf("the view has %+v, and does not see %q; want %+v", got, notSeen, want)
				}
			})
		})
	}
}

func TestLimitOfZeroIsNone(t *testing.T) {
	config := createDefaultConfig().(*Config)
	config.MaxCPU = 0
	l := newLimit(config, zap.NewNop())
	if shown, _ := l.shown(); l != nil || shown != nil || l.interval(time.Second) != time.Second {
		t.Errorf("there is a limit: %+v", l)
	}
	l.acquire()
	l.count(1)
	l.release()
}

// TestIntervalsOnTheLastStep requires that counters are read less often on the last step, and events are
// not, because their ring has a limited size.
func TestIntervalsOnTheLastStep(t *testing.T) {
	for configured, want := range map[time.Duration]time.Duration{
		time.Second: 4 * time.Second, 10 * time.Second: 40 * time.Second, 30 * time.Second: time.Minute, 2 * time.Minute: 2 * time.Minute,
	} {
		l, _ := limitTo(2, &burden{})
		l.usage.step = budget.NoCalls
		if got := l.interval(configured); got != configured {
			t.Errorf("on step no_calls the interval of %v is %v", configured, got)
		}
		l.usage.step = budget.LongIntervals
		if got := l.interval(configured); got != want {
			t.Errorf("the interval of %v is %v, want %v", configured, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		l, _ := limitTo(2, &burden{})
		l.usage.step = budget.LongIntervals
		counters, events := fakeMetrics(), fakeLogs()
		ofCounters := metricsLoop(t, counters, &pipeline{}, zap.NewNop()).withLimit(l)
		ofEvents, _ := logsLoop(t, events, &pipeline{})
		ofEvents.withLimit(l)
		for _, l := range []loop{ofCounters, ofEvents} {
			if err := l.Enable(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(everySecond.InitialDelay + 20*time.Second + 500*time.Millisecond)
		if l.counters != 1 || counters.count("collect") != 6 || events.count("collect") != 21 {
			t.Errorf("in 20 s %d loop read counters %d times, and events were %d times; want 1, 6 and 21", l.counters, counters.count("collect"), events.count("collect"))
		}
		l.mu.Lock()
		l.usage.step = budget.Full
		l.mu.Unlock()
		time.Sleep(20 * time.Second)
		// After one more read at the long interval, the configured interval applies.
		if n := counters.count("collect"); n != 6+17 {
			t.Errorf("in 20 s more counters were read %d times in all, want 23", n)
		}
		for _, l := range []loop{ofCounters, ofEvents} {
			if err := l.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if l.counters != 0 {
			t.Errorf("%d loops read counters after their end", l.counters)
		}
	})
}

func TestPublishLimit(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	defer telemetry.Shutdown(t.Context())
	l, _ := limitTo(2, &burden{})
	builder, err := registerTelemetry(telemetry.NewTelemetrySettings(), component.NewID(metadata.Type), nil, nil, l)
	if err != nil {
		t.Fatal(err)
	}
	defer builder.Shutdown()
	if m, err := telemetry.GetMetric("otelcol_nettap_limit_step"); err == nil {
		t.Errorf("a step is published before it was measured: %v", m)
	}
	l.usage = usage{programs: 0.25, loops: 0.5, step: budget.NoCalls, measured: true}
	receiver, ignore := attribute.String("receiver", "nettap"), metricdatatest.IgnoreTimestamp()
	metadatatest.AssertEqualNettapLimitStep(t, telemetry, []metricdata.DataPoint[int64]{{Value: 3, Attributes: attribute.NewSet(receiver)}}, ignore)
	metadatatest.AssertEqualNettapCPUUsage(t, telemetry, []metricdata.DataPoint[float64]{
		{Value: 0.25, Attributes: attribute.NewSet(receiver, attribute.String("part", "programs"))},
		{Value: 0.5, Attributes: attribute.NewSet(receiver, attribute.String("part", "loops"))},
	}, ignore)
}

func TestViewShowsTheLimit(t *testing.T) {
	config := createDefaultConfig().(*Config)
	shared := newSharedReceiver(config, zap.NewNop())
	shared.limit.usage = usage{programs: 0.0625, loops: 0.25, step: budget.NoCalls, measured: true, exceeded: true}
	health := (&viewServer{shared: shared}).health()
	want := &view.Limit{MaxPercent: 5, ProgramsPercent: 6.25, LoopsPercent: 25, Step: "no_calls", Exceeded: true}
	if diff := cmp.Diff(want, health.Limit); diff != "" {
		t.Errorf("the limit differs (-want +got):\n%s", diff)
	}
	if all := fmt.Sprint(health.NotSeen); !strings.Contains(all, "max_cpu: all calls, on step no_calls.") {
		t.Errorf("what is not seen is %v", all)
	}
}
