package frame

import "encoding/binary"

// plain6Len is what a plain frame of IPv6 has at least: the headers of Ethernet, IPv6 and TCP.
const plain6Len = HeaderLen + 40 + 20

// Glance6 is Glance for IPv6: it reads a whole packet without extension headers, in a frame without a VLAN tag, that is TCP or
// UDP. If ok, Parse would find the same and no problem; of every other frame only Parse tells more. Src and Dst of p are not
// set, as an address of IPv6 does not fit: those of the frame are in src and dst, which are written to, as p is, ok or not.
func Glance6(f *Frame, p *Plain, src, dst *Addr) (ok bool) {
	data := f.Buf[f.Head:]
	if len(data) < plain6Len || int(f.Wire) > len(data) {
		return false
	}
	b := (*[plain6Len]byte)(data)
	n := binary.BigEndian.Uint16(b[18:])
	proto := Proto(b[20])
	need := uint16(20)
	if proto != TCP {
		need = 8
		if proto != UDP {
			return false
		}
	}
	if b[12] != EtherTypeIPv6>>8 || b[13] != EtherTypeIPv6&0xff || b[14]>>4 != 6 || n < need || n > 0xffff-40 ||
		int(n)+40 > int(f.Wire)-HeaderLen {
		return false
	}
	src.Hi, src.Lo = binary.BigEndian.Uint64(b[22:]), binary.BigEndian.Uint64(b[30:])
	dst.Hi, dst.Lo = binary.BigEndian.Uint64(b[38:]), binary.BigEndian.Uint64(b[46:])
	if src.Is4() || dst.Is4() {
		return false
	}
	ports := binary.BigEndian.Uint32(b[54:])
	p.SrcPort, p.DstPort = uint16(ports>>16), uint16(ports)
	p.Len, p.Proto = n+40, proto
	p.TCPFlags = 0
	if proto == TCP {
		p.TCPFlags = b[67]
	}
	return true
}
