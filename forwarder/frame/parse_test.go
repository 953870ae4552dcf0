package frame_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/gopacket/layers"

	"shunt/forwarder/frame"
)

// sample is a frame that Parse must read.
type sample struct {
	name string
	data []byte
	want frame.Packet
	need int // so many bytes from the Ethernet header on must be at hand
}

// packet4 is what is read from an IPv4 frame of the builders, before what a sample says otherwise.
func packet4(p frame.Proto, l3, size int) frame.Packet {
	return frame.Packet{
		Tuple: frame.Tuple{Src: addr(client4), Dst: addr(vip4), Proto: p},
		L3:    uint16(l3), L4: uint16(l3 + 20), Len: uint32(size), TTL: ttl,
	}
}

func packet6(p frame.Proto, l3, l4, size int) frame.Packet {
	return frame.Packet{
		Tuple: frame.Tuple{Src: addr(client6), Dst: addr(vip6), Proto: p},
		L3:    uint16(l3), L4: uint16(l4), Len: uint32(size), TTL: ttl, V6: true, DF: true,
	}
}

// ports fills in the ports that the builders write, and further fields.
func ports(p frame.Packet, more ...func(*frame.Packet)) frame.Packet {
	p.SrcPort, p.DstPort = clientPort, vipPort
	return with(p, more...)
}

func with(p frame.Packet, more ...func(*frame.Packet)) frame.Packet {
	for _, m := range more {
		m(&p)
	}
	return p
}

// samples are frames of every kind that the director reads to the end.
func samples(t testing.TB) []sample {
	const (
		v4, v6 = layers.EthernetTypeIPv4, layers.EthernetTypeIPv6
		vlan   = layers.EthernetTypeDot1Q
		qinq   = layers.EthernetTypeQinQ
		hop    = 0
		route  = 43
		frag   = 44
		auth   = 51
		opts   = 60
		mobile = 135
		tcp6   = uint8(frame.TCP)
		udp6   = uint8(frame.UDP)
	)
	flags := func(v uint8) func(*frame.Packet) { return func(p *frame.Packet) { p.TCPFlags = v } }
	chunk := func(v uint8) func(*frame.Packet) { return func(p *frame.Packet) { p.Chunk = v } }
	vlans := func(v uint8) func(*frame.Packet) { return func(p *frame.Packet) { p.VLANs = v } }
	icmp := func(typ, code uint8) func(*frame.Packet) {
		return func(p *frame.Packet) { p.ICMPType, p.ICMPCode = typ, code }
	}
	df := func(p *frame.Packet) { p.DF = true }
	piece := func(id uint32, off uint16, more bool) func(*frame.Packet) {
		return func(p *frame.Packet) {
			p.Fragment, p.FragID, p.FragOff, p.FragMore = true, id, off, more
			if off != 0 {
				p.L4 = 0
			}
		}
	}
	dontFragment := func(ip *layers.IPv4) { ip.Flags |= layers.IPv4DontFragment }
	router := func(ip *layers.IPv4) { // the router alert option (RFC 2113), and others up to the full 40 bytes
		ip.Options = []layers.IPv4Option{
			{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}},
			{OptionType: 7, OptionLength: 35, OptionData: make([]byte, 33)},
			{OptionType: 0},
		}
	}
	const id6 = 0xdeadbeef
	list := []sample{
		{"IPv4 TCP", build(t, eth(v4), ip4(frame.TCP, dontFragment), tcp(flagsPSHACK), payload(100)),
			ports(packet4(frame.TCP, 14, 140), flags(flagsPSHACK), df), 54},
		{"IPv4 TCP padded", build(t, eth(v4), ip4(frame.TCP), tcp(flagsSYN)),
			ports(packet4(frame.TCP, 14, 40), flags(flagsSYN)), 54},
		{"IPv4 TCP not padded", build(t, eth(v4), ip4(frame.TCP), tcp(flagsSYN))[:54],
			ports(packet4(frame.TCP, 14, 40), flags(flagsSYN)), 54},
		{"IPv4 UDP", build(t, eth(v4), ip4(frame.UDP), udp(), payload(50)),
			ports(packet4(frame.UDP, 14, 78)), 42},
		{"IPv4 UDP empty and padded", build(t, eth(v4), ip4(frame.UDP), udp()),
			ports(packet4(frame.UDP, 14, 28)), 42},
		{"IPv4 SCTP", build(t, eth(v4), ip4(frame.SCTP), sctp(), sctpInit()),
			ports(packet4(frame.SCTP, 14, 52), chunk(1)), 47},
		{"IPv4 SCTP without a chunk, padded", build(t, eth(v4), ip4(frame.SCTP), sctp()),
			ports(packet4(frame.SCTP, 14, 32), chunk(255)), 46},
		{"IPv4 echo request", build(t, eth(v4), ip4(frame.ICMP), icmp4(8, 0), payload(56)),
			with(packet4(frame.ICMP, 14, 84), icmp(8, 0)), 42},
		{"IPv4 port unreachable", build(t, eth(v4), ip4(frame.ICMP), icmp4(3, 3), payload(28)),
			with(packet4(frame.ICMP, 14, 56), icmp(3, 3)), 42},
		{"IPv4 options", build(t, eth(v4), ip4(frame.TCP, router), tcp(flagsPSHACK), payload(9)),
			ports(packet4(frame.TCP, 14, 89), flags(flagsPSHACK), func(p *frame.Packet) { p.L4 = 14 + 60 }), 94},
		{"IPv4 in a VLAN", build(t, eth(vlan), tag(7, v4), ip4(frame.UDP), udp(), payload(50)),
			ports(packet4(frame.UDP, 18, 78), vlans(1)), 46},
		{"IPv4 in QinQ", build(t, eth(qinq), tag(7, vlan), tag(8, v4), ip4(frame.TCP), tcp(flagsSYN), payload(5)),
			ports(packet4(frame.TCP, 22, 45), flags(flagsSYN), vlans(2)), 62},
		{"IPv4 first fragment", build(t, eth(v4), ip4(frame.UDP, fragment4(0, true)), udp(), payload(64)),
			ports(packet4(frame.UDP, 14, 92), piece(ipID, 0, true)), 42},
		{"IPv4 middle fragment", build(t, eth(v4), ip4(frame.TCP, fragment4(1480, true)), payload(72)),
			with(packet4(frame.TCP, 14, 92), piece(ipID, 1480, true)), 34},
		{"IPv4 last fragment", build(t, eth(v4), ip4(frame.UDP, fragment4(65528, false)), payload(1)),
			with(packet4(frame.UDP, 14, 21), piece(ipID, 65528, false)), 34},

		{"IPv6 TCP", build(t, eth(v6), ip6(tcp6), tcp(flagsPSHACK), payload(100)),
			ports(packet6(frame.TCP, 14, 54, 160), flags(flagsPSHACK)), 74},
		{"IPv6 UDP", build(t, eth(v6), ip6(udp6), udp(), payload(1)),
			ports(packet6(frame.UDP, 14, 54, 49)), 62},
		{"IPv6 UDP padded", append(build(t, eth(v6), ip6(udp6), udp()), 1, 2, 3, 4, 5),
			ports(packet6(frame.UDP, 14, 54, 48)), 62},
		{"IPv6 SCTP", build(t, eth(v6), ip6(uint8(frame.SCTP)), sctp(), sctpInit()),
			ports(packet6(frame.SCTP, 14, 54, 72), chunk(1)), 67},
		{"IPv6 echo request", build(t, append([]layer{eth(v6), ip6(uint8(frame.ICMPv6))}, icmp6(128, 0)...)...),
			with(packet6(frame.ICMPv6, 14, 54, 48), icmp(128, 0)), 62},
		{"IPv6 in a VLAN", build(t, eth(vlan), tag(7, v6), ip6(tcp6), tcp(flagsSYN)),
			ports(packet6(frame.TCP, 18, 58, 60), flags(flagsSYN), vlans(1)), 78},
		{"IPv6 in QinQ", build(t, eth(qinq), tag(7, vlan), tag(8, v6), ip6(tcp6), tcp(flagsSYN)),
			ports(packet6(frame.TCP, 22, 62, 60), flags(flagsSYN), vlans(2)), 82},
		{"IPv6 hop-by-hop", build(t, eth(v6), ip6(hop), hopByHop(tcp6), tcp(flagsSYN)),
			ports(packet6(frame.TCP, 14, 62, 68), flags(flagsSYN)), 82},
		{"IPv6 all extension headers", build(t, eth(v6), ip6(hop), hopByHop(opts), options(route, 2), routing(auth),
			authentication(mobile), mobility(opts), options(udp6, 0), udp(), payload(3)),
			ports(packet6(frame.UDP, 14, 54+8+24+8+16+8+8, 40+72+8+3)), 54 + 72 + 8},
		{"IPv6 eight extension headers", build(t, append(chain(8, udp6), udp(), payload(3))...),
			ports(packet6(frame.UDP, 14, 54+64, 40+64+8+3)), 54 + 64 + 8},
		{"IPv6 a long extension header", build(t, eth(v6), ip6(opts), options(tcp6, 255), tcp(flagsSYN)),
			ports(packet6(frame.TCP, 14, 54+2048, 40+2048+20), flags(flagsSYN)), 54 + 2048 + 20},
		{"IPv6 first fragment", build(t, eth(v6), ip6(frag), fragment6(udp6, 0, true), udp(), payload(64)),
			ports(packet6(frame.UDP, 14, 62, 120), piece(id6, 0, true)), 70},
		{"IPv6 middle fragment", build(t, eth(v6), ip6(frag), fragment6(udp6, 1448, true), payload(64)),
			with(packet6(frame.UDP, 14, 0, 112), piece(id6, 1448, true)), 62},
		{"IPv6 last fragment", build(t, eth(v6), ip6(frag), fragment6(tcp6, 65528, false), payload(1)),
			with(packet6(frame.TCP, 14, 0, 49), piece(id6, 65528, false)), 62},
		{"IPv6 fragment behind hop-by-hop", build(t, eth(v6), ip6(hop), hopByHop(frag), fragment6(udp6, 8, false), payload(8)),
			with(packet6(frame.UDP, 14, 0, 64), piece(id6, 8, false)), 70},
		{"IPv6 atomic fragment", build(t, eth(v6), ip6(frag), fragment6(tcp6, 0, false), tcp(flagsSYN)),
			ports(packet6(frame.TCP, 14, 62, 68), flags(flagsSYN), func(p *frame.Packet) { p.FragID = id6 }), 82},
	}
	return list
}

// chain is an IPv6 header with n destination options headers behind it, and then the header next.
func chain(n int, next uint8) []layer {
	const opts = 60
	ls := []layer{eth(layers.EthernetTypeIPv6), ip6(opts)}
	for i := range n {
		if i == n-1 {
			return append(ls, options(next, 0))
		}
		ls = append(ls, options(opts, 0))
	}
	return ls
}

func TestParse(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			check(t, whole(s.data), s.want)
			check(t, headed(s.data), s.want)
		})
	}
}

// Bytes behind the IP packet are Ethernet padding, whatever they hold.
func TestParsePadding(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			end := int(s.want.L3) + int(s.want.Len)
			bare := s.data[:end:end]
			check(t, whole(bare), s.want)
			for n := 1; n < 64; n++ {
				bare = append(bare, 0xff)
				check(t, whole(bare), s.want)
			}
		})
	}
}

// A frame that ends where the IP packet does not is refused, wherever that is.
func TestParseShortened(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			end := int(s.want.L3) + int(s.want.Len)
			for n := range s.data {
				f := shortened(s.data, n)
				switch {
				case n >= end:
					check(t, f, s.want)
				case n < int(s.want.L3):
					refuse(t, f, frame.Runt)
				default:
					refuse(t, f, frame.BadIP)
				}
			}
		})
	}
}

// A capture may keep less of a frame than came: what the headers need must be there, what follows
// need not.
func TestParseCut(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			for n := range s.data {
				if n < s.need {
					refuse(t, cut(s.data, n), frame.Cut)
				} else {
					check(t, cut(s.data, n), s.want)
				}
			}
		})
	}
}

func TestParseDoesNotWrite(t *testing.T) {
	for _, s := range samples(t) {
		before := string(s.data)
		parse(whole(s.data))
		if string(s.data) != before {
			t.Errorf("%s: the frame is not what it was", s.name)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const (
		v4, v6 = layers.EthernetTypeIPv4, layers.EthernetTypeIPv6
		vlan   = layers.EthernetTypeDot1Q
		frag   = 44
		auth   = 51
		opts   = 60
		udp6   = uint8(frame.UDP)
	)
	tcp4 := build(t, eth(v4), ip4(frame.TCP), tcp(flagsSYN), payload(20))
	tcp6 := build(t, eth(v6), ip6(uint8(frame.TCP)), tcp(flagsSYN), payload(20))
	// of4 changes the IPv4 header and writes the checksum anew, of6 the IPv6 header.
	of4 := func(off int, b ...byte) []byte {
		d := change(tcp4, 14+off, b...)
		fixSum(d, 14)
		return d
	}
	of6 := func(off int, b ...byte) []byte { return change(tcp6, 14+off, b...) }
	mapped := addr("192.0.2.7").Netip().As16()
	tests := []struct {
		name string
		data []byte
		want frame.Problem
	}{
		{"nothing", nil, frame.Runt},
		{"13 bytes", tcp4[:13], frame.Runt},
		{"half a tag", build(t, eth(vlan), tag(7, v4), ip4(frame.UDP), udp())[:17], frame.Runt},
		{"only an Ethernet header", tcp4[:14], frame.BadIP},
		{"ARP", change(tcp4, 12, 0x08, 0x06), frame.NotIP},
		{"LLC", change(tcp4, 12, 0x00, 0x26), frame.NotIP},
		{"ARP in a VLAN", build(t, eth(vlan), tag(7, layers.EthernetTypeARP), payload(28)), frame.NotIP},
		{"three tags", build(t, eth(vlan), tag(1, vlan), tag(2, vlan), tag(3, v4), ip4(frame.UDP), udp()), frame.NotIP},

		{"IPv4: version 6", of4(0, 0x65), frame.BadIP},
		{"IPv4: version 0", of4(0, 0x05), frame.BadIP},
		{"IPv4: header of 0 bytes", of4(0, 0x40), frame.BadIP},
		{"IPv4: header of 16 bytes", of4(0, 0x44), frame.BadIP},
		{"IPv4: header longer than the packet", func() []byte {
			d := build(t, eth(v4), ip4(frame.UDP), udp())
			d[14] = 0x4f
			return d
		}(), frame.BadIP},
		{"IPv4: length 0", of4(2, 0, 0), frame.BadIP},
		{"IPv4: length 19", of4(2, 0, 19), frame.BadIP},
		{"IPv4: one byte longer than the frame", of4(2, 0, 61), frame.BadIP},
		{"IPv4: length 65535", of4(2, 0xff, 0xff), frame.BadIP},
		{"IPv4: only a header", of4(2, 0, 20), frame.BadL4},
		{"IPv4: half a TCP header", of4(2, 0, 39), frame.BadL4},
		{"IPv4: half a UDP header", build(t, eth(v4), ip4(frame.UDP), payload(7)), frame.BadL4},
		{"IPv4: half an SCTP header", build(t, eth(v4), ip4(frame.SCTP), payload(11)), frame.BadL4},
		{"IPv4: half an ICMP header", build(t, eth(v4), ip4(frame.ICMP), payload(7)), frame.BadL4},
		{"IPv4: half a TCP header in the first fragment", build(t, eth(v4), ip4(frame.TCP, fragment4(0, true)), payload(8)), frame.BadL4},
		{"IPv4: checksum 0", change(tcp4, 24, 0, 0), frame.BadChecksum},
		{"IPv4: GRE", build(t, eth(v4), ip4(47), payload(40)), frame.OtherProto},
		{"IPv4: GRE without a byte", build(t, eth(v4), ip4(47)), frame.OtherProto},
		{"IPv4: ESP", build(t, eth(v4), ip4(50), payload(40)), frame.OtherProto},
		{"IPv4: authentication header", build(t, eth(v4), ip4(auth), authentication(6), tcp(flagsSYN)), frame.OtherProto},

		{"IPv6: version 4", of6(0, 0x40), frame.BadIP},
		{"IPv6: version 7", of6(0, 0x70), frame.BadIP},
		{"IPv6: EtherType of IPv4", change(tcp6, 12, 0x08, 0x00), frame.BadIP},
		{"IPv4: EtherType of IPv6", change(tcp4, 12, 0x86, 0xdd), frame.BadIP},
		{"IPv6: length 0", of6(4, 0, 0), frame.BadL4},
		{"IPv6: one byte longer than the frame", of6(4, 0, 41), frame.BadIP},
		{"IPv6: length 65535", of6(4, 0xff, 0xff), frame.BadIP},
		{"IPv6: half a TCP header", of6(4, 0, 19), frame.BadL4},
		{"IPv6: from an IPv4-mapped address", of6(8, mapped[:]...), frame.BadIP},
		{"IPv6: to an IPv4-mapped address", of6(24, mapped[:]...), frame.BadIP},
		{"IPv6: no next header", build(t, eth(v6), ip6(protoNone)), frame.OtherProto},
		{"IPv6: ESP", build(t, eth(v6), ip6(50), payload(40)), frame.OtherProto},
		{"IPv6: GRE behind options", build(t, eth(v6), ip6(opts), options(47, 0), payload(40)), frame.OtherProto},
		{"IPv6: half an extension header", build(t, eth(v6), ip6(opts), raw(udp6, 0, 1, 4), payload(3)), frame.BadIP},
		{"IPv6: no byte of an extension header", build(t, eth(v6), ip6(opts)), frame.BadIP},
		{"IPv6: an extension header longer than the packet", build(t, eth(v6), ip6(opts), raw(udp6, 4, 1, 4, 0, 0, 0, 0), udp(), payload(16)), frame.BadIP},
		{"IPv6: an authentication header longer than the packet", build(t, eth(v6), ip6(auth), raw(udp6, 255, 0, 0, 0, 0, 0, 0), udp(), payload(100)), frame.BadIP},
		{"IPv6: half a fragment header", build(t, eth(v6), ip6(frag), raw(udp6, 0, 0, 1), payload(3)), frame.BadIP},
		{"IPv6: nine extension headers", build(t, append(chain(9, udp6), udp(), payload(3))...), frame.BadIP},
		{"IPv6: a hundred extension headers", build(t, append(chain(100, udp6), udp(), payload(3))...), frame.BadIP},
		{"IPv6: only extension headers", build(t, chain(3, opts)...), frame.BadIP},
		{"IPv6: an atomic fragment in a fragment", build(t, eth(v6), ip6(frag), fragment6(frag, 0, true), fragment6(udp6, 0, false), udp(), payload(8)), frame.BadIP},
		{"IPv6: a later fragment in a fragment", build(t, eth(v6), ip6(frag), fragment6(frag, 0, true), fragment6(udp6, 8, true), payload(16)), frame.BadIP},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { refuse(t, whole(test.data), test.want) })
	}
}

// Any one bit of an IPv4 header makes the checksum wrong, unless the header cannot be read at all
// before.
func TestParseChecksum(t *testing.T) {
	data := build(t, eth(layers.EthernetTypeIPv4), ip4(frame.TCP, func(ip *layers.IPv4) {
		ip.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	}), tcp(flagsSYN), payload(20))
	for bit := range 24 * 8 {
		off := 14 + bit/8
		bad := change(data, off, data[off]^1<<(bit%8))
		p, problem := parse(whole(bad))
		if problem != frame.BadChecksum && (problem != frame.BadIP || bit/8 > 3) {
			t.Errorf("bit %d of the header turned round: %v, %#v", bit, problem, p)
		}
	}
}

// One extension header more or less than the bound decides.
func TestParseChainBound(t *testing.T) {
	for n := 1; n <= 32; n++ {
		data := build(t, append(chain(n, uint8(frame.UDP)), udp())...)
		if n > 8 {
			refuse(t, whole(data), frame.BadIP)
			continue
		}
		check(t, whole(data), ports(packet6(frame.UDP, 14, 54+8*n, 40+8*n+8)))
	}
}

// An atomic fragment is a whole packet, so a fragment header behind it says what the packet is.
func TestParseFragmentInAtomicFragment(t *testing.T) {
	data := build(t, eth(layers.EthernetTypeIPv6), ip6(44), fragment6(44, 0, false), fragment6(17, 16, true), payload(8))
	check(t, whole(data), with(packet6(frame.UDP, 14, 0, 64), func(p *frame.Packet) {
		p.Fragment, p.FragID, p.FragOff, p.FragMore = true, 0xdeadbeef, 16, true
	}))
}

// superFrame is a TCP segment with n bytes of payload, the length of its IP header being 0, as the
// kernel leaves it when segmentation offload made more of it than the field can tell.
func superFrame(t failer, v6 bool, n int) []byte {
	if v6 {
		data := build(t, eth(layers.EthernetTypeIPv6), ip6(6), tcp(flagsPSHACK), payload(100))
		binary.BigEndian.PutUint16(data[14+4:], 0)
		return append(data, make([]byte, n-100)...)
	}
	data := build(t, eth(layers.EthernetTypeIPv4), ip4(frame.TCP), tcp(flagsPSHACK), payload(100))
	binary.BigEndian.PutUint16(data[14+2:], 0)
	fixSum(data, 14)
	return append(data, make([]byte, n-100)...)
}

func TestParseBigTCP(t *testing.T) {
	const n = 180_000
	flags := func(p *frame.Packet) { p.TCPFlags = flagsPSHACK }
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("IPv6 %v", v6), func(t *testing.T) {
			data := superFrame(t, v6, n)
			want, header := ports(packet4(frame.TCP, 14, n+40), flags), 14+40
			if v6 {
				want, header = ports(packet6(frame.TCP, 14, 54, n+60), flags), 14+60
			}
			check(t, super(data), want)

			// The header alone is enough, as in any frame.
			f := super(data)
			for i := range header + 10 {
				f.Buf = f.Buf[: vnetHead+i : vnetHead+i]
				if i < header {
					refuse(t, f, frame.Cut)
				} else {
					check(t, f, want)
				}
				f = super(data)
			}

			// Without segmentation offload a length of 0 is what it says, and so it is in a frame
			// that is not large.
			zero := frame.BadIP
			if v6 {
				zero = frame.BadL4
			}
			refuse(t, whole(data), zero)
			refuse(t, headed(data), zero)
			refuse(t, super(data[:14+65535]), zero)
			want.Len = 65536
			check(t, super(data[:14+65536]), want)
		})
	}
}

// Older kernels put a hop-by-hop header with the jumbo option into such a frame (RFC 2675).
func TestParseJumbogram(t *testing.T) {
	const n = 100_000
	data := build(t, eth(layers.EthernetTypeIPv6), ip6(0), raw(6, 0, 0xc2, 4, 0, 0, 0, 0), tcp(flagsSYN))
	binary.BigEndian.PutUint16(data[14+4:], 0)
	binary.BigEndian.PutUint32(data[14+44:], 8+20+n)
	data = append(data, make([]byte, n)...)
	check(t, super(data), ports(packet6(frame.TCP, 14, 62, 40+8+20+n), func(p *frame.Packet) { p.TCPFlags = flagsSYN }))
	refuse(t, whole(data), frame.BadIP)
	refuse(t, headed(data), frame.BadIP)
}

// A frame may be said to be shorter on the wire than the buffer is; the wire counts.
func TestParseWireBelowBuffer(t *testing.T) {
	for _, s := range samples(t) {
		for wire := range s.data {
			f := whole(s.data)
			f.Wire = int32(wire)
			if wire >= int(s.want.L3)+int(s.want.Len) {
				check(t, f, s.want)
			} else {
				refuse(t, f, frame.BadIP)
			}
		}
	}
}

func TestParseNoAllocs(t *testing.T) {
	var p frame.Packet
	for _, s := range samples(t) {
		f := whole(s.data)
		if n := testing.AllocsPerRun(100, func() { frame.Parse(&f, &p) }); n != 0 {
			t.Errorf("%s: %v allocations", s.name, n)
		}
		f.Buf = f.Buf[:20]
		if n := testing.AllocsPerRun(100, func() { frame.Parse(&f, &p) }); n != 0 {
			t.Errorf("%s, cut short: %v allocations", s.name, n)
		}
	}
}

func TestProblemString(t *testing.T) {
	seen := map[string]frame.Problem{}
	for p := frame.OK; p <= frame.Cut; p++ {
		s := p.String()
		if other, ok := seen[s]; ok || s == "" || s == "unknown" {
			t.Errorf("problem %d is called %q, as is %d", p, s, other)
		}
		seen[s] = p
	}
	if s := (frame.Cut + 1).String(); s != "unknown" {
		t.Errorf("a problem that there is not is called %q", s)
	}
}
