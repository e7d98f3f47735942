package calls

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

// BenchmarkCall sends and receives a byte over a pair of sockets: without the
// instrument, with it and with nothing that is wanted, and with all of it reported.
// Beside the time it reports by the kernel's statistics what a run of each program
// takes above one of an empty program that is on the same hook in the same run.
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
			if test.options == nil {
				exchange(b)
				return
			}
			c, empty := attachAll(b, *test.options)
			b.ResetTimer()
			exchange(b)
			b.StopTimer()
			for name, program := range c.object.Programs {
				ours, runs := kerneltest.PerRun(b, program)
				if other, known := empty[name]; known && runs > uint64(b.N)/2 {
					nothing, _ := kerneltest.PerRun(b, other)
					b.ReportMetric(ours-nothing, name+"-ns/run")
				}
			}
		})
	}
}

// attachAll starts the instrument, and puts an empty program on each tracepoint.
func attachAll(b *testing.B, options Options) (*Calls, map[string]*ebpf.Program) {
	b.Helper()
	options.Functions = []string{socketFile}
	clock := clock.New()
	c := New(metadata.DefaultResourceAttributesConfig(), "test", nil, process.NewDirectory("", clock), clock, new(books.Books), options)
	c.ownPID = 0
	if err := c.Start(b.Context()); err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { c.Shutdown(b.Context()) })
	empty := map[string]*ebpf.Program{}
	for _, hook := range c.object.Hooks() {
		tracepoint, ok := strings.CutPrefix(hook.Name, "tp_btf/")
		if !ok {
			continue
		}
		empty[hook.Programs[0]] = kerneltest.AttachEmpty(b, tracepoint)
	}
	kerneltest.CountRuns(b)
	if err := c.Begin(); err != nil {
		b.Fatal(err)
	}
	return c, empty
}

func exchange(b *testing.B) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	buffer := []byte{1}
	for b.Loop() {
		if err := unix.Sendto(fds[0], buffer, 0, nil); err != nil {
			b.Fatal(err)
		}
		if n := receive1(fds[1], buffer); n != 1 {
			b.Fatal(fmt.Errorf("received %d bytes", n))
		}
	}
}

func receive1(fd int, buffer []byte) int {
	n, _, _ := unix.Recvfrom(fd, buffer, 0)
	return n
}
