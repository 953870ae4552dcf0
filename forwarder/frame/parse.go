package frame

import "encoding/binary"

// TCP flags, as in the 14th byte of the TCP header (RFC 9293, 3.1).
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	PSH = 0x08
	ACK = 0x10
)

// Problem is the reason why a frame could not be parsed completely. OK means that all fields of the
// Packet are valid.
type Problem uint8

// What may be wrong with a frame, from the outside in.
const (
	OK          Problem = iota
	Runt                // shorter than an Ethernet header
	NotIP               // an EtherType other than IPv4 or IPv6
	BadIP               // version, header length or total length contradict the frame, or an IPv6 header holds IPv4
	BadChecksum         // the checksum of the IPv4 header is wrong
	BadL4               // the transport header does not fit, or contradicts itself
	OtherProto          // a transport protocol that has no ports
	Cut                 // fewer bytes at hand than the headers need, because the capture cut the frame short
)

var problemNames = [...]string{"ok", "runt", "not IP", "bad IP header", "bad IP checksum", "bad transport header",
	"other protocol", "cut short"}

// String returns the problem in words.
func (p Problem) String() string {
	if int(p) < len(problemNames) {
		return problemNames[p]
	}
	return "unknown"
}

// A Packet is the result of parsing a frame. It belongs to the caller and holds no pointer into the
// frame. Offsets are in bytes from the Ethernet header.
type Packet struct {
	Tuple

	L3 uint16 // offset of the IP header
	L4 uint16 // offset of the transport header; 0 in a fragment that is not the first

	// Len is the length of the IP packet in bytes, header included: what IPVS counts. It may exceed
	// 65535 in an IPv6 jumbogram that segmentation offload made.
	Len uint32

	// FragID, FragOff (bytes) and FragMore describe a fragment; Fragment tells whether it is one.
	FragID   uint32
	FragOff  uint16
	Fragment bool
	FragMore bool

	V6       bool
	DF       bool  // IPv4 "do not fragment"; always true for IPv6
	TTL      uint8 // or hop limit
	TCPFlags uint8 // SYN, ACK, ... ; valid if Proto is TCP and L4 is set
	ICMPType uint8 // valid if Proto is ICMP or ICMPv6 and L4 is set
	ICMPCode uint8
	Chunk    uint8 // type of the first SCTP chunk, 255 if there is none; valid if Proto is SCTP and L4 is set
	VLANs    uint8 // tags found in the frame itself
}

// maxExtensions bounds the walk along IPv6 extension headers, as a chain may be made as long as a
// packet (RFC 8200).
const maxExtensions = 8

// Parse parses f into p and returns the first problem. p is overwritten; fields beyond the problem
// are zero. Bytes after the IP packet (Ethernet padding) are ignored. Parse does not check
// transport checksums, which can be partial on a host with offloads. It verifies the checksum of an
// IPv4 header, as the kernel does (RFC 1812, 5.2.2).
func Parse(f *Frame, p *Packet) Problem {
	*p = Packet{}
	b := f.Data()
	if len(b) < HeaderLen {
		if f.Truncated() {
			return Cut
		}
		return Runt
	}
	off := HeaderLen
	typ := binary.BigEndian.Uint16(b[12:14])
	for typ == EtherTypeVLAN || typ == EtherTypeQinQ {
		if p.VLANs == 2 {
			return NotIP
		}
		if len(b) < off+VLANTagLen {
			return short(f, Runt)
		}
		typ = binary.BigEndian.Uint16(b[off+2 : off+4])
		off += VLANTagLen
		p.VLANs++
	}
	p.L3 = uint16(off)
	switch typ {
	case EtherTypeIPv4:
		return parse4(f, b, off, p)
	case EtherTypeIPv6:
		return parse6(f, b, off, p)
	}
	return NotIP
}

func short(f *Frame, otherwise Problem) Problem {
	if f.Truncated() {
		return Cut
	}
	return otherwise
}

func parse4(f *Frame, b []byte, off int, p *Packet) Problem {
	ip := b[off:]
	if len(ip) < 20 {
		return short(f, BadIP)
	}
	ihl := int(ip[0]&15) * 4
	total := int(binary.BigEndian.Uint16(ip[2:4]))
	if ip[0]>>4 != 4 || ihl < 20 {
		return BadIP
	}
	onWire := int(f.Wire) - off
	if total == 0 && onWire > 65535 && f.Super() {
		total = onWire // BIG TCP leaves the field zero
	}
	if total < ihl || total > onWire {
		return BadIP
	}
	if len(ip) < ihl {
		return Cut
	}
	if !headerSumOK(ip[:ihl]) {
		return BadChecksum
	}
	p.Len = uint32(total)
	p.TTL = ip[8]
	p.Proto = Proto(ip[9])
	p.Src = AddrFrom4(binary.BigEndian.Uint32(ip[12:16]))
	p.Dst = AddrFrom4(binary.BigEndian.Uint32(ip[16:20]))
	frag := binary.BigEndian.Uint16(ip[6:8])
	p.DF = frag&0x4000 != 0
	if frag&0x3fff != 0 {
		p.Fragment = true
		p.FragMore = frag&0x2000 != 0
		p.FragOff = (frag & 0x1fff) * 8
		p.FragID = uint32(binary.BigEndian.Uint16(ip[4:6]))
		if p.FragOff != 0 {
			return OK
		}
	}
	return parse4th(b, off+ihl, off+total, p)
}

// parse6 walks the extension headers to the transport header (RFC 8200, 4). A chain that is longer
// than the bound, or that ends outside the packet, is a bad header.
func parse6(f *Frame, b []byte, off int, p *Packet) Problem {
	ip := b[off:]
	if len(ip) < 40 {
		return short(f, BadIP)
	}
	if ip[0]>>4 != 6 {
		return BadIP
	}
	onWire := int(f.Wire) - off
	total := 40 + int(binary.BigEndian.Uint16(ip[4:6]))
	if total == 40 && onWire > 65535 && f.Super() {
		total = onWire // BIG TCP, mostly with a jumbo payload option (RFC 2675)
	}
	if total > onWire {
		return BadIP
	}
	src := Addr{binary.BigEndian.Uint64(ip[8:16]), binary.BigEndian.Uint64(ip[16:24])}
	dst := Addr{binary.BigEndian.Uint64(ip[24:32]), binary.BigEndian.Uint64(ip[32:40])}
	if src.Is4() || dst.Is4() {
		return BadIP // no such packet is ever on a wire; it must not be taken for one of IPv4
	}
	p.V6, p.DF = true, true
	p.Len = uint32(total)
	p.TTL = ip[7]
	p.Src, p.Dst = src, dst
	next := ip[6]
	at, end := off+40, off+total
	for i := 0; ; i++ {
		size := 0
		switch next {
		case 0, 43, 60, 135: // hop-by-hop, routing, destination options, mobility
			if len(b) >= at+2 {
				size = (int(b[at+1]) + 1) * 8
			}
		case 51: // authentication header (RFC 4302)
			if len(b) >= at+2 {
				size = (int(b[at+1]) + 2) * 4
			}
		case 44: // fragment
			size = 8
		default:
			p.Proto = Proto(next)
			return parse4th(b, at, end, p)
		}
		if i == maxExtensions || at+8 > end || size > end-at {
			return BadIP
		}
		if next == 44 && p.Fragment {
			return BadIP // a fragment within a fragment would hide the outer one
		}
		if len(b) < at+8 || len(b) < at+size {
			return Cut
		}
		if next == 44 {
			v := binary.BigEndian.Uint16(b[at+2 : at+4])
			p.FragOff, p.FragMore = v&^7, v&1 != 0
			p.FragID = binary.BigEndian.Uint32(b[at+4 : at+8])
			p.Fragment = p.FragOff != 0 || p.FragMore // an atomic fragment is a whole packet (RFC 6946)
			if p.FragOff != 0 {
				p.Proto = Proto(b[at])
				return OK
			}
		}
		next = b[at]
		at += size
	}
}

// JumboLen returns the length, in bytes, of the hop-by-hop header of a BIG TCP super-frame, between
// its IPv6 header (with length 0) and TCP; 0 if there is none. The kernel inserts this header to
// hold the packet's length (RFC 2675), and removes it before segmentation, so that it never appears
// on a wire.
func JumboLen(ip []byte) int {
	if len(ip) >= 48 && ip[0]>>4 == 6 && ip[4]|ip[5] == 0 && ip[6] == 0 && Proto(ip[40]) == TCP && ip[41] == 0 && ip[42] == 0xc2 {
		return 8
	}
	return 0
}

// parse4th reads the transport header at b[at:], within a packet that ends at end.
func parse4th(b []byte, at, end int, p *Packet) Problem {
	var need int
	switch p.Proto {
	case TCP:
		need = 20
	case UDP, ICMP, ICMPv6:
		need = 8
	case SCTP:
		need = 12
	default:
		return OtherProto
	}
	if at+need > end {
		return BadL4
	}
	if at+need > len(b) {
		return Cut
	}
	l4 := b[at : at+need : at+need]
	switch p.Proto {
	case TCP:
		// The data offset and UDP's length are the realserver's to judge: the kernel does not look
		// at them.
		p.TCPFlags = l4[13]
	case UDP: // nothing but the ports
	case SCTP:
		switch at + need {
		case end:
			p.Chunk = 0xff
		case len(b):
			return Cut
		default:
			p.Chunk = b[at+need]
		}
	case ICMP, ICMPv6:
		p.ICMPType, p.ICMPCode = l4[0], l4[1]
		p.L4 = uint16(at)
		return OK
	}
	p.SrcPort = binary.BigEndian.Uint16(l4[0:2])
	p.DstPort = binary.BigEndian.Uint16(l4[2:4])
	p.L4 = uint16(at)
	return OK
}

// headerSumOK verifies the checksum of an IPv4 header (RFC 1071).
func headerSumOK(h []byte) bool {
	var sum uint64
	for len(h) >= 4 {
		sum += uint64(binary.BigEndian.Uint32(h))
		h = h[4:]
	}
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return sum == 0xffff
}
