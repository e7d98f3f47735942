// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"encoding/binary"
	"errors"
	"net"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Messages and attributes of linux/netfilter/nfnetlink_queue.h.
const (
	queueMessages = 3 << 8 // NFNL_SUBSYS_QUEUE
	queuePacket   = queueMessages
	queueVerdict  = queueMessages | 1
	queueConfig   = queueMessages | 2

	queueNumber = 213
	accept      = 1 // NF_ACCEPT
)

// jury gives the verdicts on packets that netfilter queues in a namespace.
type jury struct {
	t      *testing.T
	socket *nl.NetlinkSocket
}

// summon queues all UDP packets that arrive in the current namespace.
func summon(t *testing.T) *jury {
	t.Helper()
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("there is no iptables")
	}
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(socket.Close)
	if err := socket.SetReceiveTimeout(&unix.Timeval{Sec: int64(patience / time.Second)}); err != nil {
		t.Fatal(err)
	}
	j := &jury{t, socket}
	j.send(queueConfig, 1, []byte{1, 0, 0, 0})       // NFQA_CFG_CMD: bind
	j.send(queueConfig, 2, []byte{0, 0, 0, 0, 1, 0}) // NFQA_CFG_PARAMS: no payload
	rule := exec.Command("iptables", "-A", "INPUT", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "213")
	if out, err := rule.CombinedOutput(); err != nil {
		t.Fatalf("queue packets: %v: %s", err, out)
	}
	return j
}

func (j *jury) send(kind, attribute int, data []byte) {
	j.t.Helper()
	request := nl.NewNetlinkRequest(kind, 0)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, ResId: nl.Swap16(queueNumber)})
	request.AddData(nl.NewRtAttr(attribute, data))
	if err := j.socket.Send(request); err != nil {
		j.t.Fatal(err)
	}
}

// await returns the ids of the next n packets that wait for a verdict.
func (j *jury) await(n int) (ids [][]byte) {
	j.t.Helper()
	for len(ids) < n {
		messages, _, err := j.socket.Receive()
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			j.t.Fatal(err)
		}
		for _, message := range messages {
			if message.Header.Type != queuePacket {
				continue
			}
			attributes, err := nl.ParseRouteAttr(message.Data[4:])
			if err != nil {
				j.t.Fatal(err)
			}
			for _, attribute := range attributes {
				if attribute.Attr.Type == 1 { // NFQA_PACKET_HDR
					ids = append(ids, attribute.Value[:4])
				}
			}
		}
	}
	return ids
}

func (j *jury) acquit(ids [][]byte) {
	j.t.Helper()
	for _, id := range ids {
		j.send(queueVerdict, 2, append(binary.BigEndian.AppendUint32(nil, accept), id...))
	}
}

// onCPU runs f on one CPU, including soft interrupts of lo and veth.
func onCPU(t *testing.T, cpu int, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, only unix.CPUSet
	only.Set(cpu)
	if err := errors.Join(unix.SchedGetaffinity(0, &before), unix.SchedSetaffinity(0, &only)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
	}()
	f()
}

// tried returns sockets at both ends, and the jury that decides on all that comes to the far one.
func tried(t *testing.T, w *wire) (from, receiver *net.UDPConn, j *jury) {
	t.Helper()
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	w.inFar(func() {
		receiver = datagrams(t, w.far.IPv4, 0)
		j = summon(t)
	})
	return from, receiver, j
}

// TestKernelTakesUpWhatWaitsForAVerdict has a packet that a program has held back. It continues on the CPU on which the program gives its verdict,
// and must not be counted as part of the packet that has arrived there last.
func TestKernelTakesUpWhatWaitsForAVerdict(t *testing.T) {
	const packets, pings = 20, 30
	if runtime.NumCPU() < 2 {
		t.Skip("there is one CPU")
	}
	w := connect(t, share(t))
	from, receiver, jury := tried(t, w)
	onCPU(t, 0, func() { sendTo(t, from, receiver.LocalAddr(), packets, 1000) })
	ids := jury.await(packets)
	onCPU(t, 1, func() {
		for _, id := range ids {
			w.ping(t, 1, 2000, w.far.IPv4)
			jury.acquit([][]byte{id})
		}
		w.ping(t, pings-packets, 2000, w.far.IPv4)
	})
	receive(t, receiver, packets*1000)

	_, far, _ := w.moved()
	want := map[string]quantity{
		"receive process":   {packets, packets * 1042},
		"receive unclaimed": {2 * pings, pings * (2028 + 20 + 2*14)},
		"transmit kernel":   {2 * pings, pings * (2028 + 20 + 2*14)},
	}
	if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the far end's accounts differ (-want +got):\n%s", diff)
	}
}

// TestKernelTakesUpWhatIsInABufferOfAnother has packets that wait for a verdict in buffers in which, on the CPU where the program gives its
// verdict, frames arrived on another interface that nobody received.
func TestKernelTakesUpWhatIsInABufferOfAnother(t *testing.T) {
	const rounds, packets = 10, 40 // fewer at once than a slot is kept for
	if runtime.NumCPU() < 2 {
		t.Skip("there is one CPU")
	}
	l := share(t)
	before, w := connect(t, l), connect(t, l)
	from, receiver, jury := tried(t, w)
	for range rounds {
		onCPU(t, 0, func() {
			before.holdBack(t)
			before.sendFrames(t, packets, 1200)
		})
		onCPU(t, 1, func() {
			before.letGo(t)
			before.sendFrames(t, 1, 1200)
		})
		onCPU(t, 0, func() { sendTo(t, from, receiver.LocalAddr(), packets, 1000) })
		ids := jury.await(packets)
		onCPU(t, 1, func() { jury.acquit(ids) })
	}
	receive(t, receiver, rounds*packets*1000)

	_, far, _ := w.moved()
	want := map[string]quantity{"receive process": {rounds * packets, rounds * packets * 1042}}
	if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the far end's accounts differ (-want +got):\n%s", diff)
	}
	l.balanced(t, before.near, before.far)
}
