// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// TestKernelTellsTransportsOfRawSockets has a raw socket, which sends packets of any transport, and a packet socket, which also sends packets
// without one.
func TestKernelTellsTransportsOfRawSockets(t *testing.T) {
	l, owners := newLab(owner.Options{MaxProcesses: 4096})
	config := metadata.NewDefaultMetricsBuilderConfig()
	config.Metrics.NettapProcessNetworkPacketCount.EnabledAttributes = append(config.Metrics.NettapProcessNetworkPacketCount.EnabledAttributes,
		metadata.NettapProcessNetworkPacketCountMetricAttributeKeyNetworkTransportOptIn)
	l.traffic.builder = metadata.NewMetricsBuilder(config, receivertest.NewNopSettings(metadata.Type))
	l.traffic.options.Transport = true
	kerneltest.Start(t, l.cgroups)
	kerneltest.Start(t, owners)
	kerneltest.Start(t, l.traffic.interfaces)
	kerneltest.Start(t, l.traffic)
	w := connect(t, l)

	w.inNear(func() {
		w.sendRaw(t, unix.IPPROTO_UDP, 3)
		w.sendRaw(t, 253, 2) // a number for experiments: RFC 3692
		w.sendARP(t, 4)
	})
	_, _, published := w.moved()
	got := map[any]int64{}
	for _, point := range published {
		if point.metric == "nettap.process.network.packet.count" && point.place().name == w.near.Device &&
			point.attributes["process.pid"] == int64(os.Getpid()) && !point.ended {
			got[point.attributes["network.transport"]] = point.value
		}
	}
	if diff := cmp.Diff(map[any]int64{"udp": 3, "protocol_253": 2, nil: 4}, got); diff != "" {
		t.Errorf("packets by transport differ (-want +got):\n%s", diff)
	}
}

// sendRaw sends n packets of a protocol, on a raw socket for all protocols.
func (w *wire) sendRaw(t *testing.T, protocol byte, n int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	packet := make([]byte, 20+8+100)
	packet[0], packet[8], packet[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	copy(packet[12:], w.near.IPv4.AsSlice())
	copy(packet[16:], w.far.IPv4.AsSlice())
	for range n {
		if err := unix.Sendto(fd, packet, 0, sockaddr(netip.AddrPortFrom(w.far.IPv4, 0))); err != nil {
			t.Fatal(err)
		}
	}
}

// sendARP sends n frames that are as long as those of ARP, and that nothing answers.
func (w *wire) sendARP(t *testing.T, n int) {
	t.Helper()
	const arp = 0x0608 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Protocol: arp, Ifindex: w.near.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	for range n {
		if err := unix.Sendto(fd, make([]byte, 28), 0, to); err != nil {
			t.Fatal(err)
		}
	}
}
