package ring

import (
	"encoding/binary"

	"shunt/forwarder/frame"
)

// Super-frames of IPv6 that are longer than an IP packet can say (BIG TCP) come with a jumbo
// payload option, at least to Linux 6.18. The kernel does not take them back so: it looks at each
// super-frame of a packet socket as it is about to cut it, takes the option away (ipv6_gso_segment,
// net/ipv6/ip6_offload.c), finds that the device can cut by itself, and leaves a packet without a
// length, which whoever gets it drops. So such a frame goes out as several super-frames that can
// say how long they are. The segments into which they are cut in the end are the same.

// maxPiece bounds the payload of an IPv6 packet that says its length.
const maxPiece = 65535

// A cut is a super-frame on its way out in pieces.
type cut struct {
	f      *frame.Frame
	l3, l4 int // in the frame's data
	hl     int // length of the TCP header
	step   int // payload of a piece, in bytes; that of the last may be shorter
	at     int // of the payload, where the next piece begins
}

// cutting reports whether a frame goes out in pieces, and prepares c if so.
func (c *cut) cutting(f *frame.Frame) bool {
	data := f.Data()
	if len(data) <= maxPiece || f.Head != vnetLen || f.Buf[vnetGSOType]&^gsoECN != gsoTCP6 || f.Buf[vnetFlags]&flagNeedsCsum == 0 {
		return false
	}
	l4, size := int(hostOrder.Uint16(f.Buf[vnetCsumStart:])), int(hostOrder.Uint16(f.Buf[vnetGSOSize:]))
	l3 := l4 - 48
	if l3 < frame.HeaderLen || l3 > frame.HeaderLen+2*frame.VLANTagLen || frame.JumboLen(data[l3:]) == 0 {
		return false
	}
	hl := int(data[l4+12]>>4) * 4
	if hl < 20 || size == 0 || size > maxPiece-hl {
		return false
	}
	*c = cut{f: f, l3: l3, l4: l4, hl: hl, step: (maxPiece - hl) / size * size}
	return true
}

// pieceHead is the space for the headers of a piece: virtio_net_hdr, Ethernet with three tags, IPv6
// and TCP.
const pieceHead = vnetLen + frame.HeaderLen + 3*frame.VLANTagLen + 40 + 60

// next writes the headers of the next piece, and returns them and its payload. last tells that it
// is the last.
func (c *cut) next(room *[pieceHead]byte) (head, payload []byte, last bool) {
	data := c.f.Data()
	all := data[c.l4+c.hl:]
	first := c.at == 0
	payload = all[c.at:min(c.at+c.step, len(all))]
	sequence := binary.BigEndian.Uint32(data[c.l4+4:]) + uint32(c.at)
	c.at += len(payload)
	last = c.at == len(all)

	head = append(room[:0], c.f.Buf[:vnetLen]...)
	head = append(head, data[:12]...)
	if c.f.TPID != 0 {
		head = binary.BigEndian.AppendUint16(head, c.f.TPID)
		head = binary.BigEndian.AppendUint16(head, c.f.TCI)
	}
	head = append(head, data[12:c.l3+40]...)
	ip := head[len(head)-40:]
	binary.BigEndian.PutUint16(ip[4:], uint16(c.hl+len(payload)))
	ip[6] = byte(frame.TCP)
	start := len(head)
	head = append(head, data[c.l4:c.l4+c.hl]...)
	tcp := head[start:]
	binary.BigEndian.PutUint32(tcp[4:], sequence)
	if !last {
		tcp[13] &^= frame.FIN | frame.PSH
	}
	if size := hostOrder.Uint16(head[vnetGSOSize:]); len(payload) <= int(size) { // nothing is left to be cut
		head[vnetGSOType] = 0
		hostOrder.PutUint16(head[vnetGSOSize:], 0)
	} else if !first && head[vnetGSOType]&gsoECN != 0 {
		head[vnetGSOType] &^= gsoECN
		tcp[13] &^= flagCWR
	}
	// Partial: that of the pseudo-header.
	binary.BigEndian.PutUint16(tcp[16:], frame.Fold(frame.Sum(ip[8:40], uint64(len(tcp)+len(payload))+uint64(frame.TCP))))
	hostOrder.PutUint16(head[vnetCsumStart:], uint16(start-vnetLen))
	hostOrder.PutUint16(head[vnetHdrLen:], uint16(len(head)-vnetLen))
	return head, payload, last
}

// flagCWR is a flag of TCP that says only of the first segment that the window was reduced (RFC
// 3168, 6.1.2).
const flagCWR = 0x80
