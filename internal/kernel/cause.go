package kernel

import "errors"

// Cause is something that happens in the kernel and makes hooks fire.
type Cause int

// None of the causes is an accepted TCP connection, so that an instrument that
// tests itself is not reported by another one of the same receiver.
const (
	// CausePackets is that TCP and UDP sockets are made, send and receive over
	// lo, and are closed; and that a packet over lo is dropped.
	CausePackets Cause = iota

	// CauseAccepts is that a process accepts a connection, though not of TCP, and
	// looks for one in the empty queue of a TCP listener.
	CauseAccepts

	// CauseUring is that a request of an io_uring waits, is woken and completes.
	CauseUring

	// CauseThread is that a thread begins and ends.
	CauseThread

	// CauseExec is that a process runs another program. It is the only one that is
	// waited for and not brought about: a receiver that runs programs looks like one that
	// was broken into.
	CauseExec

	// CauseCgroup is that a cgroup is made and removed.
	CauseCgroup
)

// IsAwaited says that it is not brought about to prove a hook: whoever does it does.
func (c Cause) IsAwaited() bool { return c == CauseExec }

// errNotCaused is matched by errors of causes that are waited for.
var errNotCaused = errors.New("it has not happened since the start")

// String returns what happened.
func (c Cause) String() string {
	return [...]string{
		CausePackets: "sockets on lo were used",
		CauseAccepts: "a connection was accepted",
		CauseUring:   "a request of an io_uring completed",
		CauseThread:  "a thread began and ended",
		CauseExec:    "a program was run",
		CauseCgroup:  "a cgroup was made and removed",
	}[c]
}
