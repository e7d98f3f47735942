// SPDX-License-Identifier: Apache-2.0

package interfaces

// stacked are the kinds of devices that pass their packets to another device, or get them from
// one, which counts them as well. The kind is that of rtnl_link_ops in the kernel, as in `ip link
// add type KIND`. It does not change while a device exists, whatever devices are put below it.
//
// Not listed are hardware and lo, which have no kind; veth and vxcan, whose two ends are separate
// interfaces; and tun (tun and tap), dummy, ifb, nlmon, vsockmon, vcan, ipoib, wwan and netdevsim,
// which have no device below.
//
// Source: struct rtnl_link_ops in drivers/net and net of Linux.
var stacked = map[string]bool{
	"amt":         true,
	"bareudp":     true,
	"batadv":      true,
	"bond":        true,
	"bridge":      true,
	"dsa":         true,
	"erspan":      true,
	"geneve":      true,
	"gre":         true,
	"gretap":      true,
	"gtp":         true,
	"hsr":         true, // PRP too
	"ip6erspan":   true,
	"ip6gre":      true,
	"ip6gretap":   true,
	"ip6tnl":      true,
	"ipip":        true,
	"ipvlan":      true,
	"ipvtap":      true,
	"lowpan":      true,
	"macsec":      true,
	"macvlan":     true,
	"macvtap":     true,
	"netkit":      true,
	"openvswitch": true, // an internal port
	"ovpn":        true,
	"pfcp":        true,
	"ppp":         true, // mostly PPPoE, L2TP or PPTP
	"rmnet":       true,
	"sit":         true,
	"team":        true,
	"virt_wifi":   true,
	"vlan":        true,
	"vrf":         true,
	"vti":         true,
	"vti6":        true,
	"vxlan":       true,
	"wireguard":   true,
	"xfrm":        true,
}

// IsStacked reports whether the packets of a device of this kind are also those of another device.
func IsStacked(kind string) bool { return stacked[kind] }
