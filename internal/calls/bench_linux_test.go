// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// BenchmarkCall sends and receives a byte on a pair of sockets: without the instrument, with the
// instrument and a filter that lets nothing through, and with all calls reported. In addition to the
// time it reports, from the kernel's statistics, how much longer each program runs than an empty
// program that was on its hook before, in the same run.
func BenchmarkCall(b *testing.B) {
	for _, test := range []struct {
		name    string
		options *Options
	}{
		{"off", nil},
		{"filtered", &Options{Filter: Filter{PIDs: []uint32{1 << 22}}}},
		{"unwanted", &Options{MinDuration: time.Hour}},
		{"reported", &Options{MaxPerSecond: 0}},
	} {
		b.Run(test.name, func(b *testing.B) {
			fds := pair(b, unix.SOCK_STREAM)
			if test.options == nil {
				exchange(b, fds[0], fds[1], b.Loop)
				return
			}
			kerneltest.CountRuns(b)
			empty := kerneltest.EmptyRuns(b, watched(b), func(more func() bool) { exchange(b, fds[0], fds[1], more) })
			c := start(b, nil, *test.options)
			defer c.Shutdown(b.Context())
			if err := c.Enable(); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			exchange(b, fds[0], fds[1], b.Loop)
			b.StopTimer()
			for name, nothing := range empty {
				if ours, runs := kerneltest.PerRun(b, c.object.Programs[name]); runs > uint64(b.N)/2 {
					b.ReportMetric(ours-nothing, name+"-ns/run")
				}
			}
		})
	}
}

func start(b *testing.B, contexts *tracecontext.Contexts, options Options) *Calls {
	b.Helper()
	options.Functions = []string{socketFile}
	clock := clock.New()
	c := New(metadata.DefaultResourceAttributesConfig(), "test", contexts, process.NewDirectory("", clock), clock, new(stats.Recorder), options)
	c.ownPID = 0
	if err := c.Start(b.Context()); err != nil {
		b.Skip(err)
	}
	return c
}

// watched returns the tracepoints to which the instrument is attached on this kernel, by the name of
// the program.
func watched(b *testing.B) map[string]string {
	b.Helper()
	c := start(b, nil, Options{})
	defer c.Shutdown(b.Context())
	found := map[string]string{}
	for _, hook := range c.object.Hooks() {
		if name, ok := strings.CutPrefix(hook.Name, "tp_btf/"); ok {
			found[hook.Programs[0]] = name
		}
	}
	return found
}

// exchange sends bytes on one descriptor and receives them from another.
func exchange(b *testing.B, from, to int, more func() bool) {
	buffer := []byte{1}
	for more() {
		if err := unix.Sendto(from, buffer, 0, nil); err != nil {
			b.Fatal(err)
		}
		if n, _, err := unix.Recvfrom(to, buffer, 0); n != 1 {
			b.Fatalf("received %d bytes: %v", n, err)
		}
	}
}
