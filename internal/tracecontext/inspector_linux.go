// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/process"
)

// observer looks at processes when the kernel asks about them, and again later: a
// program loads libraries and publishes what it is when it has run for a while. Its
// goroutine is no instrument's, since the kernel wants an answer before the next
// collection.
type inspector struct {
	options   Options
	proc      string
	processes *ebpf.Map
	news      func() error // tells the kernel side that a process has something after all
	questions *ringbuf.Reader
	obi       *obi          // nil: it is no source
	stopped   chan struct{} // nil: it was not started
	layouts   map[fileID]layout
	files     *elfCache
	due       timetable // all that are known
	refreshed time.Time // when OBI's map was looked for
	swept     time.Time // when the table was looked through

	mu     sync.Mutex // for those who ask what was found out
	known  map[uint32]*acquaintance
	causes map[string]uint64
}

// acquaintance is a process that was looked at.
type acquaintance struct {
	pid        uint32
	startNanos uint64
	execID     uint32
	service    Service
	looks      int
	next       time.Time
	place      int // in the timetable
}

// timetable has who is to be looked at again, the next one first: see [heap.Interface].
type timetable []*acquaintance

func (t timetable) Len() int           { return len(t) }
func (t timetable) Less(i, j int) bool { return t[i].next.Before(t[j].next) }

func (t timetable) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}

func (t *timetable) Push(a any) {
	a.(*acquaintance).place = len(*t)
	*t = append(*t, a.(*acquaintance))
}

func (t *timetable) Pop() any {
	last := len(*t) - 1
	a := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	return a
}

// layout is what is known of an executable.
type layout struct {
	goLayout
	err error
}

// pauses are how long after a look the next ones come; then the last one again.
var pauses = []time.Duration{time.Second, 10 * time.Second, time.Minute, 5 * time.Minute}

// rest is how long questions wait that come after others: where a hundred processes
// begin in a second, being woken for each would cost more than the answers.
const rest = 10 * time.Millisecond

// maxLayouts bounds what is kept of executables.
const maxLayouts = 1024

func newInspector(options Options, object *kernel.Object) (*inspector, error) {
	questions, err := ringbuf.NewReader(object.Maps[bpfMapQuestions])
	if err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	return &inspector{
		options:   options,
		proc:      "/proc", // the machine's own in a container too: see package process
		processes: object.Maps[bpfMapObserved],
		news:      func() error { return increment(object.Variables[bpfVarGeneration]) },
		questions: questions,
		layouts:   map[fileID]layout{},
		files:     new(elfCache),
		known:     map[uint32]*acquaintance{},
		causes:    map[string]uint64{},
	}, nil
}

func (o *inspector) start() {
	o.stopped = make(chan struct{})
	go o.run()
}

// Close ends the goroutine, if there is one.
func (o *inspector) Close() error {
	err := o.questions.Close()
	if o.stopped != nil {
		<-o.stopped
	}
	return err
}

func (o *inspector) run() {
	defer close(o.stopped)
	for {
		o.options.Work(func() { o.questions.SetDeadline(o.lookAgain(time.Now())) })
		record, err := o.questions.Read()
		if errors.Is(err, ringbuf.ErrClosed) {
			return
		}
		if err != nil {
			continue // the deadline
		}
		o.options.Work(func() {
			_ = o.answer(record.RawSample)
			_ = kernel.DrainOnce(o.questions, o.answer) // it fails only when the ring is closed
		})
		time.Sleep(rest) // what is asked meanwhile wakes nobody
	}
}

func (o *inspector) answer(question []byte) error {
	pid, err := pidOf(question)
	if err == nil {
		o.look(pid, time.Now(), true)
	}
	return err
}

// lookAgain looks at those whose time has come, and returns when there is more to do.
func (o *inspector) lookAgain(now time.Time) time.Time {
	if now.Sub(o.refreshed) >= pauses[0] {
		o.refreshed = now
		if o.obi != nil && o.obi.refresh() {
			_ = o.news() // it fails only when the maps are gone
		}
	}
	if now.Sub(o.swept) >= pauses[2] {
		o.swept = now
		o.sweep()
	}
	for len(o.due) > 0 && !o.due[0].next.After(now) {
		o.look(o.due[0].pid, now, false)
	}
	next := o.refreshed.Add(pauses[0])
	if len(o.due) > 0 && o.due[0].next.Before(next) {
		next = o.due[0].next
	}
	return next
}

// sweep frees the places of processes that are gone and that nobody has asked about:
// children that had theirs from their parents.
func (o *inspector) sweep() {
	var unknown []uint32
	_ = kernel.Each(o.processes, func(pid uint32, _ bpfObserved) { // it fails only when the map is gone
		if o.known[pid] == nil {
			unknown = append(unknown, pid)
		}
	})
	for _, pid := range unknown {
		if !o.isThere(pid) {
			_ = o.processes.Delete(pid) // or the kernel side has
		}
	}
}

// look finds out where a process keeps its contexts, and tells the kernel. One that
// nobody asks about is left alone if it has done nothing since the last look.
func (o *inspector) look(pid uint32, now time.Time, asked bool) {
	var entry bpfObserved
	if err := o.processes.Lookup(pid, &entry); err != nil {
		o.forget(pid)
		return
	}
	if !o.isThere(pid) {
		o.forget(pid)
		_ = o.processes.Delete(pid) // it has gone, and its pid with it
		return
	}
	a := o.meet(pid, entry)
	a.next = now.Add(pauses[min(a.looks, len(pauses)-1)])
	heap.Fix(&o.due, a.place)
	a.looks++
	if !asked && entry.Silences == 0 && entry.Publishes == 0 {
		return
	}
	found := bpfObserved{StartNs: entry.StartNs, ExecId: entry.ExecId, Publishes: entry.Publishes}
	if o.wants(pid) {
		found.Flags |= bpfObservedFlagOBSERVED_WANTED
		o.findGo(pid, &found, a.looks == 1)
		process := processDirectory(o.proc, int(pid))
		if mappings, err := readMaps(process); err == nil {
			o.findThreadSlot(process, mappings, &found)
			o.findService(process, mappings, a)
		} else if !errors.Is(err, os.ErrNotExist) {
			o.refuse("unreadable_process")
		}
	}
	if a.looks == 1 {
		found.Ask = 1 // it may have just begun
	}
	// If it runs another program by now, this is not believed: exec_id tells.
	if err := o.processes.Put(pid, found); err == nil && found.Flags != entry.Flags {
		_ = o.news() // it fails only when the maps are gone
	}
}

// increment adds one to a variable that nobody else writes.
func increment(variable *ebpf.Variable) error {
	var n uint32
	if err := variable.Get(&n); err != nil {
		return err
	}
	return variable.Set(n + 1)
}

// meet returns the process that the kernel's entry is about, as it is known.
func (o *inspector) meet(pid uint32, entry bpfObserved) *acquaintance {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.known[pid]
	if a == nil || a.startNanos != entry.StartNs || a.execID != entry.ExecId {
		o.drop(pid)
		a = &acquaintance{pid: pid, startNanos: entry.StartNs, execID: entry.ExecId}
		o.known[pid] = a
		heap.Push(&o.due, a)
	}
	return a
}

func (o *inspector) forget(pid uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop(pid)
}

// drop is for those who hold the lock.
func (o *inspector) drop(pid uint32) {
	if a := o.known[pid]; a != nil {
		heap.Remove(&o.due, a.place)
		delete(o.known, pid)
	}
}

func (o *inspector) isThere(pid uint32) bool {
	_, err := os.Stat(o.path(pid, ""))
	return err == nil
}

func (o *inspector) path(pid uint32, name string) string {
	return o.proc + "/" + strconv.FormatUint(uint64(pid), 10) + "/" + name
}

// wants says whether the configuration lets the memory of a process be read. The
// Collector's own program is among the largest there are, and is not looked at.
func (o *inspector) wants(pid uint32) bool {
	if pid == o.options.IgnoredPID {
		return false
	}
	if len(o.options.PIDs) > 0 && !slices.Contains(o.options.PIDs, pid) {
		return false
	}
	if len(o.options.Commands) == 0 {
		return true
	}
	command, err := os.ReadFile(o.path(pid, "comm"))
	return err == nil && slices.Contains(o.options.Commands, strings.TrimSuffix(string(command), "\n"))
}

// findGo looks where a Go program has the labels of its goroutines.
func (o *inspector) findGo(pid uint32, found *bpfObserved, first bool) {
	if !o.options.has(GoLabels) {
		return
	}
	l := o.layoutOf(pid)
	if errors.Is(l.err, errUnknownRelease) && first {
		o.refuse("unknown_go_release")
	}
	if l.err != nil {
		return
	}
	bias, err := loadBias(o.proc, int(pid), l.entry)
	if err != nil {
		o.refuse("unreadable_process")
		return
	}
	found.Flags |= bpfObservedFlagOBSERVED_GO
	if l.cgo {
		found.Flags |= bpfObservedFlagOBSERVED_GO_CGO
	}
	if l.labelMap {
		found.Flags |= bpfObservedFlagOBSERVED_GO_MAP
	}
	found.G_tls, found.G_m, found.M_curg, found.G_labels, found.G_startpc = l.tls, l.m, l.curg, l.labels, l.startPC
	for i, entry := range l.pooled {
		if i < len(found.Pooled) {
			found.Pooled[i] = entry + bias
			found.PooledCount++
		}
	}
}

// layoutOf reads an executable once.
func (o *inspector) layoutOf(pid uint32) layout {
	file, err := os.Open(o.path(pid, "exe"))
	if err != nil {
		o.refuse("unreadable_process")
		return layout{err: err}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return layout{err: err}
	}
	id := identify(info)
	known, ok := o.layouts[id]
	if !ok {
		if len(o.layouts) >= maxLayouts {
			clear(o.layouts)
		}
		known.goLayout, known.err = readGoLayout(file)
		if errors.Is(known.err, errUnknownRelease) { // said once, however often the program is started
			o.options.Warn(fmt.Sprintf("source go_labels is off for process %d, and for others of its program: %v", pid, known.err))
		}
		o.layouts[id] = known
	}
	return known
}

// findThreadSlot looks where the threads of a process publish their contexts.
func (o *inspector) findThreadSlot(process string, mappings []mapping, found *bpfObserved) {
	if !o.options.has(OTelThread) {
		return
	}
	slot, err := findThreadSlot(process, mappings, o.files)
	if err != nil {
		if !errors.Is(err, errNoThreadContext) && !errors.Is(err, os.ErrNotExist) {
			o.refuse("unreadable_process")
		}
		return
	}
	found.Flags |= bpfObservedFlagOBSERVED_THREAD_SLOT
	found.SlotOffset, found.SlotModule = slot.offset, slot.module
	if slot.module != 0 {
		found.Flags |= bpfObservedFlagOBSERVED_THREAD_MODULE
	}
	if slot.muslEntries {
		found.Flags |= bpfObservedFlagOBSERVED_MUSL
	}
}

// findService looks what a process publishes of itself.
func (o *inspector) findService(process string, mappings []mapping, a *acquaintance) {
	published, err := readPublishedContext(process, mappings)
	if err != nil {
		if !errors.Is(err, errNotPublished) && !errors.Is(err, os.ErrNotExist) {
			o.refuse("unreadable_publication")
		}
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	a.service = Service{
		Name:       published.resource["service.name"],
		InstanceID: published.resource["service.instance.id"],
		Namespace:  published.resource["service.namespace"],
	}
}

func (o *inspector) service(id process.ID) Service {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.known[id.PID]
	if a == nil || a.startNanos != id.StartNanos || a.execID != id.ExecID {
		return Service{}
	}
	return a.service
}

// refuse counts what was not found out of a process.
func (o *inspector) refuse(cause string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.causes[cause]++
}

func (o *inspector) refused() map[string]uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.causes)
}
