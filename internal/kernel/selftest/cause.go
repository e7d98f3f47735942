// SPDX-License-Identifier: Apache-2.0

// Package selftest causes the events that make hooks fire, so that a program which is attached but
// never runs is detected.
package selftest

import "errors"

// Cause is an event in the kernel that makes hooks fire.
type Cause int

// No cause accepts a TCP connection, so that the self-test of one instrument is not reported by
// another one of the same receiver.
const (
	// Packets means that TCP and UDP sockets are made, send and receive over lo, and are
	// closed, and that a packet over lo is dropped.
	Packets Cause = iota

	// Accepts means that a process accepts a connection, but not of TCP, and looks for one in
	// the empty queue of a TCP listener.
	Accepts

	// Uring means that a request of an io_uring waits, is woken and completes.
	Uring

	// Thread means that a thread begins and ends.
	Thread

	// Exec means that a process runs another program. It is awaited and not brought about:
	// a receiver that runs programs looks like one that was broken into.
	Exec

	// Cgroup means that a cgroup is made and removed.
	Cgroup

	// Reset means that a TCP connection over lo is reset.
	Reset

	// Retransmit means that a TCP segment is sent again. It is awaited, too, because nothing is
	// lost on lo.
	Retransmit

	// Receipts means that a TCP socket receives what it sent to itself over lo, and a Unix
	// socket receives a datagram.
	Receipts
)

// IsAwaited reports whether a hook is proven only when some process causes the event, because
// nettap does not.
func (c Cause) IsAwaited() bool { return c == Exec || c == Retransmit }

// ErrNotCaused is matched by the error of a cause that is awaited.
var ErrNotCaused = errors.New("it has not happened since the start")

// String returns what happened.
func (c Cause) String() string {
	return [...]string{
		Packets:    "sockets on lo were used",
		Accepts:    "a connection was accepted",
		Uring:      "a request of an io_uring completed",
		Thread:     "a thread began and ended",
		Exec:       "a program was run",
		Cgroup:     "a cgroup was made and removed",
		Reset:      "a connection was reset",
		Retransmit: "a segment was sent again",
		Receipts:   "sockets received what was sent to them",
	}[c]
}
