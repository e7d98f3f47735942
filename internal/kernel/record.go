// SPDX-License-Identifier: Apache-2.0

package kernel

import "unsafe"

// CopyRecord fills a type of bpf2go, which has the same layout as in C, with a record of a ring.
// If the record is shorter the rest of the type keeps its value, and if it is longer the rest of
// the record is left out.
func CopyRecord[T any](to *T, record []byte) {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(to)), unsafe.Sizeof(*to)), record)
}
