// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"

	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// world simulates a kernel with nettap's programs, as far as the ledger can see it: devices with counters, and maps
// that have what was seen. The random source makes every choice.
type world struct {
	*rand.Rand
	now       uint64 // ns since boot
	next      uint64 // the number of the next thing that is made
	surveyed  uint64 // epoch of the last survey
	spaces    []*space
	devices   []*device
	tasks     []*task
	traffic   map[bpfTrafficKey]bpfCount
	accounts  map[bpfAccountKey]bpfCount
	seen      map[bpfInterfaceKey]bpfInterfaceEntry
	processes map[uint64]owner.Process
	waiting   []waiting
	fact      fact
	conditions

	processless map[uint32]bool // by inode: the counters in it were not known when the receiver started
}

// conditions are difficulties that a world can have in addition.
type conditions struct {
	blind   bool // devices count in units that have to be learned
	refused bool // the consumer refuses some batches
}

// fact is what has really happened since the receiver started.
type fact struct {
	tasks    map[instance]int64 // bytes, of those that are in a series
	accounts int64              // the same of all accounts
	moves    []move
}

// move is bytes of a process at a time.
type move struct {
	at    uint64
	task  instance
	bytes int64
}

// space is a network namespace.
type space struct {
	cookie    uint64
	inode     uint32
	inhabited bool
	unread    bool // at the last survey
}

// device is a network interface, and the unit that its counter has.
type device struct {
	space   *space
	index   uint32
	name    string
	own     counter
	since   uint64 // when it was made
	unit    unit
	link    uint8
	kind    string
	bridge  *device             // that it is a port of
	strange bool                // nobody can know what it had counted before it was read
	read    bool                // at a survey
	then    map[uint64][2]int64 // what it had counted at each survey
	unread  map[uint64]bool     // whether nobody could know
}

type task struct {
	number uint64
	process.ID
	seen  process.Seen
	alive bool
	heard bool

	departed bool // and is remembered by its number, if its sockets still move something
}

// waiting is bytes that are on no account yet.
type waiting struct {
	*device
	where     bpfInterfaceKey
	direction bpfDirection
	count     bpfCount
}

var deviceNames = []string{"eth0", "eth1", "tun0", "wan0"}

func newWorld(seed int64, how conditions) *world {
	w := &world{Rand: rand.New(rand.NewSource(seed)), now: 100 * second, next: 1, conditions: how}
	for range 3 {
		w.spaces = append(w.spaces, &space{cookie: w.number(), inode: uint32(w.number()), inhabited: true})
	}
	w.spaces[2].inhabited = w.Intn(2) == 0
	for range 4 {
		w.makeDevice()
	}
	for range 3 {
		w.makeTask()
	}
	w.forget()
	for range 20 {
		w.move() // before the receiver
	}
	w.now += second
	w.forget()
	return w
}

func (w *world) number() uint64 {
	w.next++
	return w.next
}

// forget lets the receiver start anew.
func (w *world) forget() {
	w.traffic = map[bpfTrafficKey]bpfCount{}
	w.accounts = map[bpfAccountKey]bpfCount{}
	w.seen = map[bpfInterfaceKey]bpfInterfaceEntry{}
	w.processes = map[uint64]owner.Process{}
	w.waiting = nil
	w.fact = fact{tasks: map[instance]int64{}}
	w.tasks = slices.DeleteFunc(w.tasks, func(t *task) bool { return !t.alive })
	w.processless = map[uint32]bool{}
	for _, space := range w.spaces {
		if !space.inhabited {
			w.processless[space.inode] = true
		}
	}
	for _, d := range w.devices {
		d.strange = !d.space.inhabited
	}
	for _, t := range w.tasks {
		t.number, t.seen.FirstNanos, t.heard = w.number(), w.now, false
	}
}

func (w *world) step() {
	w.now += 1 + uint64(w.Int63n(2*second))
	steps := []func(){
		w.move, w.move, w.move, w.move, w.move, w.move, w.move, w.move, w.move, w.move, w.move, w.move,
		w.settle, w.settle, w.missed,
		w.makeTask, w.execute, w.executeItself, w.executeItself, w.become, w.end,
		w.makeDevice, w.removeDevice, w.rename, w.rename, w.bringElsewhere,
		w.bridge, w.forward, w.forward, w.forward,
		w.inhabit, w.replaceSpace,
	}
	steps[w.Intn(len(steps))]()
}

func pick[T any](w *world, all []T) (one T, some bool) {
	if len(all) == 0 {
		return one, false
	}
	return all[w.Intn(len(all))], true
}

func (w *world) makeDevice() {
	s, _ := pick(w, w.spaces)
	d := &device{space: s, index: uint32(w.number()), since: w.now, strange: s.unread, then: map[uint64][2]int64{}, unread: map[uint64]bool{}}
	if d.name = w.freeName(s); d.name == "" {
		return
	}
	if w.Intn(4) == 0 {
		d.kind = "bridge"
	}
	if w.blind {
		d.unit, d.link = unit{frames: property{is: w.Intn(2) == 0}, bare: property{is: w.Intn(2) == 0}}, 14
	}
	w.devices = append(w.devices, d)
}

func (w *world) freeName(s *space) string {
	free := slices.DeleteFunc(slices.Clone(deviceNames), func(name string) bool {
		return slices.ContainsFunc(w.devices, func(d *device) bool { return d.space == s && d.name == name })
	})
	name, _ := pick(w, free)
	return name
}

func (w *world) removeDevice() {
	if len(w.devices) > 1 {
		i := w.Intn(len(w.devices))
		w.devices = slices.Delete(w.devices, i, i+1)
	}
}

// bridge makes a device a port of a bridge in its namespace, or releases it.
func (w *world) bridge() {
	d, _ := pick(w, w.devices)
	if d.bridge != nil {
		d.bridge = nil
		return
	}
	bridges := slices.DeleteFunc(slices.Clone(w.devices), func(b *device) bool { return b.kind != "bridge" || b.space != d.space })
	if b, some := pick(w, bridges); some && d.kind != "bridge" {
		d.bridge = b
	}
}

// forward lets a packet in by one port of a bridge and out by another, or to the bridge.
func (w *world) forward() {
	ports := slices.DeleteFunc(slices.Clone(w.devices), func(d *device) bool { return !slices.Contains(w.devices, d.bridge) || d.bridge.space != d.space })
	from, some := pick(w, ports)
	if !some {
		return
	}
	c := w.packets()
	to, _ := pick(w, ports)
	if to == from || to.bridge != from.bridge {
		w.receive(from.bridge, c)
		w.fact.accounts += int64(c.Bytes)
	}
	w.receive(from, c)
	w.book(from, bpfAccountACCOUNT_FORWARDED, bpfDirectionRECEIVE, c)
	w.fact.accounts += int64(c.Bytes)
	if to != from && to.bridge == from.bridge {
		w.see(to)
		w.count(to, bpfDirectionTRANSMIT, c)
		w.book(to, bpfAccountACCOUNT_FORWARDED, bpfDirectionTRANSMIT, c)
		w.fact.accounts += int64(c.Bytes)
	}
}

// receive is what has arrived and nobody claims yet.
func (w *world) receive(d *device, c bpfCount) {
	w.see(d)
	w.count(d, bpfDirectionRECEIVE, c)
	w.book(d, bpfAccountACCOUNT_ARRIVED, bpfDirectionRECEIVE, c)
}

func (w *world) rename() {
	d, _ := pick(w, w.devices)
	if name := w.freeName(d.space); name != "" {
		d.name = name
	}
}

// bringElsewhere moves a device into another namespace.
func (w *world) bringElsewhere() {
	d, _ := pick(w, w.devices)
	s, _ := pick(w, w.spaces)
	name := w.freeName(s)
	if s == d.space || name == "" {
		return
	}
	d.space, d.name, d.strange = s, name, true
}

func (w *world) inhabit() {
	s, _ := pick(w, w.spaces[1:])
	s.inhabited = !s.inhabited
}

// replaceSpace ends a namespace with its devices; a new one has its inode number. To who
// knows only that, it is the old one, if that had no process yet.
func (w *world) replaceSpace() {
	if w.Intn(3) != 0 {
		return
	}
	i := 1 + w.Intn(len(w.spaces)-1)
	old := w.spaces[i]
	w.devices = slices.DeleteFunc(w.devices, func(d *device) bool { return d.space == old })
	w.spaces[i] = &space{cookie: w.number(), inode: old.inode, inhabited: true, unread: w.processless[old.inode]}
	w.makeDevice()
	for len(w.devices) == 0 {
		w.makeDevice()
	}
}

func (w *world) makeTask() {
	id := process.ID{PID: uint32(w.number()), StartNanos: w.now, ExecID: 1}
	w.tasks = append(w.tasks, &task{number: w.number(), ID: id, seen: process.Seen{FirstNanos: w.now, Comm: "a", Executable: "a"}, alive: true})
}

// execute lets a process execute another program.
func (w *world) execute() {
	w.change(func(t *task) {
		t.ExecID++
		t.seen.Executable = fmt.Sprint("program", t.ExecID)
		t.seen.Comm = t.seen.Executable
	})
}

// executeItself lets a process execute its own program, or the one that it had before:
// it looks as it did.
func (w *world) executeItself() {
	w.change(func(t *task) {
		t.ExecID++
		if w.Intn(3) == 0 {
			t.seen.Executable, t.seen.Comm = "a", "a"
		}
	})
}

func (w *world) become() {
	w.change(func(t *task) { t.UserID++ })
}

func (w *world) change(how func(t *task)) {
	t, some := pick(w, w.living())
	if !some {
		return
	}
	next := *t
	t.alive = false
	next.number, next.seen.FirstNanos, next.heard = w.number(), w.now, false
	how(&next)
	w.note(t)
	w.tasks = append(w.tasks, &next)
}

func (w *world) living() []*task {
	return slices.DeleteFunc(slices.Clone(w.tasks), func(t *task) bool { return !t.alive })
}

func (w *world) end() {
	if t, some := pick(w, w.living()); some {
		t.alive = false
		w.note(t)
	}
}

// note is what the kernel side knows of a process.
func (w *world) note(t *task) {
	_, known := w.processes[t.number]
	if !known {
		t.seen.FirstNanos = w.now
	}
	if !t.departed && (known || t.heard) {
		w.processes[t.number] = owner.Process{ID: t.ID, Seen: t.seen, Alive: t.alive}
	}
}

// packets are some of a kind that tells units apart, or not.
func (w *world) packets() bpfCount {
	n := uint64(1 + w.Intn(5))
	c := packets(n, n*uint64(60+w.Intn(1000)))
	if w.blind && w.Intn(2) == 0 {
		c.Frames, c.FrameBytes = 3*n, c.Bytes+2*n*54
	}
	return c
}

// move sends or receives some packets, of a process or not.
func (w *world) move() {
	d, some := pick(w, w.devices)
	if !some {
		return
	}
	direction := bpfDirection(w.Intn(2))
	c := w.packets()
	w.count(d, direction, c)
	if direction == bpfDirectionRECEIVE {
		w.book(d, bpfAccountACCOUNT_ARRIVED, direction, c)
	}
	w.see(d)
	switch t, some := pick(w, w.tasks); {
	case w.Intn(8) == 0:
		w.book(d, bpfAccountACCOUNT_WAITING, direction, c)
		w.waiting = append(w.waiting, waiting{device: d, where: d.key(), direction: direction, count: c})
	case some && w.Intn(4) != 0 && (t.alive || t.heard):
		w.use(t, d, direction, c)
	case direction == bpfDirectionRECEIVE:
		w.fact.accounts += int64(c.Bytes) // unclaimed
	default:
		w.book(d, bpfAccountACCOUNT_KERNEL, direction, c)
		w.fact.accounts += int64(c.Bytes)
	}
}

// settle lets someone use a socket with which something waits.
func (w *world) settle() {
	if len(w.waiting) == 0 {
		return
	}
	i := w.Intn(len(w.waiting))
	one := w.waiting[i]
	w.waiting = slices.Delete(w.waiting, i, i+1)
	if !slices.Contains(w.devices, one.device) || one.key() != one.where {
		return // it is not there any more
	}
	key := w.accountKey(one.device, bpfAccountACCOUNT_WAITING, one.direction)
	if t, some := pick(w, w.living()); some && w.accounts[key].Packets >= one.count.Packets {
		w.accounts[key] = less(w.accounts[key], one.count)
		w.use(t, one.device, one.direction, one.count)
	}
}

// missed is what only the counter has.
func (w *world) missed() {
	d, _ := pick(w, w.devices)
	w.count(d, bpfDirection(w.Intn(2)), w.packets())
}

func (w *world) count(d *device, direction bpfDirection, c bpfCount) {
	d.own[direction].add(d.unit.of(c, uint64(d.link)))
}

func (w *world) use(t *task, d *device, direction bpfDirection, c bpfCount) {
	w.see(d)
	t.heard = true
	w.note(t)
	key := bpfTrafficKey{Number: t.number, Netns: d.space.cookie, Ifindex: d.index, Direction: uint8(direction)}
	w.traffic[key] = plus(w.traffic[key], c)
	w.fact.accounts += int64(c.Bytes)
	self := instanceOf(t.ID)
	w.fact.tasks[self] += int64(c.Bytes)
	w.fact.moves = append(w.fact.moves, move{at: w.now, task: self, bytes: int64(c.Bytes)})
}

func (w *world) accountKey(d *device, account bpfAccount, direction bpfDirection) bpfAccountKey {
	return bpfAccountKey{Netns: d.space.cookie, Ifindex: d.index, Account: account, Direction: direction}
}

func (w *world) book(d *device, account bpfAccount, direction bpfDirection, c bpfCount) {
	key := w.accountKey(d, account, direction)
	w.accounts[key] = plus(w.accounts[key], c)
}

func (d *device) key() bpfInterfaceKey {
	return bpfInterfaceKey{Netns: d.space.cookie, Ifindex: d.index}
}

func (d *device) identity() interfaceIdentity {
	return interfaceIdentity{netnsInode: d.space.inode, name: d.name}
}

// see is a first packet, or a survey.
func (w *world) see(d *device) {
	if _, known := w.seen[d.key()]; !known {
		w.find(d, w.surveyed)
	}
}

func (w *world) find(d *device, epoch uint64) {
	entry := bpfInterfaceEntry{Epoch: epoch, NetnsInode: d.space.inode, Link: d.link}
	for i, c := range []byte(d.name) {
		entry.Name[i] = int8(c)
	}
	for i, c := range []byte(d.kind) {
		entry.Kind[i] = int8(c)
	}
	w.seen[d.key()] = entry
}

// snapshot surveys the world.
func (w *world) snapshot(epoch uint64) *snapshot {
	w.surveyed = epoch
	s := &snapshot{
		now: w.now, epoch: epoch,
		traffic: maps.Clone(w.traffic), accounts: maps.Clone(w.accounts), processes: map[uint64]owner.Process{},
		namespaces: map[uint64]bpfNamespaceEntry{}, counters: map[uint64]map[string]counter{},
	}
	for _, space := range w.spaces {
		space.unread = !space.inhabited
		if space.inhabited {
			s.namespaces[space.cookie] = bpfNamespaceEntry{Epoch: epoch, Inode: space.inode, Pid: 1}
			s.counters[space.cookie] = map[string]counter{}
			delete(w.processless, space.inode)
		}
	}
	for _, d := range w.devices {
		if d.space.inhabited {
			w.find(d, epoch)
			s.counters[d.space.cookie][d.name] = d.own
		}
	}
	for _, d := range w.devices {
		d.read = d.read || d.space.inhabited
		d.strange = d.strange || !d.read
		d.unread[w.now] = !d.space.inhabited
		d.then[w.now] = [2]int64{w.booked(d, bpfDirectionTRANSMIT), w.booked(d, bpfDirectionRECEIVE)}
	}
	s.interfaces = maps.Clone(w.seen)
	for number, p := range w.processes {
		s.processes[number] = p
	}
	return s
}

// booked is what the device has counted that may be on an account now.
func (w *world) booked(d *device, direction bpfDirection) int64 {
	return int64(d.own[direction].bytes) - int64(w.accounts[w.accountKey(d, bpfAccountACCOUNT_WAITING, direction)].Bytes)
}

// forgotten takes what the receiver has done with out of the maps.
func (w *world) forgotten(l *ledger, departing map[uint64]owner.Process) {
	for number := range departing {
		delete(w.processes, number)
		maps.DeleteFunc(w.traffic, func(key bpfTrafficKey, _ bpfCount) bool { return key.Number == number })
	}
	maps.DeleteFunc(w.accounts, func(key bpfAccountKey, _ bpfCount) bool { return l.hasEnded(key.iface()) })
	maps.DeleteFunc(w.seen, func(key bpfInterfaceKey, _ bpfInterfaceEntry) bool { return l.hasEnded(key) })
	w.waiting = slices.DeleteFunc(w.waiting, func(one waiting) bool { return l.hasEnded(one.where) })
	for _, t := range w.tasks {
		if _, gone := departing[t.number]; gone {
			t.departed = true
		}
	}
	w.tasks = slices.DeleteFunc(w.tasks, func(t *task) bool { return !t.alive && !t.heard || t.departed && w.Intn(8) == 0 })
}
