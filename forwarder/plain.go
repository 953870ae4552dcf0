package forwarder

import (
	"encoding/binary"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// This file is the short way of a plain frame (frame.Glance) of a known flow. Every step of it
// looks whether all is as usual, before anything is changed, and leaves the frame to the long way
// if not; so it decides nothing that read, decide and forward would decide otherwise. What begins a
// flow takes another: see begin.

// plain is what glance has found of a frame.
type plain struct {
	key   flow.Short
	frame frame.Plain
}

// headerCache is how many Ethernet headers are remembered: there are as many as neighbours that
// send to us, mostly one.
const headerCache = 8

// A header is an Ethernet header that passed all checks, and where that frame came from. A frame
// that begins with the same bytes passes them too. Those of the zero value are no frame's.
type header struct {
	first, last uint64 // its first and its last eight bytes, which overlap
	from        uint64
}

// octets is a set of numbers below 256.
type octets [4]uint64

func (o *octets) add(n uint8)      { o[n>>6] |= 1 << (n & 63) }
func (o *octets) has(n uint8) bool { return o[n>>6]>>(n&63)&1 != 0 }

// oddOctets are those with which the addresses begin that badSource or isVIP find among those of
// IPv4.
func oddOctets(vips []vipSlot) (o octets) {
	for n := range 256 {
		if n == 0 || n == 127 || n >= 224 {
			o.add(uint8(n))
		}
	}
	for i := range vips {
		o.add(uint8(vips[i].addr.V4() >> 24)) // of IPv6 as well, which does no harm
	}
	return o
}

// glance reads the frame in place i if it is plain and to a VIP, and reports whether it is.
func (w *Worker) glance(s *snapshot, i int, f *frame.Frame) bool {
	q := &w.plain[i]
	b := frame.Glance(f, &q.frame)
	if b == nil {
		return false
	}
	first, last := binary.LittleEndian.Uint64(b[0:8]), binary.LittleEndian.Uint64(b[6:14])
	from := 1<<63 | uint64(f.In)<<32 | uint64(f.TPID)<<16 | uint64(f.TCI)
	h := &w.headers[last>>40%headerCache]
	if h.first != first || h.last != last || h.from != from {
		if !w.pass(s, f, b[:]) {
			return false
		}
		h.first, h.last, h.from = first, last, from
	}
	if w.vip.addr.Lo != frame.AddrFrom4(q.frame.Dst).Lo {
		vip, ours := s.vips.find4(q.frame.Dst)
		if !ours {
			return false
		}
		w.vip = vipSlot{frame.AddrFrom4(q.frame.Dst), uint32(vip)}
	}
	if s.vips.odd.has(uint8(q.frame.Src>>24)) && s.notAClient(q.frame.Src) {
		return false
	}
	kind := flow.TCP
	if q.frame.Proto == frame.UDP {
		kind = flow.UDP
	}
	q.key = flow.ShortKey(q.frame.Src, q.frame.SrcPort, q.frame.DstPort, uint16(w.vip.id), kind)
	w.search.Hashes[i] = w.table.HashShort(&q.key)
	return true
}

// seq4 and seq6 are where the sequence number of TCP stands in plain frames of IPv4 and IPv6.
const (
	seq4 = frame.HeaderLen + 20 + 4
	seq6 = frame.HeaderLen + 40 + 4
)

// notAClient reports whether nobody may send from an address of IPv4.
func (s *snapshot) notAClient(src uint32) bool {
	p := frame.Packet{Tuple: frame.Tuple{Src: frame.AddrFrom4(src)}}
	return badSource(&p) || s.isVIP(p.Src)
}

// pass reports whether the Ethernet header of a frame without tags is one of ours, as read does.
func (w *Worker) pass(s *snapshot, f *frame.Frame, b []byte) bool {
	leg := &s.legs[f.In]
	if s.guard.has(b[6:12]) {
		return false
	}
	return leg.AnyMAC || macWord(b[0:6]) == macWord(leg.MAC[:]) && !wrongVLAN(leg, f, &frame.Packet{})
}

// unfold writes the key of the flow of the frame in place i, of IPv4, as all but the short way of
// known flows needs it.
func (w *Worker) unfold(i int) {
	w.keys[i].Client = frame.AddrFrom4(w.plain[i].frame.Src)
	w.unfold6(i)
}

// usual sends the plain frame in place i, which is of flow e in slot id and does not try to begin
// it again, on if all is as usual, and reports whether it did.
func (w *Worker) usual(s *snapshot, i int, f *frame.Frame, q *frame.Plain, id flow.ID, e *flow.Entry) bool {
	d := &s.dests[e.Dest]
	if !d.available || !d.resolved || uint32(q.Len) > d.mtu {
		return false
	}
	b := f.Data()
	c, bytes := &w.dests[e.Dest], uint64(q.Len)
	c.Packets++
	c.Bytes += bytes
	c = &w.services[d.service]
	c.Packets++
	c.Bytes += bytes
	timeout := s.timeouts.UDP
	if q.Proto == frame.TCP {
		next := flow.NextTCP(e.State, q.TCPFlags, w.pressed.secure)
		at := seq4
		if e.Flags&flow.V6 != 0 {
			at = seq6
		}
		seq := binary.BigEndian.Uint16(b[at:])
		if next != e.State {
			next = w.step(s, e, next, q.TCPFlags, seq)
		}
		e.Follow(seq)
		timeout = s.timeouts.TCP[next]
	}
	w.table.Extend(id, e, timeout)
	if e.Flags&flow.Proven == 0 {
		w.table.Prove(e)
	}
	if e.Packets != ^uint32(0) {
		e.Packets++
	}
	copy(b[0:6], d.mac[:])
	if s.settings.Source == SourceOwn || s.settings.Source == SourceAuto && f.In == d.out {
		copy(b[6:12], s.legs[d.out].MAC[:])
	}
	o := f
	if w.straight == i {
		w.straight++
	} else {
		o = w.put(f)
	}
	o.Out = d.out
	if o.TPID|d.vlan != 0 {
		retag(&s.legs[o.In], &s.legs[o.Out], o)
	}
	return true
}
