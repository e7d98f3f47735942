// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// BenchmarkReport makes the report of a collection of 8,000 processes, each of which has sent and
// received on one interface, and writes it as OTLP and as protobuf. Reading the kernel's maps is not
// included.
func BenchmarkReport(b *testing.B) {
	const crowd = 8000
	lo := bpfInterfaceKey{Netns: 1, Ifindex: 1}
	s := &snapshot{
		now: 10 * second, epoch: 1, processes: map[uint64]owner.Process{}, traffic: map[bpfTrafficKey]bpfCount{},
		interfaces: map[bpfInterfaceKey]bpfInterfaceEntry{lo: {Epoch: 1, NetnsInode: hostInode, Name: [16]int8{'l', 'o'}}},
		namespaces: map[uint64]interfaces.Namespace{1: {Epoch: 1, Inode: hostInode}},
	}
	for i := range uint64(crowd) {
		s.processes[i+1] = owner.Process{
			ID: process.ID{PID: 1<<23 + uint32(i), StartNanos: second}, Seen: process.Seen{Comm: "load", Executable: "load"}, Alive: true,
		}
		for direction := range uint8(2) {
			s.traffic[bpfTrafficKey{Number: i + 1, Netns: 1, Ifindex: 1, Direction: direction}] = bpfCount{}
		}
	}
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	r := newRoster(process.NewDirectory("", clock.New()), builder)
	l := newLedger(s.now, hostInode, false, r.identityOf)
	e := emitter{builder: builder, speak: r.speak, start: time.Now(), boot: s.now}
	l.begin(s, nil)
	marshaler := new(pmetric.ProtoMarshaler)
	b.ReportAllocs()
	for b.Loop() {
		s.now += 5 * second
		for key, c := range s.traffic {
			s.traffic[key] = plus(c, bpfCount{Packets: 5, Bytes: 500, Frames: 5, FrameBytes: 500})
		}
		r.meet(s.processes)
		report := l.post(s, l.departing(s))
		metrics := e.emit(time.Now(), report)
		r.dismiss()
		l.endings.delivered()
		if points := metrics.DataPointCount(); points < 4*crowd {
			b.Fatalf("%d points", points)
		}
		if _, err := marshaler.MarshalMetrics(metrics); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRosterMeets meets a process for the first time. The process has ended, so that nothing is
// read from /proc.
func BenchmarkRosterMeets(b *testing.B) {
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	r := newRoster(process.NewDirectory("", clock.New()), builder)
	p := owner.Process{ID: process.ID{PID: 1 << 23}, Seen: process.Seen{Comm: "load", Executable: "load"}}
	b.ReportAllocs()
	for b.Loop() {
		p.ID.StartNanos += second
		r.identityOf(p)
		r.dismiss()
	}
}
