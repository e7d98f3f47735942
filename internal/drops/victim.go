// SPDX-License-Identifier: Apache-2.0

package drops

import "github.com/seed-7756021b/nettap/internal/owner"

// victim is a process that lost packets.
type victim = owner.Member

// victimsOf are those that something is said of.
func victimsOf(said []drop) map[*victim]bool {
	victims := make(map[*victim]bool, len(said))
	for _, d := range said {
		victims[d.victim] = true
	}
	return victims
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
