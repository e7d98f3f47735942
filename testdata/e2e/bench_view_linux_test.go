// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkView reports how much of a core the Collector takes with 5,000 processes that
// send each second: without a view, with one that has no client, and while a client
// follows its events. An iteration takes 10 seconds:
//
//	go test -run '^$' -bench BenchmarkView -benchtime 3x ./testdata/e2e
func BenchmarkView(b *testing.B) {
	program := filepath.Join(b.TempDir(), "load")
	if output, err := exec.Command("gcc", "-O2", "-static", "-o", program, "testdata/load/load.c").CombinedOutput(); err != nil {
		b.Skipf("%v: %s", err, output)
	}
	startLoad(b, exec.Command(program, "crowd", "5000", "1000"))
	address := fmt.Sprintf("127.0.0.1:%d", freePort(b))
	for _, test := range []struct {
		name, view string
		watched    bool
	}{
		{"without", "", false},
		{"unwatched", fmt.Sprintf("view: {endpoint: %q}", address), false},
		{"watched", fmt.Sprintf("view: {endpoint: %q}", address), true},
	} {
		b.Run(test.name, func(b *testing.B) {
			c := StartWith(b, Options{
				Receivers: fmt.Sprintf(`
				  nettap:
				    max_cpu: 0
				    traffic: {max_processes: 16384}
				    %s
				`, test.view),
				Traces: true,
				Overlay: `
				  exporters: {nop: }
				  service: {pipelines: {metrics: {exporters: [nop]}, logs: {exporters: [nop]}, traces: {exporters: [nop]}}}
				`,
			})
			if test.watched {
				follow := exec.CommandContext(b.Context(), "curl", "-sN", "http://"+address+"/api/v1/events?range=1m")
				follow.Stdout = io.Discard
				if err := follow.Start(); err != nil {
					b.Fatal(err)
				}
			}
			time.Sleep(25 * time.Second) // by then all processes have been read and described
			userBefore, systemBefore := c.processorTime()
			began := time.Now()
			for b.Loop() {
				time.Sleep(10 * time.Second)
			}
			user, system := c.processorTime()
			percent := 100 / time.Since(began).Seconds()
			b.ReportMetric((user-userBefore)*percent, "%core-user")
			b.ReportMetric((system-systemBefore)*percent, "%core-system")
		})
	}
}
