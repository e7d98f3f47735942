// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/closings"
	"github.com/seed-7756021b/nettap/internal/process"
)

func TestEndsAreJoinedWithTheirAccepts(t *testing.T) {
	a := decodedAccept()
	a.sequence = 77
	came := closings.Closing{ID: a.id(), Incoming: true}
	made := closings.Closing{ID: closings.ID{FirstSequence: 5}, Process: nginx}
	early, nobodys := came, came
	early.FirstSequence, nobodys.FirstSequence = 78, 79
	late := a
	late.sequence = 78

	e := ends{accepted: map[closings.ID]acceptor{}}
	e.note([]accept{a})
	owned := func(c closings.Closing) closings.Closing {
		c.Process, c.Seen, c.Established = a.process, a.seen, a.established()
		return c
	}
	compare := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	known, n := e.join([]closings.Closing{came, made, early, nobodys})
	if diff := cmp.Diff([]closings.Closing{owned(came), made}, known, compare); diff != "" || n != 0 {
		t.Errorf("join() counts %d of nobody, and differs (-want +got):\n%s", n, diff)
	}
	e.note([]accept{late})
	known, n = e.join(nil)
	if diff := cmp.Diff([]closings.Closing{owned(early)}, known, compare); diff != "" || n != 1 {
		t.Errorf("join() counts %d of nobody, and differs (-want +got):\n%s", n, diff)
	}
	if len(e.accepted) != 0 || len(e.waiting) != 0 {
		t.Errorf("%d accepts and %d ends are left", len(e.accepted), len(e.waiting))
	}
}

func TestEndsAreBounded(t *testing.T) {
	e := ends{accepted: map[closings.ID]acceptor{}}
	a := decodedAccept()
	for range maxAccepted + 10 {
		a.sequence++
		e.note([]accept{a})
	}
	if len(e.accepted) != maxAccepted {
		t.Errorf("%d accepts are remembered, want %d", len(e.accepted), maxAccepted)
	}
}

func TestClosedLine(t *testing.T) {
	c := closings.Closing{
		ID:      closings.ID{Local: netip.MustParseAddrPort("10.64.0.5:22"), Peer: netip.MustParseAddrPort("10.64.0.227:51514")},
		Process: process.ID{PID: 3165}, Seen: process.Seen{Comm: "ss\nhd"}, Established: 1_000_000_000, Closed: 2_500_000_000,
		BytesSent: 4096, BytesReceived: 2048,
	}
	const want = "ss hd[3165] uid 0: 10.64.0.5:22 with 10.64.0.227:51514 ended after 1.5s, 4096 bytes sent, 2048 received"
	if got := closedLine(c); got != want {
		t.Errorf("closedLine() = %q, want %q", got, want)
	}
}
