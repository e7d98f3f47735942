// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// RunIterator runs an iterator program once over everything that it iterates, and returns when it
// has finished. The output of the program is discarded.
func RunIterator(program *ebpf.Program) error {
	return runIterator(link.IterOptions{Program: program})
}

// RunOverTasks is RunIterator for a program that may also walk through all tasks by itself.
func RunOverTasks(program *ebpf.Program) error {
	if program.Type() == ebpf.Tracing {
		return RunIterator(program)
	}
	return run(program)
}

// WalksTasks reports whether a program can walk through all tasks by itself: from Linux 6.7 on.
//
// Kernel side: bpf/lib/kernel/tasks.h.
func WalksTasks(types *btf.Spec) bool {
	var kfunc *btf.Func
	return types.TypeByName("bpf_iter_task_new", &kfunc) == nil
}

// RunOverMap is RunIterator for a program that iterates over the elements of m, or goes through them by itself.
func RunOverMap(program *ebpf.Program, m *ebpf.Map) error {
	if program.Type() == ebpf.Tracing {
		return runIterator(link.IterOptions{Program: program, Map: m})
	}
	return run(program)
}

// WalksMaps reports whether a program can go through the elements of a map by itself: from Linux 5.13 on. Some kernels
// have no iterator for these.
func WalksMaps(types *btf.Spec) bool { return HasHelper(types, "for_each_map_elem") }

func run(program *ebpf.Program) error {
	if _, err := program.Run(nil); err != nil {
		return fmt.Errorf("run %v: %w", program, err)
	}
	return nil
}

func runIterator(options link.IterOptions) error {
	iterator, err := link.AttachIter(options)
	if err != nil {
		return fmt.Errorf("attach %v: %w", options.Program, err)
	}
	return errors.Join(readThrough(iterator), iterator.Close())
}

func readThrough(iterator *link.Iter) error {
	reader, err := iterator.Open()
	if err != nil {
		return fmt.Errorf("open iterator: %w", err)
	}
	defer reader.Close()
	if _, err := io.Copy(io.Discard, reader); err != nil {
		return fmt.Errorf("run iterator: %w", err)
	}
	return nil
}
