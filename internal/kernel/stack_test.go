// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStack(t *testing.T) {
	locate := func(address uint64) Location {
		return map[uint64]Location{
			10: {"sk_wait_data", 100}, 20: {"__sys_recvfrom", 200}, 30: {"last_of_a_module", 5000}, 40: {"__sys_recvfrom", 5},
			50: {"__sys_recvfrom", 17}, 60: {"do_syscall_64", 90},
		}[address]
	}
	for name, test := range map[string]struct {
		addresses []uint64
		want      []string
	}{
		"no stack":                       {},
		"functions":                      {[]uint64{10, 20, 60}, []string{"sk_wait_data", "__sys_recvfrom", "do_syscall_64"}},
		"a function that nobody knows":   {[]uint64{10, 0xabc, 60}, []string{"sk_wait_data", "0xabc", "do_syscall_64"}},
		"a function behind a trampoline": {[]uint64{10, 20, 30, 40, 60}, []string{"sk_wait_data", "__sys_recvfrom", "do_syscall_64"}},
		"the trampoline ends the stack":  {[]uint64{20, 30, 40}, []string{"__sys_recvfrom"}},
		"a function that calls itself":   {[]uint64{20, 30, 50}, []string{"__sys_recvfrom", "last_of_a_module", "__sys_recvfrom"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Stack(test.addresses, locate)); diff != "" {
				t.Errorf("Stack() differs (-want +got):\n%s", diff)
			}
		})
	}
}
