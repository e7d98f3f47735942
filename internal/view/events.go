// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
)

// serveEvents sends a snapshot, and then an increment each second. A reader that was too slow for
// an increment gets another snapshot.
func (v *View) serveEvents(w http.ResponseWriter, r *http.Request) {
	p, leave, ok := v.enter(w, r, stateParams, nil)
	if !ok {
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return
	}
	s := newStream(w)
	if s.send([]byte("retry: 1000\n\n")) != nil {
		return
	}
	first := v.sequence() // the snapshot is that of the next tick
	for seq := first; ; {
		s.resting()
		if !v.await(r.Context(), seq+1) {
			break
		}
		event, at := v.nextEvent(seq, seq == first, question{p.scale, p.filter, p.n})
		if s.send(event) != nil {
			return
		}
		seq = at
	}
	_ = s.send([]byte("event: bye\ndata: {}\n\n"))
}

// nextEvent returns the event that follows after seq, and the number of the tick up to which it
// goes.
func (v *View) nextEvent(seq int64, first bool, q question) (event []byte, until int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !first && v.seq == seq+1 {
		if len(q.filter.terms) > 0 {
			return eventOf("increment", v.increment(q.filter)), v.seq
		}
		if v.shared.seq != v.seq {
			v.shared.seq, v.shared.event = v.seq, eventOf("increment", v.increment(filter{}))
		}
		return v.shared.event, v.seq
	}
	return eventOf("snapshot", v.state(q)), v.seq
}

// sharedEvent is the increment for all readers that ask for everything.
type sharedEvent struct {
	seq   int64
	event []byte
}

func eventOf(name string, value any) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\ndata: ", name)
	if err := json.NewEncoder(&b).Encode(value); err != nil { // Encode ends it with a newline
		return []byte(": " + clean(err.Error()) + "\n\n")
	}
	b.WriteByte('\n')
	return b.Bytes()
}
