// SPDX-License-Identifier: Apache-2.0

package process

import "strings"

// Text is a C string of a kernel record: up to its first zero byte.
func Text(chars []int8) string {
	var b strings.Builder
	for _, c := range chars {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

// Group groups events by their process. A group keeps the given order, and the groups are in the
// order of their first events.
func Group[T any](events []T, of func(T) ID) [][]T {
	var groups [][]T
	index := make(map[ID]int)
	for _, event := range events {
		id := of(event)
		i, known := index[id]
		if !known {
			i = len(groups)
			index[id] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], event)
	}
	return groups
}
