// SPDX-License-Identifier: Apache-2.0

package interfaces

import "testing"

func TestIsStacked(t *testing.T) {
	for kind, want := range map[string]bool{
		"":           false, // hardware, and lo
		"bridge":     true,  // with ports or without
		"dummy":      false,
		"geneve":     true,
		"ifb":        false,
		"ipip":       true,
		"netkit":     true,
		"tun":        false,
		"unheard of": false,
		"veth":       false,
		"vlan":       true,
		"vxlan":      true, // on a device or on none
		"wireguard":  true,
	} {
		if got := IsStacked(kind); got != want {
			t.Errorf("IsStacked(%q) = %v, want %v", kind, got, want)
		}
	}
}

// The kernel side has room for 15 bytes of a kind.
func TestKindsFitTheRecord(t *testing.T) {
	for kind := range stacked {
		if len(kind) >= len(Entry{}.Kind) {
			t.Errorf("%s has %d bytes", kind, len(kind))
		}
	}
}
