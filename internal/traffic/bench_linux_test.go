// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// BenchmarkLoopback compares sending on lo with and without the instrument, in one run. Both ends are
// on the machine, so the programs run for both ends of every packet. In addition to the time it
// reports, from the kernel's statistics, how long a run of each program takes.
func BenchmarkLoopback(b *testing.B) {
	for _, traffic := range []struct {
		name string
		run  func(b *testing.B)
	}{
		{"udp64", sendDatagrams},
		{"tcp64k", sendStream},
	} {
		b.Run(traffic.name+"/off", traffic.run)
		b.Run(traffic.name+"/on", func(b *testing.B) {
			programs := attachAll(b)
			b.ResetTimer()
			traffic.run(b)
			b.StopTimer()
			for name, program := range programs {
				if nanos, runs := kerneltest.PerRun(b, program); runs > uint64(b.N)/2 {
					b.ReportMetric(nanos, name+"-ns/run")
				}
			}
		})
	}
}

func attachAll(b *testing.B) map[string]*ebpf.Program {
	b.Helper()
	owners := owner.New(owner.Options{MaxProcesses: 4096})
	known := interfaces.New().NewReader()
	if err := errors.Join(owners.Start(b.Context()), owners.Enable(), known.Start(b.Context())); err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { owners.Shutdown(b.Context()) })
	b.Cleanup(func() { known.Shutdown(b.Context()) })
	c := clock.New()
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	traffic := New(builder, owners, known, process.NewDirectory("", c), c, new(stats.Recorder), Options{})
	if err := errors.Join(traffic.Start(b.Context()), traffic.Enable()); err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { traffic.Shutdown(b.Context()) })
	kerneltest.CountRuns(b)
	return traffic.object.Programs
}

func sendDatagrams(b *testing.B) {
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	client, err := net.DialUDP("udp", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	payload := make([]byte, 64)
	for b.Loop() {
		if _, err := client.Write(payload); err != nil {
			b.Fatal(err)
		}
		if _, err := server.Read(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func sendStream(b *testing.B) {
	const chunk = 64 << 10
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	go func() {
		server, err := listener.Accept()
		if err != nil {
			return
		}
		defer server.Close()
		io.Copy(io.Discard, server)
	}()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	b.SetBytes(chunk)
	payload := make([]byte, chunk)
	for b.Loop() {
		if _, err := client.Write(payload); err != nil {
			b.Fatal(err)
		}
	}
}
