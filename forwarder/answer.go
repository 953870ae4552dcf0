package forwarder

import (
	"encoding/binary"

	"shunt/forwarder/frame"
)

// The director answers for the VIP what a host would answer: nobody else will, since neither the
// VIP is on its kernel nor does a realserver see what is not forwarded. All answers together are
// bounded in rate, as the kernel's are.

const (
	answerRate  = 1000 // answers a second (net.ipv4.icmp_msgs_per_sec)
	answerBurst = 250  // at once
	answerRoom  = 640  // bytes: an ICMP error with as much of the packet as RFC 1812, 4.3.2.3 asks for
	// answersPerBatch bounds the scratch memory; the rest of a batch is not answered.
	answersPerBatch = 32
)

// answers is the scratch memory and the rate limit of one worker's answers.
type answers struct {
	buf     [answersPerBatch][answerRoom]byte
	used    int
	tokens  int64 // in nanoseconds of the rate's period
	last    int64
	limited uint64 // not sent because of the rate
}

const (
	tokenPrice = int64(1e9) / answerRate
	// refusalPrice is what a frame costs that is not answered because of the rate: in a flood of
	// 16,000 a second and more nothing is answered, so that the director never sends more than a
	// small part of what it is sent.
	refusalPrice = tokenPrice / 16
)

func (a *answers) reset(now int64) {
	a.used = 0
	a.tokens = min(a.tokens+max(now-a.last, 0), answerBurst*tokenPrice)
	a.last = now
}

// take returns room for one answer, or nil if there may be none.
func (a *answers) take() []byte {
	if a.tokens < tokenPrice {
		a.tokens = max(a.tokens-refusalPrice, -answerBurst*tokenPrice)
		a.limited++
		return nil
	}
	if a.used == answersPerBatch {
		a.limited++
		return nil
	}
	a.tokens -= tokenPrice
	a.used++
	return a.buf[a.used-1][:]
}

// reply begins an answer to frame f: the Ethernet header back to where the frame came from, tags
// included. It returns the buffer and where the IP header goes, or nil.
func (w *Worker) reply(s *snapshot, f *frame.Frame, p *frame.Packet) ([]byte, int) {
	if s.settings.Silent || f.Src().IsGroup() || f.Dst().IsGroup() {
		return nil, 0
	}
	b := w.answers.take()
	if b == nil {
		return nil, 0
	}
	in := f.Data()
	copy(b[0:6], in[6:12])
	copy(b[6:12], in[0:6])
	copy(b[12:p.L3], in[12:p.L3])
	return b, int(p.L3)
}

// post sends an answer of n bytes by the leg that the frame came in by.
func (w *Worker) post(f *frame.Frame, b []byte, n int) {
	w.answered++
	w.add(frame.Frame{Buf: b[:n], Time: f.Time, Wire: int32(n), In: f.In, Out: f.In, TPID: f.TPID, TCI: f.TCI})
}

// refuse answers a packet that is not scheduled as a host without a listener would: a RST to a TCP
// segment, port unreachable to a datagram (RFC 9293, 3.5.2; RFC 1122, 4.1.3.1).
func (w *Worker) refuse(s *snapshot, f *frame.Frame, p *frame.Packet) {
	switch p.Proto {
	case frame.TCP:
		w.reset(s, f, p)
	case frame.UDP:
		if intact(f, p) {
			w.unreachable(s, f, p)
		}
	}
}

// reset answers a TCP segment with a RST from the VIP.
func (w *Worker) reset(s *snapshot, f *frame.Frame, p *frame.Packet) {
	if p.TCPFlags&frame.RST == 0 && p.Proto == frame.TCP && intact(f, p) {
		w.sendReset(s, f, p)
	}
}

// sendReset is reset of a segment that was looked at.
func (w *Worker) sendReset(s *snapshot, f *frame.Frame, p *frame.Packet) {
	in := f.Data()
	tcp := in[p.L4:]
	b, at := w.reply(s, f, p)
	if b == nil {
		return
	}
	l4 := ipHeader(b, at, p, uint8(frame.TCP), 20)
	clear(b[l4 : l4+20])
	copy(b[l4:], tcp[2:4])
	copy(b[l4+2:], tcp[0:2])
	b[l4+12] = 5 << 4
	if p.TCPFlags&frame.ACK != 0 {
		copy(b[l4+4:l4+8], tcp[8:12])
		b[l4+13] = frame.RST
	} else {
		hl := int(tcp[12]>>4) * 4
		n := uint32(max(int(p.L3)+int(p.Len)-int(p.L4)-hl, 0))
		if p.TCPFlags&frame.SYN != 0 {
			n++
		}
		if p.TCPFlags&frame.FIN != 0 {
			n++
		}
		binary.BigEndian.PutUint32(b[l4+8:], binary.BigEndian.Uint32(tcp[4:8])+n)
		b[l4+13] = frame.RST | frame.ACK
	}
	binary.BigEndian.PutUint16(b[l4+16:], frame.TransportSum(b[at:l4+20], p.V6, l4-at, frame.TCP))
	w.post(f, b, l4+20)
}

// unreachable answers a packet with "port unreachable" from the VIP, as IPVS does when no
// realserver can take a flow (ip_vs_leave, ip_vs_core.c, which does not look at the transport
// checksum).
func (w *Worker) unreachable(s *snapshot, f *frame.Frame, p *frame.Packet) {
	typ, code := uint8(3), uint8(3)
	if p.V6 {
		typ, code = 1, 4
	}
	w.complain(s, f, p, typ, code, 0)
}

// complain answers a packet with an ICMP error from the VIP that quotes it; word is what stands
// behind the checksum. Nobody complains about an ICMP error, nor about a fragment that is not the
// first (RFC 1122, 3.2.2).
func (w *Worker) complain(s *snapshot, f *frame.Frame, p *frame.Packet, typ, code uint8, word uint32) {
	if p.Fragment && p.FragOff != 0 || p.Proto == frame.ICMP || p.Proto == frame.ICMPv6 {
		return
	}
	b, at := w.reply(s, f, p)
	if b == nil {
		return
	}
	in := f.Data()[p.L3:]
	room := 576 - 28
	proto := uint8(frame.ICMP)
	if p.V6 {
		room, proto = answerRoom-int(p.L3)-48, uint8(frame.ICMPv6)
	}
	quote := in[:min(len(in), int(p.Len), room)]
	l4 := ipHeader(b, at, p, proto, 8+len(quote))
	b[l4], b[l4+1], b[l4+2], b[l4+3] = typ, code, 0, 0
	binary.BigEndian.PutUint32(b[l4+4:], word)
	copy(b[l4+8:], quote)
	n := l4 + 8 + len(quote)
	if p.V6 {
		binary.BigEndian.PutUint16(b[l4+2:], frame.TransportSum(b[at:n], true, l4-at, frame.ICMPv6))
	} else {
		b[at+1] = 0xc0 // internetwork control, as Linux marks its errors (RFC 1812, 4.3.2.5)
		// Linux lets its errors be fragmented, so each has an id of its own (RFC 6864, 4.1).
		binary.BigEndian.PutUint16(b[at+4:], uint16(w.answered))
		b[at+6] = 0
		binary.BigEndian.PutUint16(b[at+10:], 0)
		binary.BigEndian.PutUint16(b[at+10:], ^frame.Fold(frame.Sum(b[at:l4], 0)))
		binary.BigEndian.PutUint16(b[l4+2:], ^frame.Fold(frame.Sum(b[l4:n], 0)))
	}
	w.post(f, b, n)
}

// echoes returns why an echo request gets no answer, whatever the rate of answers, or Echoed.
func (s *snapshot) echoes(f *frame.Frame, p *frame.Packet) Verdict {
	switch {
	case p.Fragment:
		return Fragment // nobody here puts the request together
	case !intact(f, p):
		return BadTransport
	case s.settings.Silent || f.Src().IsGroup():
		return ICMPIgnored
	}
	return Echoed
}

// echo answers an echo request in place: the frame goes back as the reply.
func (w *Worker) echo(s *snapshot, f *frame.Frame, p *frame.Packet) Verdict {
	if v := s.echoes(f, p); v != Echoed {
		return v
	}
	if w.answers.take() == nil {
		return ICMPIgnored
	}
	w.answers.used-- // the frame itself is the room
	b := f.Data()
	src, dst := f.Src(), f.Dst()
	f.SetDst(src)
	f.SetSrc(dst)
	ip := b[p.L3:]
	if p.V6 {
		for i := range 16 {
			ip[8+i], ip[24+i] = ip[24+i], ip[8+i]
		}
		ip[7] = 64
		b[p.L4] = 129
	} else {
		for i := range 4 {
			ip[12+i], ip[16+i] = ip[16+i], ip[12+i]
		}
		ip[6], ip[7] = 0, 0 // Linux's replies have no DF, whatever the request had
		ip[8] = 64
		hl := int(ip[0]&15) * 4
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], ^frame.Fold(frame.Sum(ip[:hl], 0)))
		b[p.L4] = 0
	}
	// The type is the upper byte of a checksummed word: the sum grows by what it sank (RFC 1624).
	old := ^binary.BigEndian.Uint16(b[p.L4+2:])
	was, is := uint32(p.ICMPType)<<8, uint32(b[p.L4])<<8
	c := ^frame.Fold(uint64(old) + uint64(^was&0xffff) + uint64(is))
	if c == 0 && !p.V6 {
		// The other words add up to 0xffff or, in a message of zeros, to 0. A checksum of 0 is
		// right for the first only, 0xffff for both. ICMPv6 sums the addresses too, which are never
		// all zero.
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[p.L4+2:], c)
	f.Out = f.In
	w.put(f)
	return Echoed
}

// ipHeader writes the IP header of an answer to p at b[at:], with a payload of n bytes, and returns
// where that begins.
func ipHeader(b []byte, at int, p *frame.Packet, proto uint8, n int) int {
	if p.V6 {
		h := b[at : at+40]
		clear(h)
		h[0] = 6 << 4
		binary.BigEndian.PutUint16(h[4:], uint16(n))
		h[6], h[7] = proto, 64
		binary.BigEndian.PutUint64(h[8:], p.Dst.Hi)
		binary.BigEndian.PutUint64(h[16:], p.Dst.Lo)
		binary.BigEndian.PutUint64(h[24:], p.Src.Hi)
		binary.BigEndian.PutUint64(h[32:], p.Src.Lo)
		return at + 40
	}
	h := b[at : at+20]
	clear(h)
	h[0] = 4<<4 | 5
	binary.BigEndian.PutUint16(h[2:], uint16(20+n))
	h[6] = 0x40
	h[8], h[9] = 64, proto
	binary.BigEndian.PutUint32(h[12:], p.Dst.V4())
	binary.BigEndian.PutUint32(h[16:], p.Src.V4())
	binary.BigEndian.PutUint16(h[10:], ^frame.Fold(frame.Sum(h, 0)))
	return at + 20
}

// Flags of a virtio_net_hdr (linux/virtio_net.h).
const (
	needsChecksum = 1 // the checksum is partial: the packet has not been on a wire yet
	dataValid     = 2 // the device has verified it
)

// intact reports whether the transport checksum of a whole packet is right, so that the director
// may answer it as a host would. Packets that go on are not looked at: that is the realserver's to
// do, as in the kernel's direct routing.
func intact(f *frame.Frame, p *frame.Packet) bool {
	if p.Fragment {
		return false // the sum is that of the datagram
	}
	if f.Head != 0 && f.Buf[0]&(needsChecksum|dataValid) != 0 {
		return true
	}
	ip := f.Data()[p.L3 : uint32(p.L3)+p.Len]
	hl := int(p.L4 - p.L3)
	switch p.Proto {
	case frame.ICMP:
		return frame.Fold(frame.Sum(ip[hl:], 0)) == 0xffff
	case frame.UDP:
		n := int(binary.BigEndian.Uint16(ip[hl+4:]))
		if binary.BigEndian.Uint16(ip[hl+6:]) == 0 {
			return !p.V6 // none was made (RFC 768), which IPv6 forbids (RFC 8200, 8.1)
		}
		if n < 8 || hl+n > len(ip) {
			return false
		}
		ip = ip[:hl+n]
	}
	return frame.TransportSum(ip, p.V6, hl, p.Proto) == 0
}
