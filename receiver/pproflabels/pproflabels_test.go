// SPDX-License-Identifier: Apache-2.0

package pproflabels_test

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-7756021b/nettap/receiver/pproflabels"
)

// program makes spans as a case says, and records the labels that the goroutine had.
type program struct {
	t         *testing.T
	tracer    trace.Tracer
	processor *pproflabels.Processor
	names     map[string]string // of spans, by their ids
	seen      []string
}

func newProgram(t *testing.T, options ...sdktrace.TracerProviderOption) *program {
	processor := pproflabels.New()
	provider := sdktrace.NewTracerProvider(append(options, sdktrace.WithSpanProcessor(processor))...)
	t.Cleanup(func() { pprof.SetGoroutineLabels(context.Background()) })
	return &program{t: t, tracer: provider.Tracer("test"), processor: processor, names: map[string]string{}}
}

func (p *program) start(ctx context.Context, name string) (context.Context, trace.Span) {
	ctx, span := p.tracer.Start(ctx, name)
	id := span.SpanContext()
	p.names[id.TraceID().String()+" "+id.SpanID().String()] = name
	return ctx, span
}

// look records the labels that the goroutine profile has for this goroutine, such as "a step=parse"
// while span a is active.
func (p *program) look() {
	p.t.Helper()
	labels := profiled(p.t)
	var words []string
	if id := strings.TrimSpace(labels["trace_id"] + " " + labels["span_id"]); id != "" {
		words = append(words, p.names[id])
		if p.names[id] == "" {
			words = []string{"unknown " + id}
		}
	}
	var others []string
	for key, value := range labels {
		if key != "trace_id" && key != "span_id" {
			others = append(others, key+"="+value)
		}
	}
	slices.Sort(others)
	words = append(words, others...)
	p.seen = append(p.seen, strings.Join(words, " "))
}

// elsewhere runs f on a goroutine without labels.
func elsewhere(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pprof.SetGoroutineLabels(context.Background())
		f()
	}()
	<-done
}

var label = regexp.MustCompile(`("(?:[^"\\]|\\.)*"):("(?:[^"\\]|\\.)*")`)

// profiled returns the labels of the goroutine that calls it. Another goroutine writes
// the profile, because Go 1.21 leaves out the labels of the one that does.
func profiled(t *testing.T) map[string]string {
	t.Helper()
	var profile bytes.Buffer
	written := make(chan error)
	go func() { written <- pprof.Lookup("goroutine").WriteTo(&profile, 1) }()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, block := range strings.Split(profile.String(), "\n\n") {
		if !strings.Contains(block, "pproflabels_test.profiled+") {
			continue
		}
		for _, pair := range label.FindAllStringSubmatch(block, -1) {
			key, _ := strconv.Unquote(pair[1])
			labels[key], _ = strconv.Unquote(pair[2])
		}
	}
	return labels
}

func TestLabels(t *testing.T) {
	background := context.Background()
	for name, test := range map[string]struct {
		run  func(*program)
		want []string
	}{
		"a span within a span": {
			run: func(p *program) {
				ctx, a := p.start(background, "a")
				p.look()
				_, b := p.start(ctx, "b")
				p.look()
				b.End()
				p.look()
				a.End()
				p.look()
			},
			want: []string{"a", "b", "a", ""},
		},
		"the outer span ends first": {
			run: func(p *program) {
				ctx, a := p.start(background, "a")
				_, b := p.start(ctx, "b")
				a.End()
				p.look()
				b.End()
				p.look()
			},
			want: []string{"b", ""},
		},
		"the span in the middle ends first": {
			run: func(p *program) {
				ctx, a := p.start(background, "a")
				ctx, b := p.start(ctx, "b")
				_, c := p.start(ctx, "c")
				b.End()
				p.look()
				c.End()
				p.look()
				_, d := p.start(ctx, "d")
				p.look()
				d.End()
				a.End()
				p.look()
			},
			want: []string{"c", "", "d", ""},
		},
		"one after another": {
			run: func(p *program) {
				for _, name := range []string{"a", "b", "c"} {
					_, span := p.start(background, name)
					p.look()
					span.End()
					p.look()
				}
			},
			want: []string{"a", "", "b", "", "c", ""},
		},
		"a span of another trace within": {
			run: func(p *program) {
				_, a := p.start(background, "a")
				_, b := p.start(background, "b")
				p.look()
				b.End()
				p.look()
				a.End()
			},
			want: []string{"b", "a"},
		},
		"where a span ends that started elsewhere, labels stay": {
			run: func(p *program) {
				_, a := p.start(background, "a")
				elsewhere(func() {
					ctx, b := p.start(background, "b")
					a.End()
					p.look()
					_, c := p.start(ctx, "c")
					c.End()
					p.look()
					b.End()
					p.look()
				})
			},
			want: []string{"b", "b", ""},
		},
		"where a span started that ended elsewhere, it stays until the next": {
			run: func(p *program) {
				_, a := p.start(background, "a")
				elsewhere(func() { a.End() })
				p.look()
				_, b := p.start(background, "b")
				p.look()
				b.End()
				p.look()
			},
			want: []string{"a", "b", ""},
		},
		"a goroutine that takes work has its own labels again": {
			run: func(p *program) {
				ctx, a := p.start(background, "a")
				elsewhere(func() {
					_, b := p.start(ctx, "b")
					p.look()
					b.End()
					p.look()
				})
				p.look()
				a.End()
			},
			want: []string{"b", "", "a"},
		},
		"a new goroutine inherits, and may end the span": {
			run: func(p *program) {
				ctx, a := p.start(background, "a")
				_, b := p.start(ctx, "b")
				done := make(chan struct{})
				go func() {
					defer close(done)
					p.look()
					b.End()
					p.look()
				}()
				<-done
				p.look()
				a.End()
			},
			want: []string{"b", "a", "b"},
		},
		"labels of the program are kept": {
			run: func(p *program) {
				pprof.Do(background, pprof.Labels("step", "parse", "zone", "1"), func(ctx context.Context) {
					_, a := p.start(ctx, "a")
					p.look()
					a.End()
					p.look()
				})
				p.look()
			},
			want: []string{"a step=parse zone=1", "step=parse zone=1", ""},
		},
		"labels of the goroutine are kept that the context does not have": {
			run: func(p *program) {
				pprof.SetGoroutineLabels(pprof.WithLabels(background, pprof.Labels("step", "parse")))
				_, a := p.start(background, "a")
				p.look()
				a.End()
				p.look()
			},
			want: []string{"a step=parse", "step=parse"},
		},
		"pprof.Do knows nothing of the span": {
			run: func(p *program) {
				ctx, a := p.start(background, "a")
				pprof.Do(ctx, pprof.Labels("step", "parse"), func(context.Context) { p.look() })
				p.look()
				a.End()
				p.look()
			},
			want: []string{"step=parse", "", ""},
		},
		"pprof.Do is told of the span": {
			run: func(p *program) {
				ctx, a := p.start(background, "a")
				ctx, b := p.start(ctx, "b")
				pprof.Do(p.processor.WithLabels(ctx), pprof.Labels("step", "parse"), func(context.Context) { p.look() })
				p.look()
				b.End()
				p.look()
				a.End()
				p.look()
			},
			want: []string{"b step=parse", "b", "a", ""},
		},
		"labels that the program set meanwhile are kept": {
			run: func(p *program) {
				ctx, a := p.start(background, "a")
				pprof.SetGoroutineLabels(pprof.WithLabels(p.processor.WithLabels(ctx), pprof.Labels("step", "parse")))
				a.End()
				p.look()
			},
			want: []string{"step=parse"},
		},
		"a goroutine is told whom it works for": {
			run: func(p *program) {
				ctx, a := p.start(background, "a")
				elsewhere(func() {
					pprof.SetGoroutineLabels(p.processor.WithLabels(ctx))
					p.look()
				})
				a.End()
				elsewhere(func() {
					pprof.SetGoroutineLabels(p.processor.WithLabels(ctx))
					p.look()
				})
			},
			want: []string{"a", ""},
		},
		"ending twice is ending once": {
			run: func(p *program) {
				ctx, a := p.start(background, "a")
				_, b := p.start(ctx, "b")
				b.End()
				b.End()
				p.look()
				a.End()
			},
			want: []string{"a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProgram(t)
			test.run(p)
			if diff := cmp.Diff(test.want, p.seen); diff != "" {
				t.Errorf("labels differ (-want +got):\n%s", diff)
			}
		})
	}
}

// recordOnly samples no span, and records all of them.
type recordOnly struct{ sdktrace.Sampler }

func (recordOnly) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{Decision: sdktrace.RecordOnly}
}

func TestSpansThatNobodyExportsAreNotPublished(t *testing.T) {
	for name, sampler := range map[string]sdktrace.Sampler{
		"dropped": sdktrace.NeverSample(), "recorded only": recordOnly{sdktrace.NeverSample()},
	} {
		t.Run(name, func(t *testing.T) {
			published, hidden := newProgram(t), newProgram(t, sdktrace.WithSampler(sampler))
			ctx, a := published.start(context.Background(), "a")
			ctx, b := hidden.start(ctx, "b")
			published.look()
			pprof.Do(hidden.processor.WithLabels(ctx), pprof.Labels(), func(context.Context) { hidden.look() })
			b.End()
			a.End()
			published.look()
			if diff := cmp.Diff([]string{"a", ""}, published.seen); diff != "" {
				t.Errorf("labels differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{""}, hidden.seen); diff != "" {
				t.Errorf("labels of the hidden span differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSpansAtTheSameTimeHaveTheirOwnLabels(t *testing.T) {
	const goroutines, spans = 50, 200
	processor := pproflabels.New(pproflabels.WithKeys("t", "s"))
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(processor)).Tracer("test")
	// The labels are read without a profile, which would take too long here.
	is := func(ctx context.Context) error {
		want := trace.SpanContextFromContext(ctx)
		labels := pproflabels.GoroutineLabels()
		traceID, _ := pprof.Label(labels, "t")
		spanID, _ := pprof.Label(labels, "s")
		if want.IsValid() != (spanID != "") || want.IsValid() && (traceID != want.TraceID().String() || spanID != want.SpanID().String()) {
			return fmt.Errorf("labels are %q and %q in span %v of trace %v", traceID, spanID, want.SpanID(), want.TraceID())
		}
		return nil
	}
	errs := make(chan error, goroutines)
	var all sync.WaitGroup
	for i := 0; i < goroutines; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := 0; j < spans; j++ {
				outer, a := tracer.Start(context.Background(), "a")
				inner, b := tracer.Start(outer, "b")
				err := is(inner)
				b.End()
				if err == nil {
					err = is(outer)
				}
				a.End()
				if err == nil {
					err = is(context.Background())
				}
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	all.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func TestSpansThatNeverEndAreForgotten(t *testing.T) {
	p := newProgram(t)
	_, first := p.start(context.Background(), "first")
	elsewhere(func() {
		for i := 0; i < 100_000; i++ {
			p.tracer.Start(context.Background(), "endless")
		}
		ctx, a := p.start(context.Background(), "a")
		_, b := p.start(ctx, "b")
		p.look()
		b.End()
		p.look()
		a.End()
	})
	first.End()
	p.look()
	if diff := cmp.Diff([]string{"b", "a", ""}, p.seen); diff != "" {
		t.Errorf("labels differ (-want +got):\n%s", diff)
	}
}

func BenchmarkSpan(b *testing.B) {
	for name, options := range map[string][]sdktrace.TracerProviderOption{
		"without": nil,
		"with":    {sdktrace.WithSpanProcessor(pproflabels.New())},
	} {
		b.Run(name, func(b *testing.B) {
			options := append([]sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(nothing{})}, options...)
			tracer := sdktrace.NewTracerProvider(options...).Tracer("test")
			ctx, span := tracer.Start(context.Background(), "outer")
			defer span.End()
			b.ReportAllocs()
			for i := 0; i < b.N; i++ {
				_, span := tracer.Start(ctx, "inner")
				span.End()
			}
		})
	}
}

// nothing is a processor, without which the SDK does not make spans at all.
type nothing struct{ sdktrace.SpanProcessor }

func (nothing) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (nothing) OnEnd(sdktrace.ReadOnlySpan)                     {}
