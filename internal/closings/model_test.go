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
	if _, err := decode(bytesOf(&raw)[1:]); err == nil {
		t.Error("a record that is too short gives no error")
	}
}

func TestClosedBy(t *testing.T) {
	for name, test := range map[string]struct {
		here, there uint8
		error       int32
		want        string
	}{
		"we sent the first FIN":               {here: 1, want: Local},
		"the peer did":                        {there: 1, error: 32, want: Peer},
		"the peer reset":                      {error: 104, want: Peer},
		"we reset":                            {want: Local},
		"it was killed from outside":          {error: 103, want: Local},
		"nothing was answered any more":       {error: 110, want: ""},
		"we closed, and nothing was answered": {here: 1, error: 110, want: Local},
	} {
		raw := rawClosing()
		raw.Connection.ClosedHere, raw.Connection.ClosedThere, raw.Error = test.here, test.there, test.error
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
