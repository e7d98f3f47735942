// SPDX-License-Identifier: Apache-2.0

package kernel

import "unsafe"

// CopyRecord fills a type of bpf2go, which has the layout that C gives it, with a record
// of a ring. What a shorter record lacks stays as it was; of a longer one the rest is
// left out.
func CopyRecord[T any](to *T, record []byte) {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(to)), unsafe.Sizeof(*to)), record)
}
