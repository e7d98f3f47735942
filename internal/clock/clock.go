// SPDX-License-Identifier: Apache-2.0

// Package clock converts the kernel's time since boot to wall time.
package clock

import "time"

// Clock converts between CLOCK_BOOTTIME, in which the kernel side records times, and wall time. It
// may be used by several goroutines.
type Clock struct {
	read func() reading
}

// reading is the wall time between two readings of the time since boot.
type reading struct {
	before, after int64 // CLOCK_BOOTTIME, ns
	wall          time.Time
}

// New returns the machine's clock.
func New() *Clock { return &Clock{read: readClocks} }

// Fixed returns a clock for tests that always shows now, on a machine booted at boot.
func Fixed(boot, now time.Time) *Clock {
	sinceBoot := now.Sub(boot).Nanoseconds()
	return &Clock{read: func() reading { return reading{sinceBoot, sinceBoot, now} }}
}

// Now returns the wall time, in UTC and without a monotonic part.
func (c *Clock) Now() time.Time { return c.read().wall.Round(0).UTC() }

// Wall returns the wall time, in UTC, at bootNanos nanoseconds of CLOCK_BOOTTIME. It uses the
// present difference between the two clocks, so after a step of the wall clock the same bootNanos
// gives another time.
func (c *Clock) Wall(bootNanos uint64) time.Time {
	return c.boot().Add(time.Duration(bootNanos))
}

// BootNanos is the inverse of [Clock.Wall]. It returns 0 for times before boot.
func (c *Clock) BootNanos(t time.Time) uint64 {
	return uint64(max(t.Sub(c.boot()).Nanoseconds(), 0))
}

// boot returns the wall time at which CLOCK_BOOTTIME was 0.
//
// The thread may be interrupted between reading the two clocks. So a few readings are made, and
// the one that took the least time is used.
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
