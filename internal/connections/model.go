// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"cmp"
	"time"

	"github.com/seed-7756021b/nettap/internal/errno"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// Options are what an operator can choose.
type Options struct {
	RootPath string // where the host's / is mounted; "" is /
}

// bounds are the upper ends of the ranges into which round trips are sorted. The last range
// has none.
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

// series is what one line is told apart by.
type series struct {
	member *owner.Member // nil: the connections belong to no process, or to one that is not known
	deed   bpfDeed
	error  string // of connects; "" is success
	role   string // of ends: "client", "server"; "" is unknown
}

// compare puts those of no process first, and those of a process together.
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

// errorType is an error's name, as "ECONNREFUSED". An error that is not known is what the
// semantic conventions call so.
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

// point is what is said of a series.
type point struct {
	series
	start time.Time
	tally bpfTally
	ended bool
}

// membersOf are those that something is said of.
func membersOf(points []point) map[*owner.Member]bool {
	members := make(map[*owner.Member]bool, len(points))
	for _, p := range points {
		members[p.member] = true
	}
	return members
}

func (t *bpfTally) add(other bpfTally) {
	t.Count += other.Count
	t.SumUs += other.SumUs
	for i, n := range other.Ranges {
		t.Ranges[i] += n
	}
}

// settled returns a tally of which the parts agree: it may have been read while the kernel
// side added to it.
func (t bpfTally) settled() bpfTally {
	t.Count = 0
	for _, n := range t.Ranges {
		t.Count += n
	}
	return t
}
