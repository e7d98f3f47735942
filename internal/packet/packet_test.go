// SPDX-License-Identifier: Apache-2.0

package packet

import "testing"

func TestTransport(t *testing.T) {
	for protocol, want := range map[uint8]string{6: "tcp", 17: "udp", 58: "icmpv6", 253: "protocol_253"} {
		if got := Transport(protocol); got != want {
			t.Errorf("Transport(%d) = %q, want %q", protocol, got, want)
		}
	}
}

func TestType(t *testing.T) {
	for ethertype, want := range map[uint16]string{0x0800: "ipv4", 0x86dd: "ipv6", 0x1234: "ethertype_0x1234"} {
		if got := Type(ethertype); got != want {
			t.Errorf("Type(%#04x) = %q, want %q", ethertype, got, want)
		}
	}
}

func TestHasName(t *testing.T) {
	for protocol, want := range map[uint8]bool{6: true, 0: false, 253: false} {
		if got := HasName(protocol); got != want {
			t.Errorf("HasName(%d) = %v, want %v", protocol, got, want)
		}
	}
}
