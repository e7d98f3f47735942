// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd

	protocolTCP = 6
	protocolUDP = 17

	flagSYN = 0x02
	flagACK = 0x10
)

func ethertypeOf(address netip.Addr) uint16 {
	if address.Is4() {
		return etherIPv4
	}
	return etherIPv6
}

func ethernet(to, from []byte, ethertype uint16, packet []byte) []byte {
	frame := append(append([]byte{}, to...), from...)
	return append(binary.BigEndian.AppendUint16(frame, ethertype), packet...)
}

// ipHeader is an IP header without options or extensions. Its version is that of the addresses.
type ipHeader struct {
	protocol, ttl       byte
	source, destination netip.Addr

	// These faults are only possible in IPv4.
	badChecksum bool
	excess      uint16 // by how many bytes the length exceeds what is there
}

func (h ipHeader) packet(payload []byte) []byte {
	if h.source.Is6() {
		header := binary.BigEndian.AppendUint16([]byte{6 << 4, 0, 0, 0}, uint16(len(payload)))
		header = append(header, h.protocol, h.ttl)
		header = append(append(header, h.source.AsSlice()...), h.destination.AsSlice()...)
		return append(header, payload...)
	}
	header := make([]byte, 20, 20+len(payload))
	header[0] = 4<<4 | 5
	binary.BigEndian.PutUint16(header[2:], uint16(20+len(payload))+h.excess)
	header[8], header[9] = h.ttl, h.protocol
	copy(header[12:], h.source.AsSlice())
	copy(header[16:], h.destination.AsSlice())
	sum := checksum(header)
	if h.badChecksum {
		sum ^= 0xffff
	}
	binary.BigEndian.PutUint16(header[10:], sum)
	return append(header, payload...)
}

// udp returns a datagram. A checksum of 0 means none.
func udp(source, destination, checksum uint16, payload string) []byte {
	datagram := binary.BigEndian.AppendUint16(nil, source)
	datagram = binary.BigEndian.AppendUint16(datagram, destination)
	datagram = binary.BigEndian.AppendUint16(datagram, uint16(8+len(payload)))
	datagram = binary.BigEndian.AppendUint16(datagram, checksum)
	return append(datagram, payload...)
}

// segment is a TCP segment without options.
type segment struct {
	source, destination uint16
	sequence, ack       uint32
	flags               byte
	payload             string
	badChecksum         bool
}

// bytes returns the segment as it is sent between two addresses.
func (s segment) bytes(from, to netip.Addr) []byte {
	header := binary.BigEndian.AppendUint16(nil, s.source)
	header = binary.BigEndian.AppendUint16(header, s.destination)
	header = binary.BigEndian.AppendUint32(header, s.sequence)
	header = binary.BigEndian.AppendUint32(header, s.ack)
	header = append(header, 5<<4, s.flags, 0xff, 0xff, 0, 0, 0, 0) // window, checksum, urgent pointer
	header = append(header, s.payload...)

	pseudo := append(from.AsSlice(), to.AsSlice()...)
	pseudo = append(pseudo, 0, protocolTCP)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(header)))
	sum := checksum(append(pseudo, header...))
	if s.badChecksum {
		sum ^= 0xffff
	}
	binary.BigEndian.PutUint16(header[16:], sum)
	return header
}

// parseSegment parses the TCP header of a packet that is sent to an address.
func parseSegment(packet []byte, to netip.Addr) (segment, bool) {
	headerLength, protocolAt, addressAt := 20, 9, 16
	if to.Is6() {
		headerLength, protocolAt, addressAt = 40, 6, 24
	}
	if len(packet) < headerLength+20 || packet[protocolAt] != protocolTCP || !bytes.HasPrefix(packet[addressAt:], to.AsSlice()) {
		return segment{}, false
	}
	tcp := packet[headerLength:]
	return segment{
		source:      binary.BigEndian.Uint16(tcp),
		destination: binary.BigEndian.Uint16(tcp[2:]),
		sequence:    binary.BigEndian.Uint32(tcp[4:]),
		ack:         binary.BigEndian.Uint32(tcp[8:]),
		flags:       tcp[13],
	}, true
}

// checksum returns the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for len(b) > 1 {
		sum += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
