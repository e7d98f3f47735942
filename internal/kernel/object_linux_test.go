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
