// SPDX-License-Identifier: Apache-2.0

package refusals

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRefusalFrom(t *testing.T) {
	local, peer := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::7")
	for name, test := range map[string]struct {
		key  bpfRefusedKey
		want Refusal
	}{
		"an attempt": {
			key: bpfRefusedKey{
				LocalAddress: netip.AddrFrom16(local.As16()).As16(), PeerAddress: peer.As16(), NetnsInode: 9, Port: 22, Refusal: 1,
			},
			want: Refusal{Local: local, Peer: peer, NetnsInode: 9, Port: 22, Cause: "closed_port", Count: 4, FirstNanos: 5},
		},
		"those without a place": {
			key:  bpfRefusedKey{Refusal: 2},
			want: Refusal{Cause: "queue_full", Count: 4, FirstNanos: 5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := refusalFrom(test.key, bpfRefused{Count: 4, FirstNs: 5})
			if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("refusalFrom() differs (-want +got):\n%s", diff)
			}
		})
	}
}
