package traffic

import (
	"cmp"
	"maps"
	"slices"

	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// memory is how long a process that is gone is remembered, in ns: its last
// sockets may still send, as long as TCP retries.
const memory = 15 * 60 * 1e9

// maxDeparted bounds those. What the sockets of others send is on the account of
// those without an owner.
const maxDeparted = 16384

// ledger keeps the books from one collection to the next. It is pure: all it
// knows comes in snapshots.
type ledger struct {
	start       uint64 // ns since boot
	host        uint32 // inode of the host's network namespace
	all         bool   // interfaces of every namespace
	open        bool   // begin has posted what was there before
	final       bool   // the next post is the last
	processless map[uint32]bool
	faceOf      func(owner.Process) face
	endings     endings
	met         map[uint64]bool // network namespaces

	withNamespace bool // processes' series tell network namespaces apart

	starts   map[face]uint64                 // series start of each process that has some
	ended    map[face]uint64                 // when it last had some, in ns since boot
	firsts   map[instance]uint64             // the first number of a process, before exec or setuid
	last     map[uint64]uint64               // packets of each process at the last post
	departed map[uint64]departure            // remembered
	retired  map[bpfInterfaceKey][2]bpfCount // what departed processes moved

	// What processes had moved under other numbers, and goes on under these.
	inherited map[bpfTrafficKey]bpfCount

	forgotten fate // of what is no longer in the kernel's maps

	interfaces map[bpfInterfaceKey]bpfInterfaceEntry // all that ever had a packet or a survey
	baseline   map[bpfInterfaceKey]*baseline
	units      map[bpfInterfaceKey][2]unit   // what its counter counts, by direction
	unclaimed  map[bpfInterfaceKey]unclaimed // it must not shrink
	moved      map[bpfInterfaceKey]movement  // when an interface last counted anything
	closed     map[bpfInterfaceKey]bool      // gone; only their names are kept
	born       map[bpfInterfaceKey]uint64    // series start, in ns since boot
	spoken     map[bpfInterfaceKey]statement // what was last published
	posted     uint64                        // when the last snapshot was, in ns since boot
	epoch      uint64                        // of its survey
	read       readings                      // of the last snapshot

	// Series that begin anew, see anew.go.
	renamed     map[bpfInterfaceKey]bpfInterfaceEntry
	relearned   map[bpfInterfaceKey][2]unit
	booksBefore map[bpfInterfaceKey]sheet  // what was booked before
	rowsBefore  map[bpfTrafficKey]bpfCount // what processes had moved before
	begun       map[anew]uint64            // when a process's series did, in ns since boot
	ending      []statement                // have said their last
}

// readings are the interfaces' own counters, as in a snapshot.
type readings struct{ earlier, later map[uint64]map[string]counter }

// instance is a process whatever it executes and whoever it runs as.
type instance struct {
	startNanos uint64
	pid        uint32
}

type departure struct {
	process owner.Process
	at      uint64 // ns since boot
}

func newLedger(start uint64, host uint32, all bool, faceOf func(owner.Process) face) *ledger {
	return &ledger{
		start:      start,
		host:       host,
		all:        all,
		faceOf:     faceOf,
		endings:    endings{faceOf: faceOf},
		met:        make(map[uint64]bool),
		starts:     make(map[face]uint64),
		ended:      make(map[face]uint64),
		firsts:     make(map[instance]uint64),
		last:       make(map[uint64]uint64),
		departed:   make(map[uint64]departure),
		retired:    make(map[bpfInterfaceKey][2]bpfCount),
		inherited:  make(map[bpfTrafficKey]bpfCount),
		interfaces: make(map[bpfInterfaceKey]bpfInterfaceEntry),
		baseline:   make(map[bpfInterfaceKey]*baseline),
		units:      make(map[bpfInterfaceKey][2]unit),
		unclaimed:  make(map[bpfInterfaceKey]unclaimed),
		moved:      make(map[bpfInterfaceKey]movement),
		closed:     make(map[bpfInterfaceKey]bool),
		born:       make(map[bpfInterfaceKey]uint64),
		spoken:     make(map[bpfInterfaceKey]statement),

		renamed:     make(map[bpfInterfaceKey]bpfInterfaceEntry),
		relearned:   make(map[bpfInterfaceKey][2]unit),
		booksBefore: make(map[bpfInterfaceKey]sheet),
		rowsBefore:  make(map[bpfTrafficKey]bpfCount),
		begun:       make(map[anew]uint64),

		posted: start,
	}
}

// begin takes the interfaces' counters at start as the baseline. processless are
// namespaces whose counters could not be read: theirs is taken when it can be.
func (l *ledger) begin(s *snapshot, processless map[uint32]bool) {
	l.processless = processless
	l.post(s, nil)
	l.open = true
}

// departing returns the numbers of processes that are gone and whose sockets
// have moved nothing since the last post; of all that are gone, before the final post.
func (l *ledger) departing(s *snapshot) map[uint64]owner.Process {
	packets := make(map[uint64]uint64) // of the dead
	for key, c := range s.traffic {
		if p := s.processes[key.Number]; !p.Alive {
			packets[key.Number] += c.Packets
		}
	}
	gone := make(map[uint64]owner.Process)
	for number, p := range s.processes {
		if p.Alive {
			continue
		}
		last, posted := l.last[number]
		atRest := (posted || packets[number] == 0) && last == packets[number]
		if atRest || l.final {
			gone[number] = p
		}
	}
	for number, d := range l.departed {
		if last, posted := l.last[number]; posted && last == packets[number] || l.final && packets[number] != 0 {
			gone[number] = d.process // it was remembered, and has been heard again
		}
	}
	return gone
}

// post enters a snapshot into the books and returns what there is to say. The
// entries of those that depart must have been taken out of the kernel's maps,
// and stand in s for the last time.
func (l *ledger) post(s *snapshot, departing map[uint64]owner.Process) *report {
	l.reopen(s)
	l.learnFirsts(s)
	sheets := l.sheets(s)
	l.meet(s, sheets)
	l.learnUnits(s, sheets)
	superseded := l.supersede()
	ends, last, waits := l.ends(superseded)
	r := &report{}
	heirs := l.heirs(s, departing)
	present, staying, leaving := l.use(s, departing, heirs, ends)
	r.processes = present
	r.interfaces, r.departed = l.balance(s, sheets, last, waits)
	saidBefore := append(r.departed, l.ending...)
	l.endings.reopen(saidBefore, r.interfaces)
	r.departed = united(withoutRows(saidBefore, r.interfaces))
	r.interfaces, l.ending = unite(r.interfaces, last)
	l.endings.enter(r, staying, leaving, l.final)
	if l.final {
		r.departed = append(r.departed, l.ending...)
	}
	sortUsages(r.processes)
	sortUsages(r.gone)
	l.beginAnew(s, sheets, ends, superseded)
	l.retire(s, departing)
	l.inherit(s, departing, heirs)
	l.remember(s, departing)
	return r
}

// use draws up what each process moved. Of this some is said for the last time: it is
// leaving; the rest stays, and is wanted with the final post only. A process may have
// several numbers, all with the same series.
func (l *ledger) use(s *snapshot, departing map[uint64]owner.Process, heirs map[face]uint64, ends map[interfaceFace]bool) (present, staying, leaving []usage) {
	lives, looks := l.lives(s), l.looks()
	all := make([]usage, 0, len(lives))
	for _, one := range lives {
		start, before := l.beginLife(one, s), len(all)
		all = l.addUsages(all, one, start, looks)
		usages := all[before:]
		_, goesOn := heirs[one.face]
		if _, last := departing[one.number]; last && !goesOn {
			leaving = append(leaving, usages...)
			l.ended[one.face] = max(s.now, start+1)
			delete(l.starts, one.face)
			continue
		}
		last, others := parted(usages, l.turnRows(one, ends, s))
		leaving = append(leaving, last...)
		if l.final {
			staying = append(staying, others...)
		}
	}
	maps.DeleteFunc(l.begun, func(a anew, _ uint64) bool {
		_, goesOn := l.starts[a.face]
		return !goesOn
	})
	sortUsages(leaving) // what is said again is said in this order
	if len(all) != 0 {
		present = all
	}
	return present, staying, leaving
}

func (l *ledger) processOf(number uint64, s *snapshot) (owner.Process, bool) {
	if p, ok := s.processes[number]; ok {
		return p, true
	}
	d, ok := l.departed[number]
	return d.process, ok
}

// startOf returns when the series of a process began that has none yet: with the
// receiver or with the process, whichever is later; after an exec or a change of user,
// when the kernel side first met it so.
func (l *ledger) startOf(number uint64, p owner.Process) uint64 {
	if d, ok := l.departed[number]; ok {
		return d.at
	}
	if first, known := l.firsts[instanceOf(p.ID)]; known && first != number {
		return max(l.start, p.Seen.FirstNanos)
	}
	return max(l.start, p.ID.StartNanos)
}

// learnFirsts finds the lowest number under which each process is or was known.
func (l *ledger) learnFirsts(s *snapshot) {
	for number, p := range s.processes {
		self := instanceOf(p.ID)
		if first, known := l.firsts[self]; !known || number < first {
			l.firsts[self] = number
		}
	}
}

// retire moves what departed processes moved to the books of their interfaces.
func (l *ledger) retire(s *snapshot, departing map[uint64]owner.Process) {
	if len(departing) == 0 {
		return
	}
	for key, c := range s.traffic {
		if _, gone := departing[key.Number]; !gone {
			continue
		}
		sums := l.retired[key.iface()]
		sums[key.Direction] = plus(sums[key.Direction], c)
		l.retired[key.iface()] = sums
	}
}

// remember updates what is known of each process, and forgets what is too old.
func (l *ledger) remember(s *snapshot, departing map[uint64]owner.Process) {
	clear(l.last)
	for key, c := range s.traffic {
		l.last[key.Number] += c.Packets
	}
	for number := range s.processes {
		l.last[number] += 0
	}
	for number, p := range departing {
		l.departed[number] = departure{process: p, at: s.now}
		delete(l.last, number)
	}
	remembered := len(l.departed)
	for number, d := range l.departed {
		if _, heard := l.last[number]; heard || s.now-d.at < memory {
			continue
		}
		delete(l.departed, number)
	}
	l.forgetOldest()
	if len(departing) != 0 || len(l.departed) != remembered { // else all are known who were
		l.forgetFirsts(s)
	}
}

// forgetOldest keeps the departed within their bound.
func (l *ledger) forgetOldest() {
	tooMany := len(l.departed) - maxDeparted
	if tooMany <= 0 {
		return
	}
	silent := slices.DeleteFunc(slices.Collect(maps.Keys(l.departed)), func(number uint64) bool {
		_, heard := l.last[number]
		return heard
	})
	slices.SortFunc(silent, func(a, b uint64) int {
		return cmp.Or(cmp.Compare(l.departed[a].at, l.departed[b].at), cmp.Compare(a, b))
	})
	for _, number := range silent[:min(tooMany, len(silent))] {
		delete(l.departed, number)
	}
}

func (l *ledger) forgetFirsts(s *snapshot) {
	known := make(map[instance]bool, len(s.processes)+len(l.departed))
	for _, p := range s.processes {
		known[instanceOf(p.ID)] = true
	}
	for _, d := range l.departed {
		known[instanceOf(d.process.ID)] = true
	}
	maps.DeleteFunc(l.firsts, func(self instance, _ uint64) bool { return !known[self] })
	maps.DeleteFunc(l.ended, func(face face, _ uint64) bool { return !known[face.instance] })
}

func instanceOf(id process.ID) instance {
	return instance{startNanos: id.StartNanos, pid: id.PID}
}
