// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/owner"
)

func TestKernelKnowsSocketsOlderThanTheReceiver(t *testing.T) {
	w := connect(t, nil)
	open, waiting := &pair{w, start(t, w.near.Name), start(t, w.far.Name)}, &pair{w, start(t, w.near.Name), start(t, w.far.Name)}
	open.open("tcp", w.far.IPv4)
	pump(open.client, open.server, 1000)
	waiting.client.do("dial tcp %s", waiting.server.do("listen tcp %v", w.far.IPv4))
	waiting.client.do("send 50000") // before the server has accepted
	started := time.Now()
	w.lab = observe(t, owner.Options{MaxProcesses: 4096})

	pump(open.client, open.server, 100_000)
	pump(open.server, open.client, 100_000)
	waiting.server.do("accept")
	waiting.server.do("receive 50000")
	pump(waiting.client, waiting.server, 100_000)

	eventually(t, "the accounts are right", func() string {
		published := w.lab.collect(t)
		near, far := published.accounts(in(t, w.near.Name, w.near.Device)), published.accounts(in(t, w.far.Name, w.far.Device))
		if near["transmit process"] != far["receive process"] || len(near) != 2 || len(far) != 2 {
			return fmt.Sprintf("the ends differ: %+v, %+v", near, far)
		}
		return cmp.Diff([]int64{0, 0, 0, 0}, published.unobserved(in(t, w.far.Name, w.far.Device)))
	})
	published := w.lab.collect(t)
	for _, h := range []*helper{open.client, open.server} {
		if u := published.usage(h.pid(), ""); u["transmit"].bytes < 100_000 || u["receive"].bytes < 100_000 {
			t.Errorf("process %d is said to have moved %+v", h.pid(), u)
		}
	}
	if role := role(published.usage(waiting.client.pid(), "")); role != "sends" {
		t.Errorf("the client of the connection nobody had accepted %s", role)
	}
	if role := role(published.usage(waiting.server.pid(), "")); role != "receives" {
		t.Errorf("the server that accepted late %s", role)
	}
	for _, point := range published {
		if point.attributes["process.pid"] == int64(open.client.pid()) && point.start.Before(started.Add(-time.Second)) {
			t.Errorf("the series of a process older than the receiver starts at %v, before it", point.start)
		}
	}
}

func TestKernelCreditsTheHandshakeOnWhoListens(t *testing.T) {
	p := converse(t, share(t))
	p.client.do("dial tcp %s", p.server.do("listen tcp %v", p.far.IPv4))

	p.arrived(t, p.far, 74+66)
	near, far, published := p.moved()
	requireUsage(t, published, p.server, p.far, map[string]quantity{
		"receive":  {2, 74 + 66}, // SYN, ACK
		"transmit": {1, 74},      // SYN-ACK
	})
	onlyProcesses(t, near)
	onlyProcesses(t, far)
}

// TestKernelCreditsTheEndOfAConnection requires that the ACK for the other side's FIN is counted, although the side that closed first has no
// socket any more.
func TestKernelCreditsTheEndOfAConnection(t *testing.T) {
	p := converse(t, share(t))
	p.open("tcp", p.far.IPv4)
	p.client.do("close")
	p.arrived(t, p.near, 74+66) // SYN-ACK, and the ACK of FIN
	p.mark()
	p.server.do("close")

	near, far, _ := p.moved()
	account := "time_wait"
	if _, old := near["transmit kernel"]; old {
		account = "kernel" // before Linux 6.13 the answer has no socket but the kernel's
	}
	want := map[string]quantity{"receive unclaimed": {1, 66}, "transmit " + account: {1, 66}}
	if diff := cmp.Diff(want, near, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the accounts of who closed first differ (-want +got):\n%s", diff)
	}
	want = map[string]quantity{"transmit process": {1, 66}, "receive process": {1, 66}}
	if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the accounts of who closed last differ (-want +got):\n%s", diff)
	}
}

// TestKernelTellsAProcessFromWhatItBecomes has processes that execute a program or change their user, and so become other processes.
func TestKernelTellsAProcessFromWhatItBecomes(t *testing.T) {
	l := share(t)
	this, another := copyOfThis(t, "this"), copyOfThis(t, "another")
	root, nobody := int64(0), int64(65534)
	for name, test := range map[string]struct {
		change string
		want   appearance
		ended  []appearance // nil: its resource is the same, and its series continues
	}{
		"by executing another program, with the same socket": {
			change: "exec " + another,
			want:   appearance{"another", root, root},
			ended:  []appearance{{"this", root, root}},
		},
		"by executing its own program": {
			change: "exec " + this,
			want:   appearance{"this", root, root},
		},
		"by becoming another user": {
			change: "become 65534 65534",
			want:   appearance{"this", nobody, nobody},
			ended:  []appearance{{"this", root, root}},
		},
		"by becoming another user in effect": {
			change: "become -1 65534",
			want:   appearance{"this", nobody, root},
			ended:  []appearance{{"this", root, root}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := converse(t, l)
			p.client.do("exec %s", this)
			p.open("tcp", p.far.IPv4)
			pump(p.client, p.server, 200_000)
			p.mark()
			was := l.collect(t).transmitted(p.client.pid())
			before := time.Now()
			l.mu.Lock() // a collection before the process uses the socket again would end its former series
			p.client.do(test.change)
			pump(p.client, p.server, 100_000)
			l.mu.Unlock()

			near, _, _ := p.moved()
			var series []point
			eventually(t, "what it was has ended", func() string {
				series = l.collect(t).transmitted(p.client.pid())
				return cmp.Diff(1, len(series))
			})
			if len(series) != 1 {
				return
			}
			got := series[0]
			if diff := cmp.Diff(test.want, appearanceOf(got)); diff != "" {
				t.Errorf("the process looks different (-want +got):\n%s", diff)
			}
			want, goesOn := near["transmit process"].bytes, test.ended == nil
			if goesOn {
				want += uint64(was[0].value)
			}
			if uint64(got.value) != want {
				t.Errorf("it sent %d bytes since its series began, which says %d", want, got.value)
			}
			switch {
			case goesOn && !got.start.Equal(was[0].start):
				t.Errorf("its series starts at %v, and did at %v", got.start, was[0].start)
			case !goesOn && (got.start.Before(before.Add(-time.Millisecond)) || got.start.After(time.Now())):
				t.Errorf("its series starts at %v, but it changed after %v", got.start, before)
			}
			if diff := cmp.Diff(test.ended, l.endings(p.client.pid())); diff != "" {
				t.Errorf("series that have ended differ (-want +got):\n%s", diff)
			}
		})
	}
}

// appearance is what a resource shows of a process in addition to its pid.
type appearance struct {
	Executable         string
	UserID, RealUserID int64
}

func appearanceOf(p point) appearance {
	executable, _ := p.attributes["process.executable.name"].(string)
	user, _ := p.attributes["process.user.id"].(int64)
	realUser, _ := p.attributes["process.real_user.id"].(int64)
	return appearance{Executable: executable, UserID: user, RealUserID: realUser}
}

// transmitted returns the points of the bytes that a process has sent.
func (p publication) transmitted(pid int) []point {
	return slices.DeleteFunc(slices.Clone(p), func(point point) bool {
		return point.metric != "process.network.io" || point.attributes["process.pid"] != int64(pid) ||
			point.direction() != "transmit" || point.ended
	})
}

// endings returns the appearances of a process whose series of sent bytes have ended.
func (l *lab) endings(pid int) []appearance {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ended []appearance
	for _, point := range l.ended {
		if point.metric == "process.network.io" && point.attributes["process.pid"] == int64(pid) && point.direction() == "transmit" {
			ended = append(ended, appearanceOf(point))
		}
	}
	return ended
}

// copyOfThis copies this test binary, so that a helper can execute another program.
func copyOfThis(t *testing.T, name string) string {
	t.Helper()
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(t.TempDir(), name)
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKernelLetsADeadProcessSayItsLast(t *testing.T) {
	p := converse(t, share(t))
	p.open("tcp", p.far.IPv4)
	pump(p.client, p.server, 100_000)
	p.client.stop()

	near, _, _ := p.moved()
	eventually(t, "the series of the dead process ends", func() string {
		p.lab.collect(t)
		return cmp.Diff(1, len(p.lab.endings(p.client.pid())))
	})
	sent := near["transmit process"].bytes
	if last := p.lab.sent[int64(p.client.pid())]; uint64(last) != sent {
		t.Errorf("its last point is %d bytes, but it sent %d", last, sent)
	}
	for range 3 {
		if series := p.lab.collect(t).transmitted(p.client.pid()); len(series) != 0 {
			t.Errorf("it has a point after its end: %+v", series)
		}
	}
	// What the process has sent stays on the interface's account.
	if again, _, _ := p.moved(); again["transmit process"].bytes != sent {
		t.Errorf("the account of processes is %d bytes, and was %d", again["transmit process"].bytes, sent)
	}
}

func TestKernelCreditsProcessesBeyondTheLimit(t *testing.T) {
	const limit = 1 // other processes of the machine need places, too
	w := connect(t, observe(t, owner.Options{MaxProcesses: limit}))
	for range 3 {
		p := &pair{w, start(t, w.near.Name), start(t, w.far.Name)}
		p.open("tcp", w.far.IPv4)
		pump(p.client, p.server, 100_000)
	}

	near, far, _ := w.moved()
	if near["transmit overflow"].bytes < 200_000 || far["receive overflow"].bytes < 200_000 {
		t.Errorf("at least two of three processes have no place, but the accounts are %+v, %+v", near, far)
	}
	if processes := len(w.lab.collect(t).processesOn(w.near.Device)); processes > limit {
		t.Errorf("%d processes have series, and may be %d", processes, limit)
	}
	lost := near["transmit overflow"].packets + near["receive overflow"].packets +
		far["transmit overflow"].packets + far["receive overflow"].packets
	if totals := w.lab.recorder.Read(); totals.Lost["processes_full"] < lost {
		t.Errorf("%d packets are lost to the limit, but the accounts are %+v", lost, totals)
	}
}

// TestKernelLosesNoPacketUnnamed requires that every packet that a hook saw is in a series, or counted as lost.
func TestKernelLosesNoPacketUnnamed(t *testing.T) {
	l := observe(t, owner.Options{MaxProcesses: 4096})
	w := connect(t, l)
	w.send(t, 100, 1000, w.far.IPv4)
	w.send(t, 20, 4000, w.far.IPv6)
	w.sendSegmented(t, 20, 10, false)
	w.multicast(t, 10, 500, 3)
	w.sendToNobody(t, 10, 100)
	w.moved()

	l.loseNothing(t)
	if totals := l.recorder.Read(); totals.Copies < 20 {
		t.Errorf("%d deliveries are copies, and at least 20 of multicast were", totals.Copies)
	}
}

// TestKernelForgetsNoPacket requires the same for packets whose interface is gone.
func TestKernelForgetsNoPacket(t *testing.T) {
	l := observe(t, owner.Options{MaxProcesses: 4096})
	w := connect(t, l)
	w.send(t, 100, 1000, w.far.IPv4)
	l.loseNothing(t)
	w.inNear(func() {
		link := must(netlink.LinkByIndex(w.near.Index))
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
	})
	before := l.recorder.Read().Aggregated
	eventually(t, "the interface is gone", func() string {
		l.collect(t)
		if after := l.recorder.Read().Aggregated; after < before {
			t.Fatalf("%d packets were aggregated, and then %d", before, after)
		}
		for _, iface := range l.traffic.ledger.interfaces {
			if iface.entry.name() == w.near.Device && iface.phase == interfaceLive {
				return "it is open"
			}
		}
		return ""
	})
	l.loseNothing(t)
}

// TestKernelCountsWithoutACell requires that a process that finds no cell is counted in the map, and that the cells of a process that
// has ended are given to another one.
func TestKernelCountsWithoutACell(t *testing.T) {
	l := observe(t, owner.Options{MaxProcesses: 4096})
	if kernel.IsRealTime(must(kernel.Types())) {
		return // all cells are closed there
	}
	w := connect(t, l)
	first := &pair{w, start(t, w.near.Name), start(t, w.far.Name)}
	first.open("tcp", w.far.IPv4)
	pump(first.client, first.server, 10_000)
	cellsOf := func(pid int) (found int) {
		for number, p := range must(l.traffic.owners.Processes()) {
			if p.ID.PID != uint32(pid) {
				continue
			}
			if err := l.traffic.cells.each(func(_ uint32, key bpfTrafficKey, _ bpfCount) error {
				if key.Number == number {
					found++
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		return found
	}
	if cellsOf(first.client.pid()) == 0 || cellsOf(first.server.pid()) == 0 {
		t.Error("a process has no cell, though there are free ones")
	}
	kerneltest.Fill(t, l.traffic.owners.Maps()[owner.Cells])
	second := &pair{w, start(t, w.near.Name), start(t, w.far.Name)}
	second.open("tcp", w.far.IPv4)
	var sum quantity
	for _, p := range []*pair{first, second} {
		pump(p.client, p.server, 10_000)
	}
	published := l.balanced(t, w.near, w.far)
	for _, p := range []*pair{first, second} {
		received := published.usage(p.server.pid(), "")["receive"]
		if received.bytes < 10_000 {
			t.Errorf("process %d is said to have received %+v", p.server.pid(), received)
		}
		sum.add(received)
	}
	if account := published.accounts(in(t, w.far.Name, w.far.Device))["receive process"]; sum != account {
		t.Errorf("the processes have received %+v, and the account has %+v", sum, account)
	}
	if n := cellsOf(second.server.pid()); n != 0 {
		t.Errorf("a process has %d cells, though there were none", n)
	}

	for _, h := range []*helper{first.client, first.server} {
		h.stop()
	}
	free := func() (n int) {
		if _, err := l.traffic.cells.memory.ReadAt(l.traffic.cells.all, 0); err != nil {
			t.Fatal(err)
		}
		for cell := range slices.Chunk(l.traffic.cells.all[cellSize:], cellSize) {
			if slices.Max(cell) == 0 {
				n++
			}
		}
		return n
	}
	eventually(t, "their cells are free", func() string {
		l.collect(t)
		if free() == 0 {
			return "none is"
		}
		return ""
	})
}

// TestKernelLosesNoPacketWithoutMemory requires that what is counted while the kernel has no memory is kept separately, and published with the
// rest. If there is no room for that either, what an interface receives is on its account, and not lost.
func TestKernelLosesNoPacketWithoutMemory(t *testing.T) {
	l := observe(t, owner.Options{MaxProcesses: 256})
	l.traffic.quotas = nil // the test fills the maps with entries of namespaces that do not exist
	known := connect(t, l)
	known.send(t, 100, 1000, known.far.IPv4)
	l.loseNothing(t)
	kerneltest.Fill(t, l.traffic.owners.Maps()[owner.Cells])
	kerneltest.Fill(t, l.traffic.object.Maps[bpfMapTraffic])
	kerneltest.Fill(t, l.traffic.object.Maps[bpfMapAccounts])

	w := connect(t, l)
	w.send(t, 100, 1000, w.far.IPv4)
	_, far, published := w.moved()
	want := map[string]quantity{"receive process": {100, 100 * 1042}}
	if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the far end's accounts differ (-want +got):\n%s", diff)
	}
	usage := published.usage(os.Getpid(), w.far.Device)
	if diff := cmp.Diff(map[string]quantity{"receive": {100, 100 * 1042}}, usage, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the process's series differ (-want +got):\n%s", diff)
	}

	kerneltest.Fill(t, l.traffic.object.Maps[bpfMapSpareAccounts])
	known.sendToNobody(t, 10, 100)
	l.loseNothing(t)
}

// loseNothing waits until all packets that were seen are in a series or counted as lost.
func (l *lab) loseNothing(t *testing.T) {
	t.Helper()
	eventually(t, "what was seen is in the accounts", func() string {
		l.collect(t)
		totals := l.recorder.Read()
		want := totals.Aggregated
		for _, lost := range totals.Lost {
			want += lost
		}
		return cmp.Diff(want, totals.Seen)
	})
}
