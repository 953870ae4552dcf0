package ring

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

func a4(v uint32) netip.Addr { return frame.AddrFrom4(v).Netip() }

func a6(hi, lo uint64) netip.Addr { return frame.Addr{Hi: hi, Lo: lo}.Netip() }

// to is a small frame to an address.
func to(dst netip.Addr, tags ...[4]byte) []byte {
	src := netip.MustParseAddr("192.0.2.77")
	if dst.Is6() {
		src = netip.MustParseAddr("2001:db8:ffff::77")
	}
	return etherIP(ip(src, dst, frame.UDP, 0, 0, udp(1, 2, nil)), tags...)
}

// host is a packet for the interface's own MAC.
var host = extensions{bpf.ExtType: unix.PACKET_HOST}

func TestFilterFrames(t *testing.T) {
	vip4, vip6 := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8::10")
	not4, not6 := netip.MustParseAddr("203.0.113.11"), netip.MustParseAddr("2001:db8::11")
	vips := []netip.Addr{vip4, vip6, netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("10.0.0.1")}
	raw, err := vipFilter(vips, maxProgram)
	if err != nil {
		t.Fatal(err)
	}
	arp := ether(frame.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, macB, frame.EtherTypeARP, make([]byte, 46))
	swapped := etherIP(ip(vip4, not4, frame.TCP, 0, 0, make([]byte, 20)))
	for _, c := range []struct {
		name string
		kind uint32
		data []byte
		in   bool
	}{
		{"IPv4", 0, to(vip4), true},
		{"IPv6", 0, to(vip6), true},
		{"another VIP", 0, to(vips[2]), true},
		{"another VIP of IPv6", 0, to(vips[3]), true},
		{"not a VIP", 0, to(not4), false},
		{"not a VIP of IPv6", 0, to(not6), false},
		{"from a VIP", 0, swapped, false},
		{"IPv4 with options", 0, etherIP(ip(not4, vip4, frame.TCP, 10, 0, make([]byte, 20))), true},
		{"a fragment", 0, etherIP(ip(not4, vip4, frame.UDP, 0, 0x2010, make([]byte, 20))), true},
		{"ARP", 0, arp, false},
		{"one tag", 0, to(vip4, tag(5)), true},
		{"two tags", 0, to(vip4, dtag(5), tag(6)), true},
		{"two tags, IPv6", 0, to(vip6, tag(5), tag(6)), true},
		{"three tags", 0, to(vip4, dtag(5), tag(6), tag(7)), false},
		{"one tag, not a VIP", 0, to(not4, tag(5)), false},
		{"two tags, not a VIP of IPv6", 0, to(not6, dtag(5), tag(6)), false},
		{"ARP behind a tag", 0, ether(macA, macB, frame.EtherTypeARP, make([]byte, 46), tag(5)), false},
		{"broadcast", unix.PACKET_BROADCAST, to(vip4), false},
		{"multicast", unix.PACKET_MULTICAST, to(vip6), false},
		{"for another host", unix.PACKET_OTHERHOST, to(vip4), false},
		{"from this host", unix.PACKET_OUTGOING, to(vip4), false},
		{"the shortest IPv4", 0, to(vip4)[:frame.HeaderLen+20], true},
		{"the destination cut", 0, to(vip4)[:frame.HeaderLen+19], false},
		{"the shortest IPv6", 0, to(vip6)[:frame.HeaderLen+40], true},
		{"the destination of IPv6 cut", 0, to(vip6)[:frame.HeaderLen+39], false},
		{"a runt", 0, to(vip4)[:13], false},
		{"no bytes", 0, nil, false},
		{"tags and no more", 0, to(vip4, tag(1), tag(2))[:20], false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, raw, extensions{bpf.ExtType: c.kind})
			defer m.close()
			n, err := m.run(c.data)
			if err != nil {
				t.Fatal(err)
			}
			if want := len(c.data); c.in && n != want || !c.in && n != 0 {
				t.Errorf("keeps %d of %d bytes, want in: %v", n, want, c.in)
			}
		})
	}
}

func TestFilterSizes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	addresses := func(n int, draw func() netip.Addr) []netip.Addr {
		var v []netip.Addr
		for range n {
			v = append(v, draw())
		}
		return v
	}
	any4 := func() netip.Addr { return a4(r.Uint32()) }
	near4 := func() netip.Addr { return a4(0xcb007100 + r.Uint32N(4096)) }
	any6 := func() netip.Addr { return a6(0x20010db8<<32|r.Uint64N(1<<32), r.Uint64()) }
	near6 := func() netip.Addr { return a6(0x20010db8<<32, r.Uint64N(4096)) }
	mixed := func() netip.Addr { return []func() netip.Addr{any4, near4, any6, near6}[r.IntN(4)]() }
	mapped := func() netip.Addr { return netip.AddrFrom16(any4().As16()) }
	for _, c := range []struct {
		name  string
		vips  []netip.Addr
		size  int
		exact bool // no others may come in
	}{
		{"0", nil, maxProgram, true},
		{"none that is an address", []netip.Addr{{}}, maxProgram, true},
		{"1", addresses(1, any4), maxProgram, true},
		{"1 of IPv6", addresses(1, any6), maxProgram, true},
		{"5", addresses(5, mixed), maxProgram, true},
		{"the ends", []netip.Addr{a4(0), a4(0xffffffff), a6(0, 0), a6(0xffffffffffffffff, 0)}, maxProgram, true},
		{"IPv4 mapped to IPv6", addresses(5, mapped), maxProgram, true},
		{"300", addresses(300, any4), maxProgram, true},
		{"300 mixed", addresses(300, mixed), maxProgram, true},
		{"300 in a small program", addresses(300, mixed), minProgram, false},
		{"5000", addresses(5000, any4), maxProgram, false},
		{"5000 of IPv6", addresses(5000, any6), maxProgram, false},
		{"5000 mixed", addresses(5000, mixed), maxProgram, false},
		{"5000 near", addresses(5000, near4), maxProgram, false},
		{"5000 in a small program", addresses(5000, mixed), minProgram, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := vipFilter(c.vips, c.size)
			if err != nil {
				t.Fatal(err)
			}
			if len(raw) > c.size {
				t.Fatalf("%d instructions, want %d at most", len(raw), c.size)
			}
			m := newMachine(t, raw, host)
			defer m.close()
			member := map[netip.Addr]bool{}
			folds := map[uint32]bool{}
			for _, a := range c.vips {
				a = a.Unmap()
				member[a] = true
				if a.Is6() {
					folds[fold(frame.AddrFrom(a))] = true
				}
			}
			others := 0
			for i := range 20_000 {
				a := any4()
				switch {
				case i < len(c.vips):
					if a = c.vips[i].Unmap(); !a.IsValid() {
						continue
					}
				case len(c.vips) > 0 && i%2 == 0: // next to a VIP
					if a = c.vips[r.IntN(len(c.vips))].Unmap(); !a.IsValid() {
						continue
					}
					if a = a.Next(); !a.IsValid() {
						continue
					}
				case i%4 == 1:
					a = any6()
				}
				n, err := m.run(to(a))
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case member[a] && n == 0:
					t.Fatalf("the VIP %v is left out", a)
				case n != 0 && !member[a] && !(a.Is6() && folds[fold(frame.AddrFrom(a))]):
					if others++; c.exact {
						t.Fatalf("%v comes in", a)
					}
				}
			}
			t.Logf("%d instructions; %d others came in", len(raw), others)
		})
	}
	if _, err := vipFilter(addresses(5, mixed), 10); err == nil {
		t.Error("a program of 10 instructions should not be possible")
	}
}

// Random sets around borders where ranges meet, and any size of program.
func TestFilterModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.OneOf(rapid.Uint32(), rapid.Uint32Range(0, 40), rapid.Uint32Range(0xffffffe0, 0xffffffff), rapid.Uint32Range(0x7ffffff0, 0x80000010))
		addr := rapid.Custom(func(t *rapid.T) netip.Addr {
			w := word.Draw(t, "word")
			if rapid.Bool().Draw(t, "IPv6") {
				return a6(uint64(w)<<32|1, uint64(word.Draw(t, "low")))
			}
			return a4(w)
		})
		vips := rapid.SliceOfN(addr, 0, 120).Draw(t, "vips")
		size := rapid.IntRange(minProgram, 1024).Draw(t, "size")
		raw, err := vipFilter(slices.Clone(vips), size)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > size {
			t.Fatalf("%d instructions, want %d at most", len(raw), size)
		}
		m := newMachine(t, raw, host)
		defer m.close()
		for _, a := range vips {
			if n, err := m.run(to(a)); err != nil || n == 0 {
				t.Fatalf("the VIP %v is left out (%v)", a, err)
			}
		}
		// With that much room nothing is joined.
		exact := len(vips) <= 20 && size >= 256
		for _, a := range rapid.SliceOfN(addr, 0, 50).Draw(t, "others") {
			n, err := m.run(to(a))
			if err != nil {
				t.Fatal(err)
			}
			same := func(v netip.Addr) bool {
				return v == a || v.Is6() && a.Is6() && fold(frame.AddrFrom(v)) == fold(frame.AddrFrom(a))
			}
			if exact && n != 0 && !slices.ContainsFunc(vips, same) {
				t.Fatalf("%v comes in", a)
			}
		}
	})
}

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		in   []uint32
		want []span
	}{
		{nil, nil},
		{[]uint32{5}, []span{{5, 5}}},
		{[]uint32{5, 5, 5}, []span{{5, 5}}},
		{[]uint32{7, 5, 6}, []span{{5, 7}}},
		{[]uint32{7, 5}, []span{{5, 5}, {7, 7}}},
		{[]uint32{0xffffffff, 0}, []span{{0, 0}, {0xffffffff, 0xffffffff}}}, // the ends are not neighbours
		{[]uint32{0xffffffff, 0xfffffffe, 1, 0}, []span{{0, 1}, {0xfffffffe, 0xffffffff}}},
	} {
		if got := ranges(slices.Clone(c.in)); !slices.Equal(got, c.want) {
			t.Errorf("ranges(%d) = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestJoin(t *testing.T) {
	r := []span{{0, 0}, {2, 3}, {10, 20}, {23, 23}, {25, 30}}
	for _, c := range []struct {
		n    int
		want []span
	}{
		{9, r},
		{5, r},
		{4, []span{{0, 3}, {10, 20}, {23, 23}, {25, 30}}}, // of two gaps that are equal the first
		{3, []span{{0, 3}, {10, 20}, {23, 30}}},
		{2, []span{{0, 3}, {10, 30}}},
		{1, []span{{0, 30}}},
		{0, []span{{0, 30}}},
	} {
		if got := join(slices.Clone(r), c.n); !slices.Equal(got, c.want) {
			t.Errorf("join(%d) = %v, want %v", c.n, got, c.want)
		}
	}
	// Gaps of the same size must not use up what smaller ones behind them need.
	if got, want := join([]span{{12, 12}, {26, 26}, {40, 40}, {42, 42}}, 2), []span{{12, 26}, {40, 42}}; !slices.Equal(got, want) {
		t.Errorf("join: %v, want %v", got, want)
	}
	if got := join(nil, 0); len(got) != 0 {
		t.Errorf("join of nothing: %v", got)
	}
}

// What is joined covers all that was there before, in no more ranges than asked for, and adds as
// little as can be.
func TestJoinModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOf(rapid.OneOf(rapid.Uint32(), rapid.Uint32Range(0, 100))).Draw(t, "numbers")
		r := ranges(slices.Clone(v))
		n := rapid.IntRange(1, 30).Draw(t, "n")
		got := join(slices.Clone(r), n)
		if want := min(n, len(r)); len(got) != want {
			t.Fatalf("%d ranges, want %d", len(got), want)
		}
		for i, s := range got {
			if s.lo > s.hi || i > 0 && s.lo <= got[i-1].hi {
				t.Fatalf("not sorted: %v", got)
			}
		}
		for _, x := range v {
			if !slices.ContainsFunc(got, func(s span) bool { return s.lo <= x && x <= s.hi }) {
				t.Fatalf("%d is left out of %v", x, got)
			}
		}
		size := func(r []span) (n uint64) {
			for _, s := range r {
				n += uint64(s.hi-s.lo) + 1
			}
			return n
		}
		var gaps []uint64
		for i := 1; i < len(r); i++ {
			gaps = append(gaps, uint64(r[i].lo-r[i-1].hi)-1)
		}
		slices.Sort(gaps)
		want := size(r)
		for _, g := range gaps[:len(r)-len(got)] {
			want += g
		}
		if size(got) != want {
			t.Fatalf("%v covers %d numbers, want %d", got, size(got), want)
		}
	})
}

func TestAcceptIP(t *testing.T) {
	m := newMachine(t, acceptIP(), host)
	defer m.close()
	for _, c := range []struct {
		name string
		data []byte
		in   bool
	}{
		{"IPv4", to(a4(0)), true},
		{"IPv4, the last", to(a4(0xffffffff)), true},
		{"IPv6", to(a6(1, 2)), true},
		{"IPv6 behind tags", to(a6(^uint64(0), 0), dtag(1), tag(2)), true},
		{"ARP", ether(macA, macB, frame.EtherTypeARP, make([]byte, 46)), false},
	} {
		if n, err := m.run(c.data); err != nil || n > 0 != c.in {
			t.Errorf("%s: keeps %d bytes (%v)", c.name, n, err)
		}
	}
	if raw := acceptIP(); len(raw) > minProgram {
		t.Errorf("%d instructions: it is to be smaller than the smallest filter of addresses", len(raw))
	}
	other := newMachine(t, acceptIP(), extensions{bpf.ExtType: unix.PACKET_OTHERHOST})
	defer other.close()
	if n, err := other.run(to(a4(1))); n != 0 || err != nil {
		t.Errorf("a frame for another host: keeps %d bytes (%v)", n, err)
	}
	none := newMachine(t, rejectAll(), nil)
	defer none.close()
	if n, err := none.run(to(a4(1))); n != 0 || err != nil {
		t.Errorf("rejectAll keeps %d bytes (%v)", n, err)
	}
}

// Neighbours are to stay neighbours, or ranges of IPv6 addresses could not be joined.
func TestFold(t *testing.T) {
	a := frame.Addr{Hi: 0x20010db8_00000001, Lo: 0x00000000_00000010}
	want := uint32(0x20010db8 ^ 1 ^ 0x10)
	if got := fold(a); got != want {
		t.Errorf("fold: %#x, want %#x", got, want)
	}
	b := a.Netip().As16()
	var x uint32
	for i := 0; i < 16; i += 4 {
		x ^= binary.BigEndian.Uint32(b[i:])
	}
	if x != want {
		t.Errorf("by the bytes of the header: %#x, want %#x", x, want)
	}
}
