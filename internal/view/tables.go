// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// table is the table of one of the scripts, or one of our own, as text.
type table struct {
	path  string
	sorts []string // how it can be sorted; the first one is the order of the script
	begin func(*View, params) writer
}

// writer writes one table after another. Its view is locked.
type writer interface {
	// head returns what is written first, once.
	head() string

	// past returns what can be written at once, without waiting. Of events these are those
	// that are kept. For amounts there is nothing, and the interval begins.
	past() string

	// next returns what has come since the previous call, at now.
	next(now time.Time) string

	// tail returns what is written last.
	tail() string
}

var tables = []table{
	{"/nettop", []string{"packets", "bytes", "tx_packets", "rx_packets", "tx_bytes", "rx_bytes", "pid", "uid", "dev", "command"}, newNettop},
	{"/dropwatch", []string{"packets", "symbol"}, newDropwatch},
	{"/tcp_connections", []string{"time", "uid", "cmd", "pid", "port", "source"}, newConnections},
	{"/connections", []string{"time"}, newNotices},
	{"/packets", []string{"time"}, newPackets},
	{"/tcp", []string{"failed"}, measureTableOf(tcpTable)},
	{"/queues", []string{"waiting"}, measureTableOf(queueTable)},
	{"/durations", []string{"mean"}, measureTableOf(durationTable)},
	{"/socket-trace", []string{"time", "duration", "command", "pid"}, newSocketTrace},
}

var tableParams = []string{"follow", "interval", "wide", "sort", "n", "filter"}

// serveTable answers with a table. A table of amounts has those of an interval, for which this
// waits. A table of events has those that are kept, and continues if the request asks to follow.
func (v *View) serveTable(w http.ResponseWriter, r *http.Request, t table) {
	p, leave, ok := v.enter(w, r, tableParams, t.sorts)
	if !ok {
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		return
	}
	seq := v.sequence() + 1
	if !v.await(r.Context(), seq) {
		return
	}
	s := newStream(w)
	writer := v.begin(t, p)
	if s.send([]byte(v.locked(writer.head)+v.locked(writer.past))) != nil {
		return
	}
	for !isOfEvents(writer) || p.follow {
		s.resting()
		seq += int64(p.interval)
		if !v.await(r.Context(), seq) {
			break
		}
		if s.send([]byte(v.locked(func() string { return writer.next(v.options.Now()) }))) != nil {
			return
		}
		if !p.follow {
			break
		}
	}
	_ = s.send([]byte(v.locked(writer.tail)))
}

func (v *View) begin(t table, p params) writer {
	v.mu.Lock()
	defer v.mu.Unlock()
	return t.begin(v, p)
}

func (v *View) locked(say func() string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return say()
}

// isOfEvents reports whether a table contains events, and not amounts.
func isOfEvents(w writer) bool {
	_, ok := w.(interface{ ofEvents() })
	return ok
}

// limited returns the first n elements, or all if n is 0.
func limited[T any](all []T, n int) []T {
	if n > 0 && len(all) > n {
		return all[:n]
	}
	return all
}

// newest returns the last n elements, or all if n is 0.
func newest[T any](all []T, n int) []T {
	if n > 0 && len(all) > n {
		return all[len(all)-n:]
	}
	return all
}

// orDash returns a dash for a column whose text is not known.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return strings.ReplaceAll(text, " ", "_") // a column must be a single word
}

// short shortens an id of 64 digits in the usual way.
func short(id string) string { return fmt.Sprintf("%.12s", id) }

// of returns the process with an id, or nil if it was forgotten.
func (v *View) of(id string) *process { return v.processes.get(id) }

func uidOf(p *process) int64 {
	if p.UID == nil {
		return 0
	}
	return *p.UID
}
