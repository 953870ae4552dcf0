package frame

import "encoding/binary"

// ParseInner parses the packet quoted by the ICMP error p in f (RFC 792; RFC 4443, 2.4) into inner,
// in the direction from the client: for a quoted packet from a realserver to a client, Src is the
// client and Dst is the virtual address. The first four bytes of the quoted transport header, the
// ports, are sufficient. A shorter quotation, or a quoted fragment without ports, is BadL4.
//
// Only addresses, ports, protocol and V6 of inner are set. p must be an ICMP or ICMPv6 message for
// which Parse returned OK.
func ParseInner(f *Frame, p, inner *Packet) Problem {
	*inner = Packet{}
	b := f.Data()
	at, end := int(p.L4)+8, min(len(b), int(p.L3)+int(p.Len))
	if p.Proto == ICMPv6 {
		return inner6(f, b, at, end, inner)
	}
	if at+20 > end {
		return short(f, BadL4)
	}
	ip := b[at:end]
	hl := int(ip[0]&15) * 4
	if ip[0]>>4 != 4 || hl < 20 {
		return BadIP
	}
	if binary.BigEndian.Uint16(ip[6:8])&0x1fff != 0 {
		return BadL4
	}
	inner.Proto = Proto(ip[9])
	inner.Dst = AddrFrom4(binary.BigEndian.Uint32(ip[12:16]))
	inner.Src = AddrFrom4(binary.BigEndian.Uint32(ip[16:20]))
	return quotedPorts(f, ip, hl, inner)
}

func inner6(f *Frame, b []byte, at, end int, inner *Packet) Problem {
	if at+40 > end {
		return short(f, BadL4)
	}
	ip := b[at:end]
	if ip[0]>>4 != 6 {
		return BadIP
	}
	src := Addr{binary.BigEndian.Uint64(ip[8:16]), binary.BigEndian.Uint64(ip[16:24])}
	dst := Addr{binary.BigEndian.Uint64(ip[24:32]), binary.BigEndian.Uint64(ip[32:40])}
	if src.Is4() || dst.Is4() {
		return BadIP // as in parse6
	}
	inner.V6 = true
	inner.Dst, inner.Src = src, dst
	next, off := ip[6], 40
	for i := 0; ; i++ {
		switch next {
		case 0, 43, 44, 51, 60, 135:
		default:
			inner.Proto = Proto(next)
			return quotedPorts(f, ip, off, inner)
		}
		if i == maxExtensions {
			return BadIP
		}
		if off+8 > len(ip) {
			return short(f, BadL4)
		}
		size := (int(ip[off+1]) + 1) * 8
		switch next {
		case 44:
			if binary.BigEndian.Uint16(ip[off+2:])&^7 != 0 {
				return BadL4
			}
			size = 8
		case 51:
			size = (int(ip[off+1]) + 2) * 4
		}
		next = ip[off]
		off += size
	}
}

// quotedPorts reads the ports at off, and turns them round.
func quotedPorts(f *Frame, ip []byte, off int, inner *Packet) Problem {
	switch inner.Proto {
	case TCP, UDP, SCTP:
	default:
		return OtherProto
	}
	if off+4 > len(ip) {
		return short(f, BadL4)
	}
	inner.DstPort = binary.BigEndian.Uint16(ip[off:])
	inner.SrcPort = binary.BigEndian.Uint16(ip[off+2:])
	return OK
}
