package frame_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"shunt/forwarder/frame"
)

// The ends of the flows in these tests.
const (
	client4, vip4       = "192.0.2.7", "203.0.113.10"
	client6, vip6       = "2001:db8:1::7", "2001:db8:2::10"
	clientPort          = 40000
	vipPort             = 80
	ttl, ipID           = 61, 0xbeef
	flagsSYN            = frame.SYN
	flagsPSHACK         = frame.PSH | frame.ACK
	vnetHead            = 10 // length of a virtio_net_hdr
	protoNone     uint8 = 59 // IPv6 "no next header"
)

type layer = gopacket.SerializableLayer

// failer is what the builders need of a testing.TB or a rapid.T.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// build puts a frame together from the outside in; lengths and checksums are filled in. A header
// that gopacket cannot write is given as a raw one.
func build(t failer, ls ...layer) []byte {
	t.Helper()
	var net gopacket.NetworkLayer
	for _, l := range ls {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			net = n
		}
		var err error
		switch l := l.(type) {
		case *layers.TCP:
			err = l.SetNetworkLayerForChecksum(net)
		case *layers.UDP:
			err = l.SetNetworkLayerForChecksum(net)
		case *layers.ICMPv6:
			err = l.SetNetworkLayerForChecksum(net)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(buf.Bytes())
}

// raw is a header or a payload given byte by byte.
func raw(b ...byte) layer { return gopacket.Payload(b) }

// payload is n bytes that are not zero, so that a parser that reads too far sees something.
func payload(n int) layer {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) | 0x80
	}
	return gopacket.Payload(b)
}

func eth(typ layers.EthernetType) layer {
	return &layers.Ethernet{
		DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: typ,
	}
}

func tag(id uint16, typ layers.EthernetType) layer {
	return &layers.Dot1Q{VLANIdentifier: id, Priority: 5, Type: typ}
}

func ip4(p frame.Proto, change ...func(*layers.IPv4)) layer {
	ip := &layers.IPv4{
		Version: 4, TTL: ttl, Id: ipID, Protocol: layers.IPProtocol(p),
		SrcIP: net.ParseIP(client4), DstIP: net.ParseIP(vip4),
	}
	for _, c := range change {
		c(ip)
	}
	return ip
}

// fragment4 makes an IPv4 packet a fragment at off bytes.
func fragment4(off uint16, more bool) func(*layers.IPv4) {
	return func(ip *layers.IPv4) {
		ip.FragOffset = off / 8
		if more {
			ip.Flags |= layers.IPv4MoreFragments
		}
	}
}

func ip6(next uint8) layer {
	return &layers.IPv6{
		Version: 6, HopLimit: ttl, NextHeader: layers.IPProtocol(next),
		SrcIP: net.ParseIP(client6), DstIP: net.ParseIP(vip6),
	}
}

// The IPv6 extension headers, each of 8 bytes or as long as said.

func hopByHop(next uint8) layer { return raw(next, 0, 1, 4, 0, 0, 0, 0) }

// options is a destination options header of 8+8*more bytes.
func options(next uint8, more uint8) layer {
	b := make([]byte, 8+8*int(more))
	b[0], b[1] = next, more
	for rest := b[2:]; len(rest) > 0; {
		n := min(len(rest)-2, 255) // an option that only fills (RFC 8200, 4.2)
		if n < 0 {
			break // one byte is left: the option of one byte, which is zero
		}
		rest[0], rest[1] = 1, byte(n)
		rest = rest[2+n:]
	}
	return raw(b...)
}

func routing(next uint8) layer { return raw(next, 0, 0, 0, 0, 0, 0, 0) }

func mobility(next uint8) layer { return raw(next, 0, 0, 0, 0, 0, 0, 0) }

// authentication is a header of 16 bytes, as IPv6 wants a multiple of 8.
func authentication(next uint8) layer {
	return raw(next, 2, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 1, 2, 3, 4)
}

func fragment6(next uint8, off uint16, more bool) layer {
	b := []byte{next, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef}
	binary.BigEndian.PutUint16(b[2:], off)
	if more {
		b[3] |= 1
	}
	return raw(b...)
}

func tcp(flags uint8) layer {
	return &layers.TCP{
		SrcPort: clientPort, DstPort: vipPort, DataOffset: 5, Window: 1000,
		FIN: flags&frame.FIN != 0, SYN: flags&frame.SYN != 0, RST: flags&frame.RST != 0,
		PSH: flags&frame.PSH != 0, ACK: flags&frame.ACK != 0,
	}
}

func udp() layer { return &layers.UDP{SrcPort: clientPort, DstPort: vipPort} }

func sctp() layer {
	return &layers.SCTP{SrcPort: clientPort, DstPort: vipPort, VerificationTag: 7}
}

func sctpInit() layer {
	return &layers.SCTPInit{SCTPChunk: layers.SCTPChunk{Type: layers.SCTPChunkTypeInit}, InitiateTag: 1}
}

func icmp4(typ, code uint8) layer {
	return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, code)}
}

// icmp6 gives the first four bytes of an ICMPv6 message and the four that follow in all the
// director reads.
func icmp6(typ, code uint8) []layer {
	return []layer{&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, code)}, raw(0, 0, 0, 0)}
}

func addr(s string) frame.Addr { return frame.AddrFrom(netip.MustParseAddr(s)) }

// whole is a frame that came in as it was on the wire, without a virtio_net_hdr.
func whole(data []byte) frame.Frame { return frame.Frame{Buf: data, Wire: int32(len(data))} }

// cut is the frame's first n bytes, by a capture that ended there.
func cut(data []byte, n int) frame.Frame { return frame.Frame{Buf: data[:n:n], Wire: int32(len(data))} }

// shortened is the frame's first n bytes, and no more were sent.
func shortened(data []byte, n int) frame.Frame { return whole(data[:n:n]) }

// headed puts a virtio_net_hdr before the frame.
func headed(data []byte) frame.Frame {
	buf := append(make([]byte, vnetHead), data...)
	return frame.Frame{Buf: buf, Head: vnetHead, Wire: int32(len(data))}
}

// super is a frame of segmentation offload.
func super(data []byte) frame.Frame {
	f := headed(data)
	f.Buf[1] = 1 // VIRTIO_NET_HDR_GSO_TCPV4
	return f
}

// fixSum writes the right checksum into the IPv4 header at off.
func fixSum(data []byte, off int) {
	n := int(data[off]&15) * 4
	if off+n > len(data) || n < 20 {
		return
	}
	h := data[off : off+n]
	h[10], h[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < n; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
}

// change returns a copy of the frame with the bytes at off replaced.
func change(data []byte, off int, with ...byte) []byte {
	data = slices.Clone(data)
	copy(data[off:], with)
	return data
}

// parse reads a frame into a Packet full of rubbish, as the director does with the one of the frame
// before.
func parse(f frame.Frame) (frame.Packet, frame.Problem) {
	p := frame.Packet{L3: 1, L4: 2, Len: 3, Fragment: true, FragMore: true, FragID: 4, FragOff: 5, V6: true, DF: true,
		TTL: 6, TCPFlags: 7, ICMPType: 8, ICMPCode: 9, Chunk: 10, VLANs: 11,
		Tuple: frame.Tuple{Src: addr(vip6), Dst: addr(client6), SrcPort: 12, DstPort: 13, Proto: 14}}
	problem := frame.Parse(&f, &p)
	return p, problem
}

func check(t *testing.T, f frame.Frame, want frame.Packet) {
	t.Helper()
	p, problem := parse(f)
	if problem != frame.OK {
		t.Fatalf("the frame is refused: %v", problem)
	}
	if p != want {
		t.Fatalf("read\n%#v, want\n%#v", p, want)
	}
}

func refuse(t *testing.T, f frame.Frame, want frame.Problem) {
	t.Helper()
	p, problem := parse(f)
	if problem != want {
		t.Fatalf("the frame is found %q, want %q: %#v", problem, want, p)
	}
	if p.L4 != 0 || p.SrcPort != 0 || p.DstPort != 0 {
		t.Fatalf("%v, but the transport header is read: %#v", problem, p)
	}
}
