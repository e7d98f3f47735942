// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"testing"

	"github.com/vishvananda/netlink"
)

// byQueue returns a lab that learns of the sending process when its packets are queued, as before Linux 6.16.
func byQueue(t *testing.T) *lab {
	t.Helper()
	return share(t, "tp_btf/tcp_sendmsg_locked")
}

// TestKernelGivesNothingToWhomASenderInterrupts has packets of a tunnel that have to wait, so that a soft interrupt sends them while another process runs. That
// process must not count as the sender.
func TestKernelGivesNothingToWhomASenderInterrupts(t *testing.T) {
	sighted(t, byQueue(t), func(w *wire) bool {
		p := converseOver(w)
		_, far := p.digTunnel(t, tunnels[0], 0)
		p.inNear(func() { trickle(t, tunnels[0].kind) })
		bystander := start(t, p.near.Name)
		p.open("tcp", far)
		pump(p.client, p.server, 1)

		p.client.do("pin 0")
		bystander.begin("spin 0 1500")
		p.client.do("send 12000")
		p.client.do("stall")
		bystander.end()
		p.client.do("fail")
		p.server.do("receive 12000")

		sawAll := p.sawAll()
		if got := p.lab.collect(t).usage(bystander.pid(), ""); len(got) != 0 {
			t.Errorf("a process that only had the CPU is said to have moved %v", got)
		}
		return sawAll
	})
}

// TestKernelFailedCallIsNoUse has a process that holds the lock of a socket while packets arrive. It handles them when it releases the lock, and
// sends what they allow. Its own call may have failed, so it must not become the owner.
func TestKernelFailedCallIsNoUse(t *testing.T) {
	sighted(t, byQueue(t), func(w *wire) bool {
		p := converseOver(w)
		p.inNear(func() { trickle(t, p.near.Device) })
		p.open("tcp", p.far.IPv4)
		pump(p.client, p.server, 1)

		child := number(p.client.do("spawn"))
		p.client.do("send 30000")
		p.client.do("child stall")
		p.arrived(t, p.far, 6000)
		p.client.do("child fail")
		p.server.do("receive 30000")

		sawAll := p.sawAll()
		if got := p.lab.collect(t).usage(child, ""); len(got) != 0 {
			t.Errorf("a process whose only call failed is said to have moved %v", got)
		}
		return sawAll
	})
}

// trickle limits a device of the current namespace to 15 kB per second.
func trickle(t *testing.T, device string) {
	t.Helper()
	err := netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: linkOf(t, device).Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       15_000,
		Limit:      1 << 20,
		Buffer:     netlink.Xmittime(15_000, 3_000),
	})
	if err != nil {
		t.Fatalf("slow down %s: %v", device, err)
	}
}
