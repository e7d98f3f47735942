// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"hash/maphash"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

const second = 1e9

const hostInode = 4026531840

var (
	host = uint64(1) // cookie of the host's network namespace
	eth0 = bpfInterfaceKey{Netns: host, Ifindex: 2}
)

// curl is a process that started 5 s after the boot.
func curl(alive bool) owner.Process {
	return owner.Process{ID: process.ID{PID: 7, StartNanos: 5 * second}, Seen: process.Seen{FirstNanos: 6 * second, Comm: "curl"}, Alive: alive}
}

func packets(n, bytes uint64) bpfCount {
	return bpfCount{Packets: n, Bytes: bytes, Frames: n, FrameBytes: bytes}
}

func sent(number uint64) bpfTrafficKey {
	return bpfTrafficKey{Number: number, Netns: host, Ifindex: 2, Direction: uint8(bpfDirectionTRANSMIT)}
}

func received(number uint64) bpfTrafficKey {
	return bpfTrafficKey{Number: number, Netns: host, Ifindex: 2, Direction: uint8(bpfDirectionRECEIVE)}
}

func arrived(account bpfAccount) bpfAccountKey {
	return bpfAccountKey{Netns: host, Ifindex: 2, Account: account, Direction: bpfDirectionRECEIVE}
}

// at returns a snapshot of a host with one interface, eth0, whose counter is own.
func at(seconds uint64, own counter, change func(s *snapshot)) *snapshot {
	s := &snapshot{
		now:        seconds * second,
		epoch:      seconds,
		processes:  map[uint64]owner.Process{},
		traffic:    map[bpfTrafficKey]bpfCount{},
		accounts:   map[bpfAccountKey]bpfCount{},
		interfaces: map[bpfInterfaceKey]bpfInterfaceEntry{eth0: {Epoch: seconds, Name: [16]int8{'e', 't', 'h', '0'}, NetnsInode: hostInode}},
		namespaces: map[uint64]bpfNamespaceEntry{host: {Epoch: seconds, Inode: hostInode, Pid: 1}},
		counters:   map[uint64]map[string]counter{host: {"eth0": own}},
	}
	if change != nil {
		change(s)
	}
	return s
}

// seenIdentity is an identity that the kernel side has seen.
func seenIdentity(p owner.Process) identity {
	text := fmt.Sprint(p.ID.UserID, p.ID.RealUserID, p.Seen.Comm, p.Seen.Executable)
	return identity{instance: instanceOf(p.ID), shown: maphash.String(seed, text)}
}

var seed = maphash.MakeSeed()

// opened returns a ledger that began 10 s after the boot, at which time eth0 had counted before.
func opened(before counter) *ledger {
	l := newLedger(10*second, hostInode, false, seenIdentity)
	l.withNamespace = true
	l.begin(at(10, before, nil), nil)
	return l
}

func equal[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(usage{}, row{}, quantity{}, statement{}, accountRow{}, unobservedRow{})); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, diff)
	}
}

func TestSeriesStart(t *testing.T) {
	old := owner.Process{ID: process.ID{PID: 7, StartNanos: 5 * second, ExecID: 1}, Seen: process.Seen{FirstNanos: 12 * second}, Alive: true}
	execed := owner.Process{ID: process.ID{PID: 7, StartNanos: 5 * second, ExecID: 2}, Seen: process.Seen{FirstNanos: 13 * second, Executable: "other"}, Alive: true}
	again := owner.Process{ID: process.ID{PID: 7, StartNanos: 5 * second, ExecID: 2}, Seen: process.Seen{FirstNanos: 13 * second}, Alive: true}
	young := owner.Process{ID: process.ID{PID: 8, StartNanos: 14 * second}, Seen: process.Seen{FirstNanos: 15 * second}, Alive: true}

	for name, test := range map[string]struct {
		processes map[uint64]owner.Process
		want      map[uint64]uint64 // by number
	}{
		"a process older than the receiver begins with the receiver": {
			processes: map[uint64]owner.Process{1: old},
			want:      map[uint64]uint64{1: 10 * second},
		},
		"a younger one begins with itself": {
			processes: map[uint64]owner.Process{1: young},
			want:      map[uint64]uint64{1: 14 * second},
		},
		"after an exec it begins when it was first met so": {
			processes: map[uint64]owner.Process{1: old, 2: execed},
			want:      map[uint64]uint64{1: 10 * second, 2: 13 * second},
		},
		"after an exec of its own program it goes on, for it looks the same": {
			processes: map[uint64]owner.Process{1: old, 2: again},
			want:      map[uint64]uint64{2: 10 * second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			report := opened(counter{}).post(at(20, counter{}, func(s *snapshot) {
				s.processes = test.processes
				for number := range test.processes {
					s.traffic[sent(number)] = packets(1, 100)
				}
			}), nil)

			got := make(map[uint64]uint64)
			for _, u := range report.processes {
				for number, p := range test.processes {
					if p.ID == u.process.ID {
						got[number] = u.start
					}
				}
			}
			equal(t, "start", test.want, got)
		})
	}
}

func TestDeadProcessSaysItsLastAndEnds(t *testing.T) {
	l := opened(counter{})
	moved := func(alive bool) func(s *snapshot) {
		return func(s *snapshot) {
			s.processes[1] = curl(alive)
			s.traffic[sent(1)] = packets(2, 200)
		}
	}
	last := []usage{{process: curl(false), start: 10 * second, rows: []row{
		{interfaceName: "eth0", netnsInode: hostInode, direction: bpfDirectionTRANSMIT, quantity: quantity{packets: 2, bytes: 200}},
	}}}

	l.post(at(20, counter{}, moved(true)), nil)

	s := at(30, counter{}, moved(false))
	gone := l.departing(s)
	equal(t, "departing", map[uint64]owner.Process{1: curl(false)}, gone)
	report := l.post(s, gone)
	equal(t, "its last points", last, report.processes)
	equal(t, "gone before", nil, report.gone)
	l.endings.delivered()

	report = l.post(at(40, counter{}, nil), nil)
	equal(t, "points after its end", nil, report.processes)
	equal(t, "gone", last, report.gone)
	equal(t, "the interface's account", []accountRow{
		{direction: bpfDirectionTRANSMIT, account: "process", quantity: quantity{packets: 2, bytes: 200}},
	}, report.interfaces[0].accounts)
	l.endings.delivered()

	report = l.post(at(50, counter{}, nil), nil)
	equal(t, "gone twice", nil, report.gone)
}

func TestDeadProcessWhoseSocketsStillSendStays(t *testing.T) {
	l := opened(counter{})
	l.post(at(20, counter{}, func(s *snapshot) {
		s.processes[1] = curl(true)
		s.traffic[sent(1)] = packets(2, 200)
	}), nil)

	got := l.departing(at(30, counter{}, func(s *snapshot) {
		s.processes[1] = curl(false)
		s.traffic[sent(1)] = packets(3, 240)
	}))

	equal(t, "departing", map[uint64]owner.Process{}, got)
}

func TestDepartedProcessThatIsHeardAgainStartsAnew(t *testing.T) {
	l := opened(counter{})
	dead := func(s *snapshot) {
		s.processes[1] = curl(false)
		s.traffic[sent(1)] = packets(2, 200)
	}
	l.post(at(20, counter{}, dead), nil)
	s := at(30, counter{}, dead)
	l.post(s, l.departing(s))

	report := l.post(at(40, counter{}, func(s *snapshot) { s.traffic[sent(1)] = packets(1, 40) }), nil)

	equal(t, "processes", []usage{{process: curl(false), start: 30 * second, rows: []row{
		{interfaceName: "eth0", netnsInode: hostInode, direction: bpfDirectionTRANSMIT, quantity: quantity{packets: 1, bytes: 40}},
	}}}, report.processes)
	equal(t, "the interface's account", []accountRow{
		{direction: bpfDirectionTRANSMIT, account: "process", quantity: quantity{packets: 3, bytes: 240}},
	}, report.interfaces[0].accounts)
}

func TestBalance(t *testing.T) {
	for name, test := range map[string]struct {
		before, after counter
		change        func(s *snapshot)
		want          []statement
	}{
		"nothing moved, nothing to say": {},
		"what nobody claimed of what arrived is unclaimed": {
			after: counter{bpfDirectionRECEIVE: {packets: 10, bytes: 1000}},
			change: func(s *snapshot) {
				s.processes[1] = curl(true)
				s.traffic[received(1)] = packets(6, 600)
				s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(10, 1000)
				s.accounts[arrived(bpfAccountACCOUNT_KERNEL)] = packets(1, 100)
			},
			want: []statement{{
				interfaceName: "eth0", netnsInode: hostInode, start: 10 * second,
				accounts: []accountRow{
					{direction: bpfDirectionRECEIVE, account: "process", quantity: quantity{packets: 6, bytes: 600}},
					{direction: bpfDirectionRECEIVE, account: "kernel", quantity: quantity{packets: 1, bytes: 100}},
					{direction: bpfDirectionRECEIVE, account: "unclaimed", quantity: quantity{packets: 3, bytes: 300}},
				},
				unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT}, {direction: bpfDirectionRECEIVE}},
			}},
		},
		"what waits for its user is in no account": {
			after: counter{bpfDirectionRECEIVE: {packets: 10, bytes: 1000}},
			change: func(s *snapshot) {
				s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(10, 1000)
				s.accounts[arrived(bpfAccountACCOUNT_WAITING)] = packets(10, 1000)
			},
			want: []statement{{
				interfaceName: "eth0", netnsInode: hostInode, start: 10 * second,
				unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT}, {direction: bpfDirectionRECEIVE, packets: 10, bytes: 1000}},
			}},
		},
		"what the interface had counted before us is not unobserved": {
			before: counter{{packets: 5, bytes: 500}, {packets: 50, bytes: 5000}},
			after:  counter{{packets: 7, bytes: 700}, {packets: 50, bytes: 5000}},
			want: []statement{{
				interfaceName: "eth0", netnsInode: hostInode, start: 10 * second,
				unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT, packets: 2, bytes: 200}, {direction: bpfDirectionRECEIVE}},
			}},
		},
		"what the counter missed is negative": {
			change: func(s *snapshot) { s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(1, 100) },
			want: []statement{{
				interfaceName: "eth0", netnsInode: hostInode, start: 10 * second,
				accounts:   []accountRow{{direction: bpfDirectionRECEIVE, account: "unclaimed", quantity: quantity{packets: 1, bytes: 100}}},
				unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT}, {direction: bpfDirectionRECEIVE, packets: -1, bytes: -100}},
			}},
		},
		"what may still be claimed is not unclaimed yet": {
			after: counter{{}, {packets: 3, bytes: 300}},
			change: func(s *snapshot) {
				s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(3, 300)
				s.inFlight = map[bpfInterfaceKey]bpfCount{eth0: packets(1, 100)}
			},
			want: []statement{{
				interfaceName: "eth0", netnsInode: hostInode, start: 10 * second,
				accounts:   []accountRow{{direction: bpfDirectionRECEIVE, account: "unclaimed", quantity: quantity{packets: 2, bytes: 200}}},
				unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT}, {direction: bpfDirectionRECEIVE, packets: 1, bytes: 100}},
			}},
		},
		"a counter that starts anew goes on where it was": {
			before: counter{{packets: 5, bytes: 500}, {}},
			after:  counter{{packets: 1, bytes: 100}, {}},
		},
		"a device that counts frames is held against frames": {
			after: counter{{packets: 3, bytes: 3300}, {}},
			change: func(s *snapshot) {
				s.processes[1] = curl(true)
				s.traffic[sent(1)] = bpfCount{Packets: 1, Bytes: 3100, Frames: 3, FrameBytes: 3300}
			},
			want: []statement{{
				interfaceName: "eth0", netnsInode: hostInode, start: 10 * second,
				accounts:   []accountRow{{direction: bpfDirectionTRANSMIT, account: "process", quantity: quantity{packets: 3, bytes: 3300}}},
				unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT}, {direction: bpfDirectionRECEIVE}},
			}},
		},
		"a device that counts skbs is held against skbs": {
			after: counter{{packets: 1, bytes: 3100}, {}},
			change: func(s *snapshot) {
				s.processes[1] = curl(true)
				s.traffic[sent(1)] = bpfCount{Packets: 1, Bytes: 3100, Frames: 3, FrameBytes: 3300}
			},
			want: []statement{{
				interfaceName: "eth0", netnsInode: hostInode, start: 10 * second,
				accounts:   []accountRow{{direction: bpfDirectionTRANSMIT, account: "process", quantity: quantity{packets: 1, bytes: 3100}}},
				unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT}, {direction: bpfDirectionRECEIVE}},
			}},
		},
		"hardware whose counter cannot be read is taken to count frames": {
			change: func(s *snapshot) {
				s.counters = nil
				s.interfaces[eth0] = bpfInterfaceEntry{Epoch: 20, Name: [16]int8{'e', 't', 'h', '0'}, NetnsInode: hostInode, Hardware: 1}
				s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = bpfCount{Packets: 1, Bytes: 3100, Frames: 3, FrameBytes: 3300}
			},
			want: []statement{{
				interfaceName: "eth0", netnsInode: hostInode, start: 10 * second,
				accounts: []accountRow{{direction: bpfDirectionRECEIVE, account: "unclaimed", quantity: quantity{packets: 3, bytes: 3300}}},
			}},
		},
		"a namespace without a process has no unobserved": {
			change: func(s *snapshot) {
				s.counters = nil
				s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(1, 100)
			},
			want: []statement{{
				interfaceName: "eth0", netnsInode: hostInode, start: 10 * second,
				accounts: []accountRow{{direction: bpfDirectionRECEIVE, account: "unclaimed", quantity: quantity{packets: 1, bytes: 100}}},
			}},
		},
		"another namespace's interface is left out": {
			change: func(s *snapshot) {
				s.interfaces[eth0] = bpfInterfaceEntry{Epoch: 20, Name: [16]int8{'e', 't', 'h', '0'}, NetnsInode: 99}
				s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(1, 100)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := opened(test.before).post(at(20, test.after, test.change), nil).interfaces
			equal(t, "interfaces", test.want, got)
		})
	}
}

// TestUnitIsKept requires that a device's unit is learned from the first skb that shows it, and does not change
// afterwards, because a series must not jump.
func TestUnitIsKept(t *testing.T) {
	l := opened(counter{})
	big := bpfCount{Packets: 1, Bytes: 3100, Frames: 3, FrameBytes: 3300}
	l.post(at(20, counter{{packets: 1, bytes: 3100}, {}}, func(s *snapshot) {
		s.accounts[bpfAccountKey{Netns: host, Ifindex: 2, Account: bpfAccountACCOUNT_KERNEL}] = big
	}), nil)

	report := l.post(at(30, counter{{packets: 3, bytes: 3300}, {}}, func(s *snapshot) {
		s.accounts[bpfAccountKey{Netns: host, Ifindex: 2, Account: bpfAccountACCOUNT_KERNEL}] = big
	}), nil)

	equal(t, "accounts", []accountRow{
		{direction: bpfDirectionTRANSMIT, account: "kernel", quantity: quantity{packets: 1, bytes: 3100}},
	}, report.interfaces[0].accounts)
}

func TestLinkHeaders(t *testing.T) {
	frame := bpfCount{Packets: 10, Bytes: 1140, Frames: 10, FrameBytes: 1140}

	for name, test := range map[string]struct {
		entry bpfInterfaceEntry
		own   map[string]counter // nil: cannot be read
		want  uint64             // bytes
	}{
		"a device whose counter has them is held against all":        {own: map[string]counter{"eth0": {{}, {packets: 10, bytes: 1140}}}, want: 1140},
		"a device whose counter lacks them is held against the rest": {own: map[string]counter{"eth0": {{}, {packets: 10, bytes: 1000}}}, want: 1000},
		"a bridge whose counter cannot be read lacks them":           {entry: bpfInterfaceEntry{Bare: 1}, want: 1000},
		"any other whose counter cannot be read has them":            {want: 1140},
		"a counter that is far from both says nothing":               {own: map[string]counter{"eth0": {{}, {packets: 99, bytes: 9900}}}, want: 1140},
	} {
		t.Run(name, func(t *testing.T) {
			test.entry.Epoch, test.entry.NetnsInode, test.entry.Link = 20, hostInode, 14
			copy(test.entry.Name[:], []int8{'e', 't', 'h', '0'})
			report := opened(counter{}).post(at(20, counter{}, func(s *snapshot) {
				s.interfaces[eth0] = test.entry
				s.counters[host] = test.own
				s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = frame
			}), nil)
			equal(t, "unclaimed", []accountRow{
				{direction: bpfDirectionRECEIVE, account: "unclaimed", quantity: quantity{packets: 10, bytes: test.want}},
			}, report.interfaces[0].accounts)
		})
	}
}

func TestUnclaimedNeverShrinks(t *testing.T) {
	l := opened(counter{})
	post := func(seconds, arrivals, claimed uint64) quantity {
		report := l.post(at(seconds, counter{}, func(s *snapshot) {
			s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(arrivals, 100*arrivals)
			s.accounts[arrived(bpfAccountACCOUNT_KERNEL)] = packets(claimed, 100*claimed)
		}), nil)
		for _, a := range report.interfaces[0].accounts {
			if a.account == "unclaimed" {
				return a.quantity
			}
		}
		return quantity{}
	}

	equal(t, "at first", quantity{packets: 4, bytes: 400}, post(20, 10, 6))
	equal(t, "when claims were read later than arrivals", quantity{packets: 4, bytes: 400}, post(30, 11, 8))
	equal(t, "when more arrived", quantity{packets: 5, bytes: 500}, post(40, 14, 9))
}

func TestBaselineOfAnInterfaceMetLater(t *testing.T) {
	eth9 := bpfInterfaceKey{Netns: host, Ifindex: 9}
	meet := func(s *snapshot) {
		s.interfaces[eth9] = bpfInterfaceEntry{Epoch: 20, Name: [16]int8{'e', 't', 'h', '9'}, NetnsInode: hostInode}
		s.counters[host]["eth9"] = counter{{packets: 3, bytes: 300}, {}}
	}

	for name, test := range map[string]struct {
		processless map[uint32]bool
		want        []statement
	}{
		"in a namespace that was read at start it is new: all is ours": {
			want: []statement{{
				interfaceName: "eth9", netnsInode: hostInode, start: 10 * second,
				unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT, packets: 3, bytes: 300}, {direction: bpfDirectionRECEIVE}},
			}},
		},
		"in one that could not be read at start it may be old: from now on": {
			processless: map[uint32]bool{hostInode: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(10*second, hostInode, false, seenIdentity)
			l.begin(at(10, counter{}, func(s *snapshot) {
				if test.processless != nil {
					s.namespaces, s.counters = nil, nil
				}
			}), test.processless)
			equal(t, "interfaces", test.want, l.post(at(20, counter{}, meet), nil).interfaces)
		})
	}
}

func TestInterfaceThatIsGoneEnds(t *testing.T) {
	l := opened(counter{})
	moved := func(s *snapshot) { s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(1, 100) }
	absent := func(s *snapshot) {
		moved(s)
		s.interfaces[eth0] = bpfInterfaceEntry{Epoch: 20, Name: [16]int8{'e', 't', 'h', '0'}, NetnsInode: hostInode}
		s.counters = nil
	}
	l.post(at(20, counter{}, moved), nil)

	report := l.post(at(30, counter{}, absent), nil)

	equal(t, "present", nil, report.interfaces)
	equal(t, "departed", []statement{{
		interfaceName: "eth0", netnsInode: hostInode, start: 10 * second,
		accounts:   []accountRow{{direction: bpfDirectionRECEIVE, account: "unclaimed", quantity: quantity{packets: 1, bytes: 100}}},
		unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT}, {direction: bpfDirectionRECEIVE, packets: -1, bytes: -100}},
	}}, report.departed)
	equal(t, "that it has ended", true, l.hasEnded(eth0))

	back := l.post(at(40, counter{}, moved), nil)
	equal(t, "interfaces met again", 1, len(back.interfaces))
}

// TestInterfaceWithTheIdentityOfAnotherBeginsAnew gives a new namespace the inode number of one that has ended.
func TestInterfaceWithTheIdentityOfAnotherBeginsAnew(t *testing.T) {
	l := opened(counter{})
	moved := func(key bpfInterfaceKey, n uint64) func(s *snapshot) {
		return func(s *snapshot) {
			s.interfaces[key] = bpfInterfaceEntry{Epoch: s.epoch, Name: [16]int8{'e', 't', 'h', '0'}, NetnsInode: hostInode}
			s.accounts[bpfAccountKey{Netns: key.Netns, Ifindex: key.Ifindex, Account: bpfAccountACCOUNT_KERNEL}] = packets(n, 100*n)
			s.counters = nil
		}
	}
	l.post(at(20, counter{}, moved(eth0, 7)), nil)

	again := bpfInterfaceKey{Netns: host + 1, Ifindex: 2}
	both := func(n uint64) func(s *snapshot) {
		return func(s *snapshot) {
			moved(eth0, 9)(s)
			s.interfaces[eth0] = bpfInterfaceEntry{Epoch: 20, Name: [16]int8{'e', 't', 'h', '0'}, NetnsInode: hostInode}
			moved(again, n)(s)
		}
	}
	kernel := func(start, n uint64) []statement {
		return []statement{{
			interfaceName: "eth0", netnsInode: hostInode, start: start,
			accounts: []accountRow{{direction: bpfDirectionTRANSMIT, account: "kernel", quantity: quantity{packets: n, bytes: 100 * n}}},
		}}
	}

	report := l.post(at(30, counter{}, both(1)), nil)
	equal(t, "the last of the old one", kernel(10*second, 9), report.interfaces)
	equal(t, "departed", nil, report.departed)
	equal(t, "that it has ended", true, l.hasEnded(eth0))

	report = l.post(at(40, counter{}, both(3)), nil)
	equal(t, "present", kernel(20*second, 3), report.interfaces)
	equal(t, "departed", nil, report.departed)
}

func TestTotals(t *testing.T) {
	s := at(20, counter{}, func(s *snapshot) {
		s.traffic[sent(1)] = packets(1, 100)
		s.traffic[received(1)] = packets(2, 200) // within what arrived
		s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(4, 400)
		s.accounts[arrived(bpfAccountACCOUNT_KERNEL)] = packets(8, 800) // within what arrived
		s.accounts[arrived(bpfAccountACCOUNT_OVERFLOW)] = packets(1, 100)
		s.accounts[bpfAccountKey{Netns: host, Ifindex: 2, Account: bpfAccountACCOUNT_KERNEL}] = packets(16, 1600)
	})

	aggregated, overflow := opened(counter{}).totals(s)

	if aggregated != 1+4+16-1 || overflow != 1 {
		t.Errorf("totals() = %d, %d, want 20, 1", aggregated, overflow)
	}
}

// TestTotalsDoNotShrink requires that what was removed from the kernel's maps still counts as seen.
func TestTotalsDoNotShrink(t *testing.T) {
	l := opened(counter{})
	gone := bpfAccountKey{Netns: host, Ifindex: 3, Account: bpfAccountACCOUNT_ARRIVED}
	l.interfaceOf(gone.iface()).phase = interfaceEnded
	s := at(20, counter{}, func(s *snapshot) {
		s.traffic[sent(1)] = packets(1, 100)
		s.traffic[sent(2)] = packets(2, 200)
		s.accounts[gone] = packets(4, 400)
		s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(8, 800)
		s.accounts[arrived(bpfAccountACCOUNT_OVERFLOW)] = packets(1, 100)
	})
	if aggregated, overflow := l.totals(s); aggregated != 1+2+4+8-1 || overflow != 1 {
		t.Errorf("with what is forgotten: totals() = %d, %d, want 14, 1", aggregated, overflow)
	}
	l.forget(s, map[uint64]owner.Process{2: {}})
	delete(s.traffic, sent(2))
	delete(s.accounts, gone)
	if aggregated, overflow := l.totals(s); aggregated != 1+2+4+8-1 || overflow != 1 {
		t.Errorf("without what is forgotten: totals() = %d, %d, want 14, 1", aggregated, overflow)
	}
}
