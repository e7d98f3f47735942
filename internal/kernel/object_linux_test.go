// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
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
