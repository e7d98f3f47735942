// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unsafe"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/packet"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// droppedPacket is a single packet that was dropped.
type droppedPacket struct {
	series
	nanos               uint64 // CLOCK_BOOTTIME
	source, destination netip.AddrPort
	netnsInode          uint32 // 0: not known
	length              uint32
	tcpFlags            uint8
	stack               []string // names of functions, innermost first
	context             tracecontext.Context
}

// flagNames are those of TCP's flags, from the lowest bit.
var flagNames = [...]string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}

// decodePacket reads a record of the kernel's ring. A record of another size than ours gives
// an error. locate returns where an address is.
//
// Kernel side: struct drop_record in bpf/drop_records.bpf.c.
func decodePacket(bytes []byte, w words, locate func(address uint64) kernel.Location) (droppedPacket, error) {
	var raw recordsDropRecord
	if size := int(unsafe.Sizeof(raw)); len(bytes) != size {
		return droppedPacket{}, fmt.Errorf("decode drop: the record has %d bytes, not %d", len(bytes), size)
	}
	kernel.CopyRecord(&raw, bytes)
	context, err := tracecontext.New(raw.Context.TraceId, raw.Context.SpanId, raw.Context.Source, raw.Context.Link, raw.Context.Sampled)
	if err != nil {
		return droppedPacket{}, fmt.Errorf("decode drop: %w", err)
	}
	p := droppedPacket{
		nanos: raw.TimeNs, netnsInode: raw.NetnsInode, length: raw.Length, tcpFlags: raw.TcpFlags,
		stack: stackOf(raw, locate), context: context,
	}
	p.series = series{
		function: dropper(locate(raw.Flow.Location).Function), reason: w.reason(raw.Flow.Reason),
		interfaceName: strings.ToValidUTF8(process.Text(raw.Interface[:]), "\uFFFD"),
	}
	p.class = w.meanings.of(p.reason, p.function)
	if raw.Empty != 0 && p.reason == "no_socket" {
		p.class = w.meanings.of(p.reason, emptySegment)
	}
	if named := packet.HasName(raw.Flow.Transport); named && raw.Flow.Transport != 0 {
		p.transport = packet.Transport(raw.Flow.Transport)
	}
	if t := raw.Flow.Type; t == etherTypeIPv4 || t == etherTypeIPv6 || t == etherTypeARP {
		p.networkType = packet.Type(t)
	}
	p.source = endOf(raw.Flow.Source, raw.Flow.SourcePort)
	p.destination = endOf(raw.Flow.Destination, raw.Flow.DestinationPort)
	return p, nil
}

const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd
)

// endOf returns one end of a packet's way; its port is 0 where there is none. Where its
// address could not be read it is invalid.
func endOf(address [16]uint8, port uint16) netip.AddrPort {
	ip := netip.AddrFrom16(address).Unmap()
	if ip.IsUnspecified() && port == 0 {
		return netip.AddrPort{}
	}
	var bytes [2]byte
	binary.NativeEndian.PutUint16(bytes[:], port)
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(bytes[:]))
}

// stackOf names the functions that led to a drop, from the one that dropped. What is above it
// is our own program, and what runs it.
func stackOf(raw recordsDropRecord, locate func(address uint64) kernel.Location) []string {
	frames := raw.Stack[:max(0, int(raw.StackBytes))/8]
	frames = frames[max(0, slices.Index(frames, raw.Flow.Location)):]
	return kernel.Stack(frames, locate)
}

// flags names those that are set, as "syn,ack".
func (p droppedPacket) flags() string {
	var set []string
	for bit, name := range flagNames {
		if p.tcpFlags&(1<<bit) != 0 {
			set = append(set, name)
		}
	}
	return strings.Join(set, ",")
}

// line is what people read.
func (p droppedPacket) line() string {
	var words strings.Builder
	fmt.Fprintf(&words, "dropped %d bytes", p.length)
	for _, known := range []struct{ before, what string }{{" of ", p.transport}, {" over ", p.networkType}} {
		if known.what != "" {
			words.WriteString(known.before + known.what)
		}
	}
	if p.source.IsValid() && p.destination.IsValid() {
		fmt.Fprintf(&words, " from %s to %s", textOfEnd(p.source), textOfEnd(p.destination))
	}
	words.WriteString(": " + p.reason)
	for _, known := range []struct{ before, what string }{{" in ", p.function}, {" on ", p.interfaceName}} {
		if known.what != "" {
			words.WriteString(known.before + known.what)
		}
	}
	return words.String()
}

func textOfEnd(end netip.AddrPort) string {
	if end.Port() == 0 {
		return end.Addr().String()
	}
	return end.String()
}
