// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"cmp"
	"time"

	"github.com/seed-7756021b/nettap/internal/errno"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// Options are the configuration of the instrument.
type Options struct {
	RootPath   string   // where the host's / is mounted; "" means /
	AvoidHooks []string // those of kernel.Avoiding
}

// bounds are the upper bounds of the ranges of round-trip times. There is one more range, which has none.
var bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
}

func boundsMicros() (micros [len(bounds)]uint32) {
	for i, bound := range bounds {
		micros[i] = uint32(bound.Microseconds())
	}
	return micros
}

// series identifies a series.
type series struct {
	member *owner.Member // nil: the connections belong to no process, or to one that is not known
	deed   bpfDeed
	error  string // of connects, as in errorType
	role   string // of ends: "client", "server"; "": unknown
}

// compare orders series without a process first, and the series of a process after each other.
func (s series) compare(other series) int {
	return cmp.Or(s.member.Compare(other.member), cmp.Compare(s.deed, other.deed), cmp.Compare(s.error, other.error), cmp.Compare(s.role, other.role))
}

// seriesOf returns the series of a tally.
//
// Kernel side: struct tally_key in bpf/connections.bpf.c.
func seriesOf(key bpfTallyKey, member *owner.Member) series {
	return series{member: member, deed: key.Deed, error: errorType(key.Failure), role: roles[key.Role]}
}

var roles = map[bpfRole]string{bpfRoleROLE_CLIENT: "client", bpfRoleROLE_SERVER: "server"}

// errorType returns the attribute error.type of a connect, such as "ECONNREFUSED", or "" for success. For
// an unknown error it is "_OTHER", as the semantic conventions say.
func errorType(failure bpfFailure) string {
	switch failure {
	case bpfFailureFAILURE_NONE:
		return ""
	case bpfFailureFAILURE_GIVEN_UP:
		return "given_up"
	case bpfFailureFAILURE_UNKNOWN:
		return "_OTHER"
	}
	return errno.Name(uint32(failure))
}

// point is what a collection reports of a series.
type point struct {
	series
	start time.Time
	tally bpfTally
	ended bool
}

// membersOf returns the processes of points.
func membersOf(points []point) map[*owner.Member]bool {
	members := make(map[*owner.Member]bool, len(points))
	for _, p := range points {
		members[p.member] = true
	}
	return members
}

// tallies returns what a process has counted in its place, by the keys that it would have in the kernel's
// map.
func (u bpfUsual) tallies(number uint64) map[bpfTallyKey]bpfTally {
	return map[bpfTallyKey]bpfTally{
		{Number: number, Deed: bpfDeedDEED_CONNECT}:                       {Count: u.Connects},
		{Number: number, Deed: bpfDeedDEED_END, Role: bpfRoleROLE_CLIENT}: u.AsClient,
		{Number: number, Deed: bpfDeedDEED_END, Role: bpfRoleROLE_SERVER}: u.AsServer,
	}
}

func (t *bpfTally) add(other bpfTally) {
	t.Count += other.Count
	t.SumUs += other.SumUs
	for i, n := range other.Ranges {
		t.Ranges[i] += n
	}
}

// settled returns a tally whose count agrees with its ranges. It may have been read while the BPF program
// was adding to it.
func (t bpfTally) settled() bpfTally {
	t.Count = 0
	for _, n := range t.Ranges {
		t.Count += n
	}
	return t
}
