// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

// RequireSymbols returns nil if this process may read the addresses of the kernel's functions. An
// error matches [os.ErrPermission] and tells what hides them.
func RequireSymbols() error {
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		return fmt.Errorf("read kernel symbols: %w", err)
	}
	defer file.Close()
	if err := symbols.RequireAddresses(file); err != nil {
		if missing := host.RequireHeld(host.CapSyslog); missing != nil {
			err = missing
		}
		return fmt.Errorf("read kernel symbols: %w", err)
	}
	return nil
}
