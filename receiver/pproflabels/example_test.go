// SPDX-License-Identifier: Apache-2.0

package pproflabels_test

import (
	"context"
	"fmt"
	"runtime/pprof"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/seed-7756021b/nettap/receiver/pproflabels"
)

func Example() {
	provider := sdktrace.NewTracerProvider(
		// sdktrace.WithBatcher(exporter),
		sdktrace.WithSpanProcessor(pproflabels.New()),
	)
	tracer := provider.Tracer("example")

	_, span := tracer.Start(context.Background(), "request")
	// What this goroutine does now, and those that it starts, is attributed to the request.
	span.End()
}

func ExampleProcessor_WithLabels() {
	processor := pproflabels.New(pproflabels.WithKeys("trace", "span"))
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(processor))

	ctx, span := provider.Tracer("example").Start(context.Background(), "request")
	defer span.End()
	pprof.Do(processor.WithLabels(ctx), pprof.Labels("step", "parse"), func(ctx context.Context) {
		id, _ := pprof.Label(ctx, "span")
		step, _ := pprof.Label(ctx, "step")
		fmt.Println(id == span.SpanContext().SpanID().String(), step)
	})
	// Output: true parse
}
