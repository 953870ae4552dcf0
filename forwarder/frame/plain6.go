package frame

import "encoding/binary"

// plain6Len is what a plain frame of IPv6 has at least: the headers of Ethernet, IPv6 and TCP.
const plain6Len = HeaderLen + 40 + 20

// Glance6 is Glance for IPv6: it reads a whole packet without extension headers, in a frame without a VLAN tag, that is TCP or
// UDP. It returns the headers, which are lent as the frame is, and then Parse would find the same and no problem; of every other
// frame it returns nil, and only Parse tells more. Src and Dst of p are not set, as an address of IPv6 does not fit: see
// Addresses6. p is written to in any case.
func Glance6(f *Frame, p *Plain) *[plain6Len]byte {
	data := f.Buf[f.Head:]
	if len(data) < plain6Len || int(f.Wire) > len(data) {
		return nil
	}
	b := (*[plain6Len]byte)(data)
	n := binary.BigEndian.Uint16(b[18:])
	proto := Proto(b[20])
	need := uint16(20)
	if proto != TCP {
		need = 8
		if proto != UDP {
			return nil
		}
	}
	if b[12] != EtherTypeIPv6>>8 || b[13] != EtherTypeIPv6&0xff || b[14]>>4 != 6 || n < need || n > 0xffff-40 ||
		int(n)+40 > int(f.Wire)-HeaderLen {
		return nil
	}
	if src, dst := Addresses6(b); src.Is4() || dst.Is4() {
		return nil
	}
	ports := binary.BigEndian.Uint32(b[54:])
	p.SrcPort, p.DstPort = uint16(ports>>16), uint16(ports)
	p.Len, p.Proto = n+40, proto
	p.TCPFlags = 0
	if proto == TCP {
		p.TCPFlags = b[67]
	}
	return b
}

// Addresses6 is source and destination in headers that Glance6 has found.
func Addresses6(b *[plain6Len]byte) (src, dst Addr) {
	return Addr{binary.BigEndian.Uint64(b[22:]), binary.BigEndian.Uint64(b[30:])},
		Addr{binary.BigEndian.Uint64(b[38:]), binary.BigEndian.Uint64(b[46:])}
}
