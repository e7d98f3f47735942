// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// pair is a server at the far end of a wire and a client at the near end, which are two processes.
type pair struct {
	*wire
	client, server *helper
}

func converse(t *testing.T, l *lab) *pair {
	t.Helper()
	return converseOver(connect(t, l))
}

func converseOver(w *wire) *pair {
	w.t.Helper()
	return &pair{wire: w, client: start(w.t, w.near.Name), server: start(w.t, w.far.Name)}
}

// open connects the client to the server, which has accepted when it returns.
func (p *pair) open(kind string, address netip.Addr) {
	p.t.Helper()
	p.client.do("dial %s %s", kind, p.server.do("listen %s %v", kind, address))
	p.server.do("accept")
}

// pump sends bytes over the connection and waits until they have been received.
func pump(from, to *helper, bytes int) {
	from.t.Helper()
	from.begin("send %d", bytes)
	to.do("receive %d", bytes)
	from.end()
}

// TestKernelGivesBothProcessesWhatTheWireCarried requires that what one process has sent equals what the other one has received, and what the interfaces
// between them have counted.
func TestKernelGivesBothProcessesWhatTheWireCarried(t *testing.T) {
	l := share(t)
	for name, test := range map[string]struct {
		kind string
		six  bool
	}{
		"TCP":             {kind: "tcp"},
		"TCP over IPv6":   {kind: "tcp", six: true},
		"MPTCP":           {kind: "mptcp"},
		"MPTCP over IPv6": {kind: "mptcp", six: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := converse(t, l)
			address := p.far.IPv4
			if test.six {
				address = p.far.IPv6
			}
			p.open(test.kind, address)
			pump(p.client, p.server, 3_000_000)
			pump(p.server, p.client, 2_000_000)

			near, far, published := p.moved()
			sent, received := near["transmit process"], far["transmit process"]
			if sent.bytes < 3_000_000 || received.bytes < 2_000_000 {
				t.Errorf("the process accounts have less than was sent: %+v, %+v", near, far)
			}
			requireUsage(t, published, p.client, p.near, map[string]quantity{"transmit": sent, "receive": received})
			requireUsage(t, published, p.server, p.far, map[string]quantity{"transmit": received, "receive": sent})
			want := map[string]quantity{"transmit process": sent, "receive process": received}
			if diff := cmp.Diff(want, near, cmp.AllowUnexported(quantity{})); diff != "" {
				t.Errorf("something on the near end is on another account (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKernelGivesBytesToWhoUsesTheSocket has sockets that more than one process could own, and requires which process gets the bytes.
func TestKernelGivesBytesToWhoUsesTheSocket(t *testing.T) {
	avoid := []string{}
	found := false // the best hook of this kernel
	for _, hook := range []string{"tp_btf/sock_send_length", "fentry/security_socket_sendmsg", "kprobe/security_socket_sendmsg"} {
		better := slices.Clone(avoid)
		avoid = append(avoid, hook)
		kind, _, _ := strings.Cut(hook, "/")
		t.Run(kind, func(t *testing.T) {
			kerneltest.Require(t)
			if err := kernel.Probe(hook); err != nil {
				t.Skip(err)
			}
			l := observe(t, owner.Options{MaxProcesses: 4096, AvoidHooks: better})
			if hooks := l.recorder.Read().Hooks; !slices.ContainsFunc(hooks, func(used kernel.Hook) bool { return used.Name == hook }) {
				t.Fatalf("the hooks in use are %v, want %s", hooks, hook)
			}
			// All of them take long on an emulated machine, and each hook is the best one on some kernel. On the
			// others there is one for each way in which the hook learns.
			testUsers(t, l, found && testing.Short())
			found = true
		})
	}
}

// onEachRung are the cases of testUsers that run with hooks that are not the best ones, too.
var onEachRung = []string{
	"a child that has its parent's connection",
	"a worker, of what came before it accepted",
	"who received datagrams before, when another one waits in vain",
	"who received by MPTCP before, when another one who shares the socket sends in vain",
	"who received by MPTCP before, when another one who shares the socket waits in vain",
}

func testUsers(t *testing.T, l *lab, few bool) {
	const much = 100_000
	for name, test := range map[string]func(t *testing.T, p *pair) (owners map[int]string){
		"a child that has its parent's connection": func(_ *testing.T, p *pair) map[int]string {
			p.open("tcp", p.far.IPv4)
			child := number(p.client.do("spawn"))
			p.client.do("child send %d", much)
			p.server.do("receive %d", much)
			return map[int]string{child: "sends", p.client.pid(): "does neither", p.server.pid(): "receives"}
		},
		"a worker, of what came before it accepted": func(t *testing.T, p *pair) map[int]string {
			at := p.server.do("listen tcp %v", p.far.IPv4)
			worker := number(p.server.do("spawn"))
			p.client.do("dial tcp %s", at)
			p.client.do("send %d", much)
			p.arrived(t, p.far, much)
			l.collect(t)
			p.server.do("child accept")
			p.server.do("child receive %d", much)
			return map[int]string{p.client.pid(): "sends", p.server.pid(): "does neither", worker: "receives"}
		},
		"a worker to whom its master hands the accepted connection": func(t *testing.T, p *pair) map[int]string {
			at := p.server.do("listen tcp %v", p.far.IPv4)
			p.client.do("dial tcp %s", at)
			p.server.do("accept") // first, or data may come in before the handshake's last segment, and be in its place
			p.client.do("send %d", much)
			p.arrived(t, p.far, much)
			worker := number(p.server.do("spawn"))
			p.server.do("child receive %d", much)
			return map[int]string{p.client.pid(): "sends", p.server.pid(): "does neither", worker: "receives"}
		},
		"a stranger who was given the connection": func(t *testing.T, p *pair) map[int]string {
			ours, theirs := socketPair(t)
			giver, taker := start(t, p.near.Name, ours), start(t, p.near.Name, theirs)
			giver.do("dial tcp %s", p.server.do("listen tcp %v", p.far.IPv4))
			p.server.do("accept")
			giver.do("give connection")
			taker.do("take connection")
			giver.do("close")
			pump(taker, p.server, much)
			return map[int]string{taker.pid(): "sends", giver.pid(): "does neither", p.server.pid(): "receives"}
		},
		"the one who receives datagrams, of all that came before": func(t *testing.T, p *pair) map[int]string {
			at := p.server.do("listen udp %v", p.far.IPv4)
			receiver := number(p.server.do("spawn"))
			p.client.do("dial udp %s", at)
			p.client.do("send %d", much/2)
			p.client.do("send %d", much/2)
			p.arrived(t, p.far, much)
			p.server.do("child receive %d", much)
			return map[int]string{p.client.pid(): "sends", p.server.pid(): "does neither", receiver: "receives"}
		},
		"the creator of a socket on which nobody receives": func(_ *testing.T, p *pair) map[int]string {
			p.client.do("dial udp %s", p.server.do("listen udp %v", p.far.IPv4))
			p.client.do("send %d", much/2)
			p.client.do("send %d", much/2)
			return map[int]string{p.client.pid(): "sends", p.server.pid(): "receives"}
		},
		"whoever listens, of handshakes that nobody accepted": func(_ *testing.T, p *pair) map[int]string {
			p.client.do("dial tcp %s", p.server.do("listen tcp %v", p.far.IPv4))
			return map[int]string{p.client.pid(): "does neither", p.server.pid(): "does neither"}
		},
		"whoever has a listener whose maker is dead, also of a connection that nobody accepted": func(t *testing.T, p *pair) map[int]string {
			at, heir := p.bequeath(t, "tcp", "")
			p.client.do("dial tcp %s", at)
			return map[int]string{p.client.pid(): "does neither", heir.pid(): "does neither"}
		},
		"a worker who accepts when the maker of the listener is dead": func(t *testing.T, p *pair) map[int]string {
			at, heir := p.bequeath(t, "tcp", "")
			p.client.do("dial tcp %s", at)
			heir.do("accept")
			pump(p.client, heir, much)
			return map[int]string{p.client.pid(): "sends", heir.pid(): "receives"}
		},
		"a worker who accepts when the maker of the listener became another user, and is dead": func(t *testing.T, p *pair) map[int]string {
			at, heir := p.bequeath(t, "tcp", "become 65534 65534")
			p.client.do("dial tcp %s", at)
			heir.do("accept")
			pump(p.client, heir, much)
			return map[int]string{p.client.pid(): "sends", heir.pid(): "receives"}
		},
		"a worker who accepts when the maker of the MPTCP listener is dead": func(t *testing.T, p *pair) map[int]string {
			at, heir := p.bequeath(t, "mptcp", "")
			p.client.do("dial mptcp %s", at)
			heir.do("accept")
			pump(p.client, heir, much)
			return map[int]string{p.client.pid(): "sends", heir.pid(): "receives"}
		},
		"who received before, when another one looks in vain": func(t *testing.T, p *pair) map[int]string {
			p.open("tcp", p.far.IPv4)
			pump(p.client, p.server, 1)
			idle := number(p.server.do("spawn"))
			p.server.do("child look")
			p.client.do("send %d", much)
			p.arrived(t, p.far, much)
			l.collect(t)
			p.server.do("receive %d", much)
			return map[int]string{p.client.pid(): "sends", p.server.pid(): "receives", idle: "does neither"}
		},
		"who received datagrams before, when another one looks in vain": func(t *testing.T, p *pair) map[int]string {
			p.client.do("dial udp %s", p.server.do("listen udp %v", p.far.IPv4))
			pump(p.client, p.server, 1)
			idle := number(p.server.do("spawn"))
			p.server.do("child look")
			p.client.do("send %d", much/2)
			p.client.do("send %d", much/2)
			p.arrived(t, p.far, much)
			l.collect(t)
			p.server.do("receive %d", much)
			return map[int]string{p.client.pid(): "sends", p.server.pid(): "receives", idle: "does neither"}
		},
		"who received before, when another one waits in vain": func(t *testing.T, p *pair) map[int]string {
			return p.waitInVain(t, "tcp", much)
		},
		"who received datagrams before, when another one waits in vain": func(t *testing.T, p *pair) map[int]string {
			return p.waitInVain(t, "udp", much)
		},
		"who received packets before, when another one waits in vain": func(t *testing.T, p *pair) map[int]string {
			return p.waitInVain(t, "raw", much)
		},
		"who received before, when another one sends in vain": func(t *testing.T, p *pair) map[int]string {
			p.open("tcp", p.far.IPv4)
			pump(p.client, p.server, 1)
			idle := number(p.server.do("spawn"))
			p.server.do("shut")
			p.server.do("child push")
			p.client.do("send %d", much)
			p.arrived(t, p.far, much)
			l.collect(t)
			p.server.do("receive %d", much)
			return map[int]string{p.client.pid(): "sends", p.server.pid(): "receives", idle: "does neither"}
		},
		"who received datagrams before, when another one who shares the socket sends in vain": func(t *testing.T, p *pair) map[int]string {
			return p.shareInVain(t, "udp", "miss", much)
		},
		"who received by MPTCP before, when another one who shares the socket sends in vain": func(t *testing.T, p *pair) map[int]string {
			return p.shareInVain(t, "mptcp", "miss", much)
		},
		"who received by MPTCP before, when another one who shares the socket waits in vain": func(t *testing.T, p *pair) map[int]string {
			return p.shareInVain(t, "mptcp", "wait", much)
		},
		"an MPTCP server, also of a connection that is plain TCP": func(_ *testing.T, p *pair) map[int]string {
			p.client.do("dial tcp %s", p.server.do("listen mptcp %v", p.far.IPv4))
			p.server.do("accept")
			pump(p.client, p.server, much)
			return map[int]string{p.client.pid(): "sends", p.server.pid(): "receives"}
		},
		"a worker, of what came over MPTCP before it accepted": func(t *testing.T, p *pair) map[int]string {
			at := p.server.do("listen mptcp %v", p.far.IPv4)
			worker := number(p.server.do("spawn"))
			p.client.do("dial mptcp %s", at)
			p.client.do("send %d", much/2)
			p.arrived(t, p.far, much/2)
			p.server.do("child accept")
			p.server.do("child receive %d", much/2)
			p.client.do("send %d", much/2)
			p.server.do("child receive %d", much/2)
			return map[int]string{p.client.pid(): "sends", p.server.pid(): "does neither", worker: "receives"}
		},
	} {
		if few && !slices.Contains(onEachRung, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for try := 1; ; try++ {
				missed := l.recorder.Read().MissedRuns
				faults := usersFaults(t, l, test)
				if len(faults) == 0 {
					return
				}
				// What kprobes run is left out on a CPU on which the kernel has preempted a read of a map. This is
				// counted, and happens where such a read can be preempted.
				if l.recorder.Read().MissedRuns == missed || try == 5 {
					t.Fatal(strings.Join(faults, "\n"))
				}
				t.Logf("once more, since runs of programs are missing: %s", strings.Join(faults, "; "))
			}
		})
	}
}

// usersFaults has a pair carry out a case of testUsers. It returns what is not as the case says.
func usersFaults(t *testing.T, l *lab, test func(*testing.T, *pair) map[int]string) (faults []string) {
	t.Helper()
	p := converse(t, l)
	owners := test(t, p)
	near, far, published := p.moved()
	onlyProcesses(t, near)
	onlyProcesses(t, far)
	for _, device := range []string{p.near.Device, p.far.Device} {
		for pid := range published.processesOn(device) {
			if owners[pid] == "" {
				faults = append(faults, fmt.Sprintf("a process that has no part in it is on %s: %d", device, pid))
			}
		}
	}
	for pid, want := range owners {
		if got := role(published.usage(pid, "")); got != want {
			faults = append(faults, fmt.Sprintf("process %d %s, but this one %s: %+v", pid, got, want, published.usage(pid, "")))
		}
	}
	return faults
}

// waitInVain lets another process, which also has the server's connection, wait for data that do not come.
// Afterwards it sends so many bytes, which the server receives.
func (p *pair) waitInVain(t *testing.T, kind string, much int) map[int]string {
	t.Helper()
	p.begin(kind)
	pump(p.client, p.server, 1)
	idle := number(p.server.do("spawn"))
	return p.goInVain(t, "wait", idle, much)
}

// shareInVain does the same with another process that has used the connection several times before, in turn with the
// server, and that now carries out a command that fails.
func (p *pair) shareInVain(t *testing.T, kind, deed string, much int) map[int]string {
	t.Helper()
	p.begin(kind)
	other := number(p.server.do("spawn"))
	for range 2 {
		pump(p.client, p.server, 1)
		p.client.do("send 1")
		p.server.do("child receive 1")
	}
	p.lab.collect(t)
	pump(p.client, p.server, 1)
	return p.goInVain(t, deed, other, much)
}

// begin makes a connection of a kind, or what takes its place.
func (p *pair) begin(kind string) {
	p.t.Helper()
	p.client.do("dial %s %s", kind, p.server.do("listen %s %v", kind, p.far.IPv4))
	if kind == "tcp" || kind == "mptcp" {
		p.server.do("accept")
	}
}

// goInVain has the server's child carry out a command that fails. Afterwards the client sends so many bytes, which the
// server receives.
func (p *pair) goInVain(t *testing.T, deed string, child, much int) map[int]string {
	t.Helper()
	p.server.do("child %s", deed)
	p.client.do("send %d", much/2)
	p.client.do("send %d", much/2)
	p.arrived(t, p.far, uint64(much))
	p.lab.collect(t)
	p.server.do("receive %d", much)
	return map[int]string{p.client.pid(): "sends", p.server.pid(): "receives", child: "does neither"}
}

// bequeath has a server that listens, passes its listener to another process, carries out one more command and
// ends. It returns the address of the listener, and the other process.
func (p *pair) bequeath(t *testing.T, kind, deed string) (at string, heir *helper) {
	t.Helper()
	ours, theirs := socketPair(t)
	maker, heir := start(t, p.far.Name, ours), start(t, p.far.Name, theirs)
	at = maker.do("listen %s %v", kind, p.far.IPv4)
	if deed != "" {
		maker.do(deed)
	}
	maker.do("give listener")
	heir.do("take listener")
	maker.stop()
	return at, heir
}

// role returns what a process did, in a word: whether it sent or received at least 100 kB, or no more than
// handshakes and acknowledgements.
func role(usage map[string]quantity) string {
	const much, little = 100_000, 5_000
	sent, received := usage["transmit"].bytes, usage["receive"].bytes
	switch {
	case sent >= much && received <= little:
		return "sends"
	case received >= much && sent <= little:
		return "receives"
	case sent <= little && received <= little:
		return "does neither"
	}
	return "does something else"
}

// arrived waits until an end has received a number of bytes since mark.
func (w *wire) arrived(t *testing.T, n kerneltest.Namespace, bytes uint64) {
	t.Helper()
	want := total(w.before.accounts(in(t, n.Name, n.Device)))[bpfDirectionRECEIVE].bytes + bytes
	eventually(t, "the bytes have arrived", func() string {
		if got := counterOf(t, n.Name, n.Device)[bpfDirectionRECEIVE].bytes; got < want {
			return fmt.Sprintf("%d are missing", want-got)
		}
		return ""
	})
}

// onlyProcesses requires that everything went to or came from a process.
func onlyProcesses(t *testing.T, accounts map[string]quantity) {
	t.Helper()
	for key, q := range accounts {
		if key != "transmit process" && key != "receive process" {
			t.Errorf("%s: %+v, and should be a process's", key, q)
		}
	}
}

// withOneSocket starts two processes that have one socket, which is connected to the server by UDP.
func (p *pair) withOneSocket(t *testing.T) (one, other *helper) {
	t.Helper()
	ours, theirs := socketPair(t)
	one, other = start(t, p.near.Name, ours), start(t, p.near.Name, theirs)
	one.do("dial udp %s", p.server.do("listen udp %v", p.far.IPv4))
	one.do("give connection")
	other.do("take connection")
	return one, other
}

// socketPair returns two ends of a Unix socket, to be inherited.
func socketPair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// requireUsage requires that a process moved certain amounts through n's device.
func requireUsage(t *testing.T, published publication, h *helper, n kerneltest.Namespace, want map[string]quantity) {
	t.Helper()
	if diff := cmp.Diff(want, published.usage(h.pid(), n.Device), cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("usage of process %d differs (-want +got):\n%s", h.pid(), diff)
	}
}

// TestKernelGivesBothProcessesWhatLoopbackCarried uses lo, where client and server are on one interface, and the same kernel sends and receives a packet.
func TestKernelGivesBothProcessesWhatLoopbackCarried(t *testing.T) {
	l := share(t)
	for name, test := range map[string]struct{ kind, address string }{
		"TCP":           {"tcp", "127.0.0.1"},
		"TCP over IPv6": {"tcp", "::1"},
		"MPTCP":         {"mptcp", "127.0.0.1"},
		"UDP":           {"udp", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := connect(t, l)
			client, server := start(t, w.near.Name), start(t, w.near.Name)
			client.do("dial %s %s", test.kind, server.do("listen %s %s", test.kind, test.address))
			if test.kind != "udp" {
				server.do("accept")
			}
			for range 10 {
				pump(client, server, 20_000)
			}

			lo := in(t, w.near.Name, "lo")
			var published publication
			eventually(t, "all that lo counted is on an account", func() string {
				published = l.collect(t)
				return cmp.Diff([]int64{0, 0, 0, 0}, published.unobserved(lo))
			})
			accounts := published.accounts(lo)
			onlyProcesses(t, accounts)
			sent, received := published.usage(client.pid(), "lo"), published.usage(server.pid(), "lo")
			if sent["transmit"] != received["receive"] || sent["receive"] != received["transmit"] {
				t.Errorf("the client moved %+v, the server %+v", sent, received)
			}
			if role(sent) != "sends" || role(received) != "receives" {
				t.Errorf("the client %s, the server %s", role(sent), role(received))
			}
			want := map[string]quantity{"transmit process": sent["transmit"], "receive process": sent["receive"]}
			for direction, q := range received {
				total := want[direction+" process"]
				total.add(q)
				want[direction+" process"] = total
			}
			if diff := cmp.Diff(want, accounts, cmp.AllowUnexported(quantity{})); diff != "" {
				t.Errorf("the account of processes is not their sum (-want +got):\n%s", diff)
			}
		})
	}
}
