// SPDX-License-Identifier: Apache-2.0

// Package calls reports each call that a thread makes into the kernel's socket code as a
// trace: the tree of the kernel functions that the call went through, with what it waited
// for. The kernel side, bpf/calls.bpf.c, builds the trees and decides which are reported.
package calls

import (
	"net/netip"
	"time"

	"github.com/seed-7756021b/nettap/internal/places"
)

// Options are the configuration of the instruments.
type Options struct {
	RootPath      string        // where the host's / is mounted; empty means /
	MinDuration   time.Duration // calls that took at least this long are kept; 0: all calls
	SampleRatio   float64       // the share of the other calls that is kept, from 0 to 1
	MaxPerSecond  int           // how many trees are reported in a second; 0: no limit
	IdleWaits     bool          // the time of waiting for work counts for MinDuration
	OffCPU        bool          // time off the CPU becomes nodes
	Waits         bool          // waits that begin in one call and end in another are reported
	Durations     bool          // how long waits took is counted, for [Durations]
	FollowAll     bool          // the functions inside are kept for all calls, not only for those of the sample
	KeepUnsampled bool          // calls are kept even if the application does not record their span
	Errors        Errnos        // failures that are kept
	Functions     []string      // patterns as in [CheckFunctionPattern]
	AvoidHooks    []string      // as in kernel.Avoiding
	Filter        Filter
	Places        *places.Places // that are started before the instrument; nil: none
}

// followsAll reports whether the functions inside are followed for all calls.
func (o Options) followsAll() bool { return o.FollowAll || o.MinDuration == 0 }

// Filter says which calls are observed. A call must be in each list that is not empty. Cgroups and
// Containers count as one list.
type Filter struct {
	PIDs       []uint32
	Commands   []string       // names of thread group leaders, of at most [MaxCommand] bytes
	Users      []uint32       // real user ids
	Cgroups    []string       // paths such as "/system.slice/nginx.service", which include all cgroups below
	Containers []string       // ids
	Syscalls   []string       // names as in [CheckSyscall]
	Prefixes   []netip.Prefix // of the address of either end
	Ports      []uint16       // of either end
}

// MaxCommand is the maximum length of a command, in bytes. The kernel cuts longer names.
const MaxCommand = 15
