// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/metadata"
)

const (
	loss    = metadata.AttributeNettapDropClassLoss
	benign  = metadata.AttributeNettapDropClassBenign
	unknown = metadata.AttributeNettapDropClassUnknown
)

// testWords are the names of an imaginary kernel.
func testWords() words {
	return words{
		reasons:   map[uint32]string{1: "consumed", 2: "not_specified", 3: "no_socket", 13: "otherhost"},
		functions: map[uint64]string{0x100: "tcp_v4_rcv", 0x180: "tcp_v4_rcv", 0x200: "ip_rcv_core.isra.0"},
		meanings: meanings{
			{reason: "no_socket"}:                          {class: loss},
			{reason: "no_socket", function: emptySegment}:  {class: benign},
			{reason: "otherhost", function: "ip_rcv_core"}: {class: benign},
		},
	}
}

func TestSeries(t *testing.T) {
	for name, test := range map[string]struct {
		key  bpfDropKey
		on   string
		want series
	}{
		"all is known": {
			key:  bpfDropKey{Location: 0x100, Reason: 3, Type: 0x0800, Transport: 6},
			on:   "eth0",
			want: series{"tcp_v4_rcv", "no_socket", loss, "eth0", "tcp", "ipv4", false},
		},
		"a function's own class goes before": {
			key:  bpfDropKey{Location: 0x200, Reason: 13},
			on:   "eth0",
			want: series{"ip_rcv_core.isra.0", "otherhost", benign, "eth0", "", "", false},
		},
		"an empty segment loses nothing": {
			key:  bpfDropKey{Location: 0x100, Reason: 3, Type: 0x0800, Transport: 6, Empty: 1},
			on:   "eth0",
			want: series{"tcp_v4_rcv", "no_socket", benign, "eth0", "tcp", "ipv4", false},
		},
		"what is unknown stays empty, and a reason without a name keeps its number": {
			key:  bpfDropKey{Location: 0x999, Reason: 0x30007},
			want: series{"", "reason_196615", unknown, "", "", "", false},
		},
		"a full accept queue has no function": {
			key:  bpfDropKey{Reason: reasonListenOverflow, Type: 0x86dd, Transport: 6},
			on:   "eth0",
			want: series{"", "nettap_listen_overflow", unknown, "eth0", "tcp", "ipv6", false},
		},
		"a kernel without reasons has its functions": {
			key:  bpfDropKey{Location: 0x100, Reason: reasonNotAvailable, Type: 0x0806},
			want: series{"tcp_v4_rcv", "not_available", unknown, "", "", "arp", false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := testWords().series(test.key, test.on)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(series{})); diff != "" {
				t.Errorf("series() differs (-want +got):\n%s", diff)
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
	type kernel struct {
		arguments int
		owners    bool
	}
	for k, want := range map[kernel]string{
		{2, false}: "count_drop_bare", {2, true}: "count_drop_place",
		{3, false}: "count_drop_reason", {3, true}: "count_drop_reason",
		{4, true}: "count_drop_socket", {5, true}: "count_drop_socket",
	} {
		if got := variantFor(k.arguments, k.owners); got != want {
			t.Errorf("variantFor(%+v) = %s, want %s", k, got, want)
		}
	}
}

func FuzzNameOf(f *testing.F) {
	f.Add([]byte("eth0\x00\x00"))
	f.Add([]byte("a-name-of-16-byt"))
	f.Add([]byte{0xff, 'x', 0})
	f.Fuzz(func(t *testing.T, field []byte) {
		var entry interfaces.Entry
		for i := range min(len(field), len(entry.Name)) {
			entry.Name[i] = int8(field[i])
		}
		if got := nameOf(entry); !utf8.ValidString(got) || strings.Contains(got, "\x00") {
			t.Errorf("nameOf(%q) = %q", field, got)
		}
	})
}
