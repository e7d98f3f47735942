// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"bytes"
	_ "embed" // for the names
	"slices"
	"strings"
)

// maxPooled is how many entry points of pooled goroutines a program can have. The kernel side
// compares that of a goroutine with each of them.
const maxPooled = 16

//go:embed go_pooled.txt
var pooledNames string

// pooled returns the entry points, as linked, of those functions of go_pooled.txt that a program
// built with a release contains.
func (g *goFunctions) pooled(version string) []uint64 {
	names := pooledPrefixes(pooledNames, version)
	found := make([][]uint64, len(names))
	for entry, function := range g.all() {
		for i, name := range names {
			if len(found[i]) < maxPooled && bytes.HasPrefix(function, name) {
				found[i] = append(found[i], entry)
			}
		}
	}
	entries := slices.Concat(found...)
	return entries[:min(len(entries), maxPooled)]
}

// pooledPrefixes returns the beginnings of the names of functions, from text in the form of
// go_pooled.txt.
func pooledPrefixes(text, version string) [][]byte {
	var prefixes [][]byte
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 || strings.HasPrefix(line, "#") {
			continue
		}
		if fields[0] == "*" || strings.HasPrefix(version, fields[0]+".") {
			prefixes = append(prefixes, []byte(fields[1]))
		}
	}
	return prefixes
}
