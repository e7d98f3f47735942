// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

// kept is what is known of the running kernel while somebody keeps it.
var kept struct {
	sync.Mutex
	keepers int
	types   *btf.Cache
	symbols *symbols.Table // nil: nobody has asked yet
}

// Keep keeps the kernel's types and symbols until release is called. To parse either
// takes a tenth of a second and some ten megabytes. Who starts instruments needs the
// types for each program that is tried or loaded; who runs them does not.
func Keep() (release func()) {
	kept.Lock()
	defer kept.Unlock()
	if kept.keepers == 0 {
		kept.types = btf.NewCache()
	}
	kept.keepers++
	return sync.OnceFunc(func() {
		kept.Lock()
		defer kept.Unlock()
		kept.keepers--
		if kept.keepers == 0 {
			kept.types, kept.symbols = nil, nil
		}
	})
}

// Types returns the types of the running kernel, from its BTF. They must not be
// changed.
func Types() (*btf.Spec, error) { return typeCache().Kernel() }

// typeCache is what is kept, or new.
func typeCache() *btf.Cache {
	kept.Lock()
	defer kept.Unlock()
	if kept.types == nil {
		return btf.NewCache()
	}
	return kept.types
}

// RunningSymbols returns the symbols of the running kernel, as [symbols.Read] reads them
// from /proc/kallsyms; while they are kept, those of the first call.
func RunningSymbols() (*symbols.Table, error) {
	kept.Lock()
	defer kept.Unlock()
	if kept.symbols != nil {
		return kept.symbols, nil
	}
	table, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	defer table.Close()
	symbols, err := symbols.Read(table)
	if err == nil && kept.keepers > 0 {
		kept.symbols = symbols
	}
	return symbols, err
}
