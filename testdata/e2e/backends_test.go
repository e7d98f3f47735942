// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	query "net/url"
	"os"
	"strconv"
	"testing"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// requireBuilt requires a backend. In CI it is a failure if there is none.
func requireBuilt(t *testing.T, program string) {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		kerneltest.Lack(t, fmt.Errorf("make test-gateway builds it, which takes minutes: %w", err))
	}
}

// victoriaMetrics is the backend of metrics that make test-gateway builds.
type victoriaMetrics struct {
	*member
	address string
}

func (f *fleet) addVictoriaMetrics() victoriaMetrics {
	f.t.Helper()
	const program = "../../build/victoriametrics"
	requireBuilt(f.t, program)
	address := fmt.Sprintf("127.0.0.1:%d", freePort(f.t))
	ready := func() bool {
		response, err := http.Get("http://" + address + "/health")
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
	}
	return victoriaMetrics{address: address, member: f.add(ready, program, "-storageDataPath=DIRECTORY/data", "-httpListenAddr="+address,
		"-opentelemetry.usePrometheusNaming", "-search.latencyOffset=0s", "-memory.allowedBytes=256MiB", "-loggerLevel=WARN")}
}

// query returns the value of the expression for each agent.
func (v victoriaMetrics) query(expression string) (values [agents]int) {
	v.t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any // the time, and the value as text
			}
		}
	}
	response, err := http.Get("http://" + v.address + "/internal/force_flush") // what was received is visible after it
	if err != nil {
		v.t.Fatal(err)
	}
	response.Body.Close()
	getJSON(v.t, "http://"+v.address+"/api/v1/query?"+query.Values{"query": {expression}, "nocache": {"1"}}.Encode(), &answer)
	for _, series := range answer.Data.Result {
		value, err := strconv.Atoi(fmt.Sprint(series.Value[1]))
		if err != nil {
			v.t.Fatal(err)
		}
		for i := range values {
			if series.Metric["host_id"] == fmt.Sprintf("agent%d", i) {
				values[i] += value
			}
		}
	}
	return values
}

// getJSON reads JSON.
func getJSON(t testing.TB, address string, answer any) {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
}

// jaegerBackend is the backend of traces that make jaeger builds.
type jaegerBackend struct {
	*member
	api string // the URL of its API
}

// jaegerConfig is the configuration of a Jaeger whose data are on the disk, so that they are there when
// it is started again.
const jaegerConfig = `
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:%d"}}}}
exporters: {jaeger_storage_exporter: {trace_storage: disk}}
extensions:
  jaeger_query:
    storage: {traces: disk}
    http: {endpoint: "127.0.0.1:%d"}
    grpc: {endpoint: "127.0.0.1:%d"}
  jaeger_storage: {backends: {disk: {badger: {directories: {keys: %[4]q, values: %[4]q}, ephemeral: false}}}}
service:
  telemetry: {metrics: {level: none}}
  extensions: [jaeger_storage, jaeger_query]
  pipelines: {traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}}
`

// addJaeger starts a Jaeger that receives OTLP over gRPC at a port of loopback.
func (f *fleet) addJaeger(port int) jaegerBackend {
	f.t.Helper()
	const program = "../../build/jaeger"
	requireBuilt(f.t, program)
	queries := freePort(f.t)
	return jaegerBackend{api: fmt.Sprintf("http://127.0.0.1:%d/api", queries), member: f.add(nil, program,
		"--config", "yaml:"+fmt.Sprintf(jaegerConfig, port, queries, freePort(f.t), "DIRECTORY/badger"))}
}

// connects returns the host.id of agents that have reported a connect, by process.
func (b jaegerBackend) connects() map[int64]map[string]bool {
	var answer struct {
		Data []struct {
			Spans     []struct{ OperationName, ProcessID string }
			Processes map[string]struct {
				Tags []struct {
					Key   string
					Value any
				}
			}
		}
	}
	getJSON(b.t, b.api+"/traces?service=unknown_service:bash&operation=connect&limit=10000", &answer)
	hosts := map[int64]map[string]bool{}
	for _, trace := range answer.Data {
		for _, span := range trace.Spans {
			tags := map[string]any{}
			for _, tag := range trace.Processes[span.ProcessID].Tags {
				tags[tag.Key] = tag.Value
			}
			if pid, ok := tags["process.pid"].(float64); ok && span.OperationName == "connect" {
				if hosts[int64(pid)] == nil {
					hosts[int64(pid)] = map[string]bool{}
				}
				hosts[int64(pid)][fmt.Sprint(tags["host.id"])] = true
			}
		}
	}
	return hosts
}
