// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The tables of docs/sizing.md are what follows from the record.
func TestSizingShowsTheRecord(t *testing.T) {
	root := filepath.Join("..", "..")
	s, err := readSizing(filepath.Join(root, sizingFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := tablesOfSizing.Check(filepath.Join(root, sizingDocument), s.markdown(), false); err != nil {
		t.Error(err)
	}
}

func TestSizingOfAFleetFollowsFromOneNode(t *testing.T) {
	got := sizing{
		Kernel: "6.18.1", Programs: 100, Accepted: 10, Interval: 10, Points: 500, Records: 10, Spans: 50,
		Each: bySignal{Metrics: 20, Logs: 300, Traces: 100}, Queued: bySignal{Metrics: 4000, Logs: 9000, Traces: 20000},
	}.markdown()
	want := `Measured on Linux 6.18 with 100 programs, which made 10 connections a second:

|  | from one node | bytes of each |
| --- | --- | --- |
| points of metrics | 500 every 10 s | 20 |
| log records | 10 a second | 300 |
| spans | 50 a second | 100 |

Computed from these:

| nodes | series at a time | points a second | metrics | log records | spans | all |
| --- | --- | --- | --- | --- | --- | --- |
| 1 | 500 | 50 | 1 KB/s | 3 KB/s | 5 KB/s | 9 KB/s, 780 MB a day |
| 10 | 5,000 | 500 | 10 KB/s | 30 KB/s | 50 KB/s | 90 KB/s, 7.8 GB a day |
| 1,000 | 500,000 | 50,000 | 1 MB/s | 3 MB/s | 5 MB/s | 9 MB/s, 780 GB a day |
| 10,000 | 5,000,000 | 500,000 | 10 MB/s | 30 MB/s | 50 MB/s | 90 MB/s, 7.8 TB a day |

What a queue takes while its receiver is away, and how long one that is empty then has room:

|  | into an agent's queue | 100 MiB of an agent last | 1 GiB of a gateway for 1,000 nodes lasts |
| --- | --- | --- | --- |
| metrics | 4 KB/s | 7.3 hours | 4.5 minutes |
| log records | 9 KB/s | 3.2 hours | has none: they are written to a file |
| spans | 20 KB/s | 87 minutes | 54 seconds |
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("markdown() differs (-want +got):\n%s", diff)
	}
}

func TestSizingComparesTwoCollections(t *testing.T) {
	began := time.Unix(1000, 0)
	before := received{at: began, accepted: 5, parts: map[string]part{
		metricsSignal: {items: 1000, foreign: 8, bytes: 20000}, logsSignal: {items: 50, bytes: 15000}, tracesSignal: {items: 100, bytes: 10000},
	}}
	after := received{at: began.Add(60 * time.Second), accepted: 605, parts: map[string]part{
		metricsSignal: {items: 4060, foreign: 68, bytes: 81200}, logsSignal: {items: 650, bytes: 195000}, tracesSignal: {items: 3100, bytes: 310000},
	}}

	var got sizing
	if err := got.compare(before, after); err != nil {
		t.Fatal(err)
	}
	want := sizing{Accepted: 10, Interval: 10, Points: 500, Records: 10, Spans: 50, Each: bySignal{Metrics: 20, Logs: 300, Traces: 100}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("compare() differs (-want +got):\n%s", diff)
	}

	after.parts[logsSignal] = part{items: 650, foreign: 61, bytes: 195000}
	err := got.compare(before, after)
	if want := "of 600 items of logs other programs have caused 61: measure on a machine where less happens"; err == nil || err.Error() != want {
		t.Errorf("compare() = %v, want %s", err, want)
	}
}
