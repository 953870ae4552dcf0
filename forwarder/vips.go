package forwarder

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// vipTable finds the number of a VIP: open addressing over flat slots, at most half full.
type vipTable struct {
	mask  uint64
	slots []vipSlot
}

type vipSlot struct {
	addr frame.Addr
	id   uint32 // 1 + number; 0 is an empty slot
}

func mix(a frame.Addr) uint64 {
	hi, lo := bits.Mul64(a.Lo^a.Hi*0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	return hi ^ lo
}

func newVIPTable(vips map[frame.Addr]uint16) vipTable {
	size := 8
	for size < 2*len(vips) {
		size *= 2
	}
	t := vipTable{mask: uint64(size - 1), slots: make([]vipSlot, size)}
	for a, id := range vips {
		i := mix(a) & t.mask
		for t.slots[i].id != 0 {
			i = (i + 1) & t.mask
		}
		t.slots[i] = vipSlot{a, uint32(id) + 1}
	}
	return t
}

// find returns the number of a VIP.
func (t *vipTable) find(a frame.Addr) (id uint16, ok bool) {
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

// macSet holds the MACs from which no frame may come: the realservers' and our own.
type macSet struct {
	mask  uint64
	slots []uint64 // the MAC with bit 48 set; 0 is empty
}

func macWord(m []byte) uint64 {
	return uint64(binary.BigEndian.Uint32(m))<<16 | uint64(binary.BigEndian.Uint16(m[4:6])) | 1<<48
}

func newMACSet(macs []frame.MAC) macSet {
	size := 8
	for size < 4*len(macs) {
		size *= 2
	}
	s := macSet{mask: uint64(size - 1), slots: make([]uint64, size)}
	for _, m := range macs {
		if m.IsZero() {
			continue
		}
		w := macWord(m[:])
		i := w * 0x9e3779b97f4a7c15 >> 32 & s.mask
		for s.slots[i] != 0 && s.slots[i] != w {
			i = (i + 1) & s.mask
		}
		s.slots[i] = w
	}
	return s
}

func (s *macSet) has(m []byte) bool {
	w := macWord(m)
	for i := w * 0x9e3779b97f4a7c15 >> 32 & s.mask; ; i = (i + 1) & s.mask {
		switch s.slots[i] {
		case 0:
			return false
		case w:
			return true
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

// claim is a match before overlaps are resolved. A lower rank wins; that is the order in which the kernel looks
// (__ip_vs_service_find in ip_vs_ctl.c): marks, the exact port, an FTP service for its data ports, all ports.
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

// newPortTable resolves overlapping claims into spans. vips is one more than the highest number of a VIP.
func newPortTable(claims []claim, vips int) portTable {
	slices.SortStableFunc(claims, func(a, b claim) int { return a.slot - b.slot })
	t := portTable{start: make([]uint32, vips*4+2)}
	for i := 0; i < len(claims); {
		j := i
		for j < len(claims) && claims[j].slot == claims[i].slot {
			j++
		}
		n := len(t.spans)
		t.spans = appendSpans(t.spans, claims[i:j])
		t.start[claims[i].slot+1] = uint32(len(t.spans) - n)
		i = j
	}
	for i := 1; i < len(t.start); i++ {
		t.start[i] += t.start[i-1]
	}
	return t
}

// appendSpans walks the ports at which anything begins or ends, and keeps the best claim between each two.
func appendSpans(spans []span, claims []claim) []span {
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
