// SPDX-License-Identifier: Apache-2.0

// Package process says who a process is: from its kernel identity to the
// attributes of an OpenTelemetry resource.
package process

import "time"

// ID tells a process from a later one with the same pid, and from itself before
// an exec or a change of its user. Kernel side: struct process in
// bpf/lib/process/process.h.
type ID struct {
	StartNanos uint64 // CLOCK_BOOTTIME of the thread group leader
	PID        uint32 // in the root pid namespace; 0 is no process
	ExecID     uint32 // another one after each exec
	UserID     uint32 // effective
	RealUserID uint32
}

// Seen is what the kernel side noted when it first met a process, and what
// stays known after the process has gone. Kernel side: struct process_seen.
type Seen struct {
	FirstNanos uint64 // CLOCK_BOOTTIME
	CgroupID   uint64 // inode number of its cgroup v2 directory; 0 is unknown
	Comm       string // of the thread group leader
	Executable string // base name, cut at 63 bytes; empty is unknown
}

// Process is a process with all that is known of it. What is unknown is empty.
type Process struct {
	ID
	HostID  string
	Created time.Time // to the millisecond
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
