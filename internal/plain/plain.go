// SPDX-License-Identifier: Apache-2.0

// Package plain makes names and arguments that processes choose safe to show in any terminal, page
// and log.
package plain

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns text without anything that a terminal, a page or a log would execute rather than
// show: "a\x1b[31m\xff" becomes "a\uFFFD[31m\uFFFD". Each byte that is not UTF-8, one of which
// would make a whole batch of OTLP invalid, and each character that cannot be printed, such as an
// escape or an override of the direction of text, becomes U+FFFD. White space becomes a space.
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

// isPlain tells without decoding, for most texts, that nothing has to be replaced.
func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
