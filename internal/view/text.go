// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"
	"unicode"
)

// clean returns text that a process may have chosen as what a terminal and a page can
// show: what would not print, as an escape sequence or an override of the direction of
// text, is a question mark.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
