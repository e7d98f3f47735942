// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// TestKernelBeginsAnewWithAnotherName renames an interface during known traffic. Everything must be counted once, in the series of the old or
// the new name.
func TestKernelBeginsAnewWithAnotherName(t *testing.T) {
	w := connect(t, observe(t, owner.Options{MaxProcesses: 4096}))
	w.lab.reader = newConsumer()
	w.send(t, 100, 1000, w.far.IPv4)
	w.mark()
	old, renamed := in(t, w.near.Name, w.near.Device), time.Now()
	w.rename(t, w.near.Device+"r")
	w.send(t, 50, 500, w.far.IPv4)
	w.requireEnd(t, old)
	w.send(t, 10, 200, w.far.IPv4)
	w.requireSums(t, quantity{160, 100*1042 + 50*542 + 10*242}, old, in(t, w.near.Name, w.near.Device))

	for _, s := range w.lab.reader.of(in(t, w.near.Name, w.near.Device)) {
		if s.start.Before(renamed.Add(-time.Millisecond)) {
			t.Errorf("%s %v starts at %v, and the interface was renamed after %v", s.metric, s.attributes, s.start, renamed)
		}
	}
	w.requireRight(t)
}

// TestKernelBeginsAnewInAnotherNamespace moves an interface to another network namespace, together with its counter.
func TestKernelBeginsAnewInAnotherNamespace(t *testing.T) {
	w := connect(t, observe(t, owner.Options{MaxProcesses: 4096}))
	w.lab.reader = newConsumer()
	w.send(t, 100, 1000, w.far.IPv4)
	w.mark()
	old := in(t, w.near.Name, w.near.Device)
	w.move(t, inhabited(t))
	w.send(t, 10, 200, w.far.IPv4)
	w.requireEnd(t, old)
	w.requireSums(t, quantity{110, 100*1042 + 10*242}, old, in(t, w.near.Name, w.near.Device))
	w.requireRight(t)
}

// rename gives the near end another name. Before Linux 6.2 it must be down for that.
func (w *wire) rename(t *testing.T, name string) {
	t.Helper()
	w.inNear(func() {
		link := linkOf(t, w.near.Device)
		err := netlink.LinkSetName(link, name)
		if errors.Is(err, unix.EBUSY) {
			err = errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, name), netlink.LinkSetUp(link))
		}
		if err != nil {
			t.Fatalf("rename %s: %v", w.near.Device, err)
		}
		awaitCarrier(t, name)
	})
	w.near.Device = name
	w.introduce(w.near, kerneltest.Namespace{IPv4: w.far.IPv4, IPv6: w.far.IPv6, Device: w.far.Device})
}

// move takes the near end's device into another network namespace.
func (w *wire) move(t *testing.T, namespace string) {
	t.Helper()
	handle, err := netns.GetFromName(namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	w.inNear(func() {
		if err := netlink.LinkSetNsFd(linkOf(t, w.near.Device), int(handle)); err != nil {
			t.Fatalf("move %s: %v", w.near.Device, err)
		}
	})
	w.near.Name = namespace
	w.settle(t, namespace, w.near.Device, netip.PrefixFrom(w.near.IPv4, 24))
	w.acquaint(t, namespace, w.near.Device, w.near.IPv4, w.far.Name, w.far.Device, w.far.IPv4)
}

// of returns the series of an interface, its own and those of processes.
func (c *consumer) of(at place) (all []*stream) {
	for _, s := range c.series {
		p := point{attributes: s.attributes}.place()
		if p == at || p == (place{name: at.name}) {
			all = append(all, s)
		}
	}
	return all
}

// requireEnd waits until all series of an interface have ended.
func (w *wire) requireEnd(t *testing.T, at place) {
	t.Helper()
	eventually(t, "the series have ended", func() string {
		w.lab.collect(t)
		for _, s := range w.lab.reader.of(at) {
			if _, own := s.attributes["nettap.netns.inode"]; !s.ended && (own || at.name != w.near.Device) {
				return s.metric + " has not"
			}
		}
		return cmp.Diff(true, len(w.lab.reader.of(at)) != 0)
	})
}

// requireSums waits until the series of the interfaces, which are one interface, say together that this process
// has sent so much, and checks the other series.
func (w *wire) requireSums(t *testing.T, sent quantity, places ...place) {
	t.Helper()
	eventually(t, "the sums are right", func() string {
		w.lab.collect(t)
		got := map[string]int64{}
		for _, s := range w.lab.reader.series {
			at := point{attributes: s.attributes}.place()
			if direction := s.attributes["network.io.direction"]; direction != "transmit" {
				continue
			}
			_, ofProcess := s.attributes["process.pid"]
			for i, place := range places {
				if at == place || ofProcess && at.name == place.name && (i == 0 || place.name != places[0].name) {
					pid, _ := s.attributes["process.pid"].(int64)
					if !ofProcess || pid == int64(os.Getpid()) {
						got[s.metric] += s.before + s.value
					}
				}
			}
		}
		own := counterOf(t, w.near.Name, w.near.Device)[bpfDirectionTRANSMIT]
		return cmp.Diff(map[string]int64{
			"process.network.io":                       int64(sent.bytes),
			"nettap.process.network.packet.count":      int64(sent.packets),
			"nettap.interface.io":                      int64(own.bytes),
			"nettap.interface.packet.count":            int64(own.packets),
			"nettap.interface.unobserved.io":           0,
			"nettap.interface.unobserved.packet.count": 0,
		}, got)
	})
}

// requireRight fails the test if a series of this wire is wrong.
func (w *wire) requireRight(t *testing.T) {
	t.Helper()
	for _, wrong := range w.lab.reader.wrong {
		if strings.Contains(wrong, "="+w.near.Device) {
			t.Error(wrong)
		}
	}
}
