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

// procDirectory is that of the whole machine in a container too, which sees all processes there:
// see package process.
const procDirectory = "/proc"

// examiner reads the files and the memory of processes. If a process serves these itself, reading
// takes as long as it wishes, so several examinations may run at the same time.
type examiner struct {
	options Options
	proc    string
	refuse  func(cause string) // counts what could not be found out, by cause
	files   *elfCache

	mu       sync.Mutex
	layouts  map[fileID]layout
	releases map[string]bool // those unknown ones of Go that were reported
}

// layout is the result of examining an executable.
type layout struct {
	goLayout
	err error
}

// maxLayouts bounds how many executables are remembered.
const maxLayouts = 1024

// maxReleases bounds how many unknown releases of Go are reported: anyone can invent them.
const maxReleases = 16

func newExaminer(options Options, refuse func(cause string)) *examiner {
	return &examiner{options: options, proc: procDirectory, refuse: refuse, files: new(elfCache), layouts: map[fileID]layout{}, releases: map[string]bool{}}
}

// question is a process that is to be examined, as the kernel side knows it.
type question struct {
	pid   uint32
	entry bpfObserved
	first bool // it was not known before
}

// findings is the result of examining a process.
type findings struct {
	pid uint32
	bpfObserved
	service *Service // nil if it is not known
}

// examine finds out where a process keeps its contexts, and what it publishes about itself.
func (e *examiner) examine(q question) findings {
	found := findings{pid: q.pid, bpfObserved: bpfObserved{StartNs: q.entry.StartNs, ExecId: q.entry.ExecId, Publishes: q.entry.Publishes}}
	if q.first {
		found.Ask = 1 // it may have begun just now, and not have set up everything
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

// wants reports whether the configuration allows reading the memory of a process. The Collector
// itself is excluded, since its program is among the largest.
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

// findGo finds where a Go program keeps the labels of its goroutines.
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

// layoutOf returns the layout of an executable, which it reads once.
func (e *examiner) layoutOf(pid uint32) layout {
	path := pathOf(e.proc, pid, "exe")
	if info, err := os.Stat(path); err == nil {
		if known, ok := e.layout(identify(info)); ok {
			return known
		}
	}
	file, err := os.Open(path)
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
	var known layout
	known.goLayout, known.err = readGoLayout(file)
	e.keep(id, known)
	if errors.Is(known.err, errUnknownRelease) && e.isNews(known.err.Error()) {
		e.options.Warn(fmt.Sprintf("source go_labels is off for process %d, and for all programs that this release has built: %v", pid, known.err))
	}
	return known
}

func (e *examiner) layout(id fileID) (known layout, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known, ok = e.layouts[id]
	return known, ok
}

// keep remembers the layout of a file.
func (e *examiner) keep(id fileID, l layout) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.layouts) >= maxLayouts {
		clear(e.layouts)
	}
	e.layouts[id] = l
}

// isNews reports whether an unknown release of Go is to be reported: once, however many programs
// it has built.
func (e *examiner) isNews(release string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.releases[release] || len(e.releases) >= maxReleases {
		return false
	}
	e.releases[release] = true
	return true
}

// findThreadSlot finds where the threads of a process publish their contexts.
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

// findService returns what a process publishes about itself, or nil if that is not known.
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
