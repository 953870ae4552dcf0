package forwarder

import (
	"encoding/binary"

	"shunt/forwarder/frame"
)

// A datagram in fragments to a port without a service is refused when it is whole and its checksum
// is right, as by a kernel that has put it together. What is kept of it until then is what the
// answer quotes.

// refusalsKept is how many such datagrams a worker remembers; the oldest gets no answer if there
// are more.
const refusalsKept = 16

// A refusal is the beginning of a datagram: its first fragment without what makes it one. It holds
// no pointer.
type refusal struct {
	owner    uint16 // the datagram's place in the table
	in       frame.Leg
	tpid     uint16
	tci      uint16
	time     int64
	packet   frame.Packet
	size     int
	contents [answerRoom]byte
}

// refusals are kept in the order in which they come.
type refusals struct {
	kept [refusalsKept]refusal
	next uint8
}

// keepRefused keeps what is to be answered of a datagram once it is whole, if that is anything.
func (w *Worker) keepRefused(g *datagram, f *frame.Frame, p *frame.Packet) {
	ipLen := uint16(p.L4 - p.L3)
	if p.V6 {
		ipLen = 40
	}
	if p.Proto != frame.TCP && p.Proto != frame.UDP || p.V6 && p.L4-p.L3 != 48 {
		return // other extension headers would have to be gone through for a quotation
	}
	t := &w.fragments.refusals
	n := t.next
	t.next = (n + 1) % refusalsKept
	r := &t.kept[n]
	if old := &w.fragments.table[r.owner]; old.refusal == n+1 {
		old.refusal = 0
	}
	g.refusal = n + 1
	data := f.Data()
	r.owner, r.in, r.tpid, r.tci, r.time, r.packet = g.place, f.In, f.TPID, f.TCI, f.Time, *p
	head := copy(r.contents[:], data[:p.L3+ipLen])
	r.size = head + copy(r.contents[head:], data[p.L4:uint32(p.L3)+p.Len])
	r.packet.L4, r.packet.Fragment, r.packet.FragMore = p.L3+ipLen, false, false
}

// answerRefused answers a datagram that is whole now as refuse answers one that comes in one piece.
func (w *Worker) answerRefused(s *snapshot, g *datagram) {
	r := &w.fragments.refusals.kept[g.refusal-1]
	p := &r.packet
	f := frame.Frame{Buf: r.contents[:r.size], Time: r.time, Wire: int32(r.size), In: r.in, TPID: r.tpid, TCI: r.tci}
	ip, l4 := f.Buf[p.L3:], f.Buf[p.L4:]
	if g.loose || !wholeSum(p, l4, g) {
		return
	}
	p.Len = uint32(p.L4-p.L3) + g.total
	if p.V6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(g.total))
		ip[6] = byte(p.Proto)
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(p.Len))
		ip[6], ip[7], ip[10], ip[11] = 0, 0, 0, 0 // as the kernel's ip_frag_reasm leaves it
		binary.BigEndian.PutUint16(ip[10:], ^frame.Fold(frame.Sum(ip[:p.L4-p.L3], 0)))
	}
	if p.Proto == frame.UDP {
		w.unreachable(s, &f, p)
	} else if p.TCPFlags&frame.RST == 0 {
		w.sendReset(s, &f, p)
	}
}

// wholeSum reports whether the checksum of a datagram is right whose parts were added up, and whose
// transport header is l4.
func wholeSum(p *frame.Packet, l4 []byte, g *datagram) bool {
	if p.Proto == frame.UDP {
		if uint32(binary.BigEndian.Uint16(l4[4:])) != g.total {
			return false
		}
		if binary.BigEndian.Uint16(l4[6:]) == 0 {
			return !p.V6 // none was made (RFC 768)
		}
	}
	sum := uint64(g.sum) + uint64(g.total) + uint64(p.Proto)
	for _, a := range [2]frame.Addr{p.Src, p.Dst} {
		if p.V6 {
			sum += a.Hi>>32 + a.Hi&0xffffffff
		}
		lo := a.Lo
		if !p.V6 {
			lo = uint64(a.V4())
		}
		sum += lo>>32 + lo&0xffffffff
	}
	return frame.Fold(sum) == 0xffff
}

// addUp adds a part of a datagram to its checksum: bytes at the end of the fragment's packet.
func (g *datagram) addUp(f *frame.Frame, p *frame.Packet, length uint32) {
	end := uint32(p.L3) + p.Len
	g.sum = frame.Fold(frame.Sum(f.Data()[end-length:end], uint64(g.sum)))
}

// refusing reports whether the rest of a datagram is added up: it may be refused, or is going to
// be.
func (g *datagram) refusing() bool { return !g.decided || g.refusal != 0 }
