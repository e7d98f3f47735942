// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// procDirectory is the machine's own in a container too, which sees all processes there:
// see package process.
const procDirectory = "/proc"

// examiner reads the files and the memory of processes. That lasts as long as a process
// wants which serves them itself, so several examinations may go on at a time.
type examiner struct {
	options Options
	proc    string
	refuse  func(cause string) // counts what was not found out
	files   *elfCache

	mu      sync.Mutex
	layouts map[fileID]layout
}

// layout is what is known of an executable.
type layout struct {
	goLayout
	err error
}

// maxLayouts bounds what is kept of executables.
const maxLayouts = 1024

func newExaminer(options Options, refuse func(cause string)) *examiner {
	return &examiner{options: options, proc: procDirectory, refuse: refuse, files: new(elfCache), layouts: map[fileID]layout{}}
}

// question is a process that is to be examined, as the kernel side knows it.
type question struct {
	pid   uint32
	entry bpfObserved
	first bool // it was not before
}

// findings are what was found out of a process.
type findings struct {
	pid uint32
	bpfObserved
	service *Service // nil: not known
}

// examine finds out where a process keeps its contexts, and what it publishes of itself.
func (e *examiner) examine(q question) findings {
	found := findings{pid: q.pid, bpfObserved: bpfObserved{StartNs: q.entry.StartNs, ExecId: q.entry.ExecId, Publishes: q.entry.Publishes}}
	if q.first {
		found.Ask = 1 // it may have just begun
	}
	if !e.wants(q.pid) {
		return found
	}
	found.Flags |= bpfObservedFlagOBSERVED_WANTED
	e.findGo(q.pid, &found.bpfObserved, q.first)
	process := processDirectory(e.proc, int(q.pid))
	if mappings, err := readMaps(process); err == nil {
		e.findThreadSlot(process, mappings, &found.bpfObserved)
		found.service = e.findService(process, mappings)
	} else if !errors.Is(err, os.ErrNotExist) {
		e.refuse("unreadable_process")
	}
	return found
}

func pathOf(proc string, pid uint32, name string) string {
	return proc + "/" + strconv.FormatUint(uint64(pid), 10) + "/" + name
}

// wants says whether the configuration lets the memory of a process be read. The
// Collector's own program is among the largest there are, and is not looked at.
func (e *examiner) wants(pid uint32) bool {
	if pid == e.options.IgnoredPID {
		return false
	}
	if len(e.options.PIDs) > 0 && !slices.Contains(e.options.PIDs, pid) {
		return false
	}
	if len(e.options.Commands) == 0 {
		return true
	}
	command, err := os.ReadFile(pathOf(e.proc, pid, "comm"))
	return err == nil && slices.Contains(e.options.Commands, strings.TrimSuffix(string(command), "\n"))
}

// findGo looks where a Go program has the labels of its goroutines.
func (e *examiner) findGo(pid uint32, found *bpfObserved, first bool) {
	if !e.options.has(GoLabels) {
		return
	}
	l := e.layoutOf(pid)
	if errors.Is(l.err, errUnknownRelease) && first {
		e.refuse("unknown_go_release")
	}
	if l.err != nil {
		return
	}
	bias, err := loadBias(e.proc, int(pid), l.entry)
	if err != nil {
		e.refuse("unreadable_process")
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
func (e *examiner) layoutOf(pid uint32) layout {
	file, err := os.Open(pathOf(e.proc, pid, "exe"))
	if err != nil {
		e.refuse("unreadable_process")
		return layout{err: err}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return layout{err: err}
	}
	id := identify(info)
	if known, ok := e.layout(id); ok {
		return known
	}
	var known layout
	known.goLayout, known.err = readGoLayout(file)
	if e.keep(id, known) && errors.Is(known.err, errUnknownRelease) { // said once, however often the program is started
		e.options.Warn(fmt.Sprintf("source go_labels is off for process %d, and for others of its program: %v", pid, known.err))
	}
	return known
}

func (e *examiner) layout(id fileID) (known layout, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known, ok = e.layouts[id]
	return known, ok
}

// keep remembers the layout of a file, and says whether it was not known yet.
func (e *examiner) keep(id fileID, l layout) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, known := e.layouts[id]
	if len(e.layouts) >= maxLayouts {
		clear(e.layouts)
	}
	e.layouts[id] = l
	return !known
}

// findThreadSlot looks where the threads of a process publish their contexts.
func (e *examiner) findThreadSlot(process string, mappings []mapping, found *bpfObserved) {
	if !e.options.has(OTelThread) {
		return
	}
	slot, err := findThreadSlot(process, mappings, e.files)
	if err != nil {
		if !errors.Is(err, errNoThreadContext) && !errors.Is(err, os.ErrNotExist) {
			e.refuse("unreadable_process")
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

// findService returns what a process publishes of itself; nil where that is not known.
func (e *examiner) findService(process string, mappings []mapping) *Service {
	published, err := readPublishedContext(process, mappings)
	if err != nil {
		if !errors.Is(err, errNotPublished) && !errors.Is(err, os.ErrNotExist) {
			e.refuse("unreadable_publication")
		}
		return nil
	}
	return &Service{
		Name:       published.resource["service.name"],
		InstanceID: published.resource["service.instance.id"],
		Namespace:  published.resource["service.namespace"],
	}
}
