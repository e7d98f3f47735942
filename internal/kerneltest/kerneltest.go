// SPDX-License-Identifier: Apache-2.0

// Package kerneltest helps tests that need a running kernel.
package kerneltest

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// Patience is how long a test waits for what must come. It is long because emulated and busy machines
// are slow, and it ends, so that the test says what has not come.
const Patience = time.Minute

// Instrument has the methods of an instrument that tests need.
type Instrument interface {
	Start(ctx context.Context) error
	Enable() error
	Shutdown(ctx context.Context) error
}

// Start starts an instrument, enables it, and shuts it down at the end of the test. If BPF cannot
// run or the kernel lacks a hook, the test is skipped, or fails if NETTAP_KERNEL_TESTS=require. If
// the kernel refuses a program but accepts an empty one in its place the test fails.
func Start(t *testing.T, instrument Instrument) {
	t.Helper()
	Run(t, instrument)
	t.Cleanup(func() {
		if err := instrument.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// Run is [Start] for an instrument that other tests use too: it ends with the process.
func Run(t *testing.T, instrument Instrument) {
	t.Helper()
	Require(t)
	err := instrument.Start(t.Context())
	if errors.Is(err, kernel.ErrUnsupported) {
		Lack(t, err)
	}
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		t.Log(strings.Join(verifier.Log[max(0, len(verifier.Log)-lastLines):], "\n"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := instrument.Enable(); err != nil {
		t.Fatal(errors.Join(err, instrument.Shutdown(context.Background())))
	}
}

// keep keeps the kernel's types and symbols, so that not every test has to parse them.
var keep = sync.OnceFunc(func() { kernel.Keep() })

// lastLines is how many lines at the end of a verifier's log are shown, which tell the reason.
const lastLines = 30

// Require skips the test if nettap cannot observe the machine, or fails it if
// NETTAP_KERNEL_TESTS=require.
func Require(t *testing.T) {
	t.Helper()
	keep()
	if err := errors.Join(kernel.RequireHost(""), kernel.Probe("cgroup_skb/ingress")); err != nil {
		Lack(t, err)
	}
}

// NeedDroppers skips the test if the kernel does not tell which function drops a packet.
func NeedDroppers(t *testing.T) {
	t.Helper()
	Require(t)
	table, err := kernel.RunningSymbols()
	if err != nil {
		t.Fatal(err)
	}
	if !table.TellsDroppers() {
		t.Skip("this kernel tells of drops in a part of kfree_skb, whose caller is kfree_skb")
	}
}

// NeedOwnMachine skips the test on a machine that others use, as it would change what they rely
// on.
func NeedOwnMachine(t *testing.T) {
	t.Helper()
	if os.Getenv("NETTAP_OWN_MACHINE") == "" {
		t.Skip("this changes limits of the whole machine, which a guest of the matrix has for itself (NETTAP_OWN_MACHINE)")
	}
}

// Lack skips a test since this machine lacks something, or fails it if NETTAP_KERNEL_TESTS=require.
func Lack(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("NETTAP_KERNEL_TESTS") == "require" {
		t.Fatal(err)
	}
	t.Skip(err)
}
