// SPDX-License-Identifier: Apache-2.0

package traffic

import "testing"

// glance is what one snapshot has of the packets that eth0 transmits, which have 100 bytes.
type glance struct {
	seconds         uint64
	earlier, later  uint64 // its counter, before and after the accounts
	accounted       uint64
	unreadable      bool
	want            int64 // unobserved
	wantAbsent      bool
	wantWithin      int64 // of its baseline: width in packets
	wantNotExactYet bool
}

func (g glance) snapshot() *snapshot {
	return at(g.seconds, counter{{packets: g.later, bytes: 100 * g.later}, {}}, func(s *snapshot) {
		s.earlier = map[uint64]map[string]counter{host: {"eth0": {{packets: g.earlier, bytes: 100 * g.earlier}, {}}}}
		if g.unreadable {
			s.earlier, s.counters = nil, nil
			s.namespaces[host] = bpfNamespaceEntry{Epoch: g.seconds - 1, Inode: hostInode}
		}
		s.accounts[bpfAccountKey{Netns: host, Ifindex: 2, Account: bpfAccountACCOUNT_KERNEL}] = packets(g.accounted, 100*g.accounted)
	})
}

func TestBaseline(t *testing.T) {
	for name, glances := range map[string][]glance{
		"at rest, it is exact": {
			{seconds: 10, earlier: 500, later: 500, wantAbsent: true, wantNotExactYet: true},
			{seconds: 13, earlier: 500, later: 500, wantAbsent: true},
			{seconds: 20, earlier: 600, later: 620, accounted: 110},
			{seconds: 30, earlier: 627, later: 627, accounted: 120, want: 7},
		},
		"in the middle of traffic, it is what a rest says": {
			{seconds: 10, earlier: 500, later: 540, accounted: 3, wantWithin: 40, wantNotExactYet: true},
			{seconds: 20, earlier: 600, later: 630, accounted: 110, wantWithin: 23, wantNotExactYet: true},
			{seconds: 30, earlier: 700, later: 700, accounted: 190, wantNotExactYet: true},
			{seconds: 33, earlier: 700, later: 700, accounted: 190},
			{seconds: 40, earlier: 800, later: 800, accounted: 283, want: 7},
		},
		"a wider look says nothing new": {
			{seconds: 10, earlier: 500, later: 510, accounted: 3, wantWithin: 10, wantNotExactYet: true},
			{seconds: 20, earlier: 590, later: 630, accounted: 110, wantWithin: 10, wantNotExactYet: true},
		},
		"a narrower one corrects what was uncertain, and no more": {
			{seconds: 10, earlier: 500, later: 510, wantWithin: 10, wantNotExactYet: true},
			{seconds: 50, earlier: 1600, later: 1602, accounted: 100, want: 1600 - 510 - 100, wantNotExactYet: true},
		},
		"nor does a rest, but for what may have been on its way": {
			{seconds: 10, earlier: 500, later: 510, wantWithin: 10, wantNotExactYet: true},
			{seconds: 20, earlier: 600, later: 612, accounted: 100, wantWithin: 10, wantNotExactYet: true},
			{seconds: 60, earlier: 1612, later: 1612, accounted: 100, want: 1612 - 100 - 510, wantNotExactYet: true},
			{seconds: 70, earlier: 1612, later: 1612, accounted: 100, want: 1612 - 100 - (510 + 10)},
			{seconds: 90, earlier: 1613, later: 1613, accounted: 101, want: 1612 - 100 - (510 + 10)},
		},
		"what was held up while all rested shows when the accounts have more": {
			{seconds: 10, earlier: 500, later: 510, accounted: 3, wantWithin: 10, wantNotExactYet: true},
			{seconds: 20, earlier: 604, later: 604, accounted: 103, wantNotExactYet: true},
			{seconds: 30, earlier: 604, later: 604, accounted: 103},
			{seconds: 40, earlier: 604, later: 604, accounted: 104, want: -1},
			{seconds: 50, earlier: 604, later: 604, accounted: 104},
			{seconds: 60, earlier: 604, later: 604, accounted: 404, want: -300},
			{seconds: 70, earlier: 604, later: 604, accounted: 404, want: -300 + 10 - 1}, // a difference that packets on their way do not explain
		},
		"a counter that is late is believed when it has rested": {
			{seconds: 10, earlier: 500, later: 500, wantAbsent: true, wantNotExactYet: true},
			{seconds: 11, earlier: 520, later: 520, accounted: 10, want: 10, wantNotExactYet: true},
			{seconds: 20, earlier: 530, later: 530, accounted: 15, want: 15, wantNotExactYet: true},
			{seconds: 30, earlier: 530, later: 530, accounted: 15, want: 5},
		},
		"while it cannot be read, what is unobserved is absent": {
			{seconds: 10, unreadable: true, wantAbsent: true, wantNotExactYet: true},
			{seconds: 20, unreadable: true, accounted: 50, wantAbsent: true, wantNotExactYet: true},
			{seconds: 30, earlier: 700, later: 704, accounted: 100, wantWithin: 4, wantNotExactYet: true},
			{seconds: 40, unreadable: true, accounted: 150, wantAbsent: true, wantWithin: 4, wantNotExactYet: true},
			{seconds: 50, earlier: 801, later: 801, accounted: 200, wantNotExactYet: true},
			{seconds: 60, earlier: 801, later: 801, accounted: 200},
		},
		"a counter that starts anew goes on": {
			{seconds: 10, earlier: 500, later: 500, wantAbsent: true, wantNotExactYet: true},
			{seconds: 13, earlier: 500, later: 500, wantAbsent: true},
			{seconds: 20, earlier: 620, later: 620, accounted: 110, want: 10},
			{seconds: 30, earlier: 5, later: 5, accounted: 110, want: 10},
			{seconds: 40, earlier: 9, later: 9, accounted: 113, want: 11},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(10*second, hostInode, false, seenIdentity)
			for _, g := range glances {
				s := g.snapshot()
				var report *report
				if g.seconds == 10 {
					processless := map[uint32]bool{}
					if g.unreadable {
						processless[hostInode] = true
					}
					l.begin(s, processless)
				} else {
					report = l.post(s, nil)
				}
				g.check(t, l, report)
			}
		})
	}
}

func (g glance) check(t *testing.T, l *ledger, r *report) {
	t.Helper()
	o := l.interfaces[eth0].baseline[bpfDirectionTRANSMIT]
	if width := o.within.width().packets; width != g.wantWithin && !(o.exact && g.wantWithin == 0) {
		t.Errorf("after %d s the baseline is known within %d packets, want %d", g.seconds, width, g.wantWithin)
	}
	if o.exact == g.wantNotExactYet {
		t.Errorf("after %d s the baseline is said to be exact: %v", g.seconds, o.exact)
	}
	if r == nil {
		return
	}
	var got []unobservedRow
	for _, st := range r.interfaces {
		got = append(got, st.unobserved...)
	}
	want := []unobservedRow{{packets: g.want, bytes: 100 * g.want}, {direction: bpfDirectionRECEIVE}}
	if g.wantAbsent {
		want = nil
	}
	equal(t, "unobserved", want, got)
}

// TestBaselineOfACardThatReturns ends the network namespace of a card. The card returns to the host's namespace, with its counter.
func TestBaselineOfACardThatReturns(t *testing.T) {
	const container, containerInode = uint64(3), uint32(4026532000)
	away := bpfInterfaceKey{Netns: container, Ifindex: 5}
	card := func(name byte, epoch uint64, inode uint32) bpfInterfaceEntry {
		return bpfInterfaceEntry{Epoch: epoch, Name: [16]int8{'e', 't', 'h', int8(name)}, NetnsInode: inode, Hardware: 1}
	}
	kernel := func(key bpfInterfaceKey) bpfAccountKey {
		return bpfAccountKey{Netns: key.Netns, Ifindex: key.Ifindex, Account: bpfAccountACCOUNT_KERNEL}
	}
	sent := func(n uint64) counter { return counter{{packets: n, bytes: 100 * n}, {}} }
	for name, test := range map[string]struct {
		known bool   // what it counted there
		index uint32 // that it has at home
		want  int64  // unobserved, of 4 that no hook saw while it went home and 3 later
	}{
		"its accounts go on where they were":                   {known: true, index: 5, want: 7},
		"if others have its number and its name, from then on": {known: true, index: 9, want: 3},
		"if its accounts were not known, from then on":         {known: false, index: 5, want: 3},
	} {
		t.Run(name, func(t *testing.T) {
			home := bpfInterfaceKey{Netns: host, Ifindex: test.index}
			there := func(s *snapshot) {
				s.existing = map[uint64]bpfNamespaceEntry{host: s.namespaces[host], container: {Epoch: s.epoch, Inode: containerInode}}
				s.interfaces[away] = card('5', s.epoch, containerInode)
				s.accounts[kernel(away)] = packets(20, 2000)
				if test.known {
					s.namespaces[container] = bpfNamespaceEntry{Epoch: s.epoch, Inode: containerInode, Pid: 7}
					s.counters[container] = map[string]counter{"eth5": sent(1020)}
				}
			}
			back := func(booked, counted uint64) func(s *snapshot) {
				return func(s *snapshot) {
					s.existing = map[uint64]bpfNamespaceEntry{host: s.namespaces[host]}
					s.interfaces[away], s.interfaces[home] = card('5', 20, containerInode), card('9', s.epoch, hostInode)
					s.accounts[kernel(away)], s.accounts[kernel(home)] = packets(23, 2300), packets(booked, 100*booked)
					s.counters[host]["eth9"] = sent(counted)
				}
			}
			l := newLedger(10*second, hostInode, false, seenIdentity)
			l.begin(at(10, counter{}, there), map[uint32]bool{containerInode: !test.known})
			l.taken(at(20, counter{}, there))
			l.taken(at(30, counter{}, back(2, 1023+2+4)))
			l.taken(at(40, counter{}, back(2, 1023+2+4)))
			var got []unobservedRow
			for _, st := range l.taken(at(50, counter{}, back(8, 1023+8+7))).interfaces {
				if st.interfaceName == "eth9" {
					got = st.unobserved
				}
			}
			equal(t, "unobserved", []unobservedRow{{packets: test.want, bytes: 100 * test.want}, {direction: bpfDirectionRECEIVE}}, got)
		})
	}
}
