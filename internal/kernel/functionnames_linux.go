// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"time"

	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

// KeepSymbols is how long the table of symbols, some 5 MB, should be kept for further addresses.
const KeepSymbols = time.Minute

const maxNames = 4096 // how many addresses are remembered with their names

// FunctionNames locates addresses in functions of the kernel and its modules. Most addresses come again, and are remembered:
// to read the table of symbols takes a tenth of a second. The zero value can be used.
type FunctionNames struct {
	known map[uint64]Location
	table *symbols.Table // nil: not read yet
	read  time.Time
}

// At returns where an address is. The error is that of reading the table of symbols.
func (n *FunctionNames) At(address uint64) (Location, error) {
	if at, ok := n.known[address]; ok {
		return at, nil
	}
	if n.table == nil || time.Since(n.read) > KeepSymbols {
		table, err := RunningSymbols()
		if err != nil {
			return Location{}, err
		}
		n.table, n.read = table, time.Now()
	}
	if n.known == nil || len(n.known) == maxNames {
		n.known = map[uint64]Location{} // modules come and go, too
	}
	var at Location
	at.Function, at.Offset, _ = n.table.Locate(address)
	n.known[address] = at
	return at, nil
}

// Locator returns [FunctionNames.At] for [Stack]. The first error is put into missing; addresses are in no function then.
func (n *FunctionNames) Locator(missing *error) func(address uint64) Location {
	return func(address uint64) Location {
		at, err := n.At(address)
		*missing = cmp.Or(*missing, err)
		return at
	}
}
