package arpd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"shunt/forwarder/frame"
)

// Broadcast is the Ethernet address of all hosts.
var Broadcast = frame.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// A Message is an ARP message for IPv4 over Ethernet, and whom it goes to or came from.
type Message struct {
	Reply       bool
	SenderMAC   frame.MAC
	Sender      netip.Addr // 0.0.0.0 in a probe
	TargetMAC   frame.MAC  // of no meaning in a request
	Target      netip.Addr
	Source      frame.MAC // of the Ethernet frame
	Destination frame.MAC
}

var unspecified = netip.IPv4Unspecified()

// errMalformed is the reason why a frame is no Message.
var errMalformed = errors.New("not an ARP message for IPv4 over Ethernet")

// Parse reads an Ethernet frame. The frame is not kept.
func Parse(b []byte) (Message, error) {
	var f ethernet.Frame
	if err := f.UnmarshalBinary(b); err != nil {
		return Message{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if f.EtherType != ethernet.EtherTypeARP {
		return Message{}, fmt.Errorf("%w: EtherType %#04x", errMalformed, uint16(f.EtherType))
	}
	var p arp.Packet
	if err := p.UnmarshalBinary(f.Payload); err != nil {
		return Message{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if p.HardwareType != 1 || p.ProtocolType != uint16(ethernet.EtherTypeIPv4) || p.HardwareAddrLength != 6 || p.IPLength != 4 ||
		p.Operation != arp.OperationRequest && p.Operation != arp.OperationReply {
		return Message{}, errMalformed
	}
	m := Message{
		Reply: p.Operation == arp.OperationReply, Sender: p.SenderIP, Target: p.TargetIP,
		SenderMAC: frame.MAC(p.SenderHardwareAddr), TargetMAC: frame.MAC(p.TargetHardwareAddr),
		Source: frame.MAC(f.Source), Destination: frame.MAC(f.Destination),
	}
	if m.SenderMAC.IsGroup() || m.SenderMAC.IsZero() {
		return Message{}, fmt.Errorf("%w: the sender's MAC %s is not of one host", errMalformed, m.SenderMAC)
	}
	return m, nil
}

// Frame writes the message as an Ethernet frame, tagged if vlan is not 0.
func (m *Message) Frame(vlan uint16) ([]byte, error) {
	op := arp.OperationRequest
	if m.Reply {
		op = arp.OperationReply
	}
	p, err := arp.NewPacket(op, net.HardwareAddr(m.SenderMAC[:]), m.Sender, net.HardwareAddr(m.TargetMAC[:]), m.Target)
	if err != nil {
		return nil, fmt.Errorf("ARP message from %s to %s: %w", m.Sender, m.Target, err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("ARP message from %s to %s: %w", m.Sender, m.Target, err)
	}
	f := ethernet.Frame{
		Destination: net.HardwareAddr(m.Destination[:]), Source: net.HardwareAddr(m.Source[:]),
		EtherType: ethernet.EtherTypeARP, Payload: payload,
	}
	if vlan != 0 {
		f.VLAN = &ethernet.VLAN{ID: vlan}
	}
	return f.MarshalBinary()
}

// request asks for addr. sender may be invalid: then it is a probe, of which nobody learns anything.
func request(from frame.MAC, sender, addr netip.Addr, to frame.MAC) Message {
	if !sender.Is4() {
		sender = unspecified
	}
	return Message{SenderMAC: from, Sender: sender, Target: addr, Source: from, Destination: to}
}

// announcement tells all hosts that addr is at mac (RFC 5227, 2.3); reply makes it the other kind of message, for those
// who learn from replies only.
func announcement(mac frame.MAC, addr netip.Addr, reply bool) Message {
	m := Message{Reply: reply, SenderMAC: mac, Sender: addr, Target: addr, Source: mac, Destination: Broadcast}
	if reply {
		m.TargetMAC = Broadcast
	}
	return m
}
