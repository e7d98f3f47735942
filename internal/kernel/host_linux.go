// SPDX-License-Identifier: Apache-2.0

package kernel

import "github.com/seed-7756021b/nettap/internal/kernel/host"

// RequireHost returns nil if this process can observe the whole machine, whose / is mounted at
// rootPath (empty means /). Otherwise the error is that of [host.Require], or that of [Probe] if
// the kernel runs no program.
func RequireHost(rootPath string) error {
	if err := host.Require(rootPath); err != nil {
		return err
	}
	return Probe("tp_btf/kfree_skb")
}
