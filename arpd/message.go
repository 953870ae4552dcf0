package arpd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"shunt/forwarder/frame"
)

// Broadcast is the Ethernet broadcast address. As the destination of a message about an IPv6
// address it stands for the multicast group of that address.
var Broadcast = frame.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// A Message is an ARP message for IPv4 over Ethernet, or a neighbour solicitation or advertisement
// of IPv6, and whom it goes to or came from. It says who has which address:
//
//	            Reply   Sender, SenderMAC                    Target
//	request     false   who asks; unspecified in a probe     the address that is asked for
//	reply       true    the address, and where it is         who asked; an announcement has Sender here
type Message struct {
	Reply       bool
	SenderMAC   frame.MAC
	Sender      netip.Addr
	TargetMAC   frame.MAC // ARP; of no meaning in a request
	Target      netip.Addr
	Source      frame.MAC // of the Ethernet frame
	Destination frame.MAC
}

// errMalformed is the reason why a frame is no Message.
var errMalformed = errors.New("neither an ARP message for IPv4 nor a neighbour solicitation or advertisement")

// Parse parses an Ethernet frame. The frame is not kept.
func Parse(b []byte) (Message, error) {
	var f ethernet.Frame
	if err := f.UnmarshalBinary(b); err != nil {
		return Message{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	m := Message{Source: frame.MAC(f.Source), Destination: frame.MAC(f.Destination)}
	var err error
	switch f.EtherType {
	case ethernet.EtherTypeARP:
		err = m.parseARP(f.Payload)
	case ethernet.EtherTypeIPv6:
		err = m.parseNDP(f.Payload)
	default:
		err = fmt.Errorf("%w: EtherType %#04x", errMalformed, uint16(f.EtherType))
	}
	if err != nil {
		return Message{}, err
	}
	if m.SenderMAC.IsGroup() || m.SenderMAC.IsZero() {
		return Message{}, fmt.Errorf("%w: the sender's MAC %s is not of one host", errMalformed, m.SenderMAC)
	}
	return m, nil
}

func (m *Message) parseARP(b []byte) error {
	var p arp.Packet
	if err := p.UnmarshalBinary(b); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	if p.HardwareType != 1 || p.ProtocolType != uint16(ethernet.EtherTypeIPv4) || p.HardwareAddrLength != 6 || p.IPLength != 4 ||
		p.Operation != arp.OperationRequest && p.Operation != arp.OperationReply {
		return errMalformed
	}
	m.Reply = p.Operation == arp.OperationReply
	m.Sender, m.SenderMAC = p.SenderIP, frame.MAC(p.SenderHardwareAddr)
	m.Target, m.TargetMAC = p.TargetIP, frame.MAC(p.TargetHardwareAddr)
	return nil
}

// Frame returns the message as an Ethernet frame, with a VLAN tag if vlan is not 0.
func (m *Message) Frame(vlan uint16) ([]byte, error) {
	f := ethernet.Frame{Source: net.HardwareAddr(m.Source[:]), EtherType: ethernet.EtherTypeARP}
	if vlan != 0 {
		f.VLAN = &ethernet.VLAN{ID: vlan}
	}
	to := m.Destination
	var err error
	if m.Sender.Is4() {
		f.Payload, err = m.arp()
	} else {
		var group netip.Addr
		f.EtherType = ethernet.EtherTypeIPv6
		f.Payload, group, err = m.ndp()
		if to == Broadcast {
			to = groupMAC(group)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("message from %s to %s: %w", m.Sender, m.Target, err)
	}
	f.Destination = net.HardwareAddr(to[:])
	return f.MarshalBinary()
}

func (m *Message) arp() ([]byte, error) {
	op := arp.OperationRequest
	if m.Reply {
		op = arp.OperationReply
	}
	p, err := arp.NewPacket(op, net.HardwareAddr(m.SenderMAC[:]), m.Sender, net.HardwareAddr(m.TargetMAC[:]), m.Target)
	if err != nil {
		return nil, err
	}
	return p.MarshalBinary()
}

// groupMAC is the Ethernet address of an IPv6 group (RFC 2464, 7).
func groupMAC(group netip.Addr) frame.MAC {
	m := frame.MAC{0x33, 0x33}
	b := group.As16()
	binary.BigEndian.PutUint32(m[2:], binary.BigEndian.Uint32(b[12:]))
	return m
}

// Self is the identity of the director on a link: its MAC, and the addresses from which it sends
// requests. The addresses may be invalid. Then IPv4 requests have no sender address, and IPv6
// requests have the link-local address of the MAC.
type Self struct {
	MAC    frame.MAC
	V4, V6 netip.Addr
}

// unspecified is the sender of a probe for addr.
func unspecified(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// linkLocal is the address that an interface of this MAC gives itself (RFC 4291, appendix A; RFC
// 2464, 4).
func linkLocal(m frame.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// request asks for addr.
func (s *Self) request(addr netip.Addr, to frame.MAC) Message {
	sender := s.V4
	if addr.Is6() {
		sender = s.V6
	}
	if !sender.IsValid() {
		sender = unspecified(addr)
		if addr.Is6() { // whom nobody asked by name, all would be answered (RFC 4861, 7.2.4): no answer to a question
			sender = linkLocal(s.MAC)
		}
	}
	return Message{SenderMAC: s.MAC, Sender: sender, Target: addr, Source: s.MAC, Destination: to}
}

// probe asks for addr, and nobody learns anything of it.
func probe(mac frame.MAC, addr netip.Addr) Message {
	return Message{SenderMAC: mac, Sender: unspecified(addr), Target: addr, Source: mac, Destination: Broadcast}
}

// announcement tells all hosts that addr is at mac (RFC 5227, 2.3). With ARP, reply makes it the
// other kind of message, for those who learn from replies only; of IPv6 there is one kind, the
// unsolicited advertisement (RFC 4861, 7.2.6).
func announcement(mac frame.MAC, addr netip.Addr, reply bool) Message {
	m := Message{Reply: reply || addr.Is6(), SenderMAC: mac, Sender: addr, Target: addr, Source: mac, Destination: Broadcast}
	if reply && addr.Is4() {
		m.TargetMAC = Broadcast
	}
	return m
}
