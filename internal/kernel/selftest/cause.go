// SPDX-License-Identifier: Apache-2.0

// Package selftest makes happen what makes hooks fire, so that a program which is attached
// and never runs is found out.
package selftest

import "errors"

// Cause is something that happens in the kernel and makes hooks fire.
type Cause int

// None of the causes is an accepted TCP connection, so that an instrument that
// tests itself is not reported by another one of the same receiver.
const (
	// Packets is that TCP and UDP sockets are made, send and receive over
	// lo, and are closed; and that a packet over lo is dropped.
	Packets Cause = iota

	// Accepts is that a process accepts a connection, though not of TCP, and
	// looks for one in the empty queue of a TCP listener.
	Accepts

	// Uring is that a request of an io_uring waits, is woken and completes.
	Uring

	// Thread is that a thread begins and ends.
	Thread

	// Exec is that a process runs another program. It is the only one that is
	// waited for and not brought about: a receiver that runs programs looks like one that
	// was broken into.
	Exec

	// Cgroup is that a cgroup is made and removed.
	Cgroup

	// Reset is that a TCP connection over lo is reset.
	Reset
)

// IsAwaited says that it is not brought about to prove a hook: whoever does it does.
func (c Cause) IsAwaited() bool { return c == Exec }

// ErrNotCaused is matched by errors of causes that are waited for.
var ErrNotCaused = errors.New("it has not happened since the start")

// String returns what happened.
func (c Cause) String() string {
	return [...]string{
		Packets: "sockets on lo were used",
		Accepts: "a connection was accepted",
		Uring:   "a request of an io_uring completed",
		Thread:  "a thread began and ended",
		Exec:    "a program was run",
		Cgroup:  "a cgroup was made and removed",
		Reset:   "a connection was reset",
	}[c]
}
