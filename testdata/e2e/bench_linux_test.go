// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// BenchmarkCollector runs all instruments with their defaults, exports every 5 seconds
// by OTLP over HTTP, and reports how much of a core the Collector's process takes. An
// iteration is a collection:
//
//	go test -run '^$' -bench BenchmarkCollector -benchtime 12x ./testdata/e2e
func BenchmarkCollector(b *testing.B) {
	program := filepath.Join(b.TempDir(), "load")
	if output, err := exec.Command("gcc", "-O2", "-static", "-o", program, "testdata/load/load.c").CombinedOutput(); err != nil {
		b.Skipf("%v: %s", err, output)
	}
	for _, load := range []struct {
		name  string
		words []string
	}{
		{"nothing", nil},
		{"8000 processes that send each second", []string{"crowd", "8000", "1000"}},
		{"1000 execs a second", []string{"execs", "1000"}},
	} {
		b.Run(load.name, func(b *testing.B) {
			const interval = 5 * time.Second
			var exports atomic.Int64
			sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body) //nolint:errcheck // the Collector's log has the error
				w.Header().Set("Content-Type", "application/x-protobuf")
				if r.URL.Path == "/v1/metrics" {
					exports.Add(1)
				}
			}))
			b.Cleanup(sink.Close)
			if load.words != nil {
				startLoad(b, exec.Command(program, load.words...))
			}
			c := StartWith(b, Options{
				Receivers: fmt.Sprintf(`
				  nettap:
				    max_cpu: 0
				    traffic: {collection_interval: %[1]v, max_processes: 16384}
				    drops: {collection_interval: %[1]v}
				`, interval),
				Traces: true,
				Overlay: fmt.Sprintf(`
				  exporters: {otlp_http: {endpoint: "%s"}}
				  service:
				    pipelines:
				      metrics: {exporters: [otlp_http]}
				      logs: {exporters: [otlp_http]}
				      traces: {exporters: [otlp_http]}
				`, sink.URL),
			})
			c.Wait("all that was there before is known", func() bool { return exports.Load() >= 6 })
			userBefore, systemBefore := c.processorTime()
			began := time.Now()
			for b.Loop() {
				time.Sleep(interval)
			}
			user, system := c.processorTime()
			percent := 100 / time.Since(began).Seconds()
			b.ReportMetric((user-userBefore)*percent, "%core-user")
			b.ReportMetric((system-systemBefore)*percent, "%core-system")
		})
	}
}

// startLoad starts a program that makes load, and returns when it has begun. The program ends
// with the benchmark.
func startLoad(b *testing.B, command *exec.Cmd) {
	b.Helper()
	output, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	kerneltest.StartProgram(b, command)
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		b.Fatal(err)
	}
}

// processorTime returns the CPU time that the Collector's process has taken, in seconds.
func (c *Collector) processorTime() (user, system float64) {
	c.t.Helper()
	const ticks = 100 // USER_HZ
	process, err := procfs.NewProc(c.PID())
	if err != nil {
		c.t.Fatal(err)
	}
	stat, err := process.Stat()
	if err != nil {
		c.t.Fatal(err)
	}
	return float64(stat.UTime) / ticks, float64(stat.STime) / ticks
}
