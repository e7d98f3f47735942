package traffic

import (
	"math"
	"slices"

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
		of(key.iface()).add(l.accountOf(key.Number, s), bpfDirection(key.Direction), c)
	}
	for key, c := range l.retired {
		of(key).add(bpfAccountACCOUNT_PROCESS, bpfDirectionTRANSMIT, c[bpfDirectionTRANSMIT])
		of(key).add(bpfAccountACCOUNT_PROCESS, bpfDirectionRECEIVE, c[bpfDirectionRECEIVE])
	}
	for key, before := range l.booksBefore {
		all[key] = all[key].without(before)
	}
	return all
}

// accountOf returns the account that a process's packets are on.
func (l *ledger) accountOf(number uint64, s *snapshot) bpfAccount {
	if _, known := s.processes[number]; known {
		return bpfAccountACCOUNT_PROCESS
	}
	if _, remembered := l.departed[number]; remembered {
		return bpfAccountACCOUNT_PROCESS
	}
	return bpfAccountACCOUNT_UNOWNED // of a process forgotten long ago
}

// without returns what has been booked since before.
func (sh sheet) without(before sheet) sheet {
	rest := make(sheet, len(sh))
	for account, c := range sh {
		for d := range c {
			rest.add(account, bpfDirection(d), less(c[d], before.of(account, bpfDirection(d))))
		}
	}
	return rest
}

// balance draws up the statement of each interface, and of those that are gone. In
// last are the faces whose series say their last; others wait for the next report.
func (l *ledger) balance(s *snapshot, sheets map[bpfInterfaceKey]sheet, last map[interfaceFace]bool, waits map[bpfInterfaceKey]bool) (present, departed []statement) {
	for _, key := range sortedInterfaces(l.interfaces) {
		if l.closed[key] {
			continue
		}
		entry := l.interfaces[key]
		st, said := l.state(key, entry, sheets[key], s), l.spoken[key]
		gone := l.isGone(key, entry, sheets[key], s) && !waits[key] && !last[entry.face()] && slices.Equal(st.accounts, said.accounts)
		if l.all || entry.NetnsInode == l.host {
			switch {
			case waits[key] || !said.isSpoken() && !st.isSpoken():
			case gone:
				departed = append(departed, said)
			default:
				present = append(present, st)
				departed = append(departed, st.lost(said)...)
				l.spoken[key] = st
			}
		}
		if gone {
			l.close(key, s)
		}
	}
	return present, departed
}

// isSpoken says that there is something to publish.
func (st statement) isSpoken() bool { return len(st.accounts) != 0 || st.isUnobserved() }

// lost returns the end of what was said before and is not any more: what is
// unobserved, where the counter cannot be read now.
func (st statement) lost(said statement) []statement {
	if len(said.unobserved) == 0 || len(st.unobserved) != 0 {
		return nil
	}
	said.accounts = nil
	return []statement{said}
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

// close ends the books of an interface. Its name and its unit are kept for the
// processes that used it; and what they moved, in case it comes back.
func (l *ledger) close(key bpfInterfaceKey, s *snapshot) {
	l.closed[key] = true
	before := make(sheet)
	for row, c := range s.traffic {
		if row.iface() == key {
			before.add(l.accountOf(row.Number, s), bpfDirection(row.Direction), c)
		}
	}
	l.booksBefore[key] = before
	delete(l.baseline, key)
	delete(l.unclaimed, key)
	delete(l.moved, key)
	delete(l.retired, key)
	delete(l.born, key)
	delete(l.spoken, key)
}

// reopen takes in what the survey found, and drops the names of closed
// interfaces that no process has used. One that has another name now keeps the old
// one until its series have said their last.
func (l *ledger) reopen(s *snapshot) {
	used := make(map[bpfInterfaceKey]bool)
	for key := range s.traffic {
		used[key.iface()] = true
	}
	for key := range l.inherited {
		used[key.iface()] = true
	}
	for key := range l.closed {
		if entry, met := s.interfaces[key]; met && entry.Epoch >= l.epoch || l.isHeard(key, s) {
			delete(l.closed, key)
		}
	}
	for key, entry := range s.interfaces {
		if l.closed[key] {
			continue
		}
		if old, known := l.interfaces[key]; known && old.name() != entry.name() {
			l.renamed[key] = entry
			old.Epoch = entry.Epoch
			entry = old
		}
		l.interfaces[key] = entry
	}
	for key := range l.closed {
		if !used[key] {
			delete(l.interfaces, key)
			delete(l.closed, key)
			delete(l.booksBefore, key)
			delete(l.retired, key)
			delete(l.units, key)
		}
	}
}

// isHeard says that processes have moved something on an interface since it was closed.
func (l *ledger) isHeard(key bpfInterfaceKey, s *snapshot) bool {
	moved := l.retired[key][bpfDirectionTRANSMIT].Packets + l.retired[key][bpfDirectionRECEIVE].Packets
	for row, c := range s.traffic {
		if row.iface() == key {
			moved += c.Packets
		}
	}
	before := l.booksBefore[key]
	return moved > before.claimed(bpfDirectionTRANSMIT).Packets+before.claimed(bpfDirectionRECEIVE).Packets
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
	unclaimed := l.unclaimedOf(key, booked, s.inFlight[key])
	st.enter(bpfDirectionRECEIVE, "unclaimed", unclaimed)
	sums[bpfDirectionRECEIVE].add(unclaimed)
	st.unobserved = l.unobserved(key, booked, s, sums)
	return st
}

func (st *statement) enter(direction bpfDirection, account string, q quantity) {
	if q != (quantity{}) {
		st.accounts = append(st.accounts, accountRow{direction: direction, account: account, quantity: q})
	}
}

// unclaimed is what arrived and goes to no other account, as counted and as published.
type unclaimed struct {
	bpfCount
	said quantity
}

// unclaimedOf returns what arrived and can go to no other account. The maps are
// read one after the other, so it can come out lower than it was; it never
// comes out too high, so what was said before still holds.
func (l *ledger) unclaimedOf(key bpfInterfaceKey, booked sheet, inFlight bpfCount) quantity {
	const direction = bpfDirectionRECEIVE
	claimed := plus(booked.claimed(direction), plus(booked.of(bpfAccountACCOUNT_WAITING, direction), inFlight))
	u := l.unclaimed[key]
	u.bpfCount = most(u.bpfCount, less(booked.of(bpfAccountACCOUNT_ARRIVED, direction), claimed))
	now := l.quantity(key, direction, u.bpfCount)
	u.said = quantity{packets: max(u.said.packets, now.packets), bytes: max(u.said.bytes, now.bytes)}
	l.unclaimed[key] = u
	return u.said
}

// claimed is what is on published accounts.
func (sh sheet) claimed(direction bpfDirection) bpfCount {
	var sum bpfCount
	for _, a := range accountNames {
		sum = plus(sum, sh.of(a.account, direction))
	}
	return sum
}

// unobserved returns what the interface's counter has and no account has, where the
// counter can be read and it is known where the books began.
func (l *ledger) unobserved(key bpfInterfaceKey, booked sheet, s *snapshot, sums [2]quantity) []unobservedRow {
	var rows []unobservedRow
	for d := range sums {
		direction := bpfDirection(d)
		of := func(c bpfCount) quantity { return l.quantity(key, direction, c) }
		o, r := &l.baseline[key][d], l.reading(key, direction, s, booked)
		o.read(r, of) // what was known may begin with it
		o.sums = tallyOf(sums[d])
		if !r.readable {
			continue
		}
		o.said = o.unobserved(sums[d])
		o.wait = tallyOf(of(l.waiting(key, booked, direction, s)))
		rows = append(rows, unobservedRow{direction: direction, packets: o.said.packets, bytes: o.said.bytes})
	}
	return rows
}

// waiting is what has moved and is on no account yet.
func (l *ledger) waiting(key bpfInterfaceKey, booked sheet, direction bpfDirection, s *snapshot) bpfCount {
	c := booked.of(bpfAccountACCOUNT_WAITING, direction)
	if direction == bpfDirectionRECEIVE {
		c = plus(c, s.inFlight[key])
	}
	return c
}

func signed(n uint64) int64 {
	return int64(min(n, math.MaxInt64))
}
