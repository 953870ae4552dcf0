package convert

import (
	"math"
	"net/netip"
	"strings"
)

// A group is a virtual_server_group: what its members are services of.
type group struct {
	entries []entry
	has4    bool
	has6    bool
	anyMark bool              // a mark of no family
	marks   map[string]uint32 // of its services, by protocol, with nftables_ipvs
}

// An entry is a range of addresses with a port, or a mark.
type entry struct {
	place
	first, last netip.Addr
	port        uint16
	mark        uint32
	isMark      bool
	family      int // of a mark: 4, 6, or 0 if it is not said
}

func (r *result) group(n *node) *group {
	g := &group{marks: map[string]uint32{}}
	for _, c := range n.children {
		var e *entry
		if c.word(0) == "fwmark" {
			e = r.groupMark(c)
		} else {
			e = r.groupAddresses(c)
		}
		if e == nil {
			continue
		}
		g.has4 = g.has4 || e.family == 4
		g.has6 = g.has6 || e.family == 6
		g.anyMark = g.anyMark || e.family == 0
		g.entries = append(g.entries, *e)
	}
	if len(g.entries) == 0 {
		r.lose(n.place, "%s: it has no entries: keepalived ignores it", n)
		return nil
	}
	if g.has4 && g.has6 && g.anyMark {
		r.lose(n.place, "%s: it has IPv4, IPv6 and a mark without a family: keepalived ignores it", n)
		return nil
	}
	return g
}

func (r *result) groupMark(n *node) *entry {
	mark, ok := kaNumber(n.word(1), 1, math.MaxUint32, false)
	if !ok {
		r.lose(n.place, "%s: it is no mark: keepalived ignores it", n)
		return nil
	}
	e := &entry{place: n.place, mark: uint32(mark), isMark: true}
	switch n.word(2) {
	case "":
	case "inet":
		e.family = 4
	case "inet6":
		e.family = 6
	default:
		r.lose(n.place, "%s: the family is inet or inet6: keepalived ignores it", n)
		return nil
	}
	return e
}

// groupAddresses reads ADDRESS, FIRST-LAST or ADDRESS/PREFIX, and a port. LAST is an address, or
// its last part.
func (r *result) groupAddresses(n *node) *entry {
	leftOut := func(why string) *entry {
		r.lose(n.place, "%s: %s: keepalived ignores it", n, why)
		return nil
	}
	text := n.word(0)
	addr, port, ok := kaEndpoint(text, n.word(1))
	if !ok {
		return leftOut("it is no address and port; names are not resolved")
	}
	r.oddNumber(n.place, n.word(1))
	e := &entry{place: n.place, first: addr, last: addr, port: port, family: family(addr)}
	if _, prefix, isPrefix := strings.Cut(text, "/"); isPrefix {
		bits, ok := kaNumber(prefix, 1, uint64(addr.BitLen()), false)
		p := netip.PrefixFrom(addr, int(bits))
		if !ok {
			return leftOut("the prefix is not understood")
		}
		if p.Masked().Addr() != addr {
			return leftOut("the address has bits beyond the prefix")
		}
		e.last = lastOf(p)
	} else if _, end, isRange := strings.Cut(text, "-"); isRange {
		if e.last, ok = rangeEnd(addr, end); !ok || e.last.Less(addr) || e.last == addr && !strings.ContainsAny(end, ".:") {
			return leftOut("it is no range of addresses upwards")
		}
	}
	if most := r.limits.services; e.members(most) > most {
		r.lose(n.place, "%s: it has more than %d addresses: it is left out", n, most)
		return nil
	}
	if a, b := e.first.As16(), e.last.As16(); e.family == 6 && string(a[:14]) != string(b[:14]) || e.family == 4 && string(a[:15]) != string(b[:15]) {
		r.remark(n.place, "%s: the range is taken as it is meant; keepalived 2.2.7 itself counts in the last part of the address only", n)
	}
	return e
}

// rangeEnd reads the end of a range: an address, or its last part, of IPv4 in decimal, of IPv6 in
// hexadecimal.
func rangeEnd(first netip.Addr, s string) (netip.Addr, bool) {
	if strings.ContainsAny(s, ".:") {
		last, err := netip.ParseAddr(s)
		return last, err == nil && last.Is4() == first.Is4() && last.Zone() == ""
	}
	if first.Is4() {
		n, ok := kaNumber(s, 0, 255, true)
		b := first.As4()
		b[3] = byte(n)
		return netip.AddrFrom4(b), ok
	}
	n, ok := hexadecimal(s)
	b := first.As16()
	b[14], b[15] = byte(n>>8), byte(n)
	return netip.AddrFrom16(b), ok
}

// members is how many addresses an entry has; beyond the most that there may be it does not count
// on.
func (e *entry) members(most int) int {
	n := 1
	for a := e.first; a != e.last && n <= most; a = a.Next() {
		n++
	}
	return n
}

// services are those of an entry.
func (e *entry) services(s service, fallback int) (out []*service) {
	if e.isMark {
		s.Mark, s.V6 = e.mark, e.family == 6 || e.family == 0 && fallback == 6
		s.Protocol = ""
		return []*service{&s}
	}
	for a := e.first; ; a = a.Next() {
		t := s
		t.Address, t.Port = a, e.port
		t.reals = append([]real(nil), s.reals...)
		out = append(out, &t)
		if a == e.last {
			return out
		}
	}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// hexadecimal reads up to 16 bits.
func hexadecimal(s string) (n uint64, ok bool) {
	for _, c := range []byte(strings.ToLower(s)) {
		i := strings.IndexByte("0123456789abcdef", c)
		if i < 0 || n > 0xffff {
			return 0, false
		}
		n = n<<4 | uint64(i)
	}
	return n, s != "" && n <= 0xffff
}

// kaEndpoint reads an address and a port, of which none and 0 are the same. What follows - or / in
// the address is not looked at.
func kaEndpoint(text, port string) (addr netip.Addr, number uint16, ok bool) {
	if strings.Trim(port, "0") != "" {
		n, ok := kaNumber(port, 1, 65535, true)
		if !ok {
			return addr, 0, false
		}
		number = uint16(n)
	}
	if i := strings.IndexByte(text, '-'); i >= 0 {
		text = text[:i]
	} else if i := strings.IndexByte(text, '/'); i >= 0 {
		text = text[:i]
	}
	addr, err := netip.ParseAddr(text)
	return addr, number, err == nil && addr.Zone() == ""
}
