// SPDX-License-Identifier: Apache-2.0

// Package life has the life cycle of a series. A series begins with the first entry of a kernel map
// that belongs to it, and ends with the last. Its last value is then reported until a consumer has taken
// it. After that a point without a value is reported, again until a consumer has taken it.
package life

import (
	"maps"
	"time"
)

// Life is the state of one series. It is embedded in a struct with the rest of the series' state. A
// zero Life with Start is that of a series without entries, which [Life.Feed] adds.
type Life struct {
	Start   time.Time // the start time of the series' points
	entries int
	phase   phase
}

type phase int

const (
	alive   phase = iota
	leaving       // it has no entries any more, and its last value has not been delivered
	ending        // its last value was delivered, and its end has not been
)

// Continues reports whether a new entry may be added to the series. Otherwise a new series must begin,
// because the last value of this one was already delivered.
func (l *Life) Continues() bool { return l.phase != ending }

// Ended reports whether the series is at its end, so that a point without a value must be reported.
func (l *Life) Ended() bool { return l.phase == ending }

// Feed records that the series has one more entry.
func (l *Life) Feed() {
	l.phase = alive
	l.entries++
}

// Leave records that the series has one entry fewer.
func (l *Life) Leave() {
	if l.entries--; l.entries == 0 {
		l.phase = leaving
	}
}

func (l *Life) deliver() (over bool) {
	over = l.phase == ending
	if l.phase == leaving {
		l.phase = ending
	}
	return over
}

// Deliver records that a consumer has taken the last points of all series, and removes those series of
// which these were the points without a value. S embeds a Life.
func Deliver[K comparable, S interface{ deliver() bool }](all map[K]S) {
	maps.DeleteFunc(all, func(_ K, s S) bool { return s.deliver() })
}
