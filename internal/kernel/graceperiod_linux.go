// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// GracePeriod waits for an RCU grace period of the kernel: until each CPU has left whatever it was
// doing, such as running a BPF program or handling a received packet.
//
// No system call offers only this. But replacing a map inside another map does it: the call
// returns only when no program can use the old map any more.
//
// Source: maybe_wait_bpf_programs in kernel/bpf/syscall.c, since 4.19.
type GracePeriod struct{ outer, inner *ebpf.Map }

// NewGracePeriod returns a GracePeriod, which must be closed.
func NewGracePeriod() (*GracePeriod, error) {
	form := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	inner, err := ebpf.NewMap(form)
	if err != nil {
		return nil, fmt.Errorf("make a map to wait with: %w", err)
	}
	outer, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "grace_period", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: form,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a map of maps to wait with: %w", err), inner.Close())
	}
	return &GracePeriod{outer: outer, inner: inner}, nil
}

// Wait returns when a grace period has passed, usually after a few milliseconds.
func (g *GracePeriod) Wait() error {
	if err := g.outer.Put(uint32(0), g.inner); err != nil {
		return fmt.Errorf("wait for what each CPU is in the middle of: %w", err)
	}
	return nil
}

// Close frees the maps.
func (g *GracePeriod) Close() error { return errors.Join(g.outer.Close(), g.inner.Close()) }
