// SPDX-License-Identifier: Apache-2.0

package plain

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"letters of any script":         {"größe 漢字 ~", "größe 漢字 ~"},
		"an escape":                     {"\x1b[2J", "\uFFFD[2J"},
		"an escape of one byte":         {"\u009b2J", "\uFFFD2J"},
		"a bell, a delete and a zero":   {"\a\x7f\x00", "\uFFFD\uFFFD\uFFFD"},
		"an override of the direction":  {"a\u202eb\u2066", "a\uFFFDb\uFFFD"},
		"white space":                   {"a\tb\nc\r\u2028d\u00a0e", "a b c  d e"},
		"each byte that is not UTF-8":   {"a\xff\xfe\xc3b", "a\uFFFD\uFFFD\uFFFDb"},
		"one that was replaced already": {"\uFFFD", "\uFFFD"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Text(test.text); got != test.want {
				t.Errorf("Text(%q) = %q, want %q", test.text, got, test.want)
			}
		})
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x1b\xff\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		got := Text(text)
		if !utf8.ValidString(got) || Text(got) != got {
			t.Fatalf("Text(%q) = %q", text, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("Text(%q) = %q, which has %q", text, got, r)
			}
		}
	})
}
