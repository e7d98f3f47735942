// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// BenchmarkContext makes calls without a trace context on a TCP connection. From the kernel's
// statistics it reports how much more time a call takes with trace contexts than without. For that two
// instruments run at the same time, one with trace contexts and one without. The program that searches
// messages is compared with an empty program that was on its hook before, in the same run.
func BenchmarkContext(b *testing.B) {
	others := []tracecontext.Source{tracecontext.HTTP, tracecontext.OTelThread, tracecontext.OBI, tracecontext.Socket}
	for _, who := range []struct {
		name    string
		sources []tracecontext.Source
	}{
		{"a program that publishes nothing", others},
		{"a Go program without labels", append([]tracecontext.Source{tracecontext.GoLabels}, others...)},
	} {
		for _, what := range []struct {
			name    string
			options Options
		}{
			{"calls that are not reported", Options{MinDuration: time.Hour}},
			{"calls that are", Options{}},
		} {
			b.Run(who.name+", "+what.name, func(b *testing.B) { benchContext(b, who.sources, what.options) })
		}
	}
}

func benchContext(b *testing.B, sources []tracecontext.Source, options Options) {
	kerneltest.CountRuns(b)
	client, server := connectTCP(b)
	messages := map[string]string{"see_send": "sock_send_length", "see_receive": "sock_recv_length"}
	empty := kerneltest.EmptyRuns(b, messages, func(more func() bool) { exchange(b, client, server, more) })
	contexts := tracecontext.NewContexts(contextOptions(sources...))
	if err := contexts.Start(b.Context()); err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { contexts.Shutdown(b.Context()) })
	seen := map[string]*ebpf.Program{}
	for name := range messages {
		seen[name] = kerneltest.Newest(b, name)
	}
	if err := contexts.Enable(); err != nil {
		b.Fatal(err)
	}
	begin := func(contexts *tracecontext.Contexts) *Calls {
		c := start(b, contexts, options)
		b.Cleanup(func() { c.Shutdown(b.Context()) })
		if err := c.Enable(); err != nil {
			b.Fatal(err)
		}
		return c
	}
	begin(nil) // the first instrument would be slower than the others, because the caches are cold
	with, without := begin(contexts), begin(nil)
	b.ResetTimer()
	exchange(b, client, server, b.Loop)
	b.StopTimer()
	var more float64 // the time in addition, for a message that is sent and received
	for name, program := range seen {
		ours, _ := kerneltest.PerRun(b, program)
		more += ours - empty[name]
	}
	b.ReportMetric(more/2, "message-ns/call")
	for name, program := range with.object.Programs {
		ours, runs := kerneltest.PerRun(b, program)
		others, _ := kerneltest.PerRun(b, without.object.Programs[name])
		if runs >= uint64(b.N) {
			more += (ours - others) * float64(runs) / float64(b.N)
		}
	}
	b.ReportMetric(more/2, "more-ns/call")
}
