// SPDX-License-Identifier: Apache-2.0

// Package packet has the names of protocols in a packet's headers.
package packet

import "fmt"

// transports are the IP protocols that have a name here; others are numbers.
//
// Source: IANA's protocol numbers, in lower case; ICMP for IPv6 as in the
// kernel's names.
var transports = map[uint8]string{
	1:   "icmp",
	2:   "igmp",
	4:   "ipip",
	6:   "tcp",
	17:  "udp",
	33:  "dccp",
	41:  "ipv6",
	47:  "gre",
	50:  "esp",
	51:  "ah",
	58:  "icmpv6",
	89:  "ospf",
	103: "pim",
	112: "vrrp",
	132: "sctp",
	136: "udplite",
}

// Transport returns the name of an IP protocol for network.transport: "tcp" for 6. A protocol
// without a name here is shown by its number, such as "protocol_253".
func Transport(protocol uint8) string {
	if name, ok := transports[protocol]; ok {
		return name
	}
	return fmt.Sprintf("protocol_%d", protocol)
}

// HasName reports whether Transport has a name for an IP protocol.
func HasName(protocol uint8) bool {
	_, ok := transports[protocol]
	return ok
}

// types are the ethertypes that have a name here.
//
// Source: include/uapi/linux/if_ether.h.
var types = map[uint16]string{
	0x0800: "ipv4",
	0x0806: "arp",
	0x86dd: "ipv6",
	0x8847: "mpls",
	0x88cc: "lldp",
	0x88f7: "ptp",
}

// Type returns the name of an ethertype, in host byte order, for network.type: "ipv4" for 0x0800.
// One without a name here is shown by its number, such as "ethertype_0x1234".
func Type(ethertype uint16) string {
	if name, ok := types[ethertype]; ok {
		return name
	}
	return fmt.Sprintf("ethertype_%#04x", ethertype)
}
