package replayrun_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// A wire collects the packets of a made-up capture, at times that the test chooses.
type wire struct {
	t       *testing.T
	now     int64 // nanoseconds since the epoch
	packets []packet
}

type packet struct {
	time int64
	data []byte
	wire int // longer than data if the capture cut it short
}

// router is where the clients' frames come from, and whom they are for.
var (
	router   = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	director = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

// add puts a frame on the wire, and lets a millisecond pass.
func (w *wire) add(data []byte) *packet {
	w.packets = append(w.packets, packet{w.now, data, len(data)})
	w.now += 1e6
	return &w.packets[len(w.packets)-1]
}

func (w *wire) serialize(ls ...gopacket.SerializableLayer) []byte {
	w.t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		w.t.Fatal(err)
	}
	return append([]byte(nil), b.Bytes()...)
}

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: router, DstMAC: director, EthernetType: kind}
}

// ip is an IPv4 or IPv6 header, with the Ethernet header before it.
func ip(src, dst netip.Addr, proto layers.IPProtocol) (*layers.Ethernet, gopacket.NetworkLayer) {
	if src.Is4() {
		return ethernet(layers.EthernetTypeIPv4), &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return ethernet(layers.EthernetTypeIPv6), &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

// tcp makes a segment. flags has letters of SYN, ACK, FIN, RST and PSH.
func (w *wire) tcp(src, dst, flags string, payload int) []byte {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	eth, header := ip(s.Addr(), d.Addr(), layers.IPProtocolTCP)
	t := &layers.TCP{SrcPort: layers.TCPPort(s.Port()), DstPort: layers.TCPPort(d.Port()), Seq: 1000, Window: 65535}
	for _, f := range flags {
		switch f {
		case 'S':
			t.SYN = true
		case 'A':
			t.ACK, t.Ack = true, 2000
		case 'F':
			t.FIN = true
		case 'R':
			t.RST = true
		case 'P':
			t.PSH = true
		}
	}
	t.SetNetworkLayerForChecksum(header)
	return w.serialize(eth, header.(gopacket.SerializableLayer), t, gopacket.Payload(make([]byte, payload)))
}

func (w *wire) udp(src, dst string, payload int) []byte {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	eth, header := ip(s.Addr(), d.Addr(), layers.IPProtocolUDP)
	u := &layers.UDP{SrcPort: layers.UDPPort(s.Port()), DstPort: layers.UDPPort(d.Port())}
	u.SetNetworkLayerForChecksum(header)
	return w.serialize(eth, header.(gopacket.SerializableLayer), u, gopacket.Payload(make([]byte, payload)))
}

// pcap is the capture, in nanoseconds.
func (w *wire) pcap() []byte {
	w.t.Helper()
	var b bytes.Buffer
	out := pcapgo.NewWriterNanos(&b)
	if err := out.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		w.t.Fatal(err)
	}
	writePcap(w.t, out, w)
	return b.Bytes()
}

// ping makes an echo request.
func (w *wire) ping(src, dst string) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if s.Is4() {
		return w.icmp(src, dst, layers.ICMPv4TypeEchoRequest, 0, make([]byte, 32))
	}
	eth, header := ip(s, d, layers.IPProtocolICMPv6)
	i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	i.SetNetworkLayerForChecksum(header)
	return w.serialize(eth, header.(gopacket.SerializableLayer), i, &layers.ICMPv6Echo{Identifier: 1, SeqNumber: 1}, gopacket.Payload(make([]byte, 32)))
}

// icmp makes an ICMP message with a body.
func (w *wire) icmp(src, dst string, kind, code uint8, body []byte) []byte {
	eth, header := ip(netip.MustParseAddr(src), netip.MustParseAddr(dst), layers.IPProtocolICMPv4)
	return w.serialize(eth, header.(gopacket.SerializableLayer), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code)}, gopacket.Payload(body))
}

// tagged puts an IEEE 802.1Q tag into a frame.
func tagged(frame []byte, id uint16) []byte {
	out := append([]byte(nil), frame[:12]...)
	out = binary.BigEndian.AppendUint16(append(out, 0x81, 0), id)
	return append(out, frame[12:]...)
}

// headerSum writes the checksum of the IPv4 header of a frame anew.
func headerSum(frame []byte) {
	h := frame[14:34]
	h[10], h[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum>>16+sum))
}

// from changes the source MAC of a frame.
func from(frame []byte, mac net.HardwareAddr) []byte {
	copy(frame[6:12], mac)
	return frame
}
