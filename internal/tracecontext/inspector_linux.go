// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/process"
)

// inspector examines processes when the kernel side asks about them, and again later, since a
// program may load libraries and publish its context after it has run for a while. It has a
// goroutine of its own, because the kernel side needs the answer before the next collection.
type inspector struct {
	options   Options
	processes *ebpf.Map
	news      func() error // tells the kernel side that a process has something to read now
	questions *ringbuf.Reader
	obi       *obi          // nil if it is not a source
	stopped   chan struct{} // nil if it was not started
	closing   atomic.Bool
	examiner  *examiner
	answers   chan findings // has room for all examinations that are under way
	underWay  int           // number of examinations without an answer yet
	due       timetable     // all known processes
	refreshed time.Time     // when OBI's map was last searched for
	swept     time.Time     // when the table was last swept

	mu     sync.Mutex // guards what other goroutines ask about
	known  map[uint32]*acquaintance
	causes map[string]uint64
}

// acquaintance is a process that was examined.
type acquaintance struct {
	pid        uint32
	startNanos uint64
	execID     uint32
	service    Service
	looks      int
	examined   bool // an examination is under way
	next       time.Time
	place      int // index in the timetable
}

// timetable has the processes that are to be examined again, the next one first: see
// [heap.Interface].
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

// pauses are the times between examinations of one process; the last one is repeated.
var pauses = []time.Duration{time.Second, 10 * time.Second, time.Minute, 5 * time.Minute}

// rest is how long questions wait before they are read. If a hundred processes begin in a second,
// being woken for each would cost more than the answers.
const rest = 10 * time.Millisecond

// patience is how long an examination is waited for. One that takes longer continues on its own: a
// process can serve a page of its memory or a file itself, and may never do so.
const patience = 100 * time.Millisecond

// gathering is the least time between looks at processes whose time has come, so that one wake-up
// serves all those of that time.
const gathering = 100 * time.Millisecond

// maxUnderWay is how many examinations may run at the same time, each with a thread.
const maxUnderWay = 64

func newInspector(options Options, object *kernel.Object) (*inspector, error) {
	questions, err := ringbuf.NewReader(object.Maps[bpfMapQuestions])
	if err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	o := &inspector{
		options:   options,
		processes: object.Maps[bpfMapObserved],
		news:      func() error { return increment(object.Variables[bpfVarGeneration]) },
		questions: questions,
		answers:   make(chan findings, maxUnderWay),
		known:     map[uint32]*acquaintance{},
		causes:    map[string]uint64{},
	}
	o.examiner = newExaminer(options, o.refuse)
	return o, nil
}

func (o *inspector) start() {
	o.stopped = make(chan struct{})
	go o.run()
}

// Close stops the goroutine, if there is one. It does not wait for examinations.
func (o *inspector) Close() error {
	o.closing.Store(true)
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
			continue // the deadline has passed
		}
		o.options.Work(func() {
			_ = o.answer(record.RawSample)
			_ = kernel.DrainOnce(o.questions, o.answer) // an error means that the ring is closed
		})
		time.Sleep(rest) // what is asked meanwhile wakes no one
	}
}

func (o *inspector) answer(question []byte) error {
	pid, err := pidOf(question)
	if err == nil {
		o.look(pid, time.Now(), true)
	}
	return err
}

// lookAgain examines the processes whose time has come, and returns when the next one is due.
func (o *inspector) lookAgain(now time.Time) time.Time {
	o.takeAnswers()
	if now.Sub(o.refreshed) >= pauses[0] {
		o.refreshed = now
		if o.obi != nil && o.obi.refresh() {
			_ = o.news() // an error means that the maps are closed
		}
	}
	if now.Sub(o.swept) >= pauses[2] {
		o.swept = now
		o.sweep()
	}
	for !o.closing.Load() && len(o.due) > 0 && !o.due[0].next.After(now) { // look leaves the process due when it closes
		o.look(o.due[0].pid, now, false)
	}
	next := o.refreshed.Add(pauses[0])
	if len(o.due) > 0 && o.due[0].next.Before(next) {
		next = o.due[0].next
	}
	if soonest := now.Add(gathering); next.Before(soonest) {
		return soonest
	}
	return next
}

// sweep deletes the entries of processes that have ended and were never asked about: children that
// got their entries from their parents.
func (o *inspector) sweep() {
	var unknown []uint32
	_ = kernel.Each(o.processes, func(pid uint32, _ bpfObserved) { // an error means that the map is closed
		if o.known[pid] == nil {
			unknown = append(unknown, pid)
		}
	})
	for _, pid := range unknown {
		if !isThere(pid) {
			_ = o.processes.Delete(pid) // an error means that the kernel side has deleted it
		}
	}
}

// look finds out where a process keeps its contexts, and tells the kernel side. If it was not
// asked for, a process that has done nothing since the last look is left alone.
func (o *inspector) look(pid uint32, now time.Time, asked bool) {
	if o.closing.Load() {
		return
	}
	var entry bpfObserved
	if err := o.processes.Lookup(pid, &entry); err != nil {
		o.forget(pid)
		return
	}
	if !isThere(pid) {
		o.forget(pid)
		_ = o.processes.Delete(pid) // the process has ended
		return
	}
	a := o.meet(pid, entry)
	a.next = now.Add(pauses[min(a.looks, len(pauses)-1)])
	heap.Fix(&o.due, a.place)
	a.looks++
	if !asked && entry.Silences == 0 && entry.Publishes == 0 {
		return
	}
	o.examine(a, question{pid: pid, entry: entry, first: a.looks == 1})
}

// examine starts an examination of a process, and waits for the answer for a short time.
func (o *inspector) examine(a *acquaintance, q question) {
	if a.examined {
		return
	}
	if o.underWay == maxUnderWay {
		o.refuse("slow_process")
		return
	}
	a.examined = true
	o.underWay++
	go func() {
		var found findings
		o.options.Work(func() { found = o.examiner.examine(q) })
		o.answers <- found
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for a.examined {
		select {
		case found := <-o.answers:
			o.take(found)
		case <-timer.C:
			o.refuse("slow_process")
			return
		}
	}
}

// takeAnswers takes the results of examinations that took longer.
func (o *inspector) takeAnswers() {
	for {
		select {
		case found := <-o.answers:
			o.take(found)
		default:
			return
		}
	}
}

// take tells the kernel side what was found out about a process.
func (o *inspector) take(found findings) {
	o.underWay--
	a := o.known[found.pid]
	if a == nil || a.startNanos != found.StartNs || a.execID != found.ExecId {
		return // the entry is about another process by now
	}
	a.examined = false
	if found.service != nil {
		o.setService(a, *found.service)
	}
	var entry bpfObserved
	if err := o.processes.Lookup(found.pid, &entry); err != nil || entry.StartNs != found.StartNs || entry.ExecId != found.ExecId {
		return
	}
	found.Publishes = entry.Publishes
	// If the process runs another program by now, exec_id differs and the kernel side ignores
	// this.
	if err := o.processes.Put(found.pid, found.bpfObserved); err == nil && found.Flags != entry.Flags {
		_ = o.news() // an error means that the maps are closed
	}
}

func (o *inspector) setService(a *acquaintance, service Service) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a.service = service
}

// increment adds one to a variable that nothing else writes.
func increment(variable *ebpf.Variable) error {
	var n uint32
	if err := variable.Get(&n); err != nil {
		return err
	}
	return variable.Set(n + 1)
}

// meet returns the acquaintance for the process that the entry of the kernel side is about.
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

// drop forgets a process. The caller holds the lock.
func (o *inspector) drop(pid uint32) {
	if a := o.known[pid]; a != nil {
		heap.Remove(&o.due, a.place)
		delete(o.known, pid)
	}
}

// isThere reports whether a process has not ended. A signal that may not be sent has a receiver.
func isThere(pid uint32) bool {
	err := unix.Kill(int(pid), 0)
	return err == nil || errors.Is(err, unix.EPERM)
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

// refuse counts something that could not be found out about a process, by cause.
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
