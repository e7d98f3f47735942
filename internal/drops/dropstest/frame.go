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

	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58

	flagFIN = 0x01
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

// ipHeader is an IP header without extensions. Its version is that of the addresses.
type ipHeader struct {
	protocol, ttl       byte
	source, destination netip.Addr

	badChecksum bool   // which only IPv4 has
	excess      uint16 // by how many bytes the length exceeds what is there
	options     []byte // of IPv4, in whole words
}

func (h ipHeader) packet(payload []byte) []byte {
	if h.source.Is6() {
		header := binary.BigEndian.AppendUint16([]byte{6 << 4, 0, 0, 0}, uint16(len(payload))+h.excess)
		header = append(header, h.protocol, h.ttl)
		header = append(append(header, h.source.AsSlice()...), h.destination.AsSlice()...)
		return append(header, payload...)
	}
	header := append(make([]byte, 20, 60+len(payload)), h.options...)
	header[0] = 4<<4 | byte(len(header)/4)
	binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(payload))+h.excess)
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

// segment is a TCP segment.
type segment struct {
	source, destination uint16
	sequence, ack       uint32
	flags               byte
	window              uint16 // of one that was received; what is sent has the largest
	options             []byte // in whole words
	payload             string

	badChecksum bool
	tooShort    bool // the header says that it has less than its fixed part
}

// bytes returns the segment as it is sent between two addresses.
func (s segment) bytes(from, to netip.Addr) []byte {
	header := binary.BigEndian.AppendUint16(nil, s.source)
	header = binary.BigEndian.AppendUint16(header, s.destination)
	header = binary.BigEndian.AppendUint32(header, s.sequence)
	header = binary.BigEndian.AppendUint32(header, s.ack)
	words := byte(5 + len(s.options)/4)
	if s.tooShort {
		words = 4
	}
	header = append(header, words<<4, s.flags, 0xff, 0xff, 0, 0, 0, 0) // window, checksum, urgent pointer
	header = append(append(header, s.options...), s.payload...)

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
	end := int(tcp[12]>>4) * 4
	if end < 20 || end > len(tcp) {
		return segment{}, false
	}
	return segment{
		source:      binary.BigEndian.Uint16(tcp),
		destination: binary.BigEndian.Uint16(tcp[2:]),
		sequence:    binary.BigEndian.Uint32(tcp[4:]),
		ack:         binary.BigEndian.Uint32(tcp[8:]),
		flags:       tcp[13],
		window:      binary.BigEndian.Uint16(tcp[14:]),
		options:     tcp[20:end],
	}, true
}

const optionTimestamps = 8

// timestamps returns the option of a segment with the sender's clock and an echo of the other's.
func timestamps(value, echo uint32) []byte {
	option := []byte{1, 1, optionTimestamps, 10} // after two of no meaning, which align it
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(option, value), echo)
}

// clock returns the sender's clock in the timestamps of a segment, or 0 if it has none.
func (s segment) clock() uint32 {
	for at := 0; at < len(s.options); {
		switch kind := s.options[at]; {
		case kind <= 1 || at+1 == len(s.options):
			at++ // which ends the options, or has no meaning
		case kind == optionTimestamps && at+10 <= len(s.options):
			return binary.BigEndian.Uint32(s.options[at+2:])
		default:
			at += max(2, int(s.options[at+1]))
		}
	}
	return 0
}

// md5Option returns the option of a segment with a signature that is none.
func md5Option() []byte { return append([]byte{1, 1, 19, 18}, make([]byte, 16)...) }

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
