// SPDX-License-Identifier: Apache-2.0

package view

import "strconv"

// number is one of a series: whole, or null where it is not known.
type number float64

// unknown is beyond what any interface moves in a slot.
const unknown number = 1 << 62

// MarshalJSON implements [json.Marshaler].
func (n number) MarshalJSON() ([]byte, error) {
	if n == unknown {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}
