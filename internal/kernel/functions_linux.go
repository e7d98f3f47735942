// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
	"github.com/seed-7756021b/nettap/internal/kernel/rewrite"
)

// mark is what a program learns about the function that it runs for: in the low word its index in the lists of the object's
// hooks, with a bit that the programs keep beside it, and in the high word its traits: how its result shows a failure, its
// tag, whether its result is a number, and whether that has 32 bits.
//
// Kernel side: struct mark in bpf/calls.bpf.c.
func (f Function) mark(index int) uint64 {
	traits := uint64(f.Result) | uint64(f.Tag)<<2
	if f.returnsNumber() {
		traits |= 1 << 6
	}
	if f.Result == ResultInt {
		traits |= 1 << 7
	}
	return uint64(index) | 1<<16 | traits<<32
}

// returnsNumber reports whether the function's result is one that the verifier takes for a number.
func (f Function) returnsNumber() bool { return f.Result == ResultInt || f.Result == ResultLong }

// copies says whether the hook's programs are copied for each of its functions.
func (h Hook) copies() bool {
	kind, _, err := kindOf(h.Name)
	return err == nil && len(h.Functions) > 0 && (kind.program == ebpf.Tracing && !kind.many || h.Copies)
}

// copyPrograms replaces each program of the hook by a copy for each function.
func copyPrograms(spec *ebpf.CollectionSpec, hook Hook) {
	for _, name := range hook.Programs {
		for i, f := range hook.Functions {
			spec.Programs[copyName(name, i)] = rewrite.ForFunction(spec.Programs[name], f.Name, f.mark(hook.First+i), f.Arguments, !f.returnsNumber())
		}
		delete(spec.Programs, name)
	}
}

// takeCopies takes the copies of the hooks' programs out of spec.
func takeCopies(spec *ebpf.CollectionSpec, hooks []Hook) map[string]*ebpf.ProgramSpec {
	copies := map[string]*ebpf.ProgramSpec{}
	for _, hook := range hooks {
		for _, program := range hook.Programs {
			for i := range hook.Functions {
				name := copyName(program, i)
				if spec.Programs[name] != nil {
					copies[name] = spec.Programs[name]
					delete(spec.Programs, name)
				}
			}
		}
	}
	return copies
}

// loaders is how many programs are loaded at the same time at most, so that a start does not take a large machine's processors.
const loaders = 8

// loadCopies loads programs that have the maps of spec, which are loaded, on several processors at once: there are hundreds, and
// the kernel verifies each in the thread that loads it.
func (o *Object) loadCopies(spec *ebpf.CollectionSpec, copies map[string]*ebpf.ProgramSpec, types *btf.Cache) error {
	names := make(chan string, len(copies))
	for name := range copies {
		names <- name
	}
	close(names)
	var loading sync.WaitGroup
	errs := make([]error, min(runtime.GOMAXPROCS(0), loaders))
	for i := range errs {
		loading.Go(func() {
			for name := range names {
				if errs[i] = o.loadCopy(spec, name, copies[name], types); errs[i] != nil {
					return
				}
			}
		})
	}
	loading.Wait()
	return errors.Join(errs...)
}

func (o *Object) loadCopy(spec *ebpf.CollectionSpec, name string, program *ebpf.ProgramSpec, types *btf.Cache) error {
	one := &ebpf.CollectionSpec{
		Maps: map[string]*ebpf.MapSpec{}, Programs: map[string]*ebpf.ProgramSpec{name: program}, Types: spec.Types, ByteOrder: spec.ByteOrder,
	}
	loaded := map[string]*ebpf.Map{}
	for i := range program.Instructions {
		ins := &program.Instructions[i]
		if used := ins.Reference(); ins.IsLoadFromMap() && used != "" {
			one.Maps[used], loaded[used] = spec.Maps[used], o.Maps[used]
		}
	}
	collection, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: loaded, Cache: types})
	if err != nil {
		return err
	}
	defer collection.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.Programs[name] = collection.DetachProgram(name)
	return nil
}

// fitPrograms changes the hook's programs so that they can be attached to many functions.
func fitPrograms(spec *ebpf.CollectionSpec, hook Hook) {
	kind, _, err := kindOf(hook.Name)
	if err != nil {
		return
	}
	for _, name := range hook.Programs {
		program := spec.Programs[name]
		program.AttachType = kind.attach
		if kind.program == ebpf.Tracing {
			program.AttachTo = "" // the link has the target
		}
	}
}

func copyName(program string, index int) string { return fmt.Sprintf("%s.%d", program, index) }

// attachFunctions attaches a program to all functions of its hook. Those that cannot be traced are
// added to o.untraceable.
func (o *Object) attachFunctions(hook Hook, name string) error {
	kind, _, err := kindOf(hook.Name)
	if err != nil {
		return err
	}
	var indexes []int
	for i, f := range hook.Functions {
		if !o.untraceable[f.Name] {
			indexes = append(indexes, i)
		}
	}
	links, err := o.linkFunctions(hook, kind, name, indexes)
	o.open = append(o.open, links)
	if len(*links) == 0 {
		return errors.Join(err, host.RequireHeld(kind.needs...))
	}
	return nil
}

// linkFunctions returns the links of a program to those functions of a hook that accept it, and
// the last error of the others.
func (o *Object) linkFunctions(hook Hook, kind kind, name string, indexes []int) (*parallel, error) {
	links := new(parallel)
	if kind.many {
		err := o.linkMany(links, hook, kind, o.Programs[name], indexes)
		return links, err
	}
	var last error
	for _, i := range indexes {
		program, mark := o.Programs[name], hook.Functions[i].mark(hook.First+i)
		if hook.copies() {
			program, mark = o.Programs[copyName(name, i)], 0
		}
		attached, err := kind.linkFunction(program, hook.Functions[i], mark)
		if err != nil {
			o.untraceable[hook.Functions[i].Name] = true
			last = err
			continue
		}
		*links = append(*links, attached)
	}
	return links, last
}

// linkMany attaches a program to many functions by one link. The link fails if one of them cannot
// be traced; each half then gets a link of its own.
func (o *Object) linkMany(links *parallel, hook Hook, kind kind, program *ebpf.Program, indexes []int) error {
	var functions []Function
	var marks []uint64
	for _, i := range indexes {
		functions = append(functions, hook.Functions[i])
		marks = append(marks, hook.Functions[i].mark(hook.First+i))
	}
	attached, err := kind.linkAll(program, functions, marks)
	if err == nil {
		*links = append(*links, attached)
		return nil
	}
	if len(indexes) <= 1 {
		for _, f := range functions {
			o.untraceable[f.Name] = true
		}
		return err
	}
	half := len(indexes) / 2
	first := o.linkMany(links, hook, kind, program, indexes[:half])
	if len(*links) == 0 && o.allUntraceable(functions[:half]) && half >= giveUp {
		return first // the cause is not a single function
	}
	return errors.Join(first, o.linkMany(links, hook, kind, program, indexes[half:]))
}

// giveUp is after how many refused functions in a row the others are not tried any more.
const giveUp = 8

func (o *Object) allUntraceable(functions []Function) bool {
	for _, f := range functions {
		if !o.untraceable[f.Name] {
			return false
		}
	}
	return true
}

// linkFunction attaches a program to one function. A copy already contains its mark.
func (k kind) linkFunction(program *ebpf.Program, f Function, mark uint64) (io.Closer, error) {
	switch {
	case k.program == ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: program})
	case k.exit:
		return link.Kretprobe(f.Name, program, &link.KprobeOptions{Cookie: mark})
	default:
		return link.Kprobe(f.Name, program, &link.KprobeOptions{Cookie: mark})
	}
}

// linkAll attaches a program to all of the functions, or to none.
func (k kind) linkAll(program *ebpf.Program, functions []Function, marks []uint64) (io.Closer, error) {
	if k.program == ebpf.Tracing {
		return linkTracingMulti(program, k.attach, functions, marks)
	}
	options := link.KprobeMultiOptions{Cookies: marks, Session: k.attach == ebpf.AttachTraceKprobeSession}
	for _, f := range functions {
		options.Symbols = append(options.Symbols, f.Name)
	}
	if k.exit {
		return link.KretprobeMulti(program, options)
	}
	return link.KprobeMulti(program, options)
}

// fileDescriptor is a link of a kind that cilium/ebpf does not know.
type fileDescriptor int

// Close implements [io.Closer].
func (fd fileDescriptor) Close() error { return unix.Close(int(fd)) }

// linkTracingMulti attaches a fentry.multi or fexit.multi program.
//
// Source: struct tracing_multi of union bpf_attr in include/uapi/linux/bpf.h.
func linkTracingMulti(program *ebpf.Program, attach ebpf.AttachType, functions []Function, marks []uint64) (io.Closer, error) {
	types := make([]uint32, len(functions))
	for i, f := range functions {
		types[i] = uint32(cmp.Or(f.Type, f.Twin))
	}
	attributes := struct {
		program, target, attach, flags uint32
		types, marks                   unsafe.Pointer
		count, pad                     uint32
		_                              [24]byte
	}{
		program: uint32(program.FD()), attach: uint32(attach),
		types: unsafe.Pointer(unsafe.SliceData(types)), marks: unsafe.Pointer(unsafe.SliceData(marks)),
		count: uint32(len(functions)),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_LINK_CREATE, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	if errno != 0 {
		return nil, fmt.Errorf("create link of %d functions: %w", len(functions), errno)
	}
	return fileDescriptor(fd), nil
}

// parallel closes many things at the same time, since the kernel takes a while for each link of a
// function.
type parallel []io.Closer

// Close implements [io.Closer].
func (p *parallel) Close() error {
	var closing sync.WaitGroup
	errs := make([]error, len(*p))
	limit := make(chan struct{}, 64)
	for i, closer := range *p {
		limit <- struct{}{}
		closing.Go(func() {
			errs[i] = closer.Close()
			<-limit
		})
	}
	closing.Wait()
	*p = nil
	return errors.Join(errs...)
}

// noteUntraceable adds the functions that cannot be traced to what the hooks do not see.
func (o *Object) noteUntraceable() {
	for i := range o.hooks {
		hook := &o.hooks[i]
		var names []string
		for _, f := range hook.Functions {
			if o.untraceable[f.Name] {
				names = append(names, f.Name)
			}
		}
		if len(names) == 0 {
			continue
		}
		hook.DoesNotSee("functions that cannot be traced: " + strings.Join(names, ", "))
	}
}
