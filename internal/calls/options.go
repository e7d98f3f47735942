// SPDX-License-Identifier: Apache-2.0

// Package calls reports each call that a thread makes into the kernel's socket code as a
// trace: the tree of the kernel functions that the call went through, with what it waited
// for. The kernel side, bpf/calls.bpf.c, builds the trees and decides which are reported.
package calls

import (
	"net/netip"
	"time"
)

// Options are what the configuration says of the instrument.
type Options struct {
	RootPath      string        // where the host's / is mounted; empty means /
	MinDuration   time.Duration // calls that took at least this long are kept; 0 is all
	SampleRatio   float64       // of the others, from 0 to 1
	MaxPerSecond  int           // trees a second; 0 is no limit
	IdleWaits     bool          // waiting for work counts into the duration
	OffCPU        bool          // what a thread waits for becomes nodes
	Waits         bool          // waits that are of no one call are reported too
	Durations     bool          // how long waits took is counted, for [Durations]
	FollowAll     bool          // the functions inside are kept of all calls, not only of those of the sample
	KeepUnsampled bool          // calls of an application's spans that are not recorded are kept
	Errors        Errnos        // failures that are kept
	Functions     []string      // as [CheckFunctionPattern] takes them
	AvoidHooks    []string      // as in kernel.Avoiding
	Filter        Filter
}

// followsAll says whether the functions inside of all calls are wanted.
func (o Options) followsAll() bool { return o.FollowAll || o.MinDuration == 0 }

// Filter says which calls are looked at. An empty list is all; a call has to be
// in each list, of which cgroups and containers are one.
type Filter struct {
	PIDs       []uint32
	Commands   []string       // of the thread group leader, at most [MaxCommand] bytes
	Users      []uint32       // real user ids
	Cgroups    []string       // as "/system.slice/nginx.service", and all below
	Containers []string       // ids
	Syscalls   []string       // as [CheckSyscall] takes them
	Prefixes   []netip.Prefix // of either end
	Ports      []uint16       // of either end
}

// MaxCommand is how long a command is at most, in bytes.
const MaxCommand = 15
