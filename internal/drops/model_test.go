package drops

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

const (
	loss    = metadata.AttributeNettapDropClassLoss
	benign  = metadata.AttributeNettapDropClassBenign
	unknown = metadata.AttributeNettapDropClassUnknown
)

// testWords are those of a kernel that is not this one.
func testWords() words {
	return words{
		reasons:   map[uint32]string{1: "consumed", 2: "not_specified", 3: "no_socket", 13: "otherhost"},
		functions: map[uint64]string{0x100: "tcp_v4_rcv", 0x180: "tcp_v4_rcv", 0x200: "ip_rcv_core.isra.0"},
		classes:   classes{{reason: "no_socket"}: loss, {reason: "otherhost", function: "ip_rcv_core"}: benign},
	}
}

func interfaceNamed(name string) (field [16]uint8) {
	copy(field[:], name)
	return field
}

func TestBySeries(t *testing.T) {
	eth0 := interfaceNamed("eth0")

	at := exemplar{tracecontext.Context{TraceID: [16]byte{1}, SpanID: [8]byte{2}, Source: tracecontext.Socket}, 7}
	for name, test := range map[string]struct {
		counts    map[bpfDropKey]uint64
		exemplars map[bpfDropKey]exemplar
		want      []drop
	}{
		"an exemplar is with its series": {
			counts:    map[bpfDropKey]uint64{{Location: 0x100, Reason: reasonNotAvailable, Type: 0x0806}: 1},
			exemplars: map[bpfDropKey]exemplar{{Location: 0x100, Reason: reasonNotAvailable, Type: 0x0806}: at},
			want:      []drop{{series{"tcp_v4_rcv", "not_available", unknown, "", "", "arp"}, 1, []exemplar{at}}},
		},
		"nothing was dropped": {want: []drop{}},
		"a key without packets is no series": {
			counts: map[bpfDropKey]uint64{{Location: 0x100, Reason: 3}: 0},
			want:   []drop{},
		},
		"two places in one function are one series": {
			counts: map[bpfDropKey]uint64{
				{Location: 0x100, Reason: 3, Interface: eth0, Type: 0x0800, Transport: 6}: 2,
				{Location: 0x180, Reason: 3, Interface: eth0, Type: 0x0800, Transport: 6}: 3,
			},
			want: []drop{{series{"tcp_v4_rcv", "no_socket", loss, "eth0", "tcp", "ipv4"}, 5, nil}},
		},
		"one function gives several reasons, on several interfaces": {
			counts: map[bpfDropKey]uint64{
				{Location: 0x200, Reason: 13, Interface: eth0}:                  1,
				{Location: 0x200, Reason: 2, Interface: eth0}:                   2,
				{Location: 0x200, Reason: 2, Interface: interfaceNamed("eth1")}: 3,
			},
			want: []drop{
				{series{"ip_rcv_core.isra.0", "not_specified", unknown, "eth0", "", ""}, 2, nil},
				{series{"ip_rcv_core.isra.0", "not_specified", unknown, "eth1", "", ""}, 3, nil},
				{series{"ip_rcv_core.isra.0", "otherhost", benign, "eth0", "", ""}, 1, nil},
			},
		},
		"what is unknown stays empty, and a reason without a name keeps its number": {
			counts: map[bpfDropKey]uint64{{Location: 0x999, Reason: 0x30007}: 1},
			want:   []drop{{series{"", "reason_196615", unknown, "", "", ""}, 1, nil}},
		},
		"a full accept queue has no function": {
			counts: map[bpfDropKey]uint64{{Reason: reasonListenOverflow, Interface: eth0, Type: 0x86dd, Transport: 6}: 4},
			want:   []drop{{series{"", "nettap_listen_overflow", unknown, "eth0", "tcp", "ipv6"}, 4, nil}},
		},
		"a kernel without reasons has its functions": {
			counts: map[bpfDropKey]uint64{{Location: 0x100, Reason: reasonNotAvailable, Type: 0x0806}: 1},
			want:   []drop{{series{"tcp_v4_rcv", "not_available", unknown, "", "", "arp"}, 1, nil}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := bySeries(test.counts, test.exemplars, testWords())
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(drop{}, series{}, exemplar{})); diff != "" {
				t.Errorf("bySeries() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNumbersOf(t *testing.T) {
	for name, test := range map[string]struct {
		reasons map[uint32]string
		want    numbers
	}{
		"a kernel without reasons": {
			want: numbers{consumed: reasonNever, noSocket: reasonNever, overflow: reasonNever, unspecified: reasonNotAvailable},
		},
		"a kernel that does not tell a full accept queue": {
			reasons: map[uint32]string{1: "consumed", 2: "not_specified", 3: "no_socket"},
			want:    numbers{consumed: 1, noSocket: 3, overflow: reasonNever, unspecified: 2},
		},
		"a kernel that does": {
			reasons: map[uint32]string{1: "consumed", 2: "not_specified", 3: "no_socket", 40: "tcp_listen_overflow"},
			want:    numbers{consumed: 1, noSocket: 3, overflow: 40, unspecified: reasonNever},
		},
		"the first kernel with reasons": {
			reasons: map[uint32]string{0: "not_specified", 1: "no_socket"},
			want:    numbers{consumed: reasonNever, noSocket: 1, overflow: reasonNever, unspecified: 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, numbersOf(test.reasons), cmp.AllowUnexported(numbers{})); diff != "" {
				t.Errorf("numbersOf() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVariantFor(t *testing.T) {
	for arguments, want := range map[int]string{
		2: "count_drop_bare", 3: "count_drop_reason", 4: "count_drop_socket", 5: "count_drop_socket",
	} {
		if got := variantFor(arguments); got != want {
			t.Errorf("variantFor(%d) = %s, want %s", arguments, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("eth0\x00\x00"))
	f.Add([]byte("a-name-of-16-byt"))
	f.Add([]byte{0xff, 'x', 0})
	f.Fuzz(func(t *testing.T, field []byte) {
		if got := text(field); !utf8.ValidString(got) || strings.Contains(got, "\x00") {
			t.Errorf("text(%q) = %q", field, got)
		}
	})
}
