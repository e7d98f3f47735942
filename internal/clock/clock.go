// SPDX-License-Identifier: Apache-2.0

// Package clock turns the kernel's time since boot into wall time.
package clock

import "time"

// Clock converts between CLOCK_BOOTTIME, in which the kernel side notes times,
// and wall time. It may be used from several goroutines.
type Clock struct {
	read func() reading
}

// reading is the wall time between two looks at the time since boot.
type reading struct {
	before, after int64 // CLOCK_BOOTTIME, ns
	wall          time.Time
}

// New returns the machine's clock.
func New() *Clock { return &Clock{read: readClocks} }

// Fixed returns a clock that stands still at now, on a machine booted at boot,
// for tests.
func Fixed(boot, now time.Time) *Clock {
	sinceBoot := now.Sub(boot).Nanoseconds()
	return &Clock{read: func() reading { return reading{sinceBoot, sinceBoot, now} }}
}

// Now returns the wall time, in UTC and without a monotonic part.
func (c *Clock) Now() time.Time { return c.read().wall.Round(0).UTC() }

// Wall returns the wall time, in UTC, at bootNanos nanoseconds of
// CLOCK_BOOTTIME. It goes by the present difference of the two clocks: after a
// step of the wall clock the same bootNanos gives another time.
func (c *Clock) Wall(bootNanos uint64) time.Time {
	return c.boot().Add(time.Duration(bootNanos))
}

// BootNanos is the inverse of [Clock.Wall]. Times before boot give 0.
func (c *Clock) BootNanos(t time.Time) uint64 {
	return uint64(max(t.Sub(c.boot()).Nanoseconds(), 0))
}

// boot returns the wall time at which CLOCK_BOOTTIME was 0.
//
// The thread may be interrupted between reading one clock and the other, so of
// a few readings the one that took least time is the most exact.
func (c *Clock) boot() time.Time {
	best := c.read()
	for range 2 {
		if again := c.read(); again.after-again.before < best.after-best.before {
			best = again
		}
	}
	sinceBoot := best.before + (best.after-best.before)/2
	return best.wall.Round(0).UTC().Add(-time.Duration(sinceBoot))
}
