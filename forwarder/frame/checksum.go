package frame

import "encoding/binary"

// TransportSum returns the checksum of the payload of an IP packet with its pseudo-header (RFC
// 9293, 3.1; RFC 8200, 8.1). If the payload's checksum field is 0, the result is the value for that
// field. If the field is correct, the result is 0. hl is the length of the IP header with all
// extension headers, in bytes.
func TransportSum(ip []byte, v6 bool, hl int, proto Proto) uint16 {
	s := uint64(len(ip)-hl) + uint64(proto)
	if v6 {
		s = Sum(ip[8:40], s)
	} else {
		s = Sum(ip[12:20], s)
	}
	return ^Fold(Sum(ip[hl:], s))
}

// Sum adds the 16-bit words of b to s (RFC 1071).
func Sum(b []byte, s uint64) uint64 {
	for len(b) >= 4 {
		s += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

// Fold reduces a Sum to 16 bits.
func Fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
