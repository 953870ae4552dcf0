package forwarder

import (
	"math/bits"
	"slices"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// vipTable finds the number of a VIP: open addressing over flat slots, at most half full, of each
// family by itself.
type vipTable struct {
	four  []uint64 // of IPv4: the address, and below it 1 + number; 0 is an empty slot
	shift uint8    // what takes a hash to a place among them
	mask  uint64
	slots []vipSlot // of IPv6
	odd   octets    // with which addresses begin that are VIPs or that nobody may send from, of IPv4
	ends  octets    // with which VIPs of IPv6 end
}

type vipSlot struct {
	addr frame.Addr
	id   uint32 // 1 + number; 0 is an empty slot
}

func mix(a frame.Addr) uint64 {
	hi, lo := bits.Mul64(a.Lo^a.Hi*0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	return hi ^ lo
}

// roomFor is a power of two that is at least twice n.
func roomFor(n int) int { return 1 << bits.Len(uint(max(2*n, 8)-1)) }

func newVIPTable(vips []vipSlot) vipTable {
	n := 0
	for i := range vips {
		if vips[i].addr.Is4() {
			n++
		}
	}
	t := vipTable{four: make([]uint64, roomFor(n)), slots: make([]vipSlot, roomFor(len(vips)-n)), odd: oddOctets(vips)}
	t.shift, t.mask = uint8(64-bits.Len(uint(len(t.four)-1))), uint64(len(t.slots)-1)
	for _, v := range vips {
		if v.addr.Is4() {
			i := t.home(v.addr.V4())
			for t.four[i] != 0 {
				i = (i + 1) & (len(t.four) - 1)
			}
			t.four[i] = uint64(v.addr.V4())<<32 | uint64(v.id)
			continue
		}
		t.ends.add(uint8(v.addr.Lo))
		i := mix(v.addr) & t.mask
		for t.slots[i].id != 0 {
			i = (i + 1) & t.mask
		}
		t.slots[i] = v
	}
	return t
}

// home is where an IPv4 address is looked for first.
func (t *vipTable) home(v uint32) int { return int(uint64(v) * 0x9e3779b97f4a7c15 >> (t.shift & 63)) }

// find returns the number of a VIP.
func (t *vipTable) find(a frame.Addr) (id uint16, ok bool) {
	if a.Is4() {
		return t.find4(a.V4())
	}
	for i := mix(a) & t.mask; ; i = (i + 1) & t.mask {
		s := &t.slots[i]
		if s.id == 0 {
			return 0, false
		}
		if s.addr == a {
			return uint16(s.id - 1), true
		}
	}
}

// find4 is find for an IPv4 address in host order.
func (t *vipTable) find4(v uint32) (id uint16, ok bool) {
	for i := t.home(v); ; i++ {
		s := t.four[i&(len(t.four)-1)]
		if uint32(s) == 0 {
			return 0, false
		}
		if uint32(s>>32) == v {
			return uint16(s - 1), true
		}
	}
}

// span is a range of ports of one VIP and protocol that leads to one service. Spans do not overlap.
type span struct {
	first, last uint16
	service     uint16
}

// portTable finds the service of a port: for each VIP and protocol its spans in order.
type portTable struct {
	start []uint32 // by 4*VIP + kind; start[i] to start[i+1] are its spans
	spans []span
}

// find returns the number of the service for a port.
func (t *portTable) find(vip uint16, kind flow.Kind, port uint16) (service uint16, ok bool) {
	i := int(vip)*4 + int(kind)
	if i+1 >= len(t.start) {
		return 0, false
	}
	lo, hi := t.start[i], t.start[i+1]
	for lo < hi {
		mid := (lo + hi) / 2
		switch s := &t.spans[mid]; {
		case port < s.first:
			hi = mid
		case port > s.last:
			lo = mid + 1
		default:
			return s.service, true
		}
	}
	return 0, false
}

// claim is a match before overlaps are resolved. A lower rank wins; that is the order in which the
// kernel looks (__ip_vs_service_find in ip_vs_ctl.c): marks, the exact port, an FTP service for its
// data ports, all ports.
type claim struct {
	slot        int // 4*VIP + kind
	first, last uint16
	rank        int
	service     uint16
}

const (
	rankMark = iota
	rankPort
	rankRange
	rankFTP
	rankAll
)

// newPortTable resolves overlapping claims into spans. vips is one more than the highest number of
// a VIP.
func newPortTable(claims []claim, vips int) portTable {
	slots := vips * 4
	t := portTable{start: make([]uint32, slots+2), spans: make([]span, 0, len(claims))}
	sorted, first := sortClaims(claims, slots)
	for slot := range slots {
		t.spans = appendSpans(t.spans, sorted[first[slot]:first[slot+1]])
		t.start[slot+1] = uint32(len(t.spans))
	}
	t.start[slots+1] = uint32(len(t.spans))
	return t
}

// sortClaims sorts claims by their slots, and returns where those of each slot begin. There may be
// tens of thousands, and they are sorted each time a service comes or goes: so they are counted.
func sortClaims(claims []claim, slots int) (sorted []claim, first []uint32) {
	first = make([]uint32, slots+1)
	for i := range claims {
		first[claims[i].slot]++
	}
	at := uint32(0)
	for i := range first {
		first[i], at = at, at+first[i]
	}
	next := slices.Clone(first)
	sorted = make([]claim, len(claims))
	for _, c := range claims {
		sorted[next[c.slot]] = c
		next[c.slot]++
	}
	return sorted, first
}

// appendSpans walks the ports at which anything begins or ends, and keeps the best claim between
// each two.
func appendSpans(spans []span, claims []claim) []span {
	if len(claims) == 0 {
		return spans
	}
	if len(claims) == 1 {
		return append(spans, span{claims[0].first, claims[0].last, claims[0].service})
	}
	slices.SortStableFunc(claims, func(a, b claim) int { return int(a.first) - int(b.first) })
	cuts := make([]int, 0, 2*len(claims))
	for _, c := range claims {
		cuts = append(cuts, int(c.first), int(c.last)+1)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	var active []claim
	next := 0
	first := len(spans)
	for i := 0; i+1 < len(cuts); i++ {
		lo, hi := cuts[i], cuts[i+1]-1
		active = slices.DeleteFunc(active, func(c claim) bool { return int(c.last) < lo })
		for next < len(claims) && int(claims[next].first) <= lo {
			active = append(active, claims[next])
			next++
		}
		best := -1
		for n := range active {
			if best < 0 || active[n].rank < active[best].rank {
				best = n
			}
		}
		if best < 0 {
			continue
		}
		s := active[best].service
		if n := len(spans); n > first && spans[n-1].service == s && int(spans[n-1].last)+1 == lo {
			spans[n-1].last = uint16(hi)
			continue
		}
		spans = append(spans, span{uint16(lo), uint16(hi), s})
	}
	return spans
}
