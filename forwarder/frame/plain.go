package frame

import (
	"encoding/binary"
	"math/bits"
)

// plainLen is what a plain frame has at least: the headers of Ethernet, IPv4 without options and
// TCP.
const plainLen = HeaderLen + 20 + 20

// A Plain holds the fields of a frame that Glance can parse.
type Plain struct {
	Src, Dst         uint32 // host order
	SrcPort, DstPort uint16
	Len              uint16 // of the IP packet, in bytes
	Proto            Proto  // TCP or UDP
	TCPFlags         uint8
}

// Glance parses the most frequent kind of frame in a fraction of the time of Parse: a complete IPv4
// packet with TCP or UDP, without IP options, VLAN tag or fragmentation. It returns the headers,
// which are lent like the frame; Parse would then find the same values and no problem. For all
// other frames, including invalid ones, it returns nil: use Parse. p is overwritten in any case.
func Glance(f *Frame, p *Plain) *[plainLen]byte {
	data := f.Buf[f.Head:]
	if len(data) < plainLen || int(f.Wire) > len(data) {
		return nil
	}
	b := (*[plainLen]byte)(data)
	if b[12] != EtherTypeIPv4>>8 || b[13] != EtherTypeIPv4&0xff { // before all else, as Glance6 comes after this
		return nil
	}
	// Words in whatever order: the checksum does not mind (RFC 1071, 2B).
	w0, w1, w2 := binary.LittleEndian.Uint64(b[14:]), binary.LittleEndian.Uint64(b[22:]), binary.LittleEndian.Uint32(b[30:])
	sum, c := bits.Add64(w0, w1, 0)
	sum, c = bits.Add64(sum, uint64(w2), c)
	sum += c
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	total := bits.ReverseBytes16(uint16(w0 >> 16))
	proto := Proto(w1 >> 8)
	need := uint16(40)
	if proto != TCP {
		need = 28
		if proto != UDP {
			return nil
		}
	}
	// Version and header length; neither an offset nor "more fragments".
	if uint8(w0) != 0x45 || w0>>48&0xff3f != 0 || sum != 0xffff ||
		total < need || int(total) > int(f.Wire)-HeaderLen {
		return nil
	}
	ports := binary.BigEndian.Uint32(b[34:])
	p.Src, p.Dst = bits.ReverseBytes32(uint32(w1>>32)), bits.ReverseBytes32(w2)
	p.SrcPort, p.DstPort = uint16(ports>>16), uint16(ports)
	p.Len, p.Proto = total, proto
	p.TCPFlags = 0
	if proto == TCP {
		p.TCPFlags = b[47]
	}
	return b
}

// Packet sets full to the result that Parse would have for f; p must be the result of Glance for f.
func (p *Plain) Packet(f *Frame, full *Packet) {
	b := (*[plainLen]byte)(f.Buf[f.Head:])
	// Field by field: a whole Packet would be put together elsewhere and copied, and the copy wait
	// for the last field.
	*full = Packet{}
	full.Src.Lo, full.Dst.Lo = mapped|uint64(p.Src), mapped|uint64(p.Dst)
	full.SrcPort, full.DstPort, full.Proto = p.SrcPort, p.DstPort, p.Proto
	full.L3, full.L4, full.Len = HeaderLen, HeaderLen+20, uint32(p.Len)
	full.DF, full.TTL, full.TCPFlags = b[20]&0x40 != 0, b[22], p.TCPFlags
}
