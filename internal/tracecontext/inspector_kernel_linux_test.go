// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelProcessesAreAskedAboutWithTheirFirstMessage runs programs that read from a socket when
// they are told to.
func TestKernelProcessesAreAskedAboutWithTheirFirstMessage(t *testing.T) {
	c := NewContexts(Options{Sources: []Source{HTTP, OTelThread, GoLabels, OBI, Socket}, HeadBytes: 1024})
	kerneltest.Start(t, c)
	if len(c.notSeen) > 0 {
		t.Skip("messages are not seen on this kernel")
	}
	ours, theirs := connection(t)
	command := exec.CommandContext(t.Context(), "cat")
	command.Stdin = theirs
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	pid := uint32(command.Process.Pid)
	// Start returns shortly before the kernel's record of the process is that of the program.
	await(t, "the program to be unknown, as it has done nothing", func() bool {
		_, err := c.observed(pid)
		return errors.Is(err, ebpf.ErrKeyNotExist)
	})

	if _, err := ours.Write([]byte("message")); err != nil {
		t.Fatal(err)
	}
	await(t, "an answer about the program", func() bool {
		known, err := c.observed(pid)
		return err == nil && known.Flags&bpfObservedFlagOBSERVED_WANTED != 0
	})
	if err := errors.Join(ours.Close(), command.Wait()); err != nil {
		t.Fatal(err)
	}
	await(t, "its place to be free", func() bool {
		_, err := c.observed(pid)
		return errors.Is(err, ebpf.ErrKeyNotExist)
	})
}

// TestKernelPlacesOfTheDeadAreFreed puts a process in the table that was never asked about, such
// as a child that got its entry from its parent and has ended.
func TestKernelPlacesOfTheDeadAreFreed(t *testing.T) {
	c := NewContexts(Options{Sources: []Source{HTTP}, HeadBytes: 1024})
	kerneltest.Run(t, c) // without its inspector below
	defer c.Shutdown(t.Context())
	if err := c.inspector.Close(); err != nil {
		t.Fatal(err)
	}
	const dead, alive = 1 << 30, 1
	delete(c.inspector.known, alive)
	for _, pid := range []uint32{dead, alive} {
		if err := c.object.Maps[bpfMapObserved].Put(pid, bpfObserved{StartNs: 1}); err != nil {
			t.Fatal(err)
		}
	}
	c.inspector.sweep()
	if known, err := c.observed(dead); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("the dead process has its place: %+v, %v", known, err)
	}
	if _, err := c.observed(alive); err != nil {
		t.Errorf("the process that lives has lost its place: %v", err)
	}
}

func (c *Contexts) observed(pid uint32) (known bpfObserved, err error) {
	err = c.object.Maps[bpfMapObserved].Lookup(pid, &known)
	return known, err
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// connection returns both ends of a connection, the second in a form that a child can inherit.
func connection(t *testing.T) (ours net.Conn, theirs *os.File) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if ours, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if theirs, err = accepted.(*net.TCPConn).File(); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}
