package traffic

import (
	"math"

	"github.com/seed-7756021b/nettap/internal/interfaces"
)

// quietEnough is how long an interface that was not found by a survey may be
// silent, in ns, before it is taken for gone.
const quietEnough = 5 * 60 * 1e9

// statement is the books of one interface.
type statement struct {
	interfaceName string
	netnsInode    uint32
	stacked       bool
	start         uint64 // ns since boot
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

// baseline is what an interface's counter said before we looked, and what it
// said last. It is signed: a counter may start anew below it.
type baseline struct {
	packets, bytes [2]int64
	last           counter
}

// movement is when an interface's accounts last changed.
type movement struct {
	at, packets uint64
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

// sheet is all that is booked for one interface.
type sheet map[bpfAccount]*[2]bpfCount

func (sh sheet) add(account bpfAccount, direction bpfDirection, c bpfCount) {
	if sh[account] == nil {
		sh[account] = new([2]bpfCount)
	}
	sh[account][direction] = plus(sh[account][direction], c)
}

func (sh sheet) of(account bpfAccount, direction bpfDirection) bpfCount {
	if sh[account] == nil {
		return bpfCount{}
	}
	return sh[account][direction]
}

// sheets books the snapshot by interface.
func (l *ledger) sheets(s *snapshot) map[bpfInterfaceKey]sheet {
	all := make(map[bpfInterfaceKey]sheet, len(l.interfaces))
	for key := range l.interfaces {
		all[key] = make(sheet)
	}
	of := func(key bpfInterfaceKey) sheet {
		if all[key] == nil {
			all[key] = make(sheet)
		}
		return all[key]
	}
	for key, c := range s.accounts {
		of(key.iface()).add(key.Account, key.Direction, c)
	}
	for key, c := range s.traffic {
		account := bpfAccountACCOUNT_PROCESS
		if _, known := l.processOf(key.Number, s); !known {
			account = bpfAccountACCOUNT_UNOWNED // of a process forgotten long ago
		}
		of(key.iface()).add(account, bpfDirection(key.Direction), c)
	}
	for key, c := range l.retired {
		of(key).add(bpfAccountACCOUNT_PROCESS, bpfDirectionTRANSMIT, c[bpfDirectionTRANSMIT])
		of(key).add(bpfAccountACCOUNT_PROCESS, bpfDirectionRECEIVE, c[bpfDirectionRECEIVE])
	}
	return all
}

// balance draws up the statement of each interface, and of those that are gone.
func (l *ledger) balance(s *snapshot, sheets map[bpfInterfaceKey]sheet) (present, departed []statement) {
	for _, key := range sortedInterfaces(l.interfaces) {
		if l.closed[key] {
			continue
		}
		entry := l.interfaces[key]
		st := l.state(key, entry, sheets[key], s)
		gone := l.isGone(key, entry, sheets[key], s)
		if gone {
			l.close(key)
		}
		switch {
		case !l.all && entry.NetnsInode != l.host:
		case len(st.accounts) == 0 && !st.isUnobserved():
		case gone:
			departed = append(departed, st)
		default:
			present = append(present, st)
		}
	}
	return present, departed
}

// isGone says that an interface was not found by the survey of its namespace.
// A namespace without a process is not surveyed: there silence has to do.
func (l *ledger) isGone(key bpfInterfaceKey, entry bpfInterfaceEntry, booked sheet, s *snapshot) bool {
	var packets uint64
	for account, c := range booked {
		if account != bpfAccountACCOUNT_WAITING {
			packets += c[bpfDirectionTRANSMIT].Packets + c[bpfDirectionRECEIVE].Packets
		}
	}
	if last, known := l.moved[key]; !known || last.packets != packets {
		l.moved[key] = movement{at: s.now, packets: packets}
		return false
	}
	if entry.Epoch >= s.epoch {
		return false
	}
	surveyed := s.namespaces[key.Netns].Epoch == s.epoch
	return surveyed || s.now-l.moved[key].at > quietEnough
}

// close ends the books of an interface. Its name is kept for the processes that
// used it.
func (l *ledger) close(key bpfInterfaceKey) {
	l.closed[key] = true
	delete(l.baseline, key)
	delete(l.unclaimed, key)
	delete(l.moved, key)
	delete(l.retired, key)
	delete(l.units, key)
	delete(l.born, key)
}

// reopen takes in what the survey found, and drops the names of closed
// interfaces that no process has used.
func (l *ledger) reopen(s *snapshot) {
	used := make(map[bpfInterfaceKey]bool)
	for key := range s.traffic {
		used[key.iface()] = true
	}
	for key, entry := range s.interfaces {
		if !l.closed[key] || entry.Epoch >= s.epoch {
			l.interfaces[key] = entry
			delete(l.closed, key)
		}
	}
	for key := range l.closed {
		if !used[key] {
			delete(l.interfaces, key)
			delete(l.closed, key)
		}
	}
}

func (st statement) isUnobserved() bool {
	for _, u := range st.unobserved {
		if u.packets != 0 || u.bytes != 0 {
			return true
		}
	}
	return false
}

// state draws up one statement: accounts, what nobody claimed, and how far all
// of it is from the interface's own counter.
func (l *ledger) state(key bpfInterfaceKey, entry bpfInterfaceEntry, booked sheet, s *snapshot) statement {
	st := statement{interfaceName: entry.name(), netnsInode: entry.NetnsInode, stacked: interfaces.IsStacked(entry.kind()), start: l.born[key]}
	var sums [2]quantity
	for direction := bpfDirectionTRANSMIT; direction <= bpfDirectionRECEIVE; direction++ {
		for _, a := range accountNames {
			q := l.quantity(key, direction, booked.of(a.account, direction))
			st.enter(direction, a.name, q)
			sums[direction].add(q)
		}
	}
	unclaimed := l.unclaimedOf(key, booked, s.inFlight[key], sums[bpfDirectionRECEIVE])
	st.enter(bpfDirectionRECEIVE, "unclaimed", unclaimed)
	sums[bpfDirectionRECEIVE].add(unclaimed)
	if own, ok := s.counters[key.Netns][entry.name()]; ok {
		st.unobserved = l.unobserved(key, entry, own, sums)
	}
	return st
}

func (st *statement) enter(direction bpfDirection, account string, q quantity) {
	if q != (quantity{}) {
		st.accounts = append(st.accounts, accountRow{direction: direction, account: account, quantity: q})
	}
}

// unclaimedOf returns what arrived and can go to no other account. The maps are
// read one after the other, so it can come out lower than it was; it never
// comes out too high, so what was said before still holds.
func (l *ledger) unclaimedOf(key bpfInterfaceKey, booked sheet, inFlight bpfCount, claimed quantity) quantity {
	arrived := l.quantity(key, bpfDirectionRECEIVE, booked.of(bpfAccountACCOUNT_ARRIVED, bpfDirectionRECEIVE))
	waiting := l.quantity(key, bpfDirectionRECEIVE, booked.of(bpfAccountACCOUNT_WAITING, bpfDirectionRECEIVE))
	claimed.add(waiting)
	claimed.add(l.quantity(key, bpfDirectionRECEIVE, inFlight))
	was := l.unclaimed[key]
	now := quantity{
		packets: max(was.packets, less(arrived.packets, claimed.packets)),
		bytes:   max(was.bytes, less(arrived.bytes, claimed.bytes)),
	}
	l.unclaimed[key] = now
	return now
}

func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

func (l *ledger) unobserved(key bpfInterfaceKey, entry bpfInterfaceEntry, own counter, sums [2]quantity) []unobservedRow {
	base, known := l.baseline[key]
	if !known && !l.isNew(entry) {
		for d := range own {
			base.packets[d] = signed(own[d].packets) - signed(sums[d].packets)
			base.bytes[d] = signed(own[d].bytes) - signed(sums[d].bytes)
		}
	}
	var rows []unobservedRow
	for d := range own {
		if own[d].packets < base.last[d].packets || own[d].bytes < base.last[d].bytes {
			base.packets[d] -= signed(base.last[d].packets) - signed(own[d].packets)
			base.bytes[d] -= signed(base.last[d].bytes) - signed(own[d].bytes)
		}
		rows = append(rows, unobservedRow{
			direction: bpfDirection(d),
			packets:   signed(own[d].packets) - base.packets[d] - signed(sums[d].packets),
			bytes:     signed(own[d].bytes) - base.bytes[d] - signed(sums[d].bytes),
		})
	}
	base.last = own
	l.baseline[key] = base
	return rows
}

// isNew says that an interface was born after the receiver: all that its counter
// says is in its books.
func (l *ledger) isNew(entry bpfInterfaceEntry) bool {
	return l.open && !l.processless[entry.NetnsInode]
}

func signed(n uint64) int64 {
	return int64(min(n, math.MaxInt64))
}
