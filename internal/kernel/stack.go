// SPDX-License-Identifier: Apache-2.0

package kernel

import "fmt"

// Stack returns the functions that contain the addresses of a stack, in the same order. name returns "" if it does not
// know one: the address itself stands for it, in hexadecimal.
func Stack(addresses []uint64, name func(address uint64) string) []string {
	names := make([]string, len(addresses))
	for i, address := range addresses {
		if names[i] = name(address); names[i] == "" {
			names[i] = fmt.Sprintf("%#x", address)
		}
	}
	return names
}
