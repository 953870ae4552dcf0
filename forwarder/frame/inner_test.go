package frame_test

import (
	"net"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"shunt/forwarder/frame"
)

// What an ICMP error quotes is a packet on its way from the virtual service to the client, so these
// are the builders' headers turned round.

func quoted4(p frame.Proto, change ...func(*layers.IPv4)) layer {
	ip := ip4(p, change...).(*layers.IPv4)
	ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
	return ip
}

func quoted6(next uint8) layer {
	ip := ip6(next).(*layers.IPv6)
	ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
	return ip
}

// quotedPorts are the first four bytes of the transport header: from the virtual port to the
// client's.
func quotedPorts(more ...byte) layer {
	return raw(append([]byte{vipPort >> 8, vipPort & 0xff, clientPort >> 8, clientPort & 0xff}, more...)...)
}

// error4 is an ICMP error from a router about the packet that the layers make.
func error4(t failer, typ, code uint8, quoted ...layer) []byte {
	router := func(ip *layers.IPv4) { ip.SrcIP = net.ParseIP("198.51.100.1") }
	ls := append([]layer{eth(layers.EthernetTypeIPv4), ip4(frame.ICMP, router), icmp4(typ, code)}, quoted...)
	return build(t, ls...)
}

func error6(t failer, typ, code uint8, quoted ...layer) []byte {
	ls := append([]layer{eth(layers.EthernetTypeIPv6), ip6(uint8(frame.ICMPv6))}, icmp6(typ, code)...)
	return build(t, append(ls, quoted...)...)
}

// inner reads an ICMP error and then what it quotes.
func inner(t testing.TB, f frame.Frame) (frame.Packet, frame.Problem) {
	t.Helper()
	p, problem := parse(f)
	if problem != frame.OK {
		t.Fatalf("the ICMP message is refused: %v", problem)
	}
	in := frame.Packet{L3: 1, L4: 2, Len: 3, V6: true, TCPFlags: 4, Tuple: frame.Tuple{SrcPort: 5, DstPort: 6, Proto: 7}}
	problem = frame.ParseInner(&f, &p, &in)
	return in, problem
}

func seen4(p frame.Proto) frame.Packet {
	return frame.Packet{Tuple: frame.Tuple{
		Src: addr(client4), Dst: addr(vip4), SrcPort: clientPort, DstPort: vipPort, Proto: p,
	}}
}

func seen6(p frame.Proto) frame.Packet {
	return frame.Packet{V6: true, Tuple: frame.Tuple{
		Src: addr(client6), Dst: addr(vip6), SrcPort: clientPort, DstPort: vipPort, Proto: p,
	}}
}

// innerSample is an ICMP error whose quotation can be read.
type innerSample struct {
	name string
	data []byte
	want frame.Packet
	need int // so many bytes from the Ethernet header on must be at hand
}

func innerSamples(t testing.TB) []innerSample {
	const (
		tcp6, udp6 = uint8(frame.TCP), uint8(frame.UDP)
		at4, at6   = 14 + 20 + 8, 14 + 40 + 8 // where the quotation begins
	)
	reversed := func(l layer) layer {
		switch l := l.(type) {
		case *layers.TCP:
			l.SrcPort, l.DstPort = l.DstPort, l.SrcPort
		case *layers.UDP:
			l.SrcPort, l.DstPort = l.DstPort, l.SrcPort
		case *layers.SCTP:
			l.SrcPort, l.DstPort = l.DstPort, l.SrcPort
		}
		return l
	}
	options4 := func(ip *layers.IPv4) {
		ip.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	}
	return []innerSample{
		{"IPv4 TCP", error4(t, 3, 4, quoted4(frame.TCP), reversed(tcp(flagsPSHACK)), payload(100)), seen4(frame.TCP), at4 + 24},
		{"IPv4 UDP", error4(t, 3, 3, quoted4(frame.UDP), reversed(udp()), payload(10)), seen4(frame.UDP), at4 + 24},
		{"IPv4 SCTP", error4(t, 11, 0, quoted4(frame.SCTP), reversed(sctp()), sctpInit()), seen4(frame.SCTP), at4 + 24},
		{"IPv4 TCP, 8 bytes", error4(t, 3, 1, quoted4(frame.TCP), quotedPorts(1, 2, 3, 4)), seen4(frame.TCP), at4 + 24},
		{"IPv4 TCP, 4 bytes", error4(t, 11, 1, quoted4(frame.TCP), quotedPorts()), seen4(frame.TCP), at4 + 24},
		{"IPv4 UDP with options", error4(t, 3, 3, quoted4(frame.UDP, options4), quotedPorts()), seen4(frame.UDP), at4 + 28},
		{"IPv4 first fragment", error4(t, 11, 1, quoted4(frame.UDP, fragment4(0, true)), quotedPorts()), seen4(frame.UDP), at4 + 24},

		{"IPv6 TCP", error6(t, 2, 0, quoted6(tcp6), reversed(tcp(flagsPSHACK)), payload(100)), seen6(frame.TCP), at6 + 44},
		{"IPv6 UDP", error6(t, 1, 4, quoted6(udp6), reversed(udp()), payload(10)), seen6(frame.UDP), at6 + 44},
		{"IPv6 SCTP, 4 bytes", error6(t, 3, 0, quoted6(132), quotedPorts()), seen6(frame.SCTP), at6 + 44},
		{"IPv6 extension headers", error6(t, 1, 3, quoted6(0), hopByHop(60), options(43, 2), routing(51),
			authentication(135), mobility(60), options(tcp6, 0), quotedPorts()), seen6(frame.TCP), at6 + 40 + 72 + 4},
		{"IPv6 eight extension headers", error6(t, 1, 3, append(append([]layer{quoted6(60)}, chain(8, udp6)[2:]...), quotedPorts())...),
			seen6(frame.UDP), at6 + 40 + 64 + 4},
		{"IPv6 first fragment", error6(t, 3, 1, quoted6(44), fragment6(udp6, 0, true), quotedPorts()), seen6(frame.UDP), at6 + 52},
		{"IPv6 atomic fragment", error6(t, 1, 0, quoted6(44), fragment6(tcp6, 0, false), quotedPorts()), seen6(frame.TCP), at6 + 52},
	}
}

func TestParseInner(t *testing.T) {
	for _, s := range innerSamples(t) {
		t.Run(s.name, func(t *testing.T) {
			for _, f := range []frame.Frame{whole(s.data), headed(s.data)} {
				in, problem := inner(t, f)
				if problem != frame.OK {
					t.Fatalf("the quotation is refused: %v", problem)
				}
				if in != s.want {
					t.Fatalf("read\n%#v, want\n%#v", in, s.want)
				}
			}
		})
	}
}

// A capture that ends before the quoted ports leaves nothing to go by; one that ends behind them
// does no harm.
func TestParseInnerCut(t *testing.T) {
	for _, s := range innerSamples(t) {
		t.Run(s.name, func(t *testing.T) {
			begin := 14 + 20 + 8
			if s.want.V6 {
				begin = 14 + 40 + 8
			}
			for n := begin; n < len(s.data); n++ {
				in, problem := inner(t, cut(s.data, n))
				switch {
				case n < s.need && problem != frame.Cut:
					t.Fatalf("%d bytes are found %q, want %q: %#v", n, problem, frame.Cut, in)
				case n < s.need && (in.SrcPort != 0 || in.DstPort != 0):
					t.Fatalf("of %d bytes ports are read: %#v", n, in)
				case n >= s.need && (problem != frame.OK || in != s.want):
					t.Fatalf("%d bytes are found %q: %#v", n, problem, in)
				}
			}
		})
	}
}

// shorter is the ICMP error with only n bytes quoted, as a router may send it; the padding that
// follows the packet is not zero.
func shorter(data []byte, n int) []byte {
	data = slices.Clone(data)
	if data[12] == 0x08 {
		end := 14 + 20 + 8 + n
		data[16], data[17] = byte((end-14)>>8), byte(end-14)
		fixSum(data, 14)
		return append(data[:end], slices.Repeat([]byte{0xff}, 64)...)
	}
	data[18], data[19] = byte((8+n)>>8), byte(8+n)
	return append(data[:14+40+8+n], slices.Repeat([]byte{0xff}, 64)...)
}

// Nothing is read from behind the ICMP message.
func TestParseInnerShort(t *testing.T) {
	for _, s := range innerSamples(t) {
		t.Run(s.name, func(t *testing.T) {
			begin := 14 + 20 + 8
			if s.want.V6 {
				begin = 14 + 40 + 8
			}
			for n := 0; n <= s.need-begin; n++ {
				in, problem := inner(t, whole(shorter(s.data, n)))
				switch {
				case n < s.need-begin && problem != frame.BadL4:
					t.Fatalf("%d quoted bytes are found %q, want %q: %#v", n, problem, frame.BadL4, in)
				case n == s.need-begin && (problem != frame.OK || in != s.want):
					t.Fatalf("%d quoted bytes are found %q: %#v", n, problem, in)
				}
			}
		})
	}
}

func TestParseInnerRefuses(t *testing.T) {
	const udp6 = uint8(frame.UDP)
	mapped := addr(client4).Netip().As16()
	from6 := func(src, dst net.IP) layer {
		return &layers.IPv6{Version: 6, NextHeader: 17, SrcIP: src, DstIP: dst}
	}
	good4 := error4(t, 3, 3, quoted4(frame.UDP), quotedPorts())
	good6 := error6(t, 1, 4, quoted6(udp6), quotedPorts())
	nine := append(append([]layer{quoted6(60)}, chain(9, udp6)[2:]...), quotedPorts(), payload(8))
	tests := []struct {
		name string
		data []byte
		want frame.Problem
	}{
		{"IPv4: nothing quoted", error4(t, 3, 3), frame.BadL4},
		{"IPv4: version 6", change(good4, 42, 0x65), frame.BadIP},
		{"IPv4: header of 16 bytes", change(good4, 42, 0x44), frame.BadIP},
		{"IPv4: header longer than the quotation", change(good4, 42, 0x4f), frame.BadL4},
		{"IPv4: middle fragment", error4(t, 11, 1, quoted4(frame.UDP, fragment4(8, true)), quotedPorts()), frame.BadL4},
		{"IPv4: last fragment", error4(t, 11, 1, quoted4(frame.TCP, fragment4(65528, false)), quotedPorts()), frame.BadL4},
		{"IPv4: 3 bytes of ports", error4(t, 3, 3, quoted4(frame.UDP), raw(0, 80, 1)), frame.BadL4},
		{"IPv4: ICMP", error4(t, 3, 3, quoted4(frame.ICMP), icmp4(8, 0), payload(8)), frame.OtherProto},
		{"IPv4: GRE", error4(t, 3, 2, quoted4(47), payload(8)), frame.OtherProto},
		{"IPv4: GRE without a byte", error4(t, 3, 2, quoted4(47)), frame.OtherProto},
		{"IPv4 about IPv6", error4(t, 3, 3, quoted6(udp6), quotedPorts()), frame.BadIP},

		{"IPv6: nothing quoted", error6(t, 1, 4), frame.BadL4},
		{"IPv6: version 4", change(good6, 62, 0x45), frame.BadIP},
		{"IPv6: middle fragment", error6(t, 3, 1, quoted6(44), fragment6(udp6, 8, true), quotedPorts()), frame.BadL4},
		{"IPv6: last fragment", error6(t, 3, 1, quoted6(44), fragment6(6, 65528, false), quotedPorts()), frame.BadL4},
		{"IPv6: 3 bytes of ports", error6(t, 1, 4, quoted6(udp6), raw(0, 80, 1)), frame.BadL4},
		{"IPv6: an extension header longer than the quotation", error6(t, 1, 4, quoted6(60), raw(udp6, 9, 1, 4, 0, 0, 0, 0), quotedPorts()), frame.BadL4},
		{"IPv6: nine extension headers", error6(t, 1, 4, nine...), frame.BadIP},
		{"IPv6: ICMPv6", error6(t, 1, 4, quoted6(58), raw(128, 0, 0, 0, 0, 0, 0, 0)), frame.OtherProto},
		{"IPv6: no next header", error6(t, 1, 4, quoted6(protoNone)), frame.OtherProto},
		{"IPv6: from an IPv4-mapped address", error6(t, 1, 4, from6(mapped[:], net.ParseIP(client6)), quotedPorts()), frame.BadIP},
		{"IPv6: to an IPv4-mapped address", error6(t, 1, 4, from6(net.ParseIP(vip6), mapped[:]), quotedPorts()), frame.BadIP},
		{"IPv6 about IPv4", error6(t, 1, 4, quoted4(frame.UDP), payload(40)), frame.BadIP},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in, problem := inner(t, whole(test.data))
			if problem != test.want {
				t.Fatalf("the quotation is found %q, want %q: %#v", problem, test.want, in)
			}
			if in.SrcPort != 0 || in.DstPort != 0 {
				t.Fatalf("%v, but ports are read: %#v", problem, in)
			}
		})
	}
}

func TestParseInnerNoAllocs(t *testing.T) {
	for _, s := range innerSamples(t) {
		f := whole(s.data)
		p, _ := parse(f)
		var in frame.Packet
		if n := testing.AllocsPerRun(100, func() { frame.ParseInner(&f, &p, &in) }); n != 0 {
			t.Errorf("%s: %v allocations", s.name, n)
		}
	}
}
