package arpd

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"

	"shunt/forwarder/frame"
)

const (
	ipv6Header = 40
	icmpv6     = 58
	// hopLimit proves that a message comes from the link: no router has decremented it (RFC 4861,
	// 7.1).
	hopLimit = 255
)

// allNodes is the group of all hosts on the link.
var allNodes = netip.MustParseAddr("ff02::1")

// parseNDP reads a neighbour solicitation or advertisement, and checks what RFC 4861, 7.1 has
// checked.
func (m *Message) parseNDP(b []byte) error {
	if len(b) < ipv6Header || b[0]>>4 != 6 || b[6] != icmpv6 || b[7] != hopLimit {
		return errMalformed
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	if length < 24 || ipv6Header+length > len(b) || src.IsMulticast() {
		return errMalformed
	}
	body := b[ipv6Header : ipv6Header+length]
	if checksum(src, dst, body) != 0 || body[1] != 0 {
		return fmt.Errorf("%w: wrong checksum or code", errMalformed)
	}
	msg, err := ndp.ParseMessage(body)
	if err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	m.SenderMAC = m.Source
	switch msg := msg.(type) {
	case *ndp.NeighborSolicitation:
		m.Sender, m.Target = src, msg.TargetAddress
		if mac, ok := linkLayer(msg.Options, ndp.Source); ok {
			if src.IsUnspecified() {
				return fmt.Errorf("%w: a probe that tells its MAC", errMalformed)
			}
			m.SenderMAC = mac
		}
	case *ndp.NeighborAdvertisement:
		m.Reply, m.Sender, m.Target = true, msg.TargetAddress, dst
		if dst.IsMulticast() {
			m.Target = msg.TargetAddress
		}
		if mac, ok := linkLayer(msg.Options, ndp.Target); ok {
			m.SenderMAC = mac
		}
	default:
		return errMalformed
	}
	// The library gives an address of four bytes for one that is mapped: nobody has such an address
	// on a link.
	if m.Sender.Unmap().Is4() || m.Target.Unmap().Is4() || m.Target.IsMulticast() || m.Sender.IsMulticast() {
		return fmt.Errorf("%w: the address %s cannot be a host's", errMalformed, m.Target)
	}
	return nil
}

// linkLayer finds a MAC among the options.
func linkLayer(options []ndp.Option, d ndp.Direction) (frame.MAC, bool) {
	for _, o := range options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == d && len(l.Addr) == 6 {
			return frame.MAC(l.Addr), true
		}
	}
	return frame.MAC{}, false
}

// ndp writes the message as an IPv6 packet; to is its destination.
func (m *Message) ndp() (packet []byte, to netip.Addr, err error) {
	mac := net.HardwareAddr(m.SenderMAC[:])
	var msg ndp.Message
	src := m.Sender
	if m.Reply {
		to = m.Target
		if to == m.Sender || to.IsUnspecified() {
			to = allNodes
		}
		msg = &ndp.NeighborAdvertisement{Solicited: to != allNodes, Override: true, TargetAddress: m.Sender,
			Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}}}
	} else {
		to = m.Target
		if m.Destination == Broadcast {
			if to, err = ndp.SolicitedNodeMulticast(m.Target); err != nil {
				return nil, to, err
			}
		}
		ns := &ndp.NeighborSolicitation{TargetAddress: m.Target}
		if !src.IsUnspecified() {
			ns.Options = []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}}
		}
		msg = ns
	}
	body, err := ndp.MarshalMessageChecksum(msg, src, to)
	if err != nil {
		return nil, to, err
	}
	packet = make([]byte, ipv6Header, ipv6Header+len(body))
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:], uint16(len(body)))
	packet[6], packet[7] = icmpv6, hopLimit
	copy(packet[8:], src.AsSlice())
	copy(packet[24:], to.AsSlice())
	return append(packet, body...), to, nil
}

// checksum is that of an ICMPv6 message with its pseudo-header (RFC 4443, 2.3); 0 if the message
// holds the right one.
func checksum(src, dst netip.Addr, body []byte) uint16 {
	sum := uint32(len(body)) + icmpv6
	add := func(b []byte) {
		for ; len(b) >= 2; b = b[2:] {
			sum += uint32(b[0])<<8 | uint32(b[1])
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	add(src.AsSlice())
	add(dst.AsSlice())
	add(body)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
