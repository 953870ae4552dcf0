package frame_test

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// drawnFrame draws a frame that is well formed: of any protocol, tags, options, extension headers
// and fragments.
func drawnFrame(t *rapid.T) []byte {
	v6 := rapid.Bool().Draw(t, "v6")
	tags := rapid.IntRange(0, 2).Draw(t, "tags")
	proto := rapid.SampledFrom([]frame.Proto{frame.TCP, frame.UDP, frame.SCTP, frame.ICMP}).Draw(t, "protocol")
	typ := layers.EthernetTypeIPv4
	if v6 {
		typ = layers.EthernetTypeIPv6
		if proto == frame.ICMP {
			proto = frame.ICMPv6
		}
	}
	ls := []layer{eth(typ)}
	if tags > 0 {
		ls[0] = eth(rapid.SampledFrom([]layers.EthernetType{layers.EthernetTypeDot1Q, layers.EthernetTypeQinQ}).Draw(t, "outer"))
		if tags > 1 {
			ls = append(ls, tag(rapid.Uint16Range(0, 4095).Draw(t, "outer tag"), layers.EthernetTypeDot1Q))
		}
		ls = append(ls, tag(rapid.Uint16Range(0, 4095).Draw(t, "tag"), typ))
	}
	var later bool
	if v6 {
		ls, later = drawn6(t, ls, uint8(proto))
	} else {
		ls, later = drawn4(t, ls, proto)
	}
	if !later {
		ls = append(ls, drawnTransport(t, proto)...)
	}
	ls = append(ls, raw(rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "payload")...))
	data := build(t, ls...)
	if end := 14 + 4*tags; !v6 && rapid.Bool().Draw(t, "without padding") {
		data = data[:end+int(binary.BigEndian.Uint16(data[end+2:]))]
	}
	return data
}

func drawn4(t *rapid.T, ls []layer, proto frame.Proto) (all []layer, later bool) {
	ip := &layers.IPv4{
		Version: 4, Protocol: layers.IPProtocol(proto), TTL: rapid.Byte().Draw(t, "TTL"), Id: rapid.Uint16().Draw(t, "id"),
		SrcIP: net.IP(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "from")),
		DstIP: net.IP(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "to")),
		Flags: layers.IPv4Flag(rapid.Byte().Draw(t, "flags") & 7),
	}
	if rapid.IntRange(0, 3).Draw(t, "a later fragment, if 0") == 0 {
		ip.FragOffset = rapid.Uint16Range(1, 8191).Draw(t, "offset")
	}
	if n := rapid.IntRange(0, 38).Draw(t, "option"); n > 2 {
		ip.Options = []layers.IPv4Option{{OptionType: 68, OptionLength: uint8(n), OptionData: make([]byte, n-2)}}
	}
	return append(ls, ip), ip.FragOffset != 0
}

func drawn6(t *rapid.T, ls []layer, proto uint8) (all []layer, later bool) {
	src := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "from")
	dst := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "to")
	src[0], dst[0] = 0x20, 0x20 // not IPv4-mapped
	ip := &layers.IPv6{
		Version: 6, HopLimit: rapid.Byte().Draw(t, "hop limit"), SrcIP: src, DstIP: dst,
		FlowLabel: rapid.Uint32Max(0xfffff).Draw(t, "flow label"),
	}
	ls = append(ls, ip)
	// From the inside out, as each header names the next. gopacket knows no mobility header, nor a
	// routing header but that of type 0.
	next := proto
	var rest []layer
	for range rapid.IntRange(0, 6).Draw(t, "extension headers") {
		h := rapid.SampledFrom([]uint8{43, 51, 60}).Draw(t, "header")
		switch h {
		case 43:
			rest = append([]layer{routing(next)}, rest...)
		case 51:
			rest = append([]layer{authentication(next)}, rest...)
		case 60:
			rest = append([]layer{options(next, rapid.Byte().Draw(t, "length"))}, rest...)
		}
		next = h
	}
	if rapid.IntRange(0, 2).Draw(t, "fragmented, if 0") == 0 {
		off := rapid.Uint16Range(0, 3).Draw(t, "offset") * 8
		rest = append([]layer{fragment6(next, off, rapid.Bool().Draw(t, "more"))}, rest...)
		next, later = 44, off != 0
		if later {
			rest = rest[:1]
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "hop-by-hop, if 0") == 0 {
		rest = append([]layer{hopByHop(next)}, rest...)
		next = 0
	}
	ip.NextHeader = layers.IPProtocol(next)
	return append(ls, rest...), later
}

func drawnTransport(t *rapid.T, proto frame.Proto) []layer {
	src, dst := rapid.Uint16().Draw(t, "source port"), rapid.Uint16().Draw(t, "destination port")
	typ, code := rapid.Byte().Draw(t, "type"), rapid.Byte().Draw(t, "code")
	switch proto {
	case frame.TCP:
		h := tcp(typ).(*layers.TCP)
		h.SrcPort, h.DstPort = layers.TCPPort(src), layers.TCPPort(dst)
		return []layer{h}
	case frame.UDP:
		return []layer{&layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}}
	case frame.SCTP:
		return []layer{&layers.SCTP{SrcPort: layers.SCTPPort(src), DstPort: layers.SCTPPort(dst)}}
	case frame.ICMP:
		return []layer{icmp4(typ, code)}
	}
	return icmp6(typ, code)
}

// compare reads the frame with gopacket too, and reports where p says something else. A layer that
// gopacket does not come to is not compared; found says whether it came to the transport header.
func compare(t failer, data []byte, p frame.Packet) (found bool) {
	t.Helper()
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.NoCopy)
	want := p
	var vlans uint8
	at := 0
	fragmented := false
walk:
	for _, l := range packet.Layers() {
		switch l := l.(type) {
		case *layers.Dot1Q:
			vlans++
		case *layers.IPv4:
			if want.V6 {
				t.Fatal("IPv4 is taken for IPv6")
			}
			want.VLANs, want.L3, want.TTL, want.Len = vlans, uint16(at), l.TTL, uint32(l.Length)
			want.Src.Hi, want.Dst.Hi = 0, 0
			want.Src.Lo = 0xffff<<32 | uint64(binary.BigEndian.Uint32(l.SrcIP))
			want.Dst.Lo = 0xffff<<32 | uint64(binary.BigEndian.Uint32(l.DstIP))
			want.Proto, want.DF = frame.Proto(l.Protocol), l.Flags&layers.IPv4DontFragment != 0
			want.FragMore, want.FragOff = l.Flags&layers.IPv4MoreFragments != 0, l.FragOffset*8
			want.Fragment, want.FragID = want.FragMore || l.FragOffset != 0, 0
			if want.Fragment {
				want.FragID = uint32(l.Id)
				fragmented = true
			}
			want.L4 = uint16(at + int(l.IHL)*4)
			if l.FragOffset != 0 {
				want.L4 = 0
			}
		case *layers.IPv6:
			if !want.V6 {
				t.Fatal("IPv6 is taken for IPv4")
			}
			want.VLANs, want.L3, want.TTL, want.DF = vlans, uint16(at), l.HopLimit, true
			want.Len = 40 + uint32(l.Length)
			want.Src.Hi, want.Src.Lo = binary.BigEndian.Uint64(l.SrcIP), binary.BigEndian.Uint64(l.SrcIP[8:])
			want.Dst.Hi, want.Dst.Lo = binary.BigEndian.Uint64(l.DstIP), binary.BigEndian.Uint64(l.DstIP[8:])
		case *layers.IPv6Fragment:
			fragmented = true
			if l.FragmentOffset == 0 && !l.MoreFragments {
				break walk // an atomic fragment, which gopacket reads no further
			}
			want.Fragment = true
			want.FragOff, want.FragMore, want.FragID = l.FragmentOffset*8, l.MoreFragments, l.Identification
			if want.FragOff != 0 {
				want.Proto, want.L4 = frame.Proto(l.NextHeader), 0
			}
		case *layers.TCP:
			found = true
			want.Proto, want.L4, want.SrcPort, want.DstPort = frame.TCP, uint16(at), uint16(l.SrcPort), uint16(l.DstPort)
			want.TCPFlags = 0
			for i, set := range []bool{l.FIN, l.SYN, l.RST, l.PSH, l.ACK, l.URG, l.ECE, l.CWR} {
				if set {
					want.TCPFlags |= 1 << i
				}
			}
			break walk
		case *layers.UDP:
			found = true
			want.Proto, want.L4, want.SrcPort, want.DstPort = frame.UDP, uint16(at), uint16(l.SrcPort), uint16(l.DstPort)
			break walk
		case *layers.SCTP:
			found = true
			want.Proto, want.L4, want.SrcPort, want.DstPort = frame.SCTP, uint16(at), uint16(l.SrcPort), uint16(l.DstPort)
			want.Chunk = 255
			if len(l.Payload) > 0 && at+12 < int(p.L3)+int(p.Len) {
				want.Chunk = l.Payload[0]
			}
			break walk
		case *layers.ICMPv4:
			found = true
			want.Proto, want.L4 = frame.ICMP, uint16(at)
			want.ICMPType, want.ICMPCode = l.TypeCode.Type(), l.TypeCode.Code()
			break walk
		case *layers.ICMPv6:
			found = true
			want.Proto, want.L4 = frame.ICMPv6, uint16(at)
			want.ICMPType, want.ICMPCode = l.TypeCode.Type(), l.TypeCode.Code()
			break walk
		}
		at += len(l.LayerContents())
	}
	if p != want {
		if r, ok := t.(*rapid.T); ok {
			r.Logf("%x\nread\n%#v, gopacket reads\n%#v", data, p, want)
		}
		t.Fatal("gopacket reads another packet")
	}
	return found || fragmented
}

// Of a frame that is well formed gopacket says the same.
func TestParseAsGopacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := drawnFrame(t)
		p, problem := parse(whole(data))
		if problem != frame.OK {
			t.Fatalf("%x is refused: %v", data, problem)
		}
		if !compare(t, data, p) {
			t.Fatalf("%x: gopacket comes to no transport header", data)
		}
	})
}

// A frame with some bytes changed may be refused, but if it is not, it is not misread.
func TestParseDamagedAsGopacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := drawnFrame(t)
		headers := min(len(data), 110)
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			data[rapid.IntRange(12, headers-1).Draw(t, "place")] = rapid.Byte().Draw(t, "byte")
		}
		if data[12] == 0x08 && data[13] == 0 && rapid.Bool().Draw(t, "right checksum") {
			fixSum(data, 14)
		}
		p, problem := parse(whole(data))
		if problem == frame.OK {
			compare(t, data, p)
		} else if p.L4 != 0 {
			t.Fatalf("%x: %v, but the transport header is read: %#v", data, problem, p)
		}
	})
}
