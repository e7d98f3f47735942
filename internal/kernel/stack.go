// SPDX-License-Identifier: Apache-2.0

package kernel

import "fmt"

// Location is a place in a function of the kernel.
type Location struct {
	Function string // "" if none is known
	Offset   uint64 // bytes from its beginning
}

// firstBytes is how far from the beginning of a function the call ends with which it reaches a trampoline.
const firstBytes = 16

// Stack returns the functions of a stack, in the order of its return addresses, innermost first. An address of which locate
// knows no function stands for itself, in hexadecimal.
//
// Where a program waits for the end of a function (fexit), the function has three frames: its own, that of the trampoline which
// has called it, and that of the call in its first bytes by which it reached the trampoline. Only the first of them is kept. A
// trampoline is in no table of symbols, so it would be taken for the last function of some module.
func Stack(addresses []uint64, locate func(address uint64) Location) []string {
	var names []string
	for i := 0; i < len(addresses); i++ {
		at := locate(addresses[i])
		names = append(names, at.Function)
		if at.Function == "" {
			names[len(names)-1] = fmt.Sprintf("%#x", addresses[i])
		} else if i+2 < len(addresses) {
			if caller := locate(addresses[i+2]); caller.Function == at.Function && caller.Offset <= firstBytes {
				i += 2
			}
		}
	}
	return names
}
