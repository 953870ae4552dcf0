package frame

import "encoding/binary"

// plain6Len is what a plain frame of IPv6 has at least: the headers of Ethernet, IPv6 and TCP.
const plain6Len = HeaderLen + 40 + 20

// Glance6 is Glance for IPv6. It parses a complete packet with TCP or UDP, without extension
// headers or VLAN tag. It returns the headers, which are lent like the frame; Parse would then find
// the same values and no problem. For all other frames it returns nil. Src and Dst of p are not
// set, because IPv6 addresses do not fit: see Addresses6. p is overwritten in any case.
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

// Addresses6 returns source and destination of headers returned by Glance6.
func Addresses6(b *[plain6Len]byte) (src, dst Addr) {
	return Addr{binary.BigEndian.Uint64(b[22:]), binary.BigEndian.Uint64(b[30:])},
		Addr{binary.BigEndian.Uint64(b[38:]), binary.BigEndian.Uint64(b[46:])}
}
