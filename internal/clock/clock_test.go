// SPDX-License-Identifier: Apache-2.0

package clock

import (
	"testing"
	"time"
)

func TestWall(t *testing.T) {
	boot := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

	for name, test := range map[string]struct {
		bootNanos uint64
		want      time.Time
	}{
		"zero is the boot":             {bootNanos: 0, want: boot},
		"nanoseconds are kept":         {bootNanos: 1, want: boot.Add(1)},
		"a year of uptime is no limit": {bootNanos: uint64(365 * 24 * time.Hour), want: boot.AddDate(1, 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			clock := Fixed(boot, boot.Add(time.Hour))
			if got := clock.Wall(test.bootNanos); got != test.want {
				t.Errorf("Wall(%d) = %v, want %v", test.bootNanos, got, test.want)
			}
			if got := clock.BootNanos(test.want); got != test.bootNanos {
				t.Errorf("BootNanos(%v) = %d, want %d", test.want, got, test.bootNanos)
			}
		})
	}
}

func TestBootNanosBeforeBootIsZero(t *testing.T) {
	boot := time.Unix(1000, 0)
	if got := Fixed(boot, boot).BootNanos(boot.Add(-time.Second)); got != 0 {
		t.Errorf("BootNanos() = %d, want 0", got)
	}
}

func TestWallUsesTheTightestReading(t *testing.T) {
	wall := time.Unix(1_000_000, 0)
	readings := []reading{
		{before: 1_000, after: 900_000, wall: wall.Add(1_000)},
		{before: 2_000, after: 2_010, wall: wall.Add(2_005)},
		{before: 3_000, after: 4_000, wall: wall.Add(3_000)},
	}
	next := 0
	clock := &Clock{read: func() reading { next++; return readings[next-1] }}

	if got, want := clock.Wall(7), wall.Add(7).UTC(); got != want {
		t.Errorf("Wall(7) = %v, want %v", got, want)
	}
}

func TestNewAgreesWithItself(t *testing.T) {
	clock := New()
	now := time.Now()
	back := clock.Wall(clock.BootNanos(now))
	// The offset is read twice, and changes a little while the clock is being slewed.
	if apart := back.Sub(now).Abs(); apart > time.Millisecond {
		t.Errorf("Wall(BootNanos(now)) is %v away from now", apart)
	}
	if apart := clock.Now().Sub(now).Abs(); apart > time.Minute {
		t.Errorf("Now() is %v away from time.Now()", apart)
	}
}
