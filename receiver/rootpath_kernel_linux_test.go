// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelRootPathNeedsNoProc has only the host's cgroups below root_path, because errors ask for no
// other mount, and a Go program that publishes its span with labels.
func TestKernelRootPathNeedsNoProc(t *testing.T) {
	kerneltest.Require(t)
	config := fewCalls()
	config.RootPath = mountOnlyCgroups(t)
	config.Traffic.Enabled, config.Drops.Enabled, config.Calls.Enabled = false, false, false // accepts look for contexts, too
	signals := allSignals(t, config)
	startAll(t, signals)
	defer shutDownAll(t, signals)
	contexts := signals[0].(*signalReceiver).shared.contexts
	if !contexts.BindsLate() {
		return // this kernel has no hooks for messages
	}

	program := exec.Command(os.Args[0], "-test.run=^TestLabelledMessages$")
	program.Env = append(os.Environ(), labelledEnv+"=1")
	kerneltest.StartProgram(t, program)
	for deadline := time.Now().Add(kerneltest.Patience); ; time.Sleep(10 * time.Millisecond) {
		counts, err := contexts.Counts()
		if err != nil {
			t.Fatal(err)
		}
		if counts.Found["go_labels"] > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no context of source go_labels was found: %+v", counts)
		}
	}
}

// mountOnlyCgroups returns a directory below which the host's cgroups are mounted, and
// nothing else.
func mountOnlyCgroups(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	at := filepath.Join(root, "sys/fs/cgroup")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", at, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return root
}

const labelledEnv = "NETTAP_TEST_LABELLED_MESSAGES"

// TestLabelledMessages is not a test, but the program, which sends messages to itself until its input ends.
func TestLabelledMessages(t *testing.T) {
	if os.Getenv(labelledEnv) == "" {
		t.Skip("it is run by TestKernelRootPathNeedsNoProc")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		client.Close()
	}()
	labels := pprof.Labels("trace_id", "0af7651916cd43dd8448eb211c80319c", "span_id", "b7ad6b7169203331")
	pprof.Do(t.Context(), labels, func(context.Context) {
		for buffer := []byte("message"); ; time.Sleep(time.Millisecond) {
			if _, err := client.Write(buffer); err != nil {
				return
			}
			if _, err := server.Read(buffer); err != nil {
				return
			}
		}
	})
}
