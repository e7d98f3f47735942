// SPDX-License-Identifier: Apache-2.0

package view

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// filter selects what is shown: all of its terms must hold. The zero value selects everything.
type filter struct {
	text  string
	terms []term
}

// term is one condition, on one property or, if kind is "", on any text.
type term struct {
	kind    string
	not     bool
	value   string         // in lower case
	pattern *regexp.Regexp // in place of value if it is enclosed in slashes
	prefix  netip.Prefix   // of a peer, if value is an address or a prefix
	port    int
}

// longestFilter is the longest filter, in bytes.
const longestFilter = 1000

// parseFilter splits a text into terms at spaces:
//
//	process:nginx port:443 peer:10.0.0.0/8 iface:eth0 container:3f2a /regular expression/ -process:curl
func parseFilter(text string) (filter, error) {
	if len(text) > longestFilter {
		return filter{}, fmt.Errorf("it has more than %d bytes", longestFilter)
	}
	words, err := splitWords(text)
	if err != nil {
		return filter{}, err
	}
	f := filter{text: text}
	for _, word := range words {
		t, err := parseTerm(word)
		if err != nil {
			return filter{}, err
		}
		f.terms = append(f.terms, t)
	}
	return f, nil
}

// splitWords splits a text at spaces that are not inside quotes or slashes. Quotes are removed.
func splitWords(text string) (words []string, err error) {
	var word strings.Builder
	var within rune // the quote or slash that encloses the character
	begun, escaped := false, false
	for _, r := range text {
		switch {
		case escaped:
			escaped = false
			word.WriteRune(r)
		case within == '/' && r == '\\':
			escaped = true
			word.WriteRune(r)
		case within != 0 && r == within:
			within = 0
			if r == '/' {
				word.WriteRune(r)
			}
		case within == 0 && r == '"':
			within, begun = r, true
		case within == 0 && r == '/' && startsPattern(word.String()):
			within, begun = r, true
			word.WriteRune(r)
		case within == 0 && r == ' ':
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	if within != 0 {
		return nil, fmt.Errorf("a %c is not closed", within)
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

// startsPattern reports whether a slash after this part of a word begins a regular expression.
func startsPattern(before string) bool {
	before = strings.TrimPrefix(before, "-")
	return before == "" || strings.HasSuffix(before, ":") && kinds[strings.TrimSuffix(before, ":")]
}

var kinds = map[string]bool{"process": true, "port": true, "peer": true, "iface": true, "container": true}

func parseTerm(word string) (term, error) {
	var t term
	word, t.not = strings.CutPrefix(word, "-")
	if kind, value, found := strings.Cut(word, ":"); found && kinds[kind] {
		t.kind, word = kind, value
	}
	if word == "" {
		return term{}, errors.New("a term has no value")
	}
	if len(word) > 1 && word[0] == '/' && word[len(word)-1] == '/' {
		pattern, err := regexp.Compile("(?i)" + word[1:len(word)-1])
		if err != nil {
			return term{}, fmt.Errorf("%s is no regular expression", word)
		}
		t.pattern = pattern
		return t, nil
	}
	t.value = strings.ToLower(word)
	switch t.kind {
	case "port":
		port, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			return term{}, fmt.Errorf("%q is no port", word)
		}
		t.port = int(port)
	case "peer":
		if prefix, err := netip.ParsePrefix(word); err == nil {
			t.prefix = prefix.Masked()
		} else if address, err := netip.ParseAddr(word); err == nil {
			t.prefix = netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen())
		}
	}
	return t, nil
}

// isOf reports whether one of the texts equals the value or matches the pattern.
func (t *term) isOf(texts ...string) bool {
	for _, text := range texts {
		if t.pattern != nil && t.pattern.MatchString(text) || t.pattern == nil && strings.ToLower(text) == t.value {
			return true
		}
	}
	return false
}

// isIn reports whether one of the texts contains the value or matches the pattern.
func (t *term) isIn(texts ...string) bool {
	for _, text := range texts {
		if t.pattern != nil && t.pattern.MatchString(text) || t.pattern == nil && strings.Contains(strings.ToLower(text), t.value) {
			return true
		}
	}
	return false
}

func (t *term) isPort(ends ...End) bool {
	for _, end := range ends {
		if t.pattern != nil && t.pattern.MatchString(strconv.Itoa(end.Port)) || t.pattern == nil && end.Port == t.port && end.Port != 0 {
			return true
		}
	}
	return false
}

func (t *term) isPeer(peer End) bool {
	if !t.prefix.IsValid() {
		return t.isIn(peer.Address)
	}
	address, err := netip.ParseAddr(peer.Address)
	return err == nil && t.prefix.Contains(address)
}

// ofProcess reports whether a term about the process itself holds.
func (t *term) ofProcess(p *process) bool {
	switch t.kind {
	case "process":
		return t.isOf(p.Comm, p.Executable, p.Service, strconv.FormatInt(p.PID, 10))
	case "container":
		return t.pattern == nil && t.value != "" && strings.HasPrefix(strings.ToLower(p.Container), t.value) || t.isOf(p.Container, p.Pod)
	default:
		return t.isIn(p.Comm, p.Executable, p.Service, p.Container, p.CommandLine, strconv.FormatInt(p.PID, 10))
	}
}

// all reports whether every term holds.
func (f *filter) all(holds func(t *term) bool) bool {
	for i := range f.terms {
		if holds(&f.terms[i]) == f.terms[i].not {
			return false
		}
	}
	return true
}

// has reports whether there are terms of one of the kinds.
func (f *filter) has(kinds ...string) bool {
	for i := range f.terms {
		for _, kind := range kinds {
			if f.terms[i].kind == kind {
				return true
			}
		}
	}
	return false
}
