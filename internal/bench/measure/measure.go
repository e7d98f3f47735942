// SPDX-License-Identifier: Apache-2.0

// Package measure defines the records of what instruments cost.
package measure

// Measure is what operations took in one state of the kernel.
type Measure struct {
	Case  string             `json:"case"`            // an instrument, or [All] or [Off]
	Rung  string             `json:"rung,omitempty"`  // the hook that was chosen of the instrument's ladder
	Empty bool               `json:"empty,omitempty"` // with empty programs at the hooks of the case
	Of    map[string]float64 `json:"of"`              // nanoseconds by operation; instructions in a guest that counts
}

// The cases that are no instruments.
const (
	Off = "off" // nothing is attached
	All = "all" // the defaults

	// What is off by default. They are measured if they are asked for.
	AcceptsEverything = "accepts-everything" // accepts with a policy and all its events
	Connections       = "connections"
	Everything        = "everything" // the defaults, and both of these

	// The same holds for parts of an instrument, and for those that it has no room for.
	CallsWithoutWaits = "calls-without-waits"
	TrafficBeyond     = "traffic-beyond" // traffic of a process beyond max_processes

	Bpftrace = "bpftrace" // a one-liner that counts by process, as traffic does
)

// Mark begins the lines that are measures.
const Mark = "@@ "

// The operations.
const (
	UDP        = "udp"        // a datagram of 64 bytes is sent and received
	TCP        = "tcp"        // a message of 64 bytes is sent and received
	Connection = "connection" // a connection is made, accepted and closed
	Drop       = "drop"       // a datagram is sent to a receiver whose buffer is full
	Getppid    = "getppid"    // a system call that has nothing to do with sockets
)

// Operations are all operations, in the order in which they are shown.
var Operations = []string{UDP, TCP, Connection, Drop, Getppid}
