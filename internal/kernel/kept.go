// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

// kept is what is known of the running kernel while someone keeps it.
var kept struct {
	sync.Mutex
	keepers int
	types   *btf.Cache
	symbols *symbols.Table // nil: not read yet
}

// Keep keeps the kernel's types and symbols in memory until release is called. Parsing either
// takes a tenth of a second and about ten megabytes. They are needed to start instruments, whose
// programs are tried and loaded with the types, but not while instruments run.
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

// typeCache returns the cache that is kept, or a new one.
func typeCache() *btf.Cache {
	kept.Lock()
	defer kept.Unlock()
	if kept.types == nil {
		return btf.NewCache()
	}
	return kept.types
}

// RunningSymbols returns the symbols of the running kernel, read by [symbols.Read] from
// /proc/kallsyms. While they are kept, all calls return those of the first one.
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
