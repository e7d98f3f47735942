// SPDX-License-Identifier: Apache-2.0

package drops

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// reasonsCSV says what drops mean: which lost something, why we think so, and what to do.
//
//go:embed reasons.csv
var reasonsCSV string

// class is one of metadata's: loss, benign or unknown.
type class = metadata.AttributeNettapDropClass

// place is what a meaning depends on. Either is empty where it does not matter.
type place struct{ reason, function string }

// These stand in the table for something that is no name of the kernel's.
const (
	emptySegment = "(empty segment)" // the function that dropped a TCP segment in which nothing is lost
	noName       = "(no name)"       // a reason that has none
)

// meaning is what the table says of a place.
type meaning struct {
	class       class
	why, advice string
	sentences   string // both together
}

// meanings is the table of reasonsCSV.
type meanings map[place]meaning

// known is that table, nil where it cannot be read: then what needs it fails.
var known = sync.OnceValue(func() meanings {
	table, err := readMeanings(reasonsCSV)
	if err != nil {
		return nil
	}
	return table
})

// Explain says what a drop of a reason, a function and a class means, and what to do about
// it: "nobody listens; ..." and "Start what should listen on the port ...". Both are "" of
// what the table does not have. The function may be unknown.
func Explain(reason, function, class string) (why, advice string) {
	m := explain(reason, function, class)
	return m.why, m.advice
}

func explain(reason, function, class string) meaning {
	for _, row := range append(rows(reason, function), place{reason, emptySegment}) {
		if m, ok := known()[row]; ok && m.class.String() == class {
			return m
		}
	}
	return meaning{}
}

// explanation is what is known of a series beyond the name of its reason, "" if nothing is.
func (s series) explanation() string {
	return explain(s.reason, s.function, s.class.String()).sentences
}

// capital returns words that begin with a capital letter.
func capital(words string) string {
	first, size := utf8.DecodeRuneInString(words)
	return string(unicode.ToUpper(first)) + words[size:]
}

// readMeanings reads a table with the columns reason, function, class, why, advice.
func readMeanings(text string) (meanings, error) {
	records, err := readTable(text)
	if err != nil {
		return nil, err
	}
	table := meanings{}
	for _, record := range records {
		row := place{reason: record[0], function: record[1]}
		class, known := metadata.MapAttributeNettapDropClass[record[2]]
		if _, twice := table[row]; twice || !known || row == (place{}) || record[3] == "" || record[4] == "" {
			return nil, fmt.Errorf("read drop reasons: bad row %q", record)
		}
		table[row] = meaning{class, record[3], record[4], capital(record[3]) + ". " + record[4]}
	}
	return table, nil
}

// readTable returns the rows of a table, without the names of its columns.
func readTable(text string) ([][]string, error) {
	rows := csv.NewReader(strings.NewReader(text))
	rows.Comment = '#'
	rows.FieldsPerRecord = 5
	records, err := rows.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read drop reasons: %w", err)
	}
	return records[min(1, len(records)):], nil
}

// rows are those of the table that may be about a drop, the first that there is holds.
func rows(reason, function string) []place {
	function, _, _ = strings.Cut(function, ".")
	switch {
	case reason == "not_specified" || reason == ownReasons[reasonNotAvailable]:
		return []place{{reason, function}, {function: function}, {reason: reason}}
	case strings.HasPrefix(reason, numbered):
		reason = noName
	}
	return []place{{reason, function}, {reason: reason}, {function: function}}
}

// of returns the class of a drop by its reason and the function that gave it;
// "tcp_v4_rcv.isra.0" is taken as tcp_v4_rcv. What is not in the table is unknown.
func (m meanings) of(reason, function string) class {
	for _, row := range rows(reason, function) {
		if found, ok := m[row]; ok {
			return found.class
		}
	}
	return metadata.AttributeNettapDropClassUnknown
}
