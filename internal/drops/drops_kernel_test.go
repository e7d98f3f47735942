// SPDX-License-Identifier: Apache-2.0

//go:build linux

package drops

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

func TestKernelNamesEachDrop(t *testing.T) {
	kerneltest.NeedDroppers(t)
	drops := startDrops(t, new(stats.Recorder))
	lab := dropstest.NewLab(t)

	for _, provocation := range dropstest.Provocations() {
		t.Run(provocation.Name, func(t *testing.T) {
			before := dropsOn(t, drops, lab.Receiver.Device)
			want := asKnown(drops, provocation.Provoke(t, lab))
			if diff := settled(func() string {
				return cmp.Diff([]dropstest.Drop{want}, since(before, dropsOn(t, drops, lab.Receiver.Device)))
			}); diff != "" {
				t.Errorf("drops differ (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKernelBlamesNoAnsweredPacketOnTheAcceptQueue requires that a SYN that a full listener answers does not count as lost, although it reaches the same
// place in the kernel.
func TestKernelBlamesNoAnsweredPacketOnTheAcceptQueue(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	lab := dropstest.NewLab(t)
	overflows := dropstest.TalkToFullListener(t, lab)
	if overflows != 0 && len(drops.words.reasons) > 0 {
		t.Errorf("ListenOverflows grew by %d, want 0", overflows)
	}
	said := 0
	for drop, packets := range dropsOn(t, drops, lab.Receiver.Device) {
		if drop.Reason == "nettap_listen_overflow" {
			said += packets
		}
	}
	if said != overflows {
		t.Errorf("%d packets are said to be lost, and the kernel says %d", said, overflows)
	}
}

func TestKernelBlamesALostCookieOnTheAcceptQueue(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	if numbersOf(drops.words.reasons).overflow == reasonNever {
		t.Skip("this kernel does not tell a lost SYN cookie from other segments")
	}
	lab := dropstest.NewLab(t)
	want := dropstest.LateCookie(t, lab)
	if diff := settled(func() string {
		return cmp.Diff([]dropstest.Drop{want}, since(nil, dropsOn(t, drops, lab.Receiver.Device)))
	}); diff != "" {
		t.Errorf("drops differ (-want +got):\n%s", diff)
	}
}

// TestKernelFindsTheInterfaceThatTCPForgot has drops in TCP, which clears an skb's device before it handles the segment.
func TestKernelFindsTheInterfaceThatTCPForgot(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	if len(drops.words.reasons) == 0 {
		t.Skip("this kernel does not tell what TCP drops")
	}
	lab := dropstest.NewLab(t)
	dropstest.SendOldSegments(t, lab, 7)
	packets := 0
	for drop, n := range dropsOn(t, drops, lab.Receiver.Device) {
		if drop.Transport == "tcp" {
			packets += n
		}
	}
	if packets != 7 {
		t.Errorf("%d old segments on %s, want 7", packets, lab.Receiver.Device)
	}
}

func TestKernelAccountsForEveryDrop(t *testing.T) {
	b := new(stats.Recorder)
	drops := startDrops(t, b)
	lab := dropstest.NewLab(t)
	provoked := uint64(provokeThree(t, lab))
	if diff := settled(func() string {
		dropsOn(t, drops, lab.Receiver.Device)
		got := b.Read().Counts
		others := max(got.Seen, provoked) - provoked // this machine drops packets of its own
		missed := got.Lost["recursion"]
		return cmp.Diff(stats.Counts{
			Seen:       provoked + others,
			Aggregated: provoked + others - missed,
			Lost:       map[string]uint64{"map_full": 0, "recursion": missed},
		}, got)
	}); diff != "" {
		t.Errorf("counts differ (-want +got):\n%s", diff)
	}
}

func TestKernelCountsOnWithoutDetailWhenTheMapIsFull(t *testing.T) {
	kerneltest.NeedDroppers(t)
	b := new(stats.Recorder)
	drops := newDrops(b)
	drops.maxKeys, drops.maxCoarse = 1, 4096
	begin(t, drops)
	lab := dropstest.NewLab(t)
	withoutDetail := func() (packets int) {
		for drop, n := range dropsOn(t, drops, "") {
			if drop.Function == "tcp_v4_rcv" {
				packets += n
			}
		}
		return packets
	}

	provokeThree(t, lab) // one of them takes the place, or some other drop on this machine
	before := withoutDetail()
	provokeThree(t, lab)
	if diff := settled(func() string { // others may drop here too
		return cmp.Diff(true, withoutDetail() >= before+3)
	}); diff != "" {
		t.Errorf("%d drops without detail, and then %d, want 3 more", before, withoutDetail())
	}
	if got := b.Read(); got.Maps["drops"].Entries != 1 || got.Maps["drops"].Limit != 1 || got.Lost["map_full"] != 0 {
		t.Errorf("the counts know of %+v", got)
	}
}

// TestKernelANamespaceHasItsPartOfTheDrops has a namespace that fills its part of the map. There must be room for the detail of another one.
func TestKernelANamespaceHasItsPartOfTheDrops(t *testing.T) {
	kerneltest.NeedDroppers(t)
	b := new(stats.Recorder)
	drops := newDrops(b)
	crowded := dropstest.NewLab(t)
	kinds := dropstest.Scatter(t, crowded, 0)
	drops.quotaOf = uint32(kinds) // so that a namespace may have a quarter of them
	begin(t, drops)
	dropsOn(t, drops, "") // which finds out which namespace is the host's
	dropstest.Scatter(t, crowded, 1)
	if diff := settled(func() string {
		dropsOn(t, drops, "")
		return cmp.Diff(true, b.Read().Maps[bpfMapDrops].Refused >= uint64(kinds/8))
	}); diff != "" {
		t.Errorf("%d keys were refused, want %d at least", b.Read().Maps[bpfMapDrops].Refused, kinds/8)
	}
	other := dropstest.NewLab(t)
	before := dropsOn(t, drops, other.Receiver.Device)
	want := provokeThree(t, other)
	detailed := 0
	if diff := settled(func() string {
		detailed = 0
		for _, drop := range since(before, dropsOn(t, drops, other.Receiver.Device)) {
			detailed += drop.Packets
		}
		return cmp.Diff(want, detailed)
	}); diff != "" {
		t.Errorf("%d of %d drops of another namespace have their detail", detailed, want)
	}
}

func TestKernelCountsDropsThatFindNoPlaceAsLost(t *testing.T) {
	b := new(stats.Recorder)
	drops := newDrops(b)
	drops.maxKeys, drops.maxCoarse = 1, 1
	kerneltest.Start(t, drops.interfaces)
	kerneltest.Start(t, full{drops})
	lab := dropstest.NewLab(t)
	provoked := uint64(provokeThree(t, lab))
	if diff := settled(func() string {
		dropsOn(t, drops, lab.Receiver.Device)
		got := b.Read().Counts
		others := max(got.Seen, provoked) - provoked // this machine drops packets of its own
		missed := got.Lost["recursion"]
		return cmp.Diff(stats.Counts{
			Seen: provoked + others,
			Lost: map[string]uint64{"map_full": provoked + others - missed, "recursion": missed},
		}, got)
	}); diff != "" {
		t.Errorf("counts differ (-want +got):\n%s", diff)
	}
}

// full is an instrument whose maps have one entry each, and are full from the beginning.
type full struct{ *Drops }

func (f full) Enable() error {
	var errs error
	for _, name := range []string{"drops", "drops_without_detail"} {
		never := bpfDropKey{Location: 1}
		errs = errors.Join(errs, f.object.Maps[name].Put(never, make([]uint64, ebpf.MustPossibleCPU())))
	}
	return errors.Join(errs, f.Drops.Enable())
}

func TestKernelStartsAgainFromZero(t *testing.T) {
	kerneltest.NeedDroppers(t)
	drops := startDrops(t, new(stats.Recorder))
	lab := dropstest.NewLab(t)
	provocation := dropstest.Provocations()[0]
	provocation.Provoke(t, lab)
	if err := drops.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	kerneltest.Start(t, drops)
	want := asKnown(drops, provocation.Provoke(t, lab))
	if diff := settled(func() string {
		return cmp.Diff([]dropstest.Drop{want}, since(nil, dropsOn(t, drops, lab.Receiver.Device)))
	}); diff != "" {
		t.Errorf("drops differ (-want +got):\n%s", diff)
	}
}

// BenchmarkKernelDrop measures what it costs to count a dropped packet, and what the programs cost for a
// packet that reaches its socket.
func BenchmarkKernelDrop(b *testing.B) {
	kerneltest.CountRuns(b)
	drops := newDrops(new(stats.Recorder))
	if err := errors.Join(drops.interfaces.Start(b.Context()), drops.Start(b.Context()), drops.Enable()); err != nil {
		b.Fatal(err)
	}
	defer drops.interfaces.Shutdown(context.Background())
	defer drops.Shutdown(context.Background())
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer socket.Close()
	discard := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9} // no one listens there

	benchmark := func(name string, to net.Addr, program *ebpf.Program) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := socket.WriteTo([]byte("x"), to); err != nil {
					b.Fatal(err)
				}
			}
			if nanos, runs := kerneltest.PerRun(b, program); runs > 0 {
				b.ReportMetric(nanos, "ns/run")
			}
		})
	}
	benchmark("dropped", discard, drops.object.Programs[drops.counting])
	benchmark("received", socket.LocalAddr(), drops.object.Programs[bpfProgWatchListeners])
}

// provokeThree provokes three kinds of drops and returns how many there are.
func provokeThree(t *testing.T, lab *dropstest.Lab) (packets int) {
	t.Helper()
	for _, provocation := range dropstest.Provocations()[:3] {
		packets += provocation.Provoke(t, lab).Packets
	}
	return packets
}

func newDrops(b *stats.Recorder) *Drops {
	c := clock.New()
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	return New(builder, owner.New(owner.Options{MaxProcesses: 4096}), interfaces.New().NewReader(), nil, process.NewDirectory("", c), c, b, Options{Victims: true})
}

// TestKernelReasonsHaveAClass requires that each reason of the kernel has a class. A kernel that is newer than the table may have
// more reasons, which are unknown.
func TestKernelReasonsHaveAClass(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	reasons := slices.Sorted(maps.Values(drops.words.reasons))
	if len(reasons) == 0 {
		t.Skip("this kernel has no drop reasons")
	}
	for _, reason := range unclassified(t, reasons) {
		if got := drops.words.meanings.of(reason, ""); got != unknown {
			t.Errorf("the class of %s is %v, want unknown", reason, got)
		}
		t.Logf("no class for %s", reason)
	}
}

func startDrops(t *testing.T, b *stats.Recorder) *Drops {
	t.Helper()
	drops := newDrops(b)
	begin(t, drops)
	return drops
}

// begin starts an instrument and what it needs.
func begin(t *testing.T, drops *Drops) {
	t.Helper()
	kerneltest.Start(t, drops.interfaces)
	kerneltest.Start(t, drops)
}

// asKnown returns a drop as it is reported on a kernel without reasons (before 5.17).
func asKnown(drops *Drops, drop dropstest.Drop) dropstest.Drop {
	if drop.Function != "" && len(drops.words.reasons) == 0 {
		drop.Reason, drop.Class = "not_available", "unknown"
	}
	return drop
}

// settled calls differ until it returns "", and fails the test after a minute.
func settled(differ func() string) (diff string) {
	for range 600 {
		if diff = differ(); diff == "" {
			return ""
		}
		time.Sleep(100 * time.Millisecond)
	}
	return diff
}

// dropsOn collects and returns the drops on one interface, without those that
// IPv6 makes by itself.
func dropsOn(t *testing.T, drops *Drops, device string) map[dropstest.Drop]int {
	t.Helper()
	counts := everyDropOn(t, drops, device)
	maps.DeleteFunc(counts, func(drop dropstest.Drop, _ int) bool { return drop.Transport == "icmpv6" })
	return counts
}

// everyDropOn is dropsOn with those of IPv6.
func everyDropOn(t *testing.T, drops *Drops, device string) map[dropstest.Drop]int {
	t.Helper()
	metrics, err := drops.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	counts := map[dropstest.Drop]int{}
	for _, point := range dropstest.Points(metrics) {
		if point.Interface == device && !point.Ended {
			packets := point.Drop.Packets
			point.Drop.Packets = 0
			counts[point.Drop] = packets
		}
	}
	return counts
}

// since returns the counts that have grown, and by how much.
func since(before, after map[dropstest.Drop]int) []dropstest.Drop {
	var grown []dropstest.Drop
	for drop, packets := range after {
		if drop.Packets = packets - before[drop]; drop.Packets != 0 {
			grown = append(grown, drop)
		}
	}
	slices.SortFunc(grown, func(a, b dropstest.Drop) int { return strings.Compare(a.Reason, b.Reason) })
	return grown
}
