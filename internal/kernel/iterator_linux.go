package kernel

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// RunIterator runs an iterator program once over everything it iterates, and
// returns when it is through. What the program prints is thrown away.
func RunIterator(program *ebpf.Program) error {
	return runIterator(link.IterOptions{Program: program})
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
