// SPDX-License-Identifier: Apache-2.0

package kernel

import "github.com/seed-7756021b/nettap/internal/kernel/host"

// RequireHost returns nil when this process can observe the whole machine, whose / is
// mounted at rootPath (empty means /): [host.Require] says what is missing otherwise, and
// [Probe] why its kernel runs no program.
func RequireHost(rootPath string) error {
	if err := host.Require(rootPath); err != nil {
		return err
	}
	return Probe("tp_btf/kfree_skb")
}
