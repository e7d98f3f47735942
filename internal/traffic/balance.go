// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"maps"
	"math"

	"github.com/seed-7756021b/nettap/internal/interfaces"
)

// quietEnough is how long, in ns, an interface that a survey did not find must have moved
// nothing before it counts as gone.
const quietEnough = 5 * 60 * 1e9

// statement is the accounts of one interface.
type statement struct {
	interfaceName string
	netnsInode    uint32
	stacked       bool
	start         uint64 // ns since boot
	until         uint64 // likewise; 0 is now
	accounts      []accountRow
	unobserved    []unobservedRow
}

type accountRow struct {
	direction bpfDirection
	account   string // of metadata's enum nettap.account
	quantity
}

// unobservedRow is what the interface's own counter has and no account has. It
// is negative where the counter missed what the hooks saw.
type unobservedRow struct {
	direction      bpfDirection
	packets, bytes int64
}

// accountNames are the published accounts, in order. Those that are not in the
// table are the ledger's own.
var accountNames = []struct {
	account bpfAccount
	name    string
}{
	{bpfAccountACCOUNT_PROCESS, "process"},
	{bpfAccountACCOUNT_CARRIED, "carried"},
	{bpfAccountACCOUNT_REQUEST, "request"},
	{bpfAccountACCOUNT_TIME_WAIT, "time_wait"},
	{bpfAccountACCOUNT_KERNEL, "kernel"},
	{bpfAccountACCOUNT_FORWARDED, "forwarded"},
	{bpfAccountACCOUNT_NO_SOCKET, "no_socket"},
	{bpfAccountACCOUNT_UNOWNED, "unowned"},
	{bpfAccountACCOUNT_OVERFLOW, "overflow"},
}

// bookings is what is on the accounts of one interface, by direction.
type bookings map[bpfAccount]*[2]bpfCount

func (b bookings) add(account bpfAccount, direction bpfDirection, c bpfCount) {
	counts := b[account]
	if counts == nil {
		counts = new([2]bpfCount)
		b[account] = counts
	}
	counts[direction] = plus(counts[direction], c)
}

func (b bookings) of(account bpfAccount, direction bpfDirection) bpfCount {
	if b[account] == nil {
		return bpfCount{}
	}
	return b[account][direction]
}

// sort enters the snapshot by interface, and reads what their own counters say.
func (l *ledger) sort(s *snapshot, all []*owned) {
	for key, iface := range l.interfaces {
		iface.booked, iface.inFlight = make(bookings), s.inFlight[key]
		iface.booked.add(bpfAccountACCOUNT_PROCESS, bpfDirectionTRANSMIT, iface.retired[bpfDirectionTRANSMIT])
		iface.booked.add(bpfAccountACCOUNT_PROCESS, bpfDirectionRECEIVE, iface.retired[bpfDirectionRECEIVE])
	}
	for key, c := range s.accounts {
		if iface, known := l.interfaces[key.iface()]; known {
			iface.booked.add(key.Account, key.Direction, c)
		}
	}
	l.bookProcesses(all)
	for key, iface := range l.interfaces {
		if iface.before != nil {
			iface.booked = iface.booked.without(iface.before)
		}
		for d := range iface.readings {
			iface.readings[d] = s.reading(key.Netns, iface.current().name(), bpfDirection(d), iface.booked)
		}
	}
}

// bookProcesses enters what processes have moved. Most entries are about the same interface as the one
// before.
func (l *ledger) bookProcesses(all []*owned) {
	var iface *networkInterface
	var at bpfInterfaceKey
	for _, one := range all {
		account := accountOf(one.known)
		for _, entry := range one.entries {
			if key := entry.iface(); iface == nil || key != at {
				iface, at = l.interfaces[key], key
			}
			if iface != nil {
				iface.booked.add(account, bpfDirection(entry.Direction), entry.bpfCount)
			}
		}
	}
}

// accountOf returns the account that a process's packets are on.
func accountOf(known bool) bpfAccount {
	if known {
		return bpfAccountACCOUNT_PROCESS
	}
	return bpfAccountACCOUNT_UNOWNED // of a process forgotten long ago
}

// without returns what has been added since before.
func (b bookings) without(before bookings) bookings {
	rest := make(bookings, len(b))
	for account, c := range b {
		for d := range c {
			rest.add(account, bpfDirection(d), less(c[d], before.of(account, bpfDirection(d))))
		}
	}
	return rest
}

// balance enters the snapshot into the accounts of each interface, and returns their
// statements and those of interfaces that are gone. last has the identities whose series report
// their last points; waits has those that have to wait for the next report.
func (l *ledger) balance(s *snapshot, last map[interfaceIdentity]bool, waits map[bpfInterfaceKey]bool) (present, departed []statement) {
	for _, key := range sortedInterfaces(l.interfaces) {
		iface := l.interfaces[key]
		if iface.phase != interfaceLive {
			continue
		}
		iface.measure(s.now)
		st, said := iface.statement(), iface.spoken
		surveyed := s.namespaces[key.Netns].Epoch == s.epoch
		gone := iface.isGone(surveyed, s) && !waits[key] && !last[iface.entry.identity()] && iface.hasSaid(st)
		if l.all || iface.entry.NetnsInode == l.host {
			switch {
			case waits[key] || !said.isSpoken() && !st.isSpoken():
			case gone:
				departed = append(departed, said)
			default:
				present = append(present, st)
				departed = append(departed, st.lost(said)...)
				iface.spoken = st
			}
		}
		if gone {
			l.end(key, s)
		}
	}
	return present, departed
}

// isSpoken says whether there is something to publish.
func (st statement) isSpoken() bool { return len(st.accounts) != 0 || st.isUnobserved() }

// lost returns the ends of series that were published before and are not published now:
// what is unobserved, if the counter cannot be read any more.
func (st statement) lost(said statement) []statement {
	if len(said.unobserved) == 0 || len(st.unobserved) != 0 {
		return nil
	}
	said.accounts = nil
	return []statement{said}
}

// end ends the accounts of an interface.
func (l *ledger) end(key bpfInterfaceKey, s *snapshot) {
	rows := make(bookings)
	for row, c := range s.traffic {
		if row.iface() == key {
			_, known := l.processOf(row.Number, s)
			rows.add(accountOf(known), bpfDirection(row.Direction), c)
		}
	}
	l.interfaces[key].end(rows)
}

// find takes in what the survey found.
func (l *ledger) find(s *snapshot) {
	moved := l.movedOn(s)
	for key, iface := range l.interfaces {
		if iface.phase != interfaceEnded {
			continue
		}
		entry, met := s.interfaces[key]
		if met && entry.Epoch >= l.previous.epoch || iface.isHeard(moved[key]) {
			iface.phase = interfaceNew
		}
	}
	for key, entry := range s.interfaces {
		if iface := l.interfaceOf(key); iface.phase != interfaceEnded {
			iface.find(entry)
		}
	}
	maps.DeleteFunc(l.interfaces, func(key bpfInterfaceKey, iface *networkInterface) bool {
		_, used := moved[key]
		return iface.phase == interfaceEnded && !used
	})
}

// interfaceOf returns what is known of an interface, from now on.
func (l *ledger) interfaceOf(key bpfInterfaceKey) *networkInterface {
	iface, known := l.interfaces[key]
	if !known {
		iface = new(networkInterface)
		l.interfaces[key] = iface
	}
	return iface
}

// movedOn returns how many packets processes have moved on each interface, without what they
// have inherited.
func (l *ledger) movedOn(s *snapshot) map[bpfInterfaceKey]uint64 {
	moved := make(map[bpfInterfaceKey]uint64)
	var at bpfInterfaceKey // no interface has this key
	var packets uint64     // on that interface: most entries are about the same one as the entry before
	for key, c := range s.traffic {
		if iface := key.iface(); iface != at {
			moved[at] += packets
			at, packets = iface, 0
		}
		packets += c.Packets
	}
	moved[at] += packets
	for key := range l.rows {
		moved[key.iface()] += 0
	}
	return moved
}

// isHeard says whether processes have moved something on an interface since it ended. They
// have moved so many packets in all.
func (i *networkInterface) isHeard(packets uint64) bool {
	packets += i.retired[bpfDirectionTRANSMIT].Packets + i.retired[bpfDirectionRECEIVE].Packets
	return packets > i.before.claimed(bpfDirectionTRANSMIT).Packets+i.before.claimed(bpfDirectionRECEIVE).Packets
}

func (st statement) isUnobserved() bool {
	for _, u := range st.unobserved {
		if u.packets != 0 || u.bytes != 0 {
			return true
		}
	}
	return false
}

// statement computes the accounts of an interface, what nobody has claimed, and the
// difference between all of this and the interface's own counter.
func (i *networkInterface) statement() statement {
	return statement{
		interfaceName: i.entry.shownName(), netnsInode: i.entry.NetnsInode, stacked: interfaces.IsStacked(i.entry.kind()),
		start: i.born, accounts: i.accountRows(), unobserved: i.unobservedRows(),
	}
}

func (i *networkInterface) accountRows() []accountRow {
	var rows []accountRow
	enter := func(direction bpfDirection, account string, q quantity) {
		if q != (quantity{}) {
			rows = append(rows, accountRow{direction: direction, account: account, quantity: q})
		}
	}
	for direction := bpfDirectionTRANSMIT; direction <= bpfDirectionRECEIVE; direction++ {
		for _, a := range accountNames {
			enter(direction, a.name, i.quantity(direction, i.booked.of(a.account, direction)))
		}
	}
	enter(bpfDirectionRECEIVE, "unclaimed", i.unclaimed.said)
	return rows
}

// unobservedRows returns rows if the counter can be read and the baseline is known.
func (i *networkInterface) unobservedRows() []unobservedRow {
	var rows []unobservedRow
	for d, o := range i.baseline {
		if i.readings[d].readable {
			rows = append(rows, unobservedRow{direction: bpfDirection(d), packets: o.said.packets, bytes: o.said.bytes})
		}
	}
	return rows
}

// claimed is what is on published accounts.
func (b bookings) claimed(direction bpfDirection) bpfCount {
	var sum bpfCount
	for _, a := range accountNames {
		sum = plus(sum, b.of(a.account, direction))
	}
	return sum
}

// packets returns how many packets are on accounts.
func (b bookings) packets() (packets uint64) {
	for account, c := range b {
		if account != bpfAccountACCOUNT_WAITING {
			packets += c[bpfDirectionTRANSMIT].Packets + c[bpfDirectionRECEIVE].Packets
		}
	}
	return packets
}

func signed(n uint64) int64 {
	return int64(min(n, math.MaxInt64))
}
