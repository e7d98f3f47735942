// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/golden"
	"github.com/seed-7756021b/nettap/internal/kernel"
)

// kernelRecord returns a record as the BPF program writes it, of a SYN for a closed port.
func kernelRecord() recordsDropRecord {
	var raw recordsDropRecord
	raw.TimeNs = uint64(2 * time.Second)
	raw.Flow.Location, raw.Flow.Reason = 0x2010, 3
	raw.Flow.Type, raw.Flow.Transport = etherTypeIPv4, 6
	raw.Flow.Source = netip.MustParseAddr("::ffff:10.0.0.1").As16()
	raw.Flow.Destination = netip.MustParseAddr("::ffff:10.0.0.2").As16()
	raw.Flow.SourcePort = networkOrder(40000)
	raw.Flow.DestinationPort = networkOrder(22)
	copy(raw.Interface[:], []int8{'e', 't', 'h', '0'})
	raw.NetnsInode, raw.Length, raw.TcpFlags = 4026531840, 20, 0x02
	copy(raw.Stack[:], []uint64{0x9999, 0x2010, 0x3010, 0x7777})
	raw.StackBytes = 4 * 8
	raw.Context.TraceId, raw.Context.SpanId = [16]uint8{1, 15: 2}, [8]uint8{3}
	raw.Context.Source, raw.Context.Link, raw.Context.Sampled = 5, 1, 1
	return raw
}

func networkOrder(port uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, port))
}

func bytesOf(raw recordsDropRecord) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&raw)), unsafe.Sizeof(raw))
}

func locateInTest(address uint64) kernel.Location {
	return map[uint64]kernel.Location{0x2010: {Function: "tcp_v4_rcv", Offset: 0x110}, 0x3010: {Function: "ip_rcv", Offset: 0x210}}[address]
}

func TestRecords(t *testing.T) {
	table, err := readMeanings(reasonsCSV)
	if err != nil {
		t.Fatal(err)
	}
	w := words{reasons: map[uint32]string{3: "no_socket", 4: "unhandled_proto"}, meanings: table}

	unknown := kernelRecord() // a frame of a protocol that nobody handles
	unknown.Flow.Type, unknown.Flow.Transport, unknown.Flow.Reason, unknown.Flow.Location = 0x88b5, 0, 4, 0x5555
	unknown.Flow.Source, unknown.Flow.Destination = [16]uint8{}, [16]uint8{}
	unknown.Flow.SourcePort, unknown.Flow.DestinationPort, unknown.TcpFlags, unknown.NetnsInode = 0, 0, 0, 0
	unknown.StackBytes = -14 // there is none
	unknown.Context.Source, unknown.Context.TraceId, unknown.Context.SpanId = 0, [16]uint8{}, [8]uint8{}

	reset := kernelRecord()
	reset.TcpFlags, reset.Empty = 0x14, 1

	var packets []droppedPacket
	for _, raw := range []recordsDropRecord{kernelRecord(), unknown, reset} {
		p, err := decodePacket(bytesOf(raw), w, locateInTest)
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, p)
	}
	host := pcommon.NewResource()
	host.Attributes().PutStr("host.id", "h1")
	logs := recordEmitter{host: host, version: "test", wall: wallSinceStart}.emit(started.Add(3*time.Second), packets)
	compact, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "records.json", compact)
}

func TestDecodePacketRefusesAnotherSize(t *testing.T) {
	if _, err := decodePacket(make([]byte, 7), words{}, locateInTest); err == nil || !strings.Contains(err.Error(), "7 bytes") {
		t.Errorf("decodePacket() of 7 bytes: %v", err)
	}
}
