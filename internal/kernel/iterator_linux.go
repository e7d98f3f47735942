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
	if _, err := program.Run(nil); err != nil {
		return fmt.Errorf("run %v: %w", program, err)
	}
	return nil
}

// WalksTasks reports whether a program can walk through all tasks by itself: from Linux 6.7 on.
//
// Kernel side: bpf/lib/kernel/tasks.h.
func WalksTasks(types *btf.Spec) bool {
	var kfunc *btf.Func
	return types.TypeByName("bpf_iter_task_new", &kfunc) == nil
}

// RunMapIterator is RunIterator for a program that iterates over the elements of m.
func RunMapIterator(program *ebpf.Program, m *ebpf.Map) error {
	return runIterator(link.IterOptions{Program: program, Map: m})
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
