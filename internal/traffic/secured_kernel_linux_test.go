// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// How many bytes each kind of encryption adds to a packet of 1028 bytes: a header, and a trailer.
const (
	aroundMACsec = ethernet + 16 + 16
	aroundXFRM   = ethernet + outer4 + 8 + 4
)

// TestKernelCreditsMACsec requires that packets through a MACsec device are counted for the process there, and carried by the device
// below, in frames with a tag before them and a checksum behind them.
func TestKernelCreditsMACsec(t *testing.T) {
	w := connect(t, share(t))
	near, far := netip.MustParseAddr("10.221.0.1"), netip.MustParseAddr("10.221.0.2")
	w.addMACsec(t, near, far)
	w.mark()
	w.exchange(t, near, far, 100, 50)
	w.requireCarried(t, "macsec0", 100, 50, 1000+outer4+udp, 1000+outer4+udp+aroundMACsec)
}

// TestKernelCreditsFragmentsInMACsec requires that a packet that is received in fragments counts as so many frames.
func TestKernelCreditsFragmentsInMACsec(t *testing.T) {
	const below = 4008 + 3*(outer4+aroundMACsec) // three fragments
	w := connect(t, share(t))
	near, far := netip.MustParseAddr("10.221.0.1"), netip.MustParseAddr("10.221.0.2")
	w.addMACsec(t, near, far)
	w.mark()
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, near, 0) })
	w.inFar(func() { receiver = datagrams(t, far, 0) })
	sendTo(t, from, receiver.LocalAddr(), 20, 4000, receiver)

	gotNear, gotFar, _ := w.moved()
	all := quantity{20 * 3, 20 * below}
	if diff := cmp.Diff(map[string]quantity{"transmit carried": all}, gotNear, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the accounts below differ at the near end (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]quantity{"receive carried": all}, gotFar, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the accounts below differ at the far end (-want +got):\n%s", diff)
	}
}

// TestKernelCreditsStreamsInMACsec uses TCP, which keeps what it sends for retransmits, so that MACsec has to encrypt a copy.
func TestKernelCreditsStreamsInMACsec(t *testing.T) {
	w := connect(t, share(t))
	near, far := netip.MustParseAddr("10.221.0.1"), netip.MustParseAddr("10.221.0.2")
	w.addMACsec(t, near, far)
	w.mark()
	w.converse(t, far, 50)
	w.requireAllCarried(t, "macsec0", aroundMACsec)
}

// addMACsec makes macsec0 at both ends of the wire, which encrypts with one key each way.
func (w *wire) addMACsec(t *testing.T, near, far netip.Addr) {
	t.Helper()
	keys := [2][]byte{bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16)}
	add := func(here, there kerneltest.Namespace, address netip.Addr, own, others []byte) {
		kerneltest.InNamespace(t, here.Name, func() {
			addLink(t, here.Name, &netlink.GenericLink{
				LinkAttrs: netlink.LinkAttrs{Name: "macsec0", ParentIndex: here.Index}, LinkType: "macsec",
			})
			secure(t, "macsec0", own, w.macs[there.Device], others)
		})
		w.settle(t, here.Name, "macsec0", netip.PrefixFrom(address, 24))
	}
	add(w.near, w.far, near, keys[0], keys[1])
	add(w.far, w.near, far, keys[1], keys[0])
	w.acquaint(t, w.near.Name, "macsec0", near, w.far.Name, "macsec0", far)
}

// secure gives a device of MACsec, in the current namespace, the key that it sends with
// and the one of its peer.
//
// Source: include/uapi/linux/if_macsec.h.
func secure(t *testing.T, device string, own []byte, peer net.HardwareAddr, others []byte) {
	t.Helper()
	const (
		commandAddChannel, commandAddSendKey, commandAddReceiveKey = 1, 4, 7

		attributeIndex, attributeChannel, attributeKey = 1, 2, 3
		channelName, channelActive                     = 1, 2
		keyNumber, keyActive, keyPacket, keyBytes      = 1, 2, 3, 4
		keyName, keyNameLength                         = 5, 16
		infoEncrypt                                    = 7
	)
	index := linkOf(t, device).Attrs().Index
	request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(index)
	request.AddData(message)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("macsec"))
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(infoEncrypt, nl.Uint8Attr(1))
	request.AddData(info)
	if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		t.Fatalf("let %s encrypt: %v", device, err)
	}

	key := func(with []byte) *nl.RtAttr {
		config := nl.NewRtAttr(attributeKey|unix.NLA_F_NESTED, nil)
		config.AddRtAttr(keyNumber, nl.Uint8Attr(0))
		config.AddRtAttr(keyActive, nl.Uint8Attr(1))
		config.AddRtAttr(keyPacket, nl.Uint32Attr(1))
		config.AddRtAttr(keyBytes, with)
		config.AddRtAttr(keyName, bytes.Repeat(with[:1], keyNameLength))
		return config
	}
	channel := nl.NewRtAttr(attributeChannel|unix.NLA_F_NESTED, nil)
	channel.AddRtAttr(channelName, append(bytes.Clone(peer), 0, 1)) // of its first port
	active := nl.NewRtAttr(attributeChannel|unix.NLA_F_NESTED, nil)
	active.AddRtAttr(channelName, append(bytes.Clone(peer), 0, 1))
	active.AddRtAttr(channelActive, nl.Uint8Attr(1))
	of := nl.NewRtAttr(attributeIndex, nl.Uint32Attr(uint32(index)))
	generic(t, "macsec", commandAddSendKey, of, key(own))
	generic(t, "macsec", commandAddChannel, of, active)
	generic(t, "macsec", commandAddReceiveKey, of, channel, key(others))
}

// generic sends a request to a family of generic netlink, in the current namespace. It ignores the error that
// nothing listens for a change.
func generic(t *testing.T, family string, command uint8, attributes ...*nl.RtAttr) {
	t.Helper()
	f, err := netlink.GenlFamilyGet(family)
	if err != nil {
		t.Fatalf("find %s: %v", family, err)
	}
	request := nl.NewNetlinkRequest(int(f.ID), unix.NLM_F_ACK)
	request.AddData(&nl.Genlmsg{Command: command, Version: 1})
	for _, attribute := range attributes {
		request.AddData(attribute)
	}
	if _, err := request.Execute(unix.NETLINK_GENERIC, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		t.Fatalf("ask %s for %d: %v", family, command, err)
	}
}

// TestKernelCreditsESP encrypts by a policy, without a device above. Packets must be counted once, for the process and with all
// headers.
func TestKernelCreditsESP(t *testing.T) {
	l := share(t)
	const header = 8
	padded := func(length int) int { return (length + 2 + 3) / 4 * 4 }
	for name, test := range map[string]struct {
		mode  netlink.Mode
		bytes int // of a packet of 1000 bytes of UDP
	}{
		"transport": {netlink.XFRM_MODE_TRANSPORT, ethernet + outer4 + header + padded(udp+1000)},
		"tunnel":    {netlink.XFRM_MODE_TUNNEL, ethernet + outer4 + header + padded(outer4+udp+1000)},
	} {
		t.Run(name, func(t *testing.T) {
			w := connect(t, l)
			w.encrypt(t, test.mode, 0)
			w.mark()
			w.exchange(t, w.near.IPv4, w.far.IPv4, 100, 50)

			gotNear, gotFar, published := w.moved()
			bytes := func(packets int) quantity { return quantity{uint64(packets), uint64(packets * test.bytes)} }
			if diff := cmp.Diff(map[string]quantity{"transmit process": bytes(100), "receive process": bytes(50)}, gotNear, cmp.AllowUnexported(quantity{})); diff != "" {
				t.Errorf("the accounts differ at the near end (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string]quantity{"transmit process": bytes(50), "receive process": bytes(100)}, gotFar, cmp.AllowUnexported(quantity{})); diff != "" {
				t.Errorf("the accounts differ at the far end (-want +got):\n%s", diff)
			}
			for _, end := range []kerneltest.Namespace{w.near, w.far} {
				if diff := cmp.Diff([]int64{0, 0, 0, 0}, published.unobserved(in(t, end.Name, end.Device))); diff != "" {
					t.Errorf("something is unobserved at %s: %s", end.Device, diff)
				}
			}
		})
	}
}

// TestKernelCreditsStreamsInESP has streams, which are segmented before they are encrypted.
func TestKernelCreditsStreamsInESP(t *testing.T) {
	l := share(t)
	for name, mode := range map[string]netlink.Mode{"transport": netlink.XFRM_MODE_TRANSPORT, "tunnel": netlink.XFRM_MODE_TUNNEL} {
		t.Run(name, func(t *testing.T) {
			w := connect(t, l)
			w.encrypt(t, mode, 0)
			w.mark()
			w.converse(t, w.far.IPv4, 50)

			gotNear, gotFar, _ := w.moved()
			for end, got := range map[string]map[string]quantity{"near": gotNear, "far": gotFar} {
				want := map[string]quantity{"transmit process": got["transmit process"], "receive process": got["receive process"]}
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(quantity{})); diff != "" {
					t.Errorf("the accounts differ at the %s end (-want +got):\n%s", end, diff)
				}
			}
			swapped := map[string]quantity{"transmit process": gotNear["receive process"], "receive process": gotNear["transmit process"]}
			if diff := cmp.Diff(swapped, gotFar, cmp.AllowUnexported(quantity{})); diff != "" {
				t.Errorf("one end did not get what the other one sent (-sent +got):\n%s", diff)
			}
		})
	}
}

// TestKernelCreditsWhatIsJoinedBehindESP has packets of a policy, which are decrypted one by one and joined afterwards. Each must count as received.
func TestKernelCreditsWhatIsJoinedBehindESP(t *testing.T) {
	const much = 60_000 // in fewer packets than arrivals that are remembered
	p := converse(t, share(t))
	p.encrypt(t, netlink.XFRM_MODE_TUNNEL, 0)
	p.mark()
	p.open("tcp", p.far.IPv4)
	pump(p.client, p.server, much)

	near, far, published := p.moved()
	requireUsage(t, published, p.client, p.near, map[string]quantity{"transmit": near["transmit process"], "receive": near["receive process"]})
	requireUsage(t, published, p.server, p.far, map[string]quantity{"transmit": far["transmit process"], "receive": far["receive process"]})
	sent, received, unclaimed := near["transmit process"], far["receive process"], far["receive unclaimed"]
	if unclaimed.packets != 0 || sent.packets != received.packets || sent.bytes != received.bytes+unclaimed.bytes {
		t.Errorf("of %+v the server has %+v, and nobody %+v", sent, received, unclaimed)
	}
	if most := received.packets * 15; unclaimed.bytes > most { // the padding of the last of each
		t.Errorf("nobody claims %d bytes, of which at most %d can be padding", unclaimed.bytes, most)
	}
}

// TestKernelCreditsXFRMInterface uses an xfrm interface, whose packets the device below carries.
func TestKernelCreditsXFRMInterface(t *testing.T) {
	w := connect(t, share(t))
	near, far := w.addXFRM(t)
	w.mark()
	w.exchange(t, near, far, 100, 50)
	w.requireCarried(t, "xfrm0", 100, 50, 1000+outer4+udp, 1000+outer4+udp+aroundXFRM)
}

func TestKernelCreditsStreamsInXFRMInterface(t *testing.T) {
	w := connect(t, share(t))
	_, far := w.addXFRM(t)
	w.mark()
	w.converse(t, far, 50)
	w.requireAllCarried(t, "xfrm0", 0)
}

// addXFRM makes xfrm0 at both ends of the wire, and returns their addresses.
func (w *wire) addXFRM(t *testing.T) (near, far netip.Addr) {
	t.Helper()
	const id = 213
	near, far = netip.MustParseAddr("10.222.0.1"), netip.MustParseAddr("10.222.0.2")
	w.encrypt(t, netlink.XFRM_MODE_TUNNEL, id)
	for end, address := range map[kerneltest.Namespace]netip.Addr{w.near: near, w.far: far} {
		kerneltest.InNamespace(t, end.Name, func() {
			addLink(t, end.Name, &netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Name: "xfrm0", ParentIndex: end.Index}, Ifid: id})
		})
		w.settle(t, end.Name, "xfrm0", netip.PrefixFrom(address, 24))
	}
	return near, far
}

// encrypt lets both ends of the wire encrypt everything that they send to each other, or with an id, what they send
// through the interfaces with that id.
func (w *wire) encrypt(t *testing.T, mode netlink.Mode, id int) {
	t.Helper()
	near, far := w.near.IPv4.AsSlice(), w.far.IPv4.AsSlice()
	selector := func(address net.IP) *net.IPNet {
		if id != 0 {
			return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		}
		return &net.IPNet{IP: address, Mask: net.CIDRMask(32, 32)}
	}
	for _, end := range []struct {
		kerneltest.Namespace
		out, in [2]net.IP
	}{{w.near, [2]net.IP{near, far}, [2]net.IP{far, near}}, {w.far, [2]net.IP{far, near}, [2]net.IP{near, far}}} {
		kerneltest.InNamespace(t, end.Name, func() {
			for direction, path := range map[netlink.Dir][2]net.IP{netlink.XFRM_DIR_OUT: end.out, netlink.XFRM_DIR_IN: end.in} {
				spi := int(path[0][3]) + 0x100
				err := netlink.XfrmStateAdd(&netlink.XfrmState{
					Src: path[0], Dst: path[1], Proto: netlink.XFRM_PROTO_ESP, Mode: mode, Spi: spi, Reqid: 213, Ifid: id, ReplayWindow: 32,
					Crypt: &netlink.XfrmStateAlgo{Name: "ecb(cipher_null)"}, // which needs no random numbers
				})
				if errors.Is(err, unix.EPROTONOSUPPORT) {
					t.Skipf("this kernel has no ESP: %v", err)
				}
				if err != nil {
					t.Fatalf("add a state of xfrm: %v", err)
				}
				err = netlink.XfrmPolicyAdd(&netlink.XfrmPolicy{
					Src: selector(path[0]), Dst: selector(path[1]), Dir: direction, Ifid: id,
					Tmpls: []netlink.XfrmPolicyTmpl{{Src: path[0], Dst: path[1], Proto: netlink.XFRM_PROTO_ESP, Mode: mode, Reqid: 213}},
				})
				if err != nil {
					t.Fatalf("add a policy of xfrm: %v", err)
				}
			}
		})
	}
}

// converse sends 1000 bytes back and forth a number of times, on a connection between addresses of the ends, which
// stays open.
func (w *wire) converse(t *testing.T, far netip.Addr, turns int) {
	t.Helper()
	var listener net.Listener
	var client net.Conn
	w.inFar(func() {
		var err error
		silent := net.ListenConfig{KeepAlive: -1}
		if listener, err = silent.Listen(t.Context(), "tcp", netip.AddrPortFrom(far, 0).String()); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { listener.Close() })
	w.inNear(func() {
		var err error
		silent := net.Dialer{KeepAlive: -1, Timeout: patience}
		if client, err = silent.Dial("tcp", listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { client.Close() })
	server := kerneltest.Accept(t, listener.(*net.TCPListener))
	t.Cleanup(func() { server.Close() })
	client.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // it is open
	some := make([]byte, 1000)
	for range turns {
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			if _, err := way[0].Write(some); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way[1], some); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// requireAllCarried waits until everything on a device above is counted for a process, and as many packets, each
// longer by the encapsulation, are carried below it at both ends. It does not check the length if that depends on
// the length of the packet.
func (w *wire) requireAllCarried(t *testing.T, above string, around uint64) {
	t.Helper()
	eventually(t, "all that "+above+" has is carried below it", func() string { // an ACK may be late
		gotNear, gotFar, published := w.moved()
		for end, got := range map[kerneltest.Namespace]map[string]quantity{w.near: gotNear, w.far: gotFar} {
			counted, at := counterOf(t, end.Name, above), in(t, end.Name, above)
			sent, received := counted[bpfDirectionTRANSMIT], counted[bpfDirectionRECEIVE]
			want := interfaceAccounts{
				Accounts: map[string]quantity{"transmit process": sent, "receive process": received}, Unobserved: []int64{0, 0, 0, 0}, Stacked: true,
			}
			gotAbove := interfaceAccounts{Accounts: published.accounts(at), Unobserved: published.unobserved(at), Stacked: published.isStacked(at)}
			if diff := cmp.Diff(want, gotAbove, cmp.AllowUnexported(quantity{})); diff != "" {
				return "the accounts of " + above + " differ (-want +got):\n" + diff
			}
			below := map[string]quantity{}
			for name, c := range map[string]quantity{"transmit carried": sent, "receive carried": received} {
				below[name] = quantity{c.packets, got[name].bytes}
				longer := c.bytes + c.packets*around
				if around != 0 && got[name].bytes != longer && got[name].bytes != longer-c.packets*ethernet {
					return fmt.Sprintf("%d bytes are %s below %s, which has %d", got[name].bytes, name, above, c.bytes)
				}
			}
			if diff := cmp.Diff(below, got, cmp.AllowUnexported(quantity{})); diff != "" {
				return "the accounts below differ at " + end.Device + " (-want +got):\n" + diff
			}
		}
		return ""
	})
}
