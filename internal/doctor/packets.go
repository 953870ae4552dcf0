package doctor

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// What the frames of probes are made of, and how answers are read. Sources: RFC 9293, RFC 792, RFC
// 4443.

// build makes a whole frame.
func (p *probe) build(from frame.MAC, vlan uint16, what kind) ([]byte, error) {
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr(from[:]), DstMAC: net.HardwareAddr(p.mac[:])}
	var stack []gopacket.SerializableLayer
	stack = append(stack, eth)
	typ, ip := p.network(what)
	if eth.EthernetType = typ; vlan != 0 {
		eth.EthernetType = layers.EthernetTypeDot1Q
		stack = append(stack, &layers.Dot1Q{VLANIdentifier: vlan, Type: typ})
	}
	stack = append(stack, ip.(gopacket.SerializableLayer))
	switch what {
	case echo:
		stack = append(stack, p.echo(ip)...)
	case syn, rst:
		t := &layers.TCP{SrcPort: layers.TCPPort(p.srcPort), DstPort: layers.TCPPort(p.port), Seq: p.seq, SYN: what == syn, RST: what == rst, Window: 64240}
		if what == rst {
			t.Seq++
			t.Window = 0
		} else {
			t.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{0x05, 0xa0}}}
		}
		if err := t.SetNetworkLayerForChecksum(ip); err != nil {
			return nil, err
		}
		stack = append(stack, t)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...)
	return buf.Bytes(), err
}

func (p *probe) network(what kind) (layers.EthernetType, gopacket.NetworkLayer) {
	if p.vip.Is4() {
		proto := layers.IPProtocolTCP
		if what == echo {
			proto = layers.IPProtocolICMPv4
		}
		return layers.EthernetTypeIPv4, &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: p.src.AsSlice(), DstIP: p.vip.AsSlice(), Flags: layers.IPv4DontFragment}
	}
	proto := layers.IPProtocolTCP
	if what == echo {
		proto = layers.IPProtocolICMPv6
	}
	return layers.EthernetTypeIPv6, &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: p.src.AsSlice(), DstIP: p.vip.AsSlice()}
}

func (p *probe) echo(ip gopacket.NetworkLayer) []gopacket.SerializableLayer {
	id, seq := uint16(p.seq>>16), uint16(p.seq)
	text := gopacket.Payload("shunt doctor")
	if p.vip.Is4() {
		return []gopacket.SerializableLayer{&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: id, Seq: seq}, text}
	}
	i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	_ = i.SetNetworkLayerForChecksum(ip)
	return []gopacket.SerializableLayer{i, &layers.ICMPv6Echo{Identifier: id, SeqNumber: seq}, text}
}

// An answer is what a packet says about a probe.
type answer struct {
	kind kind       // echo, syn (SYN+ACK), rst, or complaint
	seq  uint32     // of the probe, not of a complaint
	from netip.Addr // source of the packet
	mac  frame.MAC  // source of the frame
	dst  netip.Addr // whom a complaint is about
	text string
}

// read understands a frame; ok is false if it cannot be an answer.
func read(b []byte) (a answer, ok bool) {
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	net := p.NetworkLayer()
	if net == nil {
		return a, false
	}
	a.from, _ = netip.AddrFromSlice(net.NetworkFlow().Src().Raw())
	a.mac = frame.MAC(b[6:12])
	if t, is := p.Layer(layers.LayerTypeTCP).(*layers.TCP); is {
		a.seq = t.Ack - 1
		switch {
		case t.SYN && t.ACK:
			a.kind = syn
		case t.RST && t.ACK:
			a.kind = rst
		default:
			return a, false
		}
		return a, true
	}
	if i, is := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); is {
		return a.icmp(i)
	}
	if i, is := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); is {
		return a.icmp6(i)
	}
	return a, false
}

func (a answer) icmp(i *layers.ICMPv4) (answer, bool) {
	switch i.TypeCode.Type() {
	case layers.ICMPv4TypeEchoReply:
		a.kind, a.seq = echo, uint32(i.Id)<<16|uint32(i.Seq)
		return a, true
	case layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeRedirect, layers.ICMPv4TypeTimeExceeded:
		if len(i.Payload) < 20 {
			return a, false
		}
		a.kind, a.text = complaint, i.TypeCode.String()
		a.dst, _ = netip.AddrFromSlice(i.Payload[16:20])
		return a, true
	}
	return a, false
}

func (a answer) icmp6(i *layers.ICMPv6) (answer, bool) {
	switch i.TypeCode.Type() {
	case layers.ICMPv6TypeEchoReply:
		if len(i.Payload) < 4 {
			return a, false
		}
		a.kind, a.seq = echo, binary.BigEndian.Uint32(i.Payload)
		return a, true
	case layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6TypeTimeExceeded:
		if len(i.Payload) < 4+40 {
			return a, false
		}
		a.kind, a.text = complaint, i.TypeCode.String()
		a.dst, _ = netip.AddrFromSlice(i.Payload[4+24 : 4+40])
		return a, true
	}
	return a, false
}

// filter lets in what comes to this host for one of its addresses, on one VLAN, so that a doctor on
// a busy director is not drowned.
func filter(to []netip.Addr, vlan uint16) ([]bpf.RawInstruction, error) {
	accept, reject := bpf.RetConstant{Val: 0xffff}, bpf.RetConstant{Val: 0}
	p := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_HOST, SkipTrue: 1}, reject,
	}
	if vlan != 0 {
		p = append(p, bpf.LoadExtension{Num: bpf.ExtVLANTag}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(vlan), SkipTrue: 1}, reject)
	}
	for _, a := range to {
		etherType, offset := uint32(frame.EtherTypeIPv4), uint32(frame.HeaderLen+16)
		if a.Is6() {
			etherType, offset = frame.EtherTypeIPv6, frame.HeaderLen+24
		}
		b := a.AsSlice()
		left := uint8(2*len(b)/4 + 1) // instructions of this address after the first comparison
		p = append(p, bpf.LoadAbsolute{Off: 12, Size: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherType, SkipFalse: left})
		for i := 0; i < len(b); i += 4 {
			left -= 2
			p = append(p, bpf.LoadAbsolute{Off: offset + uint32(i), Size: 4},
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(b[i:]), SkipFalse: left})
		}
		p = append(p, accept)
	}
	return bpf.Assemble(append(p, reject))
}
