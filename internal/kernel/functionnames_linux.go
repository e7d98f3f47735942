// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"time"

	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

// KeepSymbols is how long the table of symbols, some 5 MB, should be kept for further addresses.
const KeepSymbols = time.Minute

const maxNames = 4096 // how many addresses are remembered with their names

// FunctionNames names the functions of the kernel and its modules that contain addresses. Most addresses come again, and
// are remembered: to read the table of symbols takes a tenth of a second. The zero value can be used.
type FunctionNames struct {
	known map[uint64]string
	table *symbols.Table // nil: not read yet
	read  time.Time
}

// At returns the function that contains an address, or "" if none is known. The error is that of reading the table of symbols.
func (n *FunctionNames) At(address uint64) (string, error) {
	if name, ok := n.known[address]; ok {
		return name, nil
	}
	if n.table == nil || time.Since(n.read) > KeepSymbols {
		table, err := RunningSymbols()
		if err != nil {
			return "", err
		}
		n.table, n.read = table, time.Now()
	}
	if n.known == nil || len(n.known) == maxNames {
		n.known = map[uint64]string{} // modules come and go, too
	}
	name, _ := n.table.Function(address)
	n.known[address] = name
	return name, nil
}
