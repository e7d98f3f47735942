// SPDX-License-Identifier: Apache-2.0

package traffic

import "github.com/seed-7756021b/nettap/internal/owner"

// ledger keeps the accounts from one collection to the next. It does not read anything
// itself: everything it knows comes in snapshots.
type ledger struct {
	start         uint64 // ns since boot
	host          uint32 // inode of the host's network namespace
	all           bool   // interfaces of every namespace
	withNamespace bool   // processes' series tell network namespaces apart
	identityOf    func(owner.Process) identity

	workspace *workspace
	turn      uint64 // how often post was called

	open      bool // begin has posted what was there before
	final     bool // the next post is the last
	previous  previous
	forgotten fate        // of what is no longer in the kernel's maps
	ending    []statement // have reported their last points; their series begin again
	endings   endings

	met         map[uint64]bool // network namespaces
	processless map[uint32]bool // network namespaces whose counters could not be read at start, by inode

	interfaces map[bpfInterfaceKey]*networkInterface
	numbers    map[uint64]*numbered
	firsts     map[instance]uint64 // the first number of a process, before exec or setuid
	series     map[identity]*processSeries
	rows       map[bpfTrafficKey]rowState
}

// previous is what is kept of the previous snapshot.
type previous struct {
	now, epoch     uint64
	earlier, later map[uint64]map[string]counter
}

// instance identifies a process, whatever program it executes and as which user it runs.
type instance struct {
	startNanos uint64
	pid        uint32
}

func newLedger(start uint64, host uint32, all bool, identityOf func(owner.Process) identity) *ledger {
	return &ledger{
		start:      start,
		host:       host,
		all:        all,
		identityOf: identityOf,
		previous:   previous{now: start},
		endings:    endings{identityOf: identityOf},
		workspace:  new(workspace),
		met:        make(map[uint64]bool),
		interfaces: make(map[bpfInterfaceKey]*networkInterface),
		numbers:    make(map[uint64]*numbered),
		firsts:     make(map[instance]uint64),
		series:     make(map[identity]*processSeries),
		rows:       make(map[bpfTrafficKey]rowState),
	}
}

// begin takes the interfaces' counters at the start as the baseline. processless are the
// namespaces whose counters could not be read: their baseline is taken when it can be read.
func (l *ledger) begin(s *snapshot, processless map[uint32]bool) {
	l.processless = processless
	l.post(s, nil)
	l.open = true
}

// post enters a snapshot into the accounts and returns the report of it. The entries of
// departing processes must have been removed from the kernel's maps, and are in s for the
// last time.
func (l *ledger) post(s *snapshot, departing map[uint64]owner.Process) *report {
	l.turn++
	l.find(s)
	l.meetNumbers(s)
	all := l.byNumber(s)
	l.sort(s, all)
	l.meet(s)
	l.learnUnits()
	superseded := l.superseded()
	ends, last, waits := l.ends(superseded)
	heirs := l.heirs(s, departing)

	r := &report{}
	lives := l.lives(all)
	l.beginSeries(lives, s)
	said := l.use(lives, departing, heirs, ends)
	r.processes = said.present
	r.interfaces, r.departed = l.balance(s, last, waits)
	l.reportEndings(r, said, last)
	sortUsages(r.processes)
	sortUsages(r.gone)

	l.endSeries(lives, departing, heirs, ends, s.now)
	l.beginAnew(s, ends, superseded)
	l.retire(s, departing)
	l.inherit(s, departing, heirs)
	l.remember(s, departing)
	l.close(s)
	return r
}

// reportEndings adds to the report the last points of series, and the ends of series. last
// has the identities of interfaces whose series report their last points.
func (l *ledger) reportEndings(r *report, said said, last map[interfaceIdentity]bool) {
	saidBefore := append(r.departed, l.ending...)
	l.endings.reopen(saidBefore, r.interfaces)
	r.departed = united(withoutRows(saidBefore, r.interfaces))
	r.interfaces, l.ending = unite(r.interfaces, last)
	l.endings.enter(r, said.staying, said.leaving, l.final)
	if l.final {
		r.departed = append(r.departed, l.ending...)
	}
}

// close keeps of a snapshot what the next post needs.
func (l *ledger) close(s *snapshot) {
	l.previous = previous{now: s.now, epoch: s.epoch, earlier: s.earlier, later: s.counters}
	for netns := range s.counters {
		delete(l.processless, s.namespaces[netns].Inode) // an interface that appears in it from now on is new
	}
}

// retire adds the traffic of departed processes to the accounts of their interfaces.
func (l *ledger) retire(s *snapshot, departing map[uint64]owner.Process) {
	if len(departing) == 0 {
		return
	}
	for key, c := range s.traffic {
		if _, gone := departing[key.Number]; gone {
			sum := &l.interfaceOf(key.iface()).retired[key.Direction]
			*sum = plus(*sum, c)
		}
	}
}
