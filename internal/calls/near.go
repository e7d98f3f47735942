package calls

import (
	"cmp"
	"slices"
	"strings"

	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

// maxNear is how many names an error suggests.
const maxNear = 3

// near returns the names that a pattern may have meant, the nearest first and none
// that is much farther: at most every fourth letter of it is wrong.
func near(pattern string, attachable []symbols.Symbol) []string {
	type candidate struct {
		name  string
		edits int
	}
	limit := (len(pattern) - strings.Count(pattern, "*") + 2) / 4
	var candidates []candidate
	for _, symbol := range attachable {
		if edits := distance(pattern, symbol.Name); edits <= limit {
			limit = min(limit, edits+1)
			candidates = append(candidates, candidate{symbol.Name, edits})
		}
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.edits, b.edits), cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range candidates[:min(maxNear, len(candidates))] {
		if c.edits <= limit {
			names = append(names, c.name)
		}
	}
	return names
}

// distance is how many letters must be added, removed or replaced for a pattern to
// match a name, after Levenshtein; a * matches any for nothing and a ? one.
func distance(pattern, name string) int {
	edits := make([]int, len(name)+1) // of the pattern so far, to each beginning of name
	for i := range edits {
		edits[i] = i
	}
	for _, want := range []byte(pattern) {
		diagonal := edits[0]
		if want != '*' {
			edits[0]++
		}
		for i, have := range []byte(name) {
			above := edits[i+1]
			switch {
			case want == '*':
				edits[i+1] = min(above, edits[i])
			case want == have || want == '?':
				edits[i+1] = min(diagonal, above+1, edits[i]+1)
			default:
				edits[i+1] = 1 + min(diagonal, above, edits[i])
			}
			diagonal = above
		}
	}
	return edits[len(name)]
}
