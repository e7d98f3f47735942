// SPDX-License-Identifier: Apache-2.0

package view

import (
	"context"
	"net/http"
	"time"
)

// maxFollowers is how many requests may follow something at the same time.
const maxFollowers = 64

// await waits for the tick with a number, and reports whether it came before ctx ended.
func (v *View) await(ctx context.Context, seq int64) bool {
	for {
		v.mu.Lock()
		now, next, closed := v.seq, v.tick, v.closed
		if now < seq {
			v.waiting++
		}
		v.mu.Unlock()
		if now >= seq {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-closed:
			return false
		case <-next:
		}
	}
}

// sequence returns the number of the last tick.
func (v *View) sequence() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seq
}

// enter admits a request that follows something, if its parameters are valid and there are not too
// many.
func (v *View) enter(w http.ResponseWriter, r *http.Request, allowed, sorts []string) (p params, leave func(), ok bool) {
	if p, ok = paramsOf(w, r, allowed, sorts); !ok {
		return p, nil, false
	}
	v.mu.Lock()
	many := v.followers >= maxFollowers
	if !many {
		v.followers++
	}
	v.mu.Unlock()
	if many {
		fail(w, r, http.StatusServiceUnavailable, "too many connections follow something")
		return p, nil, false
	}
	release := v.watch()
	return p, func() {
		release()
		v.mu.Lock()
		v.followers--
		v.mu.Unlock()
	}, true
}

// patience is how long a reader may take to receive what it is sent.
const patience = 10 * time.Second

// stream is an answer that continues for as long as it is read.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newStream(w http.ResponseWriter) stream {
	return stream{w: w, control: http.NewResponseController(w)}
}

// send writes the whole body now. The server's own time limit is for answers that end.
func (s stream) send(body []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := s.w.Write(body); err != nil {
		return err
	}
	return s.control.Flush()
}

// resting removes the time limit until the next send.
func (s stream) resting() { _ = s.control.SetWriteDeadline(time.Time{}) }

// Close ends all requests that follow something.
func (v *View) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.closed:
	default:
		close(v.closed)
	}
}
