// SPDX-License-Identifier: Apache-2.0

package traffic

import "testing"

// TestRenamedInterfaceBeginsAnew gives an interface another name. Its series must have a last point with the old name, and begin
// at zero with the new one.
func TestRenamedInterfaceBeginsAnew(t *testing.T) {
	l := opened(counter{{packets: 50, bytes: 5000}, {}})
	named := func(name byte, n uint64) func(s *snapshot) {
		return func(s *snapshot) {
			entry := bpfInterfaceEntry{Epoch: s.epoch, Name: [16]int8{'e', 't', 'h', int8(name)}, NetnsInode: hostInode}
			s.interfaces[eth0] = entry
			s.counters[host] = map[string]counter{entry.name(): {{packets: 50 + n, bytes: 5000 + 100*n}, {}}}
			s.processes[1] = curl(true)
			s.traffic[sent(1)] = packets(n, 100*n)
		}
	}
	moved := func(name string, start, n uint64) ([]usage, []statement) {
		q := quantity{packets: n, bytes: 100 * n}
		return []usage{{process: curl(true), start: start, rows: []row{
				{interfaceName: name, netnsInode: hostInode, direction: bpfDirectionTRANSMIT, quantity: q},
			}}}, []statement{{
				interfaceName: name, netnsInode: hostInode, start: start,
				accounts:   []accountRow{{direction: bpfDirectionTRANSMIT, account: "process", quantity: q}},
				unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT}, {direction: bpfDirectionRECEIVE}},
			}}
	}
	l.taken(at(20, counter{}, named('0', 3)))

	report := l.taken(at(30, counter{}, named('1', 5)))
	last, lastOwn := moved("eth0", 10*second, 5)
	equal(t, "the last of the process", last, report.processes)
	equal(t, "the last of the interface", lastOwn, report.interfaces)
	equal(t, "gone", nil, report.gone)
	equal(t, "departed", nil, report.departed)

	report = l.taken(at(40, counter{}, named('1', 5)))
	equal(t, "processes", nil, report.processes)
	equal(t, "interfaces", nil, report.interfaces)
	equal(t, "gone", last, report.gone)
	equal(t, "departed", lastOwn, report.departed)

	report = l.taken(at(50, counter{}, named('1', 12)))
	anew, anewOwn := moved("eth1", 30*second, 7)
	equal(t, "processes", anew, report.processes)
	equal(t, "interfaces", anewOwn, report.interfaces)
	equal(t, "gone", nil, report.gone)
	equal(t, "departed", nil, report.departed)
}

// TestWrongGuessOfAUnitBeginsAnew requires that series end if their unit turns out to be wrong.
func TestWrongGuessOfAUnitBeginsAnew(t *testing.T) {
	l := newLedger(10*second, hostInode, false, seenIdentity)
	kernel := bpfAccountKey{Netns: host, Ifindex: 2, Account: bpfAccountACCOUNT_KERNEL}
	hardware := func(skbs uint64, readable bool) func(s *snapshot) {
		return func(s *snapshot) {
			entry := s.interfaces[eth0]
			entry.Hardware = 1
			s.interfaces[eth0] = entry
			s.accounts[kernel] = bpfCount{Packets: skbs, Bytes: 3100 * skbs, Frames: 3 * skbs, FrameBytes: 3300 * skbs}
			if !readable {
				s.namespaces, s.counters = nil, nil
			}
		}
	}
	l.begin(at(10, counter{}, hardware(0, false)), map[uint32]bool{hostInode: true})
	booked := func(start, packets, bytes uint64) []statement {
		return []statement{{
			interfaceName: "eth0", netnsInode: hostInode, start: start,
			accounts: []accountRow{{direction: bpfDirectionTRANSMIT, account: "kernel", quantity: quantity{packets: packets, bytes: bytes}}},
		}}
	}
	known := func(sts []statement) []statement {
		sts[0].unobserved = []unobservedRow{{direction: bpfDirectionTRANSMIT}, {direction: bpfDirectionRECEIVE}}
		return sts
	}
	said := func(skbs uint64) counter { return counter{{packets: 70 + skbs, bytes: 7000 + 3100*skbs}, {}} }

	equal(t, "while it is a guess", booked(10*second, 3, 3300), l.taken(at(20, counter{}, hardware(1, false))).interfaces)
	equal(t, "when the counter is read", known(booked(10*second, 6, 6600)), l.taken(at(30, said(2), hardware(2, true))).interfaces)
	l.taken(at(40, said(4), hardware(4, true))) // it reports its last points, in frames
	equal(t, "ended", 1, len(l.ending))

	report := l.taken(at(50, said(9), hardware(9, true)))
	equal(t, "in skbs", known(booked(40*second, 5, 15500)), report.interfaces)
}

// taken posts a snapshot, and a consumer takes the report.
func (l *ledger) taken(s *snapshot) *report {
	r := l.post(s, nil)
	l.endings.delivered()
	return r
}
