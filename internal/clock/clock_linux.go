// SPDX-License-Identifier: Apache-2.0

package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

func readClocks() reading {
	before := sinceBoot()
	wall := time.Now()
	return reading{before: before, after: sinceBoot(), wall: wall}
}

func sinceBoot() int64 {
	var now unix.Timespec
	// It fails only if the kernel does not know the clock, which Linux has had since 2.6.39.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return now.Nano()
}
