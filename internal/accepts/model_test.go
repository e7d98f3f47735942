// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

var (
	sshd  = process.ID{StartNanos: 100, PID: 3165, ExecID: 2}
	nginx = process.ID{StartNanos: 900, PID: 71, ExecID: 5, UserID: 33, RealUserID: 33}
)

// compare makes whole accepts comparable.
var compare = cmp.Options{
	cmp.AllowUnexported(accept{}),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

func TestDecode(t *testing.T) {
	for name, test := range map[string]struct {
		change func(raw *bpfAccept)
		want   func(want *accept)
	}{
		"an IPv4 connection": {},
		"an IPv6 connection": {
			change: func(raw *bpfAccept) {
				raw.LocalAddress = netip.MustParseAddr("2001:db8::1").As16()
				raw.PeerAddress = netip.MustParseAddr("2001:db8::7").As16()
			},
			want: func(want *accept) {
				want.local = netip.MustParseAddrPort("[2001:db8::1]:22")
				want.peer = netip.MustParseAddrPort("[2001:db8::7]:51514")
			},
		},
		"what the kernel side does not know is negative": {
			change: func(raw *bpfAccept) { raw.QueueNs, raw.QueueLength, raw.QueueLimit = -1, -1, -1 },
			want:   func(want *accept) { want.queued, want.queueLength, want.queueLimit = -1, -1, -1 },
		},
		"a name that fills its field has no zero byte": {
			change: func(raw *bpfAccept) { copy(raw.Seen.Executable[:], chars(strings.Repeat("e", 64))) },
			want:   func(want *accept) { want.seen.Executable = strings.Repeat("e", 64) },
		},
		"a name may be bytes that are no text": {
			change: func(raw *bpfAccept) { copy(raw.Seen.Comm[:], chars("\xff\xfe\n\x00 old")) },
			want:   func(want *accept) { want.seen.Comm = "\xff\xfe\n" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw, want := rawAccept(), decodedAccept()
			if test.change != nil {
				test.change(&raw)
				test.want(&want)
			}
			got, err := decode(encode(t, raw))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, compare); diff != "" {
				t.Errorf("decode() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefusesRecordsOfAnotherSize(t *testing.T) {
	record := encode(t, rawAccept())
	for _, wrong := range [][]byte{nil, record[:len(record)-1], append(record, 0)} {
		if got, err := decode(wrong); err == nil {
			t.Errorf("decode of %d bytes gives %+v, want an error", len(wrong), got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, rawAccept())) // more seeds are in testdata/fuzz
	f.Fuzz(func(t *testing.T, record []byte) {
		a, err := decode(record)
		if err != nil {
			return
		}
		if line := a.line(); strings.ContainsAny(line, "\n\r\x00") {
			t.Errorf("line() = %q, which is not one line", line)
		}
		if networkType(a.local.Addr()) == "ipv4" != a.local.Addr().Is4() {
			t.Errorf("networkType() = %q for %v", networkType(a.local.Addr()), a.local)
		}
	})
}

func TestByProcess(t *testing.T) {
	reused := sshd
	reused.StartNanos++
	became := sshd
	became.UserID = 1000

	first := accept{process: sshd, nanos: 1}
	second := accept{process: sshd, nanos: 3}
	for name, test := range map[string]struct {
		accepts []accept
		want    [][]accept
	}{
		"nothing accepted": {},
		"accepts of a process stay in order, whoever accepts between": {
			accepts: []accept{first, {process: nginx, nanos: 2}, second},
			want:    [][]accept{{first, second}, {{process: nginx, nanos: 2}}},
		},
		"a reused pid is another process": {
			accepts: []accept{first, {process: reused}},
			want:    [][]accept{{first}, {{process: reused}}},
		},
		"a process that changed its user is another one": {
			accepts: []accept{first, {process: became}},
			want:    [][]accept{{first}, {{process: became}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, byProcess(test.accepts), compare); diff != "" {
				t.Errorf("byProcess() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLine(t *testing.T) {
	for name, test := range map[string]struct {
		accept accept
		want   string
	}{
		"IPv4": {
			accept: decodedAccept(),
			want:   "sshd[3165] uid 0 accepted 10.64.0.227:51514 on 10.64.0.5:22",
		},
		"the user is the real one, and IPv6 addresses are in brackets": {
			accept: accept{
				process: process.ID{PID: 71, UserID: 33, RealUserID: 1000},
				seen:    process.Seen{Comm: "nginx"},
				local:   netip.MustParseAddrPort("[2001:db8::1]:443"),
				peer:    netip.MustParseAddrPort("[2001:db8::7]:40022"),
			},
			want: "nginx[71] uid 1000 accepted [2001:db8::7]:40022 on [2001:db8::1]:443",
		},
		"a process cannot forge lines by its name": {
			accept: accept{
				process: nginx,
				seen:    process.Seen{Comm: "a\nb\x1b[1m\xff é"},
				local:   netip.MustParseAddrPort("10.0.0.1:80"),
				peer:    netip.MustParseAddrPort("10.0.0.2:9"),
			},
			want: "a b\uFFFD[1m\uFFFD é[71] uid 33 accepted 10.0.0.2:9 on 10.0.0.1:80",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.accept.line(); got != test.want {
				t.Errorf("line() = %q, want %q", got, test.want)
			}
		})
	}
}

// rawAccept is a record as the kernel side writes it, decodedAccept the same in our words.
func rawAccept() bpfAccept {
	var raw bpfAccept
	raw.TimeNs, raw.QueueNs = 5_000_000_000, 250_000
	raw.Process.StartNs, raw.Process.Pid, raw.Process.ExecId = 100, 3165, 2
	raw.Seen.FirstNs, raw.Seen.CgroupId = 5_000_000_001, 77
	copy(raw.Seen.Comm[:], chars("sshd"))
	copy(raw.Seen.Executable[:], chars("sshd"))
	raw.LocalAddress = netip.MustParseAddr("::ffff:10.64.0.5").As16()
	raw.PeerAddress = netip.MustParseAddr("::ffff:10.64.0.227").As16()
	raw.LocalPort, raw.PeerPort = 22, 51514
	raw.NetnsInode, raw.ThreadId = 4026531840, 3166
	raw.QueueLength, raw.QueueLimit = 1, 128
	return raw
}

func decodedAccept() accept {
	return accept{
		process:     sshd,
		seen:        process.Seen{FirstNanos: 5_000_000_001, CgroupID: 77, Comm: "sshd", Executable: "sshd"},
		nanos:       5_000_000_000,
		threadID:    3166,
		local:       netip.MustParseAddrPort("10.64.0.5:22"),
		peer:        netip.MustParseAddrPort("10.64.0.227:51514"),
		netnsInode:  4026531840,
		queued:      250_000,
		queueLength: 1,
		queueLimit:  128,
	}
}

func encode(t testing.TB, raw bpfAccept) []byte {
	t.Helper()
	record, err := binary.Append(nil, binary.NativeEndian, raw)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func chars(text string) []int8 {
	signed := make([]int8, len(text))
	for i := range signed {
		signed[i] = int8(text[i])
	}
	return signed
}

func TestBind(t *testing.T) {
	const lateBind = 100
	context := tracecontext.Context{TraceID: [16]byte{1}, SpanID: [8]byte{2}, Source: tracecontext.HTTP}
	port := func(port uint16, nanos uint64, context tracecontext.Context) accept {
		return accept{peer: netip.AddrPortFrom(netip.IPv6Loopback(), port), nanos: nanos, context: context}
	}
	none := tracecontext.Context{}
	for name, test := range map[string]struct {
		accepts, ready, held []accept
	}{
		"nothing was accepted":        {},
		"a context is there":          {accepts: []accept{port(1, 950, none)}, ready: []accept{port(1, 950, context)}},
		"one may still come":          {accepts: []accept{port(2, 950, none)}, held: []accept{port(2, 950, none)}},
		"none has come":               {accepts: []accept{port(2, 900, none)}, ready: []accept{port(2, 900, none)}},
		"it was another connection's": {accepts: []accept{port(1, 990, none)}, held: []accept{port(1, 990, none)}},
	} {
		t.Run(name, func(t *testing.T) {
			first := func(c tracecontext.Connection, since uint64) (tracecontext.Context, bool) {
				if c.Peer.Port() == 1 && since <= 960 {
					return context, true
				}
				return none, false
			}
			ready, held := bind(test.accepts, first, func(a accept) bool { return a.nanos+lateBind > 1000 })
			if diff := cmp.Diff([2][]accept{test.ready, test.held}, [2][]accept{ready, held}, compare); diff != "" {
				t.Errorf("bind() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBindHoldsSoMany(t *testing.T) {
	accepts := make([]accept, maxHeld+3)
	never := func(tracecontext.Connection, uint64) (tracecontext.Context, bool) {
		return tracecontext.Context{}, false
	}
	ready, held := bind(accepts, never, func(accept) bool { return true })
	if len(ready) != 3 || len(held) != maxHeld {
		t.Errorf("%d wait and %d do not, want %d and 3", len(held), len(ready), maxHeld)
	}
}
