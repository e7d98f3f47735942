// SPDX-License-Identifier: Apache-2.0

package closings

import (
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/process"
)

func rawClosing() bpfClosing {
	raw := bpfClosing{
		ClosedNs: 5_000, BytesSent: 300, BytesReceived: 1000, NetnsInode: 9, FirstSequence: 77, SegmentsSent: 4, SegmentsReceived: 5,
		Retransmits: 1, SmoothedRttUs: 250, LeastRttUs: 100, Error: 104, LocalPort: 22, PeerPort: 4000,
		LocalAddress: netip.MustParseAddr("10.0.0.1").As16(), PeerAddress: netip.MustParseAddr("2001:db8::7").As16(),
	}
	raw.Connection.EstablishedNs = 2_000
	raw.Connection.Process.Pid, raw.Connection.Process.StartNs = 7, 100
	return raw
}

func bytesOf(raw *bpfClosing) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(raw)), unsafe.Sizeof(*raw))
}

func TestDecode(t *testing.T) {
	raw := rawClosing()
	got, err := decode(bytesOf(&raw))
	if err != nil {
		t.Fatal(err)
	}
	want := Closing{
		ID: ID{
			Local: netip.MustParseAddrPort("10.0.0.1:22"), Peer: netip.MustParseAddrPort("[2001:db8::7]:4000"),
			NetnsInode: 9, FirstSequence: 77,
		},
		Process: process.ID{PID: 7, StartNanos: 100}, Established: 2_000, Closed: 5_000, ClosedBy: Peer, Error: 104,
		BytesSent: 300, BytesReceived: 1000, SegmentsSent: 4, SegmentsReceived: 5, Retransmits: 1,
		SmoothedRoundTrip: 250 * time.Microsecond, LeastRoundTrip: 100 * time.Microsecond,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("decode() differs (-want +got):\n%s", diff)
	}
	raw.Connection.EstablishedNs, raw.Connection.Seen.FirstNs = 0, 1_900
	want.Established, want.Seen.FirstNanos = 1_900, 1_900
	if got, err = decode(bytesOf(&raw)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("decode() of one whose handshake was not seen differs (-want +got):\n%s", diff)
	}
	want.Incoming, want.Process, want.Seen, want.Established = true, process.ID{}, process.Seen{}, 0
	if got, err = decode(bytesOf(&raw)[:unsafe.Offsetof(raw.Connection)]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("decode() of an incoming one differs (-want +got):\n%s", diff)
	}
	if _, err := decode(bytesOf(&raw)[1:]); err == nil {
		t.Error("a record that is too short gives no error")
	}
}

func TestClosedBy(t *testing.T) {
	for name, test := range map[string]struct {
		state uint32
		error int32
		want  string
	}{
		"we sent the first FIN":               {state: finWait2, want: Local},
		"both sent one at the same time":      {state: closing, want: Local},
		"the peer did, and we later":          {state: lastAck, error: 32, want: Peer},
		"the peer did, and we reset":          {state: closeWait, want: Peer},
		"the peer reset":                      {state: 1, error: 104, want: Peer},
		"we reset":                            {state: 1, want: Local},
		"it was killed from outside":          {state: 1, error: 103, want: Local},
		"nothing was answered any more":       {state: 1, error: 110, want: ""},
		"we closed, and nothing was answered": {state: finWait1, error: 110, want: Local},
		"we closed first, and the peer reset": {state: finWait1, error: 104, want: Local},
	} {
		raw := rawClosing()
		raw.LastState, raw.Error = test.state, test.error
		if got := closedBy(&raw); got != test.want {
			t.Errorf("%s: closedBy() = %q, want %q", name, got, test.want)
		}
	}
}

func TestIDTellsConnectionsApart(t *testing.T) {
	raw := rawClosing()
	first, err := decode(bytesOf(&raw))
	if err != nil {
		t.Fatal(err)
	}
	raw.FirstSequence++
	second, err := decode(bytesOf(&raw))
	if err != nil {
		t.Fatal(err)
	}
	if len(first.ID.String()) != 16 || first.ID.String() == second.ID.String() {
		t.Errorf("the ids are %v and %v", first.ID, second.ID)
	}
}
