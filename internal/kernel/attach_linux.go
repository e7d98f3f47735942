package kernel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
)

// Attach attaches tracing programs (tp_btf, fentry, fexit) where their section
// names say, all or none.
func Attach(programs ...*ebpf.Program) (Closers, error) {
	var links Closers
	for _, program := range programs {
		l, err := link.AttachTracing(link.TracingOptions{Program: program})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach %v: %w", program, err), links.Close())
		}
		links = append(links, l)
	}
	return links, nil
}

// AttachCgroup attaches a program to the cgroup at path and all below it. The
// link goes with the process, so a killed collector leaves nothing attached. An
// error names the capability, if it is one that is missing.
func AttachCgroup(path string, program *ebpf.Program, attach ebpf.AttachType) (io.Closer, error) {
	l, err := link.AttachCgroup(link.CgroupOptions{Path: path, Program: program, Attach: attach})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach %v to cgroup %s: %w", program, path, err), requireHeld(network...))
	}
	return l, nil
}

// Drain calls visit with each record now in the ring, oldest first, and returns
// when the ring is empty. The record is only valid until visit returns.
func Drain(ring *ringbuf.Reader, visit func(record []byte) error) error {
	ring.SetDeadline(time.Now())
	var record ringbuf.Record
	for {
		err := ring.ReadInto(&record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read ring: %w", err)
		}
		if err := visit(record.RawSample); err != nil {
			return err
		}
	}
}
