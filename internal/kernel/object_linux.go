// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
	"github.com/seed-7756021b/nettap/internal/kernel/rewrite"
	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
)

// runSection is the section of programs that user space runs.
const runSection = "raw_tp/run"

// Object is what was loaded from one object file: its maps, the iterators and other programs that
// user space runs, and the programs of a list of hooks. Until [Object.Enable] the latter only
// record that they run: program NAME sets the variable fired_NAME while the variable enabled is
// false.
//
// Kernel side: bpf/lib/program/selftest.h.
type Object struct {
	*ebpf.Collection
	mu       sync.Mutex // guards the hooks, which several instruments may read
	hooks    []Hook
	sections map[string]string // of the programs
	slots    map[string]Slot
	open     Closers

	untraceable map[string]bool // functions that no program can be attached to
}

// Load loads the programs that the hooks need from spec. Maps in shared replace those of the same
// names. An error tells what the kernel or this process lacks.
func Load(spec *ebpf.CollectionSpec, hooks []Hook, shared map[string]*ebpf.Map) (*Object, error) {
	o := &Object{hooks: slices.Clone(hooks), sections: map[string]string{}, untraceable: map[string]bool{}}
	used := map[string]bool{}
	for _, hook := range hooks {
		for _, name := range hook.Programs {
			used[name] = true
		}
	}
	for name, program := range spec.Programs {
		if !used[name] && !isRunByUs(program.SectionName) {
			delete(spec.Programs, name)
			continue
		}
		o.sections[name] = program.SectionName
	}
	cache := typeCache()
	types, err := cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the types of the kernel: %w", err)
	}
	if err := relocate(spec, cache); err != nil {
		return nil, err
	}
	for _, hook := range hooks {
		if hook.copies() {
			copyPrograms(spec, hook)
		} else if len(hook.Functions) > 0 {
			fitPrograms(spec, hook)
		}
	}
	if !HasHelper(types, "task_storage_get") {
		rewrite.WithoutTaskStorage(spec)
	}
	Preallocate(types, preallocated(types, spec)...)
	takeFlags(spec, shared)
	copies := takeCopies(spec, hooks)
	o.Collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared, Cache: cache})
	if err != nil {
		return nil, Explain(err, spec)
	}
	o.open = append(o.open, CloseFunc(o.Collection.Close))
	if err := o.loadCopies(spec, copies, cache); err != nil {
		maps.Copy(spec.Programs, copies)
		return nil, errors.Join(Explain(err, spec), o.Close())
	}
	o.note()
	return o, nil
}

// isRunByUs reports whether the programs of a section are run by user space.
func isRunByUs(section string) bool {
	return section == runSection || strings.HasPrefix(section, "iter/")
}

// Hooks returns the hooks, except those that may be attached later. After [Object.SelfTest] they
// have the current state: a hook that could not be made to fire is proven as soon as it has fired.
func (o *Object) Hooks() []Hook {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.proveLate()
	return slices.DeleteFunc(slices.Clone(o.hooks), func(h Hook) bool { return h.Later })
}

// Attach attaches all programs in the order of their hooks, and those of cgroups to the root of
// the host whose / is at rootPath. The links belong to the process, so that a killed collector
// leaves nothing attached. After an error the caller closes the links.
func (o *Object) Attach(rootPath string) error {
	for _, hook := range o.hooks {
		if hook.Later {
			continue
		}
		if err := o.attachHook(hook, rootPath); err != nil {
			return err
		}
	}
	o.noteUntraceable()
	return nil
}

// Follow lets programs of this object run right after those of another object at the same place. slots has, by the section of
// a program, where the other one looks for it. Such a program is put there when it would be attached, unless the slot is taken.
func (o *Object) Follow(slots map[string]Slot) { o.slots = slots }

// Slot is where a program looks for another one, to which it jumps when it is done.
type Slot struct {
	Map   *ebpf.Map // an array of programs
	Index uint32

	// Lead, unless it is nil, decides when the program would be put there. It may attach it instead, because it is to be the
	// one that others are reached from, and returns what closes that; or else nil. By disable the program does nothing any
	// more but to jump.
	Lead func(attach func() (io.Closer, error), disable func() error) (io.Closer, error)
}

// IsFree reports whether no program is in the slot.
func (s Slot) IsFree() bool {
	var id uint32
	return errors.Is(s.Map.Lookup(s.Index, &id), ebpf.ErrKeyNotExist)
}

// Start attaches all programs, as [Object.Attach] does, and checks that each runs, as
// [Object.SelfTest] does. After an error the caller closes the object.
func (o *Object) Start(ctx context.Context, rootPath string) error {
	if err := o.Attach(rootPath); err != nil {
		return err
	}
	return o.SelfTest(ctx)
}

// AttachLater attaches the hooks of a job that are not attached yet.
func (o *Object) AttachLater(job string) error {
	for i := range o.hooks {
		if hook := &o.hooks[i]; hook.Later && hook.Job == job {
			if err := o.attachHook(*hook, ""); err != nil {
				return err
			}
			hook.Later = false
		}
	}
	return nil
}

func (o *Object) attachHook(hook Hook, rootPath string) error {
	for _, name := range hook.Programs {
		if err := o.attach(hook, name, rootPath); err != nil {
			return fmt.Errorf("attach %s to %s: %w", name, o.sections[name], err)
		}
	}
	return nil
}

func (o *Object) attach(hook Hook, name, rootPath string) error {
	if len(hook.Functions) > 0 {
		return o.attachFunctions(hook, name)
	}
	attach := func() (io.Closer, error) { return o.link(name, rootPath) }
	slot, ok := o.slots[o.sections[name]]
	if ok && slot.Lead != nil {
		leading, err := slot.Lead(attach, o.disable)
		if err != nil {
			return err
		}
		if leading != nil {
			o.open = append(o.open, leading)
			return nil
		}
	}
	if ok && slot.IsFree() {
		return o.putInto(slot, name)
	}
	attached, err := attach()
	if err != nil {
		return err
	}
	o.open = append(o.open, attached)
	return nil
}

// link attaches a program to its section.
func (o *Object) link(name, rootPath string) (attached io.Closer, err error) {
	kind, target, err := kindOf(o.sections[name])
	if err != nil {
		return nil, err
	}
	if kind.inCgroup() {
		attached, err = kind.linkCgroup(rootPath, o.Programs[name])
	} else {
		attached, err = kind.link(target, o.Programs[name])
	}
	if err != nil {
		return nil, errors.Join(err, host.RequireHeld(kind.needs...))
	}
	return attached, nil
}

func (o *Object) putInto(slot Slot, name string) error {
	if err := slot.Map.Put(slot.Index, o.Programs[name]); err != nil {
		return fmt.Errorf("put the program into a slot: %w", err)
	}
	o.open = append(o.open, CloseFunc(func() {
		_ = slot.Map.Delete(slot.Index) // a slot that is closed already is empty
	}))
	return nil
}

// SelfTest makes each hook fire. It returns an error matching [ErrUnsupported] that names the
// programs which are attached but did not run. A hook that cannot be made to fire here remains
// unproven.
func (o *Object) SelfTest(ctx context.Context) error {
	for pause := time.Millisecond; ; pause *= 2 {
		silent, err := o.silent()
		if err != nil || len(silent) == 0 {
			return err
		}
		if pause > o.patience(silent) {
			return o.accuse(silent)
		}
		if !o.cause(silent) {
			return nil
		}
		select { // a program that ran in a softirq of another process may not be visible at once
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// These are the longest pauses of SelfTest; each pause is twice as long as the previous one.
const (
	patience = time.Second

	// The kernel says that a thread is freed when a grace period of RCU is over. On a machine whose processors are
	// all busy, several of them took longer than two seconds.
	patienceWithRCU = 8 * time.Second
)

// patience returns how long the longest pause is until the silent hooks are accused.
func (o *Object) patience(silent map[int][]string) time.Duration {
	for i := range silent {
		if o.hooks[i].Cause == selftest.Thread {
			return patienceWithRCU
		}
	}
	return patience
}

// The values of the variable enabled.
//
// Kernel side: enum enabled in bpf/lib/program/selftest.h.
const (
	disabled        = uint8(0)
	enabled         = uint8(1)
	enabledUnproven = uint8(2)
)

// Enable lets the programs count and report.
func (o *Object) Enable() error {
	how := enabled
	if o.isUnproven() {
		how = enabledUnproven
	}
	if err := o.Variables["enabled"].Set(how); err != nil {
		return fmt.Errorf("enable the programs: %w", err)
	}
	return nil
}

// disable lets the programs do nothing any more.
func (o *Object) disable() error {
	variable := o.Variables["enabled"]
	if variable == nil {
		return nil
	}
	return variable.Set(disabled)
}

func (o *Object) isUnproven() bool {
	return slices.ContainsFunc(o.hooks, func(h Hook) bool { return h.Unproven != "" })
}

// proveLate records which of the unproven hooks have fired by now. When all have, the programs
// need not record it any more.
func (o *Object) proveLate() {
	if !o.isUnproven() {
		return
	}
	silent, err := o.silent()
	if err != nil {
		return // the object is closed
	}
	for i := range o.hooks {
		if len(silent[i]) == 0 {
			o.hooks[i].Unproven = ""
		}
	}
	var how uint8
	if err := o.Variables["enabled"].Get(&how); err == nil && how == enabledUnproven && !o.isUnproven() {
		_ = o.Variables["enabled"].Set(enabled) // after an error they record it once more
	}
}

// Close detaches the programs and frees them. It may be called more than once.
func (o *Object) Close() error { return o.open.Close() }

// MissedRuns is the function [MissedRuns] for all programs.
func (o *Object) MissedRuns() (uint64, error) {
	return MissedRuns(slices.Collect(maps.Values(o.Programs))...)
}

// silent returns the programs that have not run, by the index of their hook.
func (o *Object) silent() (map[int][]string, error) {
	silent := map[int][]string{}
	for i, hook := range o.hooks {
		if hook.Later {
			continue
		}
		for _, name := range hook.Programs {
			var fired bool
			if err := o.Variables["fired_"+name].Get(&fired); err != nil {
				return nil, fmt.Errorf("see whether %s runs: %w", name, err)
			}
			if !fired {
				silent[i] = append(silent[i], name)
			}
		}
	}
	return silent, nil
}

// cause makes each event happen once that makes hooks fire, and records which of them it could
// not. hope tells whether any event happened, or may happen another time.
func (o *Object) cause(silent map[int][]string) (hope bool) {
	done := map[selftest.Cause]error{}
	for i := range silent {
		hook := &o.hooks[i]
		err, known := done[hook.Cause]
		if !known {
			err = hook.Cause.Happen()
			done[hook.Cause] = err
		}
		hook.Unproven = ""
		if err != nil {
			hook.Unproven = err.Error()
		}
		hook.Awaited = isLeftToOthers(err)
		hope = hope || !hook.Awaited
	}
	return hope
}

// isLeftToOthers reports whether the error of a cause means that nettap does not or must not cause the event, as
// cgroups are not made by a service that systemd protects from that.
func isLeftToOthers(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, selftest.ErrNotCaused)
}

// accuse returns an error about the programs that should have run and did not.
func (o *Object) accuse(silent map[int][]string) error {
	var errs error
	for _, i := range slices.Sorted(maps.Keys(silent)) {
		if hook := o.hooks[i]; hook.Unproven == "" {
			errs = errors.Join(errs, fmt.Errorf("%s is attached to %s and does not run, though %s: %w",
				strings.Join(silent[i], ", "), hook.Name, hook.Cause, ErrUnsupported))
		}
	}
	return errs
}
