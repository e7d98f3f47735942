// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// frame is the configuration around the receivers under test. All data are written to files, and
// metrics are also on a Prometheus endpoint.
const frame = `
exporters:
  file/metrics: {path: "%[1]s/metrics.json", flush_interval: 50ms}
  file/logs: {path: "%[1]s/logs.json", flush_interval: 50ms}
  prometheus:
    endpoint: 127.0.0.1:%[3]d
    resource_to_telemetry_conversion: {enabled: true}
service:
  telemetry:
    logs: {encoding: console, disable_stacktrace: true}
    metrics:
      level: normal
      readers:
        - pull: {exporter: {prometheus: {host: 127.0.0.1, port: %[2]d}}}
  pipelines:
    metrics: {receivers: [%[4]s], exporters: [file/metrics, prometheus]}
    logs: {receivers: [%[4]s], exporters: [file/logs]}
`

// traces adds a pipeline that writes traces to a file.
const traces = `
exporters:
  file/traces: {path: "%[1]s/traces.json", flush_interval: 50ms}
service:
  pipelines:
    traces: {receivers: [nettap], exporters: [file/traces]}
`

// applications adds a receiver of applications' own telemetry. Their points are written to the
// same file as those of nettap, and their spans to a separate file.
const applications = `
receivers:
  otlp: {protocols: {grpc: {endpoint: "127.0.0.1:%[2]d"}}}
exporters:
  file/applications: {path: "%[1]s/applications.json", flush_interval: 50ms}
service:
  pipelines:
    metrics/applications: {receivers: [otlp], exporters: [file/metrics]}
    traces/applications: {receivers: [otlp], exporters: [file/applications]}
`

// configuration returns the Collector's configuration. The parameter receivers is the YAML block
// below "receivers:".
func configuration(t testing.TB, receivers, directory string, ownPort, prometheusPort int) string {
	t.Helper()
	block := "receivers:\n" + indent(receivers, "  ")
	var parsed struct{ Receivers map[string]any }
	if err := yaml.Unmarshal([]byte(block), &parsed); err != nil {
		t.Fatalf("receivers of the test: %v\n%s", err, block)
	}
	var names []string
	for name := range parsed.Receivers {
		names = append(names, name)
	}
	slices.Sort(names)
	return block + fmt.Sprintf(frame, directory, ownPort, prometheusPort, strings.Join(names, ", "))
}

// indent returns text, without the indentation that all of it has, with each line indented by by.
func indent(text, by string) string {
	lines := strings.Split(strings.TrimRight(strings.TrimLeft(text, "\n"), "\n\t "), "\n")
	margin := lines[0][:len(lines[0])-len(strings.TrimLeft(lines[0], "\t "))]
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(by + strings.TrimPrefix(line, margin) + "\n")
	}
	return b.String()
}
