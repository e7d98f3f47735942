// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// TestKernelCreditsATurnOnWhoseItIs has two processes that send on one socket at the same time, so that its owner changes all the time. The
// one that uses it last must have all of what follows.
func TestKernelCreditsATurnOnWhoseItIs(t *testing.T) {
	const small, large = 1, 1000
	rounds := 1000
	if testing.Short() {
		rounds = 50
	}
	p := converse(t, share(t))
	one, other := p.withOneSocket(t)
	for range rounds {
		one.begin("repeat 50 %d", small)
		other.begin("repeat 50 %d", small)
		one.end()
		other.end()
		other.do("repeat 1 %d", small) // from now on the socket belongs to this process
		other.do("repeat 1 %d", large)
	}

	_, _, published := p.moved()
	sent := published.usage(one.pid(), p.near.Device)["transmit"]
	if want := sent.packets * (14 + 20 + 8 + small); sent.bytes != want || sent.packets == 0 {
		t.Errorf("it sent %d packets, and %d bytes instead of %d: some of the other's", sent.packets, sent.bytes, want)
	}
}

// TestKernelCreditsWhoSendsInTurn requires that two processes that send on one socket in turn have their own datagrams each, from the
// collection after a few turns on.
func TestKernelCreditsWhoSendsInTurn(t *testing.T) {
	const rounds, small, large = 10, 1, 1000
	p := converse(t, share(t))
	one, other := p.withOneSocket(t)
	turns := func(rounds int) {
		for range rounds {
			one.do("repeat 1 %d", small)
			other.do("repeat 1 %d", large)
		}
	}
	sent := func() map[string]quantity {
		published := p.lab.collect(t)
		return map[string]quantity{
			"one":   published.usage(one.pid(), p.near.Device)["transmit"],
			"other": published.usage(other.pid(), p.near.Device)["transmit"],
		}
	}
	turns(2)
	before := sent()
	turns(rounds)
	got := sent()
	for name, first := range before {
		got[name] = quantity{got[name].packets - first.packets, got[name].bytes - first.bytes}
	}
	want := map[string]quantity{
		"one":   {rounds, rounds * (14 + 20 + 8 + small)},
		"other": {rounds, rounds * (14 + 20 + 8 + large)},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("what they sent differs (-want +got):\n%s", diff)
	}
}

// TestKernelCreditsNobodyInBetween requires that a process for which there was no room is looked up again once in each collection, and not
// at each packet.
func TestKernelCreditsNobodyInBetween(t *testing.T) {
	p := converse(t, observe(t, owner.Options{MaxProcesses: 1024}))
	processes := p.lab.traffic.owners.Maps()["processes"]
	p.client.do("dial udp %s", p.server.do("listen udp %v", p.far.IPv4))
	kerneltest.Fill(t, processes)
	p.client.do("repeat 10 100")
	for range 100 { // other processes of the machine may take free places
		if err := processes.Delete(must(firstKey(processes))); err != nil {
			t.Fatal(err)
		}
	}
	p.client.do("repeat 10 100")
	p.server.do("receive 2000") // or what it got would wait for it
	const packet = 14 + 20 + 8 + 100
	near, _, _ := p.moved()
	want := map[string]quantity{"transmit overflow": {20, 20 * packet}}
	if diff := cmp.Diff(want, near, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the accounts of the near end differ (-want +got):\n%s", diff)
	}
	p.client.do("repeat 1 100") // and is found by it
	p.mark()
	p.client.do("repeat 10 100")
	near, _, _ = p.moved()
	want = map[string]quantity{"transmit process": {10, 10 * packet}}
	if diff := cmp.Diff(want, near, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("when there is room, the accounts of the near end differ (-want +got):\n%s", diff)
	}
}

// TestKernelCreditsNoOneWhoOnlyMadeASocket requires that a process that only makes a socket takes no place from processes that use theirs.
func TestKernelCreditsNoOneWhoOnlyMadeASocket(t *testing.T) {
	p := converse(t, share(t))
	idle := start(t, p.far.Name)
	idle.do("listen udp %v", p.far.IPv4)
	p.open("tcp", p.far.IPv4)
	pump(p.client, p.server, 100)

	for _, process := range must(p.lab.traffic.owners.Processes()) {
		if int(process.ID.PID) == idle.pid() {
			t.Errorf("it has a place: %+v", process)
		}
	}
}

// TestKernelTellsWhoMadeASocketAndIsGone requires that packets for a socket that no process uses are counted for its creator, which may have
// ended by then.
func TestKernelTellsWhoMadeASocketAndIsGone(t *testing.T) {
	p := converse(t, share(t))
	ours, theirs := socketPair(t)
	maker, holder := start(t, p.far.Name, ours), start(t, p.far.Name, theirs)
	maker.do("exec %s", copyOfThis(t, "maker"))
	p.client.do("dial udp %s", maker.do("listen udp %v", p.far.IPv4))
	maker.do("give connection")
	holder.do("take connection")
	maker.stop()
	p.client.do("repeat 10 100")

	_, far, published := p.moved()
	const packet = 14 + 20 + 8 + 100
	all := map[string]quantity{"receive process": {10, 10 * packet}}
	if diff := cmp.Diff(all, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the accounts of the far end differ (-want +got):\n%s", diff)
	}
	want := []string{fmt.Sprintf("%d maker: %d", maker.pid(), 10*packet)}
	if diff := cmp.Diff(want, receivers(published, p.far.Device)); diff != "" {
		t.Errorf("what is said of who received differs (-want +got):\n%s", diff)
	}
}

// firstKey returns any key of a map.
func firstKey(m *ebpf.Map) ([]byte, error) { return m.NextKeyBytes(nil) }

// receivers returns what each process received on a device, as text.
func receivers(points publication, device string) []string {
	var all []string
	for _, point := range points {
		if point.metric == "process.network.io" && point.direction() == "receive" && point.place().name == device && !point.ended {
			all = append(all, fmt.Sprintf("%v %v: %d", point.attributes["process.pid"], point.attributes["process.executable.name"], point.value))
		}
	}
	return all
}
