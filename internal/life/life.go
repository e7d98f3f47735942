// SPDX-License-Identifier: Apache-2.0

// Package life keeps where a series is in its life: it begins with the first entry that feeds it
// and ends with the last. Its last value is then reported until a consumer has taken it, and after
// that a point without a value until a consumer has taken that.
package life

import (
	"maps"
	"time"
)

// Life is that of one series. It is embedded in what else is known of the series.
type Life struct {
	Start   time.Time
	entries int
	phase   phase
}

type phase int

const (
	alive   phase = iota
	leaving       // it has no entries any more; its last value is to be delivered
	ending        // that was delivered; its end is to be delivered
)

// Continues reports whether a new entry may feed the series. If not, it has to begin anew.
func (l *Life) Continues() bool { return l.phase != ending }

// Ended reports whether the point without a value is to be reported.
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

// Deliver records that what was last reported of all series was taken, and removes those whose end
// was part of it.
func Deliver[K comparable, S interface{ deliver() bool }](all map[K]S) {
	maps.DeleteFunc(all, func(_ K, s S) bool { return s.deliver() })
}
