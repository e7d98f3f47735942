// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
)

func TestAccuse(t *testing.T) {
	o := &Object{hooks: []Hook{
		{Name: "tp_btf/net_dev_xmit", Programs: []string{"undo"}, Cause: selftest.Packets},
		{Name: "tp_btf/io_uring_complete", Programs: []string{"submit", "complete"}, Cause: selftest.Uring},
		{Name: "tp_btf/kfree_skb", Programs: []string{"drop"}, Unproven: "lo is down"},
	}}
	if err := o.accuse(map[int][]string{2: {"drop"}}); err != nil {
		t.Errorf("a hook that cannot be proved is accused: %v", err)
	}
	err := o.accuse(map[int][]string{0: {"undo"}, 1: {"complete"}, 2: {"drop"}})
	const want = "undo is attached to tp_btf/net_dev_xmit and does not run, though sockets on lo were used: not supported by this kernel\n" +
		"complete is attached to tp_btf/io_uring_complete and does not run, though a request of an io_uring completed: not supported by this kernel"
	if err == nil || err.Error() != want || !errors.Is(err, ErrUnsupported) {
		t.Errorf("accuse() = %v, want %s", err, want)
	}
}

// TestWhatMustNotBeCausedIsAwaited requires that a hook is awaited, and not tried again, if nettap must not make it
// fire: cgroups are read-only for a service that systemd protects from making them.
func TestWhatMustNotBeCausedIsAwaited(t *testing.T) {
	for _, err := range []error{syscall.EROFS, syscall.EACCES, syscall.EPERM, selftest.Exec.Happen()} {
		if !isLeftToOthers(fmt.Errorf("make a cgroup: %w", err)) {
			t.Errorf("after %v the hook is not left to other processes", err)
		}
	}
	for _, err := range []error{nil, syscall.ENETUNREACH} {
		if isLeftToOthers(err) {
			t.Errorf("after %v the hook is left to other processes", err)
		}
	}
	o := &Object{hooks: []Hook{{Name: "tp_btf/sched_process_exec", Cause: selftest.Exec}}}
	if o.cause(map[int][]string{0: {"count"}}) || !o.hooks[0].Awaited {
		t.Errorf("a hook that nettap never makes fire is not awaited: %+v", o.hooks[0])
	}
}

// TestPatience requires that the end of a thread is awaited for longer, since the kernel frees it later.
func TestPatience(t *testing.T) {
	o := &Object{hooks: []Hook{{Cause: selftest.Packets}, {Cause: selftest.Thread}}}
	if got := o.patience(map[int][]string{0: {"count"}}); got != patience {
		t.Errorf("sockets are awaited for %v, want %v", got, patience)
	}
	if got := o.patience(map[int][]string{0: {"count"}, 1: {"forget"}}); got != patienceWithRCU {
		t.Errorf("the end of a thread is awaited for %v, want %v", got, patienceWithRCU)
	}
}

// TestMark requires what the programs of calls expect: struct mark in bpf/calls.bpf.c.
func TestMark(t *testing.T) {
	for name, test := range map[string]struct {
		function Function
		want     uint64
	}{
		"a pointer is no number":     {Function{Result: ResultPointer}, 0x3_00010007},
		"32 bits are a number":       {Function{Result: ResultInt}, 0xc1_00010007},
		"64 bits are one, too":       {Function{Result: ResultLong, Tag: 0xf}, 0x7e_00010007},
		"a function with no failure": {Function{Tag: 4}, 0x10_00010007},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.function.mark(7); got != test.want {
				t.Errorf("mark() = %#x, want %#x", got, test.want)
			}
		})
	}
}
