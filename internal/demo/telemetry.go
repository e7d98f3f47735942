// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-7756021b/nettap/receiver/pproflabels"
)

// telemetry is what an application sends about itself.
type telemetry struct {
	traces  *sdktrace.TracerProvider
	metrics *sdkmetric.MeterProvider
	tracer  trace.Tracer
	bytes   *byteCounter
}

// newTelemetry sends to the address in the environment variables OTEL_EXPORTER_OTLP_....
func newTelemetry(ctx context.Context, service string, labels bool) (*telemetry, error) {
	self, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHostID(),
		resource.WithProcessPID(),
		resource.WithProcessExecutableName(),
		resource.WithAttributes(semconv.ServiceName(service), semconv.ServiceInstanceID(uuid.NewString())),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, err
	}
	spans, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, err
	}
	points, err := otlpmetricgrpc.New(ctx)
	if err != nil {
		return nil, err
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(self), sdktrace.WithBatcher(spans)}
	if labels {
		options = append(options, sdktrace.WithSpanProcessor(pproflabels.New()))
	}
	t := &telemetry{
		traces:  sdktrace.NewTracerProvider(options...),
		metrics: sdkmetric.NewMeterProvider(sdkmetric.WithResource(self), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points))),
	}
	t.tracer = t.traces.Tracer("demo")
	t.bytes, err = newByteCounter(t.metrics)
	return t, err
}

// http returns the options that make otelhttp report here.
func (t *telemetry) http() []otelhttp.Option {
	return []otelhttp.Option{
		otelhttp.WithTracerProvider(t.traces),
		otelhttp.WithMeterProvider(t.metrics),
		otelhttp.WithPropagators(propagation.TraceContext{}),
	}
}

// shutdown sends what has not been sent yet.
func (t *telemetry) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(t.traces.Shutdown(ctx), t.metrics.Shutdown(ctx))
}
