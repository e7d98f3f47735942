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
)

// victoriaMetrics is the backend of metrics that make test-gateway builds.
type victoriaMetrics struct {
	*member
	address string
}

func (f *fleet) addVictoriaMetrics() victoriaMetrics {
	f.t.Helper()
	const program = "../../build/victoriametrics"
	if _, err := os.Stat(program); err != nil {
		f.t.Skip("make test-gateway builds it, which takes a minute: ", err)
	}
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

// traceBackend is a backend of traces: Jaeger if it was built, which takes minutes, and otherwise a Collector.
type traceBackend struct {
	*member
	connects func() map[int64]map[string]bool // the host.id of agents that have reported a connect, by process
}

func (f *fleet) addTraceBackend(port int) traceBackend {
	f.t.Helper()
	if _, err := os.Stat(jaeger); err == nil {
		return f.addJaeger(port)
	}
	f.t.Log("there is no Jaeger, which make jaeger builds: a Collector receives the traces")
	backend := f.add(nil, binary, "--config", "yaml:"+fmt.Sprintf(backendConfig, port, "DIRECTORY/traces.json"))
	return traceBackend{backend, func() map[int64]map[string]bool {
		hosts := map[int64]map[string]bool{}
		for _, span := range backend.KernelSpans(nil) {
			if pid, ok := span.Attributes["process.pid"].(int64); ok && span.Name() == "connect" {
				insert(hosts, pid, span.Attributes["host.id"])
			}
		}
		return hosts
	}}
}

func insert(hosts map[int64]map[string]bool, pid int64, host any) {
	if hosts[pid] == nil {
		hosts[pid] = map[string]bool{}
	}
	hosts[pid][fmt.Sprint(host)] = true
}

// backendConfig is the configuration of a Collector that stands for a backend of traces.
const backendConfig = `
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:%d"}}}}
exporters: {file: {path: %q, append: true, flush_interval: 50ms}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [file]}}
`

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

func (f *fleet) addJaeger(port int) traceBackend {
	f.t.Helper()
	queries := freePort(f.t)
	backend := f.add(nil, jaeger, "--config", "yaml:"+fmt.Sprintf(jaegerConfig, port, queries, freePort(f.t), "DIRECTORY/badger"))
	return traceBackend{backend, func() map[int64]map[string]bool {
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
		getJSON(f.t, fmt.Sprintf("http://127.0.0.1:%d/api/traces?service=unknown_service:bash&operation=connect&limit=10000", queries), &answer)
		hosts := map[int64]map[string]bool{}
		for _, trace := range answer.Data {
			for _, span := range trace.Spans {
				tags := map[string]any{}
				for _, tag := range trace.Processes[span.ProcessID].Tags {
					tags[tag.Key] = tag.Value
				}
				if pid, ok := tags["process.pid"].(float64); ok && span.OperationName == "connect" {
					insert(hosts, int64(pid), tags["host.id"])
				}
			}
		}
		return hosts
	}}
}
