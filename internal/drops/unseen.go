// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"bufio"
	_ "embed"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// countersCSV has the drops that each of the kernel's own counters counts as well.
//
//go:embed counters.csv
var countersCSV string

// Counters that are in no file of names and numbers.
const (
	softnetDropped = "softnet_stat dropped" // packets that found a CPU's input queue full
	qdiscDrops     = "qdisc drops"          // of all queues of interfaces
)

// rule is a row of the table: a counter counts the drops that match.
type rule struct {
	counter                string
	machine                bool // in all network namespaces
	networkType, transport string
	reason, function       string
	with, without          string // the rule is only for kernels that have, and that lack, these reasons
	provoked               string // by which test, or why not: see counters.csv
}

// readRules reads a table with the columns counter, of, type, transport, reason, function, with,
// without, provoked.
func readRules(text string) ([]rule, error) {
	rows := csv.NewReader(strings.NewReader(text))
	rows.Comment = '#'
	rows.FieldsPerRecord = 9
	records, err := rows.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read counters of drops: %w", err)
	}
	var rules []rule
	for _, record := range records[min(1, len(records)):] {
		if record[0] == "" || record[4] == "" || record[8] == "" || record[1] != "machine" && record[1] != "namespace" {
			return nil, fmt.Errorf("read counters of drops: bad row %q", record)
		}
		rules = append(rules, rule{
			counter: record[0], machine: record[1] == "machine",
			networkType: record[2], transport: record[3], reason: record[4], function: record[5],
			with: record[6], without: record[7], provoked: record[8],
		})
	}
	return rules, nil
}

// rulesFor returns the rules for a kernel that gives these reasons.
func rulesFor(rules []rule, reasons map[uint32]string) []rule {
	given := map[string]bool{}
	for _, name := range reasons {
		given[name] = true
	}
	return slices.DeleteFunc(rules, func(r rule) bool { return given[r.without] || r.with != "" && !given[r.with] })
}

func (r rule) matches(s series, inHost bool) bool {
	function, _, _ := strings.Cut(s.function, ".")
	return !s.reset && r.reason == s.reason && (r.machine || inHost) && (r.function == "" || r.function == function) &&
		(r.networkType == "" || r.networkType == s.networkType) && (r.transport == "" || r.transport == s.transport)
}

// countersOf returns the kernel's own counters that count the drops of a series as well. inHost
// tells whether these are or may be in the network namespace whose counters are read.
func countersOf(rules []rule, s series, inHost bool) []string {
	var counters []string
	for _, r := range rules {
		if r.matches(s, inHost) && !slices.Contains(counters, r.counter) {
			counters = append(counters, r.counter)
		}
	}
	return counters
}

// readPairs reads counters from text in the form of /proc/net/snmp and netstat, in which each
// group has a line of names and a line of numbers: "Udp: NoPorts" is UdpNoPorts.
func readPairs(to map[string]uint64, text io.Reader) error {
	var names []string
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(names) == 0 {
			names = fields
			continue
		}
		if len(fields) != len(names) || fields[0] != names[0] {
			return fmt.Errorf("no numbers for %q", names[0])
		}
		for i, name := range names[1:] {
			if n, err := strconv.ParseUint(fields[i+1], 10, 64); err == nil { // MaxConn is -1
				to[strings.TrimSuffix(names[0], ":")+name] = n
			}
		}
		names = nil
	}
	return lines.Err()
}

// readLines reads counters from text in the form of /proc/net/snmp6, with one counter on each
// line.
func readLines(to map[string]uint64, text io.Reader) error {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		var name string
		var n uint64
		if _, err := fmt.Sscan(lines.Text(), &name, &n); err == nil {
			to[name] = n
		}
	}
	return lines.Err()
}

// readSoftnet reads from text in the form of /proc/net/softnet_stat, a line a CPU, how many
// packets found a CPU's input queue full.
func readSoftnet(to map[string]uint64, text io.Reader) error {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			return fmt.Errorf("bad line %q", lines.Text())
		}
		n, err := strconv.ParseUint(fields[1], 16, 64)
		if err != nil {
			return err
		}
		to[softnetDropped] += n
	}
	return lines.Err()
}

// addSums adds counters that are sums of others: "A + B" is A and B together, as far as the kernel has
// them.
func addSums(to map[string]uint64, rules []rule) {
	for _, r := range rules {
		parts := strings.Split(r.counter, " + ")
		if _, added := to[r.counter]; added || len(parts) == 1 {
			continue
		}
		for _, part := range parts {
			if n, known := to[part]; known {
				to[r.counter] += n
			}
		}
	}
}

// unseen is by how much a counter has grown beyond the drops that we have of what it counts.
type unseen struct {
	counter string
	start   time.Time
	packets uint64
}

// unseenAccount holds the kernel's counters against the drops that they should be.
type unseenAccount struct {
	counters []string          // those of the table
	since    time.Time         // when first was read
	first    map[string]uint64 // counters at the beginning
	moved    map[string]bool   // those that have grown since
}

func newUnseenAccount(rules []rule, now time.Time, counters map[string]uint64) *unseenAccount {
	named := map[string]bool{}
	for _, r := range rules {
		named[r.counter] = true
	}
	return &unseenAccount{
		counters: slices.Sorted(maps.Keys(named)), since: now,
		first: counters, moved: map[string]bool{},
	}
}

// post returns what there is to say of each counter that has grown since the beginning.
// counters were read before the drops that covered has: what comes in between is in the
// latter alone, so that what is said to be unseen was.
func (a *unseenAccount) post(counters, covered map[string]uint64) []unseen {
	var all []unseen
	for _, name := range a.counters {
		first, known := a.first[name]
		now, still := counters[name]
		if !known || !still {
			continue
		}
		grown := now - min(now, first)
		a.moved[name] = a.moved[name] || grown > 0
		if !a.moved[name] {
			continue
		}
		all = append(all, unseen{name, a.since, grown - min(grown, covered[name])})
	}
	return all
}
