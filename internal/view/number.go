// SPDX-License-Identifier: Apache-2.0

package view

import "strconv"

// number is an element of a series: an integer, or null if it is not known.
type number float64

// unknown is more than any interface moves in a slot.
const unknown number = 1 << 62

// MarshalJSON implements [json.Marshaler].
func (n number) MarshalJSON() ([]byte, error) {
	if n == unknown {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}
