// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// table is one of the scripts', as text.
type table struct {
	path  string
	sorts []string // how it can be sorted; the first is how the script does
	begin func(*View, params) writer
}

// writer writes one table after the other. Its view is locked.
type writer interface {
	// head is what comes first, once.
	head() string

	// past is what there is to say at once, before anybody has waited: of events those
	// that are kept. Where amounts are asked for there is nothing, and the time begins.
	past() string

	// next is what came since the last time, at now.
	next(now time.Time) string

	// tail is what comes last.
	tail() string
}

var tables = []table{
	{"/nettop", []string{"packets", "bytes", "tx_packets", "rx_packets", "tx_bytes", "rx_bytes", "pid", "uid", "dev", "command"}, newNettop},
	{"/dropwatch", []string{"packets", "symbol"}, newDropwatch},
	{"/tcp_connections", []string{"time", "uid", "cmd", "pid", "port", "source"}, newConnections},
	{"/socket-trace", []string{"time", "duration", "command", "pid"}, newSocketTrace},
}

var tableParams = []string{"follow", "interval", "wide", "sort", "n", "filter"}

// serveTable answers with a table. What counts amounts says those of an interval, for
// which it waits; what tells of events says those that are kept, and goes on if it is to follow.
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

// isOfEvents says that a table tells of what happened, not of amounts.
func isOfEvents(w writer) bool {
	_, ok := w.(interface{ ofEvents() })
	return ok
}

// limited returns the first n, if n is not 0.
func limited[T any](all []T, n int) []T {
	if n > 0 && len(all) > n {
		return all[:n]
	}
	return all
}

// newest returns the last n, if n is not 0.
func newest[T any](all []T, n int) []T {
	if n > 0 && len(all) > n {
		return all[len(all)-n:]
	}
	return all
}

// orDash stands for what is not known in a column.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return strings.ReplaceAll(text, " ", "_") // a column is a word
}

// short cuts an id of 64 digits as people do.
func short(id string) string { return fmt.Sprintf("%.12s", id) }

// of returns the process of an id, which may be forgotten.
func (v *View) of(id string) *process { return v.processes.get(id) }

func uidOf(p *process) int64 {
	if p.UID == nil {
		return 0
	}
	return *p.UID
}
