// SPDX-License-Identifier: Apache-2.0

package installed

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // the service compresses

	"github.com/seed-7756021b/nettap/internal/otlptest"
)

type attributes = otlptest.Attributes

// span is a span that the backend has received.
type span struct {
	ptrace.Span
	attributes
}

// backend is the server that the service sends to.
type backend struct {
	mutex   sync.Mutex
	points  map[string]map[string]point // the last one of each series, by metric and attributes
	records []attributes
	spans   []span
}

type point struct {
	attributes
	value int64
}

// startBackend starts a server of OTLP on the port where the service looks for one by default.
func startBackend(t *testing.T) *backend {
	t.Helper()
	listener, err := net.Listen("tcp", ":4317")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{points: map[string]map[string]point{}}
	server := grpc.NewServer()
	pmetricotlp.RegisterGRPCServer(server, &metricsServer{backend: b})
	plogotlp.RegisterGRPCServer(server, &logsServer{backend: b})
	ptraceotlp.RegisterGRPCServer(server, &tracesServer{backend: b})
	go func() { _ = server.Serve(listener) }() // it ends with the test
	t.Cleanup(server.Stop)
	return b
}

type metricsServer struct {
	pmetricotlp.UnimplementedGRPCServer
	*backend
}

type logsServer struct {
	plogotlp.UnimplementedGRPCServer
	*backend
}

type tracesServer struct {
	ptraceotlp.UnimplementedGRPCServer
	*backend
}

func (s *metricsServer) Export(_ context.Context, request pmetricotlp.ExportRequest) (pmetricotlp.ExportResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, resource := range request.Metrics().ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				s.add(resource.Resource(), metric)
			}
		}
	}
	return pmetricotlp.NewExportResponse(), nil
}

func (b *backend) add(resource pcommon.Resource, metric pmetric.Metric) {
	if metric.Type() != pmetric.MetricTypeSum {
		return
	}
	series := b.points[metric.Name()]
	if series == nil {
		series = map[string]point{}
		b.points[metric.Name()] = series
	}
	for _, p := range metric.Sum().DataPoints().All() {
		if p.Flags().NoRecordedValue() {
			continue
		}
		all := otlptest.Join(resource.Attributes(), p.Attributes())
		series[fmt.Sprint(all)] = point{all, p.IntValue()}
	}
}

func (s *logsServer) Export(_ context.Context, request plogotlp.ExportRequest) (plogotlp.ExportResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, resource := range request.Logs().ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				s.records = append(s.records, s.named(resource.Resource(), record))
			}
		}
	}
	return plogotlp.NewExportResponse(), nil
}

// named returns the attributes of a record, with the name of the event.
func (b *backend) named(resource pcommon.Resource, record plog.LogRecord) attributes {
	all := otlptest.Join(resource.Attributes(), record.Attributes())
	all["event"] = record.EventName()
	return all
}

func (s *tracesServer) Export(_ context.Context, request ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, resource := range request.Traces().ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, sp := range scope.Spans().All() {
				s.spans = append(s.spans, span{sp, otlptest.Join(resource.Resource().Attributes(), sp.Attributes())})
			}
		}
	}
	return ptraceotlp.NewExportResponse(), nil
}

// sum returns the sum of the last points of those series of a metric that have the wanted attributes.
func (b *backend) sum(metric string, want attributes) (sum int64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, p := range b.points[metric] {
		if p.Has(want) {
			sum += p.value
		}
	}
	return sum
}

// recordsWith returns the log records that have the wanted attributes.
func (b *backend) recordsWith(want attributes) (found []attributes) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, r := range b.records {
		if r.Has(want) {
			found = append(found, r)
		}
	}
	return found
}

// spansWith returns the spans that have the wanted attributes.
func (b *backend) spansWith(want attributes) (found []span) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return slices.DeleteFunc(slices.Clone(b.spans), func(s span) bool { return !s.Has(want) })
}
