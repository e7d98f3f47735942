// SPDX-License-Identifier: Apache-2.0

package view

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// printedLines is the maximum length of a printed table.
const printedLines = 10

// Print prints what runs, where to look and what is not seen, a short table a second later, since
// whoever has just started it waits, and then one at each interval, until ctx ends. address is that of the server, or "" if there is none.
func (v *View) Print(ctx context.Context, to io.Writer, every time.Duration, address string) {
	defer v.watch()()
	seq := v.sequence() + 1
	if !v.await(ctx, seq) {
		return
	}
	fmt.Fprintln(to, v.locked(func() string { return v.greeting(address) }))
	p := params{n: printedLines, sort: "packets"}
	top, lost := v.begin(tables[0], p), v.begin(tables[1], p)
	for wait := time.Second; ; wait = every {
		seq += int64(wait / time.Second)
		v.mu.Lock()
		events := v.eventIDs
		v.mu.Unlock()
		if !v.await(ctx, seq) {
			return
		}
		table := v.locked(func() string {
			now := v.options.Now()
			return now.Format(time.TimeOnly) + "\n" + top.past() + top.next(now) + v.summary(lost.(*dropwatch), events)
		})
		if _, err := io.WriteString(to, table); err != nil {
			return
		}
	}
}

// greeting returns three lines.
func (v *View) greeting(address string) string {
	var runs []string
	for _, i := range v.told.Instruments {
		if i.State == "running" && i.Signal != "" {
			runs = append(runs, i.Name)
		}
	}
	look := "Look at this table: view.endpoint is not set, so there is no page."
	if address != "" {
		look = fmt.Sprintf("Look at http://%s in a browser, or with curl '%s/nettop?follow'.", address, address)
	}
	unseen := "Not seen here: nothing that is known of."
	if len(v.told.NotSeen) > 0 {
		unseen = "Not seen here: " + strings.Join(v.told.NotSeen, " ")
	}
	return fmt.Sprintf("nettap runs: %s.\n%s\n%s\n", strings.Join(runs, ", "), look, clean(unseen))
}

// summary returns a line about what was lost, and one about what came in and took long.
func (v *View) summary(lost *dropwatch, since int64) string {
	classes, places := map[string]uint64{}, 0
	for _, one := range v.drops.byPlace {
		if moved := one.Packets - lost.before[one]; moved > 0 {
			classes[one.Class] += moved
			places++
		}
	}
	lost.note()
	accepted, kept := 0, map[string]int{}
	for _, a := range v.accepts {
		if isAfter(a.ID, since) {
			accepted++
		}
	}
	for _, c := range v.calls.all {
		if isAfter(c.ID, since) {
			kept[c.Kept]++
		}
	}
	return fmt.Sprintf("dropped: %d lost, %d benign, %d unknown, at %d places; accepted: %d; calls: %d failed, %d slow\n\n",
		classes["loss"], classes["benign"], classes["unknown"], places, accepted, kept["failed"], kept["slow"])
}

func isAfter(id string, since int64) bool { return compareIDs(id, fmt.Sprint(since)) > 0 }
