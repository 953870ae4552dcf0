package forwarder

import (
	"math/bits"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// The kernel puts a datagram together before IPVS sees it, so all its fragments follow one
// decision. Here the first fragment, which has the ports, is decided about as a whole packet is;
// the others follow it, each at once. Those that come before the first are held until it comes: see
// held.go.

const (
	datagrams    = 4096        // incomplete datagrams that a worker remembers
	datagramWays = 8           // places where one may be
	reassembly4  = int64(30e9) // how long one is remembered: net.ipv4.ipfrag_time
	reassembly6  = int64(60e9) // net.ipv6.ip6frag_time
	runsKept     = 8           // separate runs of bytes that are told apart
	nowhere      = ^uint32(0)  // the destination of a datagram that goes to none
	maxDatagram  = uint32(65535)
)

// A datagram is one of which not all fragments have come. It holds no pointer.
type datagram struct {
	src, dst frame.Addr
	until    int64 // its time is over then; the place of one whose time is over is free
	id       uint32
	dest     uint32 // where its fragments go, or nowhere; valid if decided
	total    uint32 // length of its payload, 0 until the last fragment has come
	end      uint32 // how far the fragments reach that have come
	got      uint32 // how many bytes of the payload have come
	runs     [runsKept]run
	count    uint8 // of runs
	loose    bool  // there were more runs than can be told apart: overlaps are not noticed any more
	decided  bool  // the first fragment has come, or none of them may go on
	verdict  Verdict
	proto    uint8
	held     uint8  // 1 + number of the first held frame
	refusal  uint8  // 1 + number of the refusal; 0 if none is to be made
	sum      uint16 // of the parts that have come, if they are added up
	place    uint16 // in the table
}

// run is a part of a payload that has come without a gap: bytes from to to-1.
type run struct{ from, to uint16 }

// fragments is what one worker knows of incomplete datagrams.
type fragments struct {
	seed  [2]uint64
	table []datagram // sets of datagramWays, by hash
	holdings
	refusals
}

func newFragments(seed [2]uint64) fragments {
	return fragments{seed: seed, table: make([]datagram, datagrams), holdings: newHoldings()}
}

// set returns where the datagram of a fragment may be.
func (t *fragments) set(p *frame.Packet, proto uint8) (start int) {
	h := mum(p.Src.Lo^t.seed[0], p.Src.Hi^t.seed[1])
	h = mum(h^p.Dst.Lo, p.Dst.Hi^t.seed[0]^0xd6e8feb86659fd93)
	h = mum(h^uint64(p.FragID)<<8^uint64(proto), t.seed[1]^0x9e3779b97f4a7c15)
	return int(h % (datagrams / datagramWays) * datagramWays)
}

// mum folds the product of two numbers, of which one is secret.
func mum(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// datagram returns the datagram of fragment p, which may be a new one. If there is no place for it,
// that one gives way whose time is over first.
func (w *Worker) datagram(p *frame.Packet, now int64) *datagram {
	g, known := w.fragments.find(p, now)
	if known {
		return g
	}
	w.dropHeld(g)
	life := reassembly4
	if p.V6 {
		life = reassembly6
	}
	*g = datagram{src: p.Src, dst: p.Dst, id: p.FragID, proto: datagramProto(p), until: now + life, place: g.place}
	return g
}

// datagramProto is the protocol by which datagrams are told apart. In IPv6 those of the fragments
// may differ, and tell nothing (RFC 8200, 4.5).
func datagramProto(p *frame.Packet) uint8 {
	if p.V6 {
		return 0
	}
	return uint8(p.Proto) // RFC 791, 3.2
}

// find returns the datagram of fragment p if it is known, or else that which would give way to it.
func (t *fragments) find(p *frame.Packet, now int64) (g *datagram, known bool) {
	proto := datagramProto(p)
	place := t.set(p, proto)
	oldest := &t.table[place]
	for i := range datagramWays {
		g := &t.table[place+i]
		g.place = uint16(place + i)
		if g.until > now && g.id == p.FragID && g.src == p.Src && g.dst == p.Dst && g.proto == proto {
			return g, true
		}
		if g.until < oldest.until {
			oldest = g
		}
	}
	return oldest, false
}

// joinable reports whether a fragment is of a protocol that is scheduled.
func joinable(p *frame.Packet) bool {
	switch p.Proto {
	case frame.TCP, frame.UDP, frame.SCTP, frame.ICMP, frame.ICMPv6:
		return true
	case 0, 43, 51, 60, 135: // what follows the first fragment of an IPv6 packet may tell of extension headers only
		return p.V6 && p.FragOff != 0
	}
	return false
}

// fragment decides about a fragment to a VIP.
func (w *Worker) fragment(s *snapshot, i int, f *frame.Frame, now int64) Verdict {
	p := &w.packets[i]
	if !joinable(p) {
		return OtherProto
	}
	g := w.datagram(p, now)
	if g.decided && g.verdict == Fragment {
		return Fragment
	}
	from, to, more, limit := extent(f, p)
	switch g.add(from, to, more, limit) {
	case again:
		return Fragment
	case broken:
		w.giveUp(g)
		return Fragment
	}
	if g.refusing() {
		g.addUp(f, p, to-from)
	}
	var v Verdict
	switch {
	case p.FragOff == 0:
		v = w.first(s, i, f, now, g)
	case g.decided:
		v = w.follow(s, g, f, p)
	default:
		return w.hold(g, f, p)
	}
	if g.total != 0 && g.got >= g.total {
		if g.refusal != 0 {
			w.answerRefused(s, g)
		}
		g.until = 0 // complete: another datagram may have its id
	}
	return v
}

// first decides about the first fragment as about a whole packet, and has those that were held
// follow it.
func (w *Worker) first(s *snapshot, i int, f *frame.Frame, now int64, g *datagram) Verdict {
	v := w.decideFirst(s, i, f, now)
	g.decided, g.verdict, g.dest = true, v, nowhere
	switch v {
	case Forwarded, Unresolved:
		g.dest = w.chosen
	case NoService:
		w.keepRefused(g, f, &w.packets[i])
	}
	w.release(s, g)
	return v
}

// firstOf reads which flow the first fragment of a datagram is of. It returns Forwarded then,
// isICMP, or why it goes nowhere.
func (s *snapshot) firstOf(p *frame.Packet, k *flow.Key) Verdict {
	kind := flow.KindOf(p.Proto)
	switch {
	case p.L4 == 0:
		// Ports or flags are in a later fragment: nobody but an attacker makes such (RFC 1858, 3;
		// RFC 7112, 5). A later fragment that would overwrite them overlaps the first, which must
		// hold them whole.
		return BadTransport
	case kind == 0 && p.V6:
		return Fragment // as ip_vs_in_icmp_v6 does (ip_vs_core.c)
	case kind == 0:
		return isICMP
	}
	vip, _ := s.vips.find(p.Dst)
	*k = flow.Key{Client: p.Src, VIP: vip, ClientPort: p.SrcPort, VirtualPort: p.DstPort, Kind: kind}
	return Forwarded
}

func (w *Worker) decideFirst(s *snapshot, i int, f *frame.Frame, now int64) Verdict {
	k := &w.keys[i]
	switch v := s.firstOf(&w.packets[i], k); v {
	case Forwarded:
	case isICMP:
		return w.icmp(s, i, f, now)
	default:
		return v
	}
	w.search.Hashes[i], w.search.Hints[i] = w.table.Hash(k), flow.None
	return w.decide(s, i, f, now)
}

// follow sends a fragment where the first one went, and counts it to the destination: as a packet
// of its own, while the kernel counts the datagram once. The flow's state and timer are the first
// fragment's business alone.
func (w *Worker) follow(s *snapshot, g *datagram, f *frame.Frame, p *frame.Packet) Verdict {
	if g.dest == nowhere {
		return g.verdict
	}
	d := &s.dests[g.dest]
	if d.available {
		w.count(g.dest, d, p)
	}
	return w.send(s, d, f, p)
}

// giveUp makes a datagram one of which nothing goes on any more: what has gone on already is of no
// use without the rest.
func (w *Worker) giveUp(g *datagram) {
	g.decided, g.verdict, g.dest = true, Fragment, nowhere
	w.dropHeld(g)
}

// extent returns which bytes of its datagram's payload a fragment holds, whether more follow, and
// how long the payload may be.
func extent(f *frame.Frame, p *frame.Packet) (from, to uint32, more bool, limit uint32) {
	b := f.Data()
	at := int(p.L3)
	limit = maxDatagram
	if !p.V6 {
		at += int(b[at]&15) * 4
		limit -= uint32(at) - uint32(p.L3)
	} else {
		next := b[at+6] // Parse has walked this way before
		for at += 40; next != 44; {
			size := (int(b[at+1]) + 1) * 8
			if next == 51 {
				size = (int(b[at+1]) + 2) * 4
			}
			next = b[at]
			at += size
		}
		at += 8
	}
	from = uint32(p.FragOff)
	return from, from + uint32(p.L3) + p.Len - uint32(at), p.FragMore, limit
}

// What add finds of a fragment.
const (
	fits   = iota
	again  // it has come before
	broken // the datagram does not fit together
)

// add notes that a fragment has come, and finds what the kernel finds when it puts a datagram
// together: ip_frag_queue (net/ipv4/ip_fragment.c) and inet_frag_queue_insert
// (net/ipv4/inet_fragment.c). Of fragments that overlap, nothing goes on any more (RFC 5722, 4),
// but one that comes again is only dropped itself.
func (g *datagram) add(from, to uint32, more bool, limit uint32) int {
	switch {
	case to <= from || to > limit || more && (to-from)%8 != 0:
		return broken
	case more && g.total != 0 && to > g.total, !more && (to < g.end || g.total != 0 && to != g.total):
		return broken
	}
	if found := g.join(from, to); found != fits {
		return found
	}
	if !more {
		g.total = to
	}
	g.end = max(g.end, to)
	g.got += to - from
	return fits
}

// join adds a part to the runs, which are in order and do not touch.
func (g *datagram) join(from, to uint32) int {
	if g.loose {
		if from == 0 && g.decided {
			return again
		}
		return fits
	}
	a, b := uint16(from), uint16(to)
	n := 0 // the first run that does not end before the part begins
	for n < int(g.count) && g.runs[n].to < a {
		n++
	}
	next := n
	left := n < int(g.count) && g.runs[n].to == a
	if left {
		next++
	}
	right := false
	if next < int(g.count) {
		r := g.runs[next]
		switch {
		case r.from <= a && b <= r.to:
			return again
		case r.from < b:
			return broken
		}
		right = r.from == b
	}
	switch {
	case left && right:
		g.runs[n].to = g.runs[next].to
		copy(g.runs[next:], g.runs[next+1:g.count])
		g.count--
	case left:
		g.runs[n].to = b
	case right:
		g.runs[next].from = a
	case g.count == runsKept:
		g.loose = true
	default:
		copy(g.runs[n+1:], g.runs[n:g.count])
		g.runs[n] = run{a, b}
		g.count++
	}
	return fits
}
