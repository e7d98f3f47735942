// SPDX-License-Identifier: Apache-2.0

// Package process describes processes: it turns the identity that the kernel side has into the
// attributes of an OpenTelemetry resource.
package process

import "time"

// ID is the identity of a process. It differs from that of a later process with the same pid, and
// changes with an exec or a change of the user. Kernel side: struct process in
// bpf/lib/process/process.h.
type ID struct {
	StartNanos uint64 // CLOCK_BOOTTIME of the thread group leader
	PID        uint32 // in the root pid namespace; 0 means no process
	ExecID     uint32 // changes with each exec
	UserID     uint32 // effective
	RealUserID uint32
}

// Seen is what the kernel side recorded when it first met a process. It stays known after the
// process has ended. Kernel side: struct process_seen.
type Seen struct {
	FirstNanos uint64 // CLOCK_BOOTTIME
	CgroupID   uint64 // inode number of its cgroup v2 directory; 0 if unknown
	Comm       string // of the thread group leader
	Executable string // base name, cut at 63 bytes; empty if unknown
}

// Process is everything that is known of a process. A field that is not known is empty.
type Process struct {
	ID
	HostID  string
	Created time.Time // with a precision of a millisecond
	Comm    string    // of the thread group leader
	Owner   string    // name of the effective user

	Executable     string // base name
	ExecutablePath string
	CommandLine    string // arguments joined by spaces, cut at 4096 bytes

	ParentPID int
	VPID      int // its pid in the innermost pid namespace it is in

	Cgroup      string // path in the cgroup v2 hierarchy
	ContainerID string
	PodUID      string
}
