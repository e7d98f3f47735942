// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // agents compress with it
	"google.golang.org/grpc/stats"

	"github.com/seed-7756021b/nettap/internal/vm"
)

// The signals that a node sends, as the Collector's own metrics name them.
const (
	metricsSignal = "metrics"
	logsSignal    = "logs"
	tracesSignal  = "traces"
)

var signals = []string{metricsSignal, logsSignal, tracesSignal}

// sizing is what one node sends to its gateway.
type sizing struct {
	Kernel   string   `json:"kernel"` // as uname -r prints it
	Commit   string   `json:"commit"`
	Programs int      `json:"programs"`             // each of which exchanges a message a second
	Accepted float64  `json:"connections_a_second"` // that they make
	Interval int      `json:"interval_seconds"`     // between two collections of metrics
	Points   float64  `json:"points_each_interval"` // of series of their own
	Records  float64  `json:"log_records_a_second"`
	Spans    float64  `json:"spans_a_second"`
	Each     bySignal `json:"bytes_each"`           // compressed, of a point, a record and a span
	Queued   bySignal `json:"queue_bytes_a_second"` // while there is no gateway
}

// bySignal has a figure of each signal.
type bySignal struct {
	Metrics float64 `json:"metrics"`
	Logs    float64 `json:"logs"`
	Traces  float64 `json:"traces"`
}

// bySignalOf returns a figure of each signal.
func bySignalOf(figure func(signal string) float64) bySignal {
	return bySignal{figure(metricsSignal), figure(logsSignal), figure(tracesSignal)}
}

const (
	// sizingPrograms is how many programs the node has.
	sizingPrograms = 100

	// sizingTurns is how many collections of metrics are counted, after the first ones.
	sizingTurns = 6

	// sizingTimeout is how long a collection may take to arrive.
	sizingTimeout = time.Minute

	// sizingOutage is how long the gateway is away.
	sizingOutage = time.Minute

	// othersPart is the part of what is sent that other programs of the machine may cause.
	othersPart = 0.1
)

// sizingOverlay is merged over deploy/service.yaml, whose ports may be in use here.
const sizingOverlay = `
extensions: {health_check: {endpoint: "127.0.0.1:%d"}}
service: {telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: %d}}}}]}}}
`

// runSizing measures and, if this is to be recorded, writes the record and the tables.
func (b *bench) runSizing(ctx context.Context) error {
	commit, err := cleanCommit(ctx)
	if err != nil && b.record {
		return err
	}
	release, err := vm.Output(exec.CommandContext(ctx, "uname", "-r"))
	if err != nil {
		return err
	}
	s := sizing{Kernel: strings.TrimSpace(string(release)), Commit: commit, Programs: sizingPrograms}
	if err := b.measureSizing(ctx, &s); err != nil {
		return err
	}
	fmt.Print(s.markdown())
	if !b.record {
		return nil
	}
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(sizingFile, append(text, '\n'), 0o644), tablesOfSizing.Check(sizingDocument, s.markdown(), true))
}

func readSizing(file string) (s sizing, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return sizing{}, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// measureSizing lets programs exchange messages beside an agent. First the gateway takes what the agent
// sends, and then it is away.
func (b *bench) measureSizing(ctx context.Context, s *sizing) error {
	load, err := b.buildLoad(ctx)
	if err != nil {
		return err
	}
	g, err := startGateway()
	if err != nil {
		return err
	}
	defer g.server.Stop()
	end, err := startLoad(exec.CommandContext(ctx, load, "clients", strconv.Itoa(s.Programs), pauseMs))
	if err != nil {
		return fmt.Errorf("start load: %w", err)
	}
	defer end()
	state, err := os.MkdirTemp(b.build, "state-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	health, err := freePort()
	if err != nil {
		return err
	}
	own, err := freePort()
	if err != nil {
		return err
	}
	if state, err = filepath.Abs(state); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, distribution, "--config", "deploy/service.yaml", "--config", "yaml:"+fmt.Sprintf(sizingOverlay, health, own))
	command.Env = append(os.Environ(), "OTLP_ENDPOINT="+g.address, "OTLP_INSECURE=true", "STATE_DIRECTORY="+state)
	agent, err := startCollector(command)
	if err != nil {
		return err
	}
	return errors.Join(s.measure(g, agent, own), agent.stop())
}

// measure measures what the agent sends, and how fast its queue grows.
func (s *sizing) measure(g *gateway, agent *collector, own int) error {
	for range firstExports {
		if _, err := g.collection(agent); err != nil {
			return err
		}
	}
	before, err := g.collection(agent)
	if err != nil {
		return err
	}
	after := before
	for range sizingTurns {
		if after, err = g.collection(agent); err != nil {
			return err
		}
	}
	if err := s.compare(before, after); err != nil {
		return err
	}

	g.server.Stop()
	began := time.Now()
	first, err := queueSizes(own)
	if err != nil {
		return err
	}
	if err := agent.watch(sizingOutage); err != nil {
		return err
	}
	last, err := queueSizes(own)
	if err != nil {
		return err
	}
	lasted := time.Since(began).Seconds()
	s.Queued = bySignalOf(func(signal string) float64 { return round((last[signal]-first[signal])/lasted, 1) })
	return nil
}

// compare fills in what was sent between two collections.
func (s *sizing) compare(before, after received) error {
	lasted := after.at.Sub(before.at).Seconds()
	since := map[string]part{}
	for _, signal := range signals {
		a, b := after.parts[signal], before.parts[signal]
		since[signal] = part{items: a.items - b.items, foreign: a.foreign - b.foreign, bytes: a.bytes - b.bytes}
		if p := since[signal]; float64(p.foreign) > othersPart*float64(p.items) {
			return fmt.Errorf("of %d items of %s other programs have caused %d: measure on a machine where less happens", p.items, signal, p.foreign)
		}
	}
	own := func(signal string) float64 { return float64(since[signal].items - since[signal].foreign) }
	s.Interval = int(lasted/sizingTurns + 0.5)
	s.Points = round(own(metricsSignal)/sizingTurns, 1)
	s.Accepted = round(float64(after.accepted-before.accepted)/lasted, 10)
	s.Records = round(own(logsSignal)/lasted, 10)
	s.Spans = round(own(tracesSignal)/lasted, 10)
	s.Each = bySignalOf(func(signal string) float64 {
		return round(float64(since[signal].bytes)/float64(max(1, since[signal].items)), 10)
	})
	return nil
}

// queueSizes returns how many bytes the queue of each signal has.
func queueSizes(port int) (map[string]float64, error) {
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	sizes := map[string]float64{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		labels, found := strings.CutPrefix(lines.Text(), "otelcol_exporter_queue_size{")
		for _, signal := range signals {
			if found && strings.Contains(labels, `data_type="`+signal+`"`) {
				if sizes[signal], err = strconv.ParseFloat(labels[strings.LastIndexByte(labels, ' ')+1:], 64); err != nil {
					return nil, err
				}
			}
		}
	}
	if len(sizes) < len(signals) {
		return nil, fmt.Errorf("the agent does not say how much is in each of its queues, but %v", sizes)
	}
	return sizes, nil
}

// gateway receives OTLP over gRPC, and counts.
type gateway struct {
	server  *grpc.Server
	address string

	// collections has what was received until metrics of interfaces arrive, which each collection has once.
	collections chan received

	mutex sync.Mutex
	now   received
}

// received is what a gateway has received until a time.
type received struct {
	at       time.Time
	parts    map[string]part // by signal
	accepted int             // connections, of programs of the load
}

// part is what was received of a signal.
type part struct {
	items   int // points, log records or spans
	foreign int // those of them that neither the load nor the agent has caused
	bytes   int // compressed
}

func startGateway() (*gateway, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gateway{address: listener.Addr().String(), collections: make(chan received, 1000)}
	g.now.parts = map[string]part{}
	g.server = grpc.NewServer(grpc.StatsHandler(g))
	pmetricotlp.RegisterGRPCServer(g.server, &metricsServer{gateway: g})
	plogotlp.RegisterGRPCServer(g.server, &logsServer{gateway: g})
	ptraceotlp.RegisterGRPCServer(g.server, &tracesServer{gateway: g})
	go g.server.Serve(listener) //nolint:errcheck // it is stopped in the end
	return g, nil
}

// collection waits until the next collection of metrics arrives, and returns what was received until then.
func (g *gateway) collection(agent *collector) (received, error) {
	select {
	case r := <-g.collections:
		return r, nil
	case <-agent.ended:
		return received{}, agent.died()
	case <-time.After(sizingTimeout):
		return received{}, fmt.Errorf("the agent sends no metrics: %s", agent.said)
	}
}

// count adds items of a signal that belong to a resource.
func (g *gateway) count(signal string, resource pcommon.Resource, items int) {
	p := g.now.parts[signal]
	p.items += items
	if name, known := resource.Attributes().Get("process.executable.name"); known && name.Str() != "load" && name.Str() != filepath.Base(distribution) {
		p.foreign += items
	}
	g.now.parts[signal] = p
}

type metricsServer struct {
	pmetricotlp.UnimplementedGRPCServer
	*gateway
}

// Export implements [pmetricotlp.GRPCServer].
func (s *metricsServer) Export(_ context.Context, request pmetricotlp.ExportRequest) (pmetricotlp.ExportResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	isTraffic := false
	for _, resource := range request.Metrics().ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, m := range scope.Metrics().All() {
				isTraffic = isTraffic || m.Name() == "nettap.interface.io"
				s.count(metricsSignal, resource.Resource(), pointsOf(m))
			}
		}
	}
	if isTraffic {
		s.collections <- s.now.copied()
	}
	return pmetricotlp.NewExportResponse(), nil
}

func pointsOf(m pmetric.Metric) int {
	switch m.Type() {
	case pmetric.MetricTypeSum:
		return m.Sum().DataPoints().Len()
	case pmetric.MetricTypeGauge:
		return m.Gauge().DataPoints().Len()
	case pmetric.MetricTypeHistogram:
		return m.Histogram().DataPoints().Len()
	default:
		return 0
	}
}

// copied returns what was received until now.
func (r received) copied() received {
	return received{at: time.Now(), parts: maps.Clone(r.parts), accepted: r.accepted}
}

type logsServer struct {
	plogotlp.UnimplementedGRPCServer
	*gateway
}

// Export implements [plogotlp.GRPCServer].
func (s *logsServer) Export(_ context.Context, request plogotlp.ExportRequest) (plogotlp.ExportResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, resource := range request.Logs().ResourceLogs().All() {
		name, _ := resource.Resource().Attributes().Get("process.executable.name")
		for _, scope := range resource.ScopeLogs().All() {
			s.count(logsSignal, resource.Resource(), scope.LogRecords().Len())
			for _, record := range scope.LogRecords().All() {
				if record.EventName() == "nettap.connection.accepted" && name.Str() == "load" {
					s.now.accepted++
				}
			}
		}
	}
	return plogotlp.NewExportResponse(), nil
}

type tracesServer struct {
	ptraceotlp.UnimplementedGRPCServer
	*gateway
}

// Export implements [ptraceotlp.GRPCServer].
func (s *tracesServer) Export(_ context.Context, request ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, resource := range request.Traces().ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			s.count(tracesSignal, resource.Resource(), scope.Spans().Len())
		}
	}
	return ptraceotlp.NewExportResponse(), nil
}

// methodKey is the key of the method in the context of a call.
type methodKey struct{}

// TagRPC implements [stats.Handler].
func (g *gateway) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, info.FullMethodName)
}

// HandleRPC implements [stats.Handler]. It counts the bytes of messages and their headers, as they were
// sent.
func (g *gateway) HandleRPC(ctx context.Context, event stats.RPCStats) {
	bytes := 0
	switch event := event.(type) {
	case *stats.InHeader:
		bytes = event.WireLength
	case *stats.InPayload:
		bytes = event.WireLength
	}
	method, _ := ctx.Value(methodKey{}).(string)
	for _, signal := range signals {
		// "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
		if strings.Contains(method, "."+strings.TrimSuffix(signal, "s")) {
			g.mutex.Lock()
			p := g.now.parts[signal]
			p.bytes += bytes
			g.now.parts[signal] = p
			g.mutex.Unlock()
		}
	}
}

// TagConn implements [stats.Handler].
func (g *gateway) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements [stats.Handler].
func (g *gateway) HandleConn(context.Context, stats.ConnStats) {}

// freePort returns a port of loopback that no socket has now.
func freePort() (int, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}
