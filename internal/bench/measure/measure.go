// SPDX-License-Identifier: Apache-2.0

// Package measure is how measures of what instruments cost are written down.
package measure

// Measure is what operations took in one state of the kernel.
type Measure struct {
	Case  string             `json:"case"`            // an instrument, or [All] or [Off]
	Rung  string             `json:"rung,omitempty"`  // the hook that was chosen of the instrument's ladder
	Empty bool               `json:"empty,omitempty"` // empty programs are at the hooks of the case
	Of    map[string]float64 `json:"of"`              // nanoseconds by operation: in a guest that counts, instructions
}

// The cases that are no instrument.
const (
	Off = "off" // nothing is attached
	All = "all" // the defaults

	Bpftrace = "bpftrace" // a one-liner that counts by process, as traffic does
)

// Mark begins the lines that are measures.
const Mark = "@@ "

// The operations.
const (
	UDP        = "udp"        // a datagram of 64 bytes is sent and received
	TCP        = "tcp"        // a message of 64 bytes is sent and received
	Connection = "connection" // a connection is made, accepted and closed
	Drop       = "drop"       // a datagram is sent whose receiver's buffer is full
	Getppid    = "getppid"    // a system call that is no socket's
)

// Operations are all, in the order to show them in.
var Operations = []string{UDP, TCP, Connection, Drop, Getppid}
