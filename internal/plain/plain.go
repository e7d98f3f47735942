// SPDX-License-Identifier: Apache-2.0

// Package plain makes safe text of names and arguments that processes choose, so that any
// terminal, page and log can show it.
package plain

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns text without what a terminal, a page or a log would obey instead of
// showing: "a\x1b[31m\xff" is "a\uFFFD[31m\uFFFD". Each byte that is not UTF-8, of which one
// loses a whole batch of OTLP, and each character that does not print, as an escape or an
// override of the direction of text, is U+FFFD; white space is a space.
func Text(text string) string {
	if isPlain(text) {
		return text
	}
	return strings.Map(plain, text)
}

func plain(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return ' '
	case !unicode.IsPrint(r):
		return utf8.RuneError
	}
	return r
}

// isPlain spares most texts to be looked at rune by rune.
func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
