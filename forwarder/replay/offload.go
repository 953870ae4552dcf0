package replay

import (
	"encoding/binary"

	"shunt/forwarder/frame"
)

// Offload counts the packets of a capture that were captured before a network card completed them,
// or after it merged them. A capture on the sending or receiving host has such packets.
type Offload struct {
	Checksums uint64 `json:"checksums"` // a checksum of IP, TCP or UDP that was left to the card
	Lengths   uint64 `json:"lengths"`   // an IP packet without its length, which only packets have that the card is to cut
	Large     uint64 `json:"large"`     // an IP packet longer than 1500 bytes
}

// ethernetMTU is what an Ethernet carries if nobody has changed it, in bytes.
const ethernetMTU = 1500

// complete makes of a frame what its card would have made of it, as Wireshark takes it by default:
// checksums that are wrong are made right, and a length of 0 is what there is on the wire. A packet
// too long for the field keeps the 0, and gets a virtio_net_hdr that says so, as from a ring. What
// cannot be explained so stays as it is.
func (s *Source) complete(f *frame.Frame) {
	b := f.Buf
	off, typ := ipOffset(b)
	if off == 0 {
		return
	}
	ip, onWire := b[off:], int(f.Wire)-off
	o := &s.stats.Offload
	var length, sum bool
	switch {
	case typ == frame.EtherTypeIPv4 && len(ip) >= 20 && ip[0]>>4 == 4:
		length, sum = complete4(ip, onWire)
	case typ == frame.EtherTypeIPv6 && len(ip) >= 40 && ip[0]>>4 == 6:
		length = complete6(ip, onWire)
	default:
		return
	}
	if length {
		o.Lengths++
		if onWire > 0xffff {
			s.asSuper(f, typ == frame.EtherTypeIPv6)
		}
	}
	var p frame.Packet
	if frame.Parse(f, &p) == frame.OK {
		sum = completeTransport(f, &p) || sum
	}
	if sum {
		o.Checksums++
	}
	if p.Len > ethernetMTU {
		o.Large++
	}
}

// ipOffset finds the IP header of a frame and its EtherType; 0 if there is no room for it.
func ipOffset(b []byte) (off int, typ uint16) {
	for off = frame.HeaderLen; len(b) >= off; off += frame.VLANTagLen {
		typ = binary.BigEndian.Uint16(b[off-2:])
		if typ != frame.EtherTypeVLAN && typ != frame.EtherTypeQinQ {
			return off, typ
		}
	}
	return 0, 0
}

// complete4 writes length and checksum of an IPv4 header if it has none, and reports whether it had
// none.
func complete4(ip []byte, onWire int) (length, sum bool) {
	hl := int(ip[0]&15) * 4
	total := int(binary.BigEndian.Uint16(ip[2:]))
	if hl < 20 || len(ip) < hl || total > onWire || total != 0 && total < hl || onWire < hl {
		return false, false
	}
	// The checksum may be right for the header as it is.
	right := frame.Fold(frame.Sum(ip[:hl], 0)) == 0xffff
	if length = total == 0; length && onWire <= 0xffff {
		binary.BigEndian.PutUint16(ip[2:], uint16(onWire))
	}
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^frame.Fold(frame.Sum(ip[:hl], 0)))
	return length, !right
}

// complete6 writes the length of an IPv6 header if it has none, and reports whether it had none. A
// jumbogram, which has its length in a hop-by-hop option (RFC 2675), is left alone.
func complete6(ip []byte, onWire int) (length bool) {
	if binary.BigEndian.Uint16(ip[4:]) != 0 || onWire <= 40 {
		return false
	}
	switch next := frame.Proto(ip[6]); {
	case onWire > 0xffff && (next == 0 || next == frame.TCP):
	case next == frame.TCP || next == frame.UDP:
		binary.BigEndian.PutUint16(ip[4:], uint16(min(onWire-40, 0xffff)))
	default:
		return false
	}
	return true
}

// asSuper gives a frame the virtio_net_hdr that it would have on a ring: without it a packet of no
// length is damaged.
func (s *Source) asSuper(f *frame.Frame, v6 bool) {
	const head, gsoTCP4, gsoTCP6 = 10, 1, 4 // linux/virtio_net.h
	b := s.room(head + len(f.Buf))
	clear(b[:head])
	b[1] = gsoTCP4
	if v6 {
		b[1] = gsoTCP6
	}
	copy(b[head:], f.Buf)
	f.Buf, f.Head = b, head
}

// completeTransport writes the checksum of TCP or UDP, and reports whether another was there. It is
// that of a whole packet, all of whose bytes are there.
func completeTransport(f *frame.Frame, p *frame.Packet) bool {
	if p.Fragment || f.Truncated() {
		return false
	}
	ip := f.Data()[p.L3 : uint32(p.L3)+p.Len]
	hl := int(p.L4 - p.L3)
	if p.V6 && hl > 48 {
		return false // a routing header would change the pseudo-header
	}
	at := hl + 16
	switch p.Proto {
	case frame.TCP:
	case frame.UDP:
		n := int(binary.BigEndian.Uint16(ip[hl+4:]))
		at = hl + 6
		if n < 8 || hl+n > len(ip) || !p.V6 && binary.BigEndian.Uint16(ip[at:]) == 0 {
			return false // it contradicts itself, or has no checksum
		}
		ip = ip[:hl+n]
	default:
		return false
	}
	if frame.TransportSum(ip, p.V6, hl, p.Proto) == 0 {
		return false
	}
	ip[at], ip[at+1] = 0, 0
	sum := frame.TransportSum(ip, p.V6, hl, p.Proto)
	if sum == 0 {
		sum = 0xffff // 0 means that there is none (RFC 768), and both are the same in the sum
	}
	binary.BigEndian.PutUint16(ip[at:], sum)
	return true
}
