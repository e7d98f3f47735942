package drops

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"strings"
	"sync"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// classesCSV says which drops lost something, and why we think so.
//
//go:embed classes.csv
var classesCSV string

// class is one of metadata's: loss, benign or unknown.
type class = metadata.AttributeNettapDropClass

// place is what a class depends on. Either is empty where it does not matter.
type place struct{ reason, function string }

// emptySegment stands in the table for the function that dropped a TCP segment in
// which nothing is lost.
const emptySegment = "(empty segment)"

// classes is the table of classesCSV.
type classes map[place]class

// reasons is what the table says of each place in words.
var reasons = sync.OnceValue(func() map[place]string {
	records, err := readTable(classesCSV)
	if err != nil {
		return nil // what needs the table fails
	}
	words := map[place]string{}
	for _, record := range records {
		words[place{reason: record[0], function: record[1]}] = record[3]
	}
	return words
})

// Why explains in words why a drop is of its class: "" where there is nothing to say.
func Why(reason, function string) string {
	for _, row := range rows(reason, function) {
		if why, ok := reasons()[row]; ok {
			return why
		}
	}
	return ""
}

// readClasses reads a table with the columns reason, function, class, why.
func readClasses(text string) (classes, error) {
	records, err := readTable(text)
	if err != nil {
		return nil, err
	}
	table := classes{}
	for _, record := range records {
		row := place{reason: record[0], function: record[1]}
		class, known := metadata.MapAttributeNettapDropClass[record[2]]
		if _, twice := table[row]; twice || !known || row == (place{}) {
			return nil, fmt.Errorf("read drop classes: bad row %q", record)
		}
		table[row] = class
	}
	return table, nil
}

// readTable returns the rows of a table, without the names of its columns.
func readTable(text string) ([][]string, error) {
	rows := csv.NewReader(strings.NewReader(text))
	rows.Comment = '#'
	rows.FieldsPerRecord = 4
	records, err := rows.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read drop classes: %w", err)
	}
	return records[min(1, len(records)):], nil
}

// rows are those of the table that may be about a drop, the first that there is holds.
func rows(reason, function string) []place {
	function, _, _ = strings.Cut(function, ".")
	return []place{{reason, function}, {reason: reason}, {function: function}}
}

// of returns the class of a drop by its reason and the function that gave it;
// "tcp_v4_rcv.isra.0" is taken as tcp_v4_rcv. What is not in the table is unknown.
func (c classes) of(reason, function string) class {
	for _, row := range rows(reason, function) {
		if class, ok := c[row]; ok {
			return class
		}
	}
	return metadata.AttributeNettapDropClassUnknown
}
