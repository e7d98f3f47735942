// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// consumer takes everything that an instrument reports of the tests' interfaces.
type consumer struct {
	*Drops
	series map[said]dropstest.Point // the last of each
}

// said is what the points of a series say.
type said struct {
	device string
	drop   dropstest.Drop
}

func consume(drops *Drops) *consumer { return &consumer{drops, map[said]dropstest.Point{}} }

// collect makes a collection and takes it. It fails the test if a series continues after its end, or stops
// without one.
func (c *consumer) collect(t *testing.T) {
	t.Helper()
	metrics, err := c.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Delivered()
	heard := map[said]bool{}
	for _, point := range dropstest.Points(metrics) {
		if !strings.HasPrefix(point.Interface, fmt.Sprintf("nt%d-", os.Getpid())) {
			continue
		}
		key := said{point.Interface, point.Drop}
		key.drop.Packets = 0
		before, known := c.series[key]
		if point.Ended && (!known || before.Ended) || known && before.Ended && point.Start.Before(before.Time) {
			t.Errorf("%+v goes on after %+v", point, before)
		}
		if point.Ended {
			point.Packets = before.Packets // its last
		}
		c.series[key], heard[key] = point, true
	}
	for key, last := range c.series {
		if !heard[key] && !last.Ended {
			t.Errorf("%+v has stopped without an end", last)
		}
	}
}

// sums is the sums over the series of an interface.
type sums struct{ Packets, Open int }

// of adds up the last values, and counts the series that have not ended. It leaves out packets that IPv6 sends
// by itself.
func (c *consumer) of(device string) (s sums) {
	for key, point := range c.series {
		if key.device != device || key.drop.Transport == "icmpv6" {
			continue
		}
		s.Packets += point.Packets
		if !point.Ended {
			s.Open++
		}
	}
	return s
}

// await makes collections until the series of an interface are as wanted.
func (c *consumer) await(t *testing.T, device string, want sums) {
	t.Helper()
	if diff := settled(func() string {
		c.collect(t)
		return cmp.Diff(want, c.of(device))
	}); diff != "" {
		t.Fatalf("the series of %s differ (-want +got):\n%s", device, diff)
	}
}

func TestKernelDetailsTheNewestInterface(t *testing.T) {
	const keys = 8    // for so many interfaces there is place
	const unheard = 4 // of each protocol there are so many, and ICMPv6 is left out
	lab := dropstest.NewLab(t)
	kinds := dropstest.Scatter(t, lab, 0)
	b := new(stats.Recorder)
	drops := newDrops(b)
	drops.maxKeys, drops.maxCoarse, drops.quotaOf = uint32(keys*kinds), 4096, 1<<20
	begin(t, drops)
	c := consume(drops)
	device := func(round int) string { return fmt.Sprintf("nt%d-s%d", os.Getpid(), round+1) }
	places := keys
	if len(drops.words.reasons) == 0 {
		places *= 2 // two of the four ways are told apart by their reason alone
	}
	rounds := places * 3 / 2
	for round := range rounds {
		dropstest.Scatter(t, lab, round+1)
		want := sums{kinds - unheard, kinds - unheard}
		if len(drops.words.reasons) == 0 {
			want.Open /= 2
		}
		c.await(t, device(round), want)
	}
	for round := range rounds {
		got := c.of(device(round))
		if got.Packets != kinds-unheard || round < rounds-places && got.Open > 0 {
			t.Errorf("%s: %+v", device(round), got)
		}
	}
}

func TestKernelEndsTheSeriesOfAnInterfaceThatIsGone(t *testing.T) {
	b := new(stats.Recorder)
	drops := newDrops(b)
	begin(t, drops)
	lab := dropstest.NewLab(t)
	kerneltest.Inhabit(t, lab.Receiver.Name)
	c := consume(drops)
	packets := provokeThree(t, lab)
	c.await(t, lab.Receiver.Device, sums{packets, 3})
	packets += provokeThree(t, lab) // nobody reads that before it is gone
	lab.Unplug(t)
	c.await(t, lab.Receiver.Device, sums{packets, 0})
	requireNoKeys(t, drops, lab.Receiver)
	requireBalance(t, drops, b)
}

func TestKernelEndsTheSeriesOfANamespaceThatIsGone(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	c := consume(drops)
	var packets int
	var device string
	t.Run("while it is there", func(t *testing.T) {
		lab := dropstest.NewLab(t)
		device, packets = lab.Receiver.Device, provokeThree(t, lab)
		c.await(t, device, sums{packets, 3})
	})
	c.await(t, device, sums{packets, 0})
}

func TestKernelBeginsARenamedInterfaceAnew(t *testing.T) {
	b := new(stats.Recorder)
	drops := newDrops(b)
	begin(t, drops)
	lab := dropstest.NewLab(t)
	kerneltest.Inhabit(t, lab.Receiver.Name)
	c, old, renamedTo := consume(drops), lab.Receiver.Device, fmt.Sprintf("nt%d-new", os.Getpid())
	packets := provokeThree(t, lab)
	c.await(t, old, sums{packets, 3})
	packets += provokeThree(t, lab)
	var collected time.Time // before it was renamed
	for _, point := range c.series {
		collected = point.Time
	}
	lab.Rename(t, renamedTo)
	c.await(t, old, sums{packets, 0})
	packets = provokeThree(t, lab)
	c.await(t, renamedTo, sums{packets, 3})
	for key, point := range c.series {
		if key.device == renamedTo && point.Start.Before(collected) {
			t.Errorf("a series begins at %v, and had nothing at %v", point.Start, collected)
		}
	}
	requireBalance(t, drops, b)
}

// requireNoKeys requires that the maps and the ledger have nothing of an interface.
func requireNoKeys(t *testing.T, drops *Drops, of kerneltest.Namespace) {
	t.Helper()
	counts, err := readCounts(drops.object.Maps[bpfMapDrops])
	if err != nil {
		t.Fatal(err)
	}
	entries, err := drops.interfaces.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for key, entry := range entries {
		if nameOf(entry) == of.Device {
			t.Errorf("the interface is known: %+v", entry)
		}
		for count := range counts {
			if on, _ := count.iface(); on == key && nameOf(entry) == of.Device {
				t.Errorf("a key is there: %+v", count)
			}
		}
	}
}

// requireBalance waits until every drop that was seen is in a series or lost.
func requireBalance(t *testing.T, drops *Drops, b *stats.Recorder) {
	t.Helper()
	if diff := settled(func() string {
		if _, err := drops.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		totals := b.Read()
		return cmp.Diff(totals.Seen, totals.Aggregated+totals.Lost["map_full"]+totals.Lost["recursion"])
	}); diff != "" {
		t.Errorf("seen differs from aggregated + lost (-seen +sum):\n%s", diff)
	}
}
