package frame

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// Lengths of the Ethernet header and of one VLAN tag, in bytes (IEEE 802.3, 802.1Q).
const (
	HeaderLen  = 14
	VLANTagLen = 4
)

// EtherTypes that the director knows (IEEE 802 numbers).
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeVLAN = 0x8100 // 802.1Q
	EtherTypeIPv6 = 0x86dd
	EtherTypeQinQ = 0x88a8 // 802.1ad
)

// Leg identifies an interface of the director by its position in the configuration, from 0.
type Leg uint8

// NoLeg is the leg of a frame that has no leg yet.
const NoLeg Leg = 255

// MAC is an Ethernet address. It is an array, so that it is comparable and holds no pointer.
type MAC [6]byte

// String formats the address like 02:00:00:00:00:01.
func (m MAC) String() string {
	const hex = "0123456789abcdef"
	b := make([]byte, 0, 17)
	for i, c := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, hex[c>>4], hex[c&15])
	}
	return string(b)
}

// MarshalText formats the address like String, so that JSON and slog show it as text. The error is
// always nil.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText parses the output of MarshalText and the other six-byte forms of net.ParseMAC. It
// does not change m if it returns an error.
func (m *MAC) UnmarshalText(text []byte) error {
	b, err := net.ParseMAC(string(text))
	if err != nil {
		return err
	}
	if len(b) != len(m) {
		return fmt.Errorf("%q is not an Ethernet address of six bytes", text)
	}
	*m = MAC(b)
	return nil
}

// IsZero reports whether m is the zero address, which stands for an unknown MAC.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsGroup reports whether the address is a multicast or the broadcast address (IEEE 802.3, I/G
// bit).
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// A Frame is one Ethernet frame. It is lent by a Source until the next call of the Source.
type Frame struct {
	// Buf holds Head bytes of virtio_net_hdr (linux/virtio_net.h), then the Ethernet frame. The
	// header, where there is one, tells of checksum and segmentation offloads and goes out with the
	// frame as it came in.
	Buf []byte

	// Time of arrival in nanoseconds of a clock that never steps back: CLOCK_MONOTONIC on a ring,
	// the time since the epoch in a capture.
	Time int64

	// Wire is the length of the Ethernet frame on the wire, in bytes; larger than len(Data()) if it
	// was cut short.
	Wire int32

	// Head is the length of the virtio_net_hdr in Buf: 0 or 10 bytes.
	Head uint8

	// In is the leg that the frame arrived on, Out the one that it leaves by.
	In, Out Leg

	// TPID and TCI are the outer VLAN tag if the kernel took it out of the frame; TPID 0 means that
	// it did not.
	TPID, TCI uint16
}

// Data returns the frame from its Ethernet header on, without a virtio_net_hdr. The slice is lent
// like the frame.
func (f *Frame) Data() []byte { return f.Buf[f.Head:] }

// Truncated reports whether the frame was longer on the wire than the bytes available.
func (f *Frame) Truncated() bool { return int(f.Wire) > len(f.Buf)-int(f.Head) }

// Super reports whether the virtio_net_hdr of the frame requests segmentation: the frame then holds
// several packets.
func (f *Frame) Super() bool {
	const gsoType, gsoECN = 1, 0x80
	return f.Head > gsoType && f.Buf[gsoType]&^gsoECN != 0
}

// Dst returns the destination MAC. The frame must hold an Ethernet header.
func (f *Frame) Dst() MAC { return MAC(f.Data()[0:6]) }

// Src returns the source MAC. The frame must hold an Ethernet header.
func (f *Frame) Src() MAC { return MAC(f.Data()[6:12]) }

// SetDst writes the destination MAC, the only field that direct routing changes. The frame must
// hold an Ethernet header.
func (f *Frame) SetDst(m MAC) { copy(f.Data()[0:6], m[:]) }

// SetSrc writes the source MAC. The frame must hold an Ethernet header.
func (f *Frame) SetSrc(m MAC) { copy(f.Data()[6:12], m[:]) }

// Addr is an IP address as two words in host order, for hashing and comparison without branches. An
// IPv4 address is IPv4-mapped (RFC 4291, 2.5.5.2): Hi is 0, Lo is 0x0000ffff_aabbccdd.
type Addr struct{ Hi, Lo uint64 }

const mapped = 0xffff << 32

// AddrFrom4 returns the IPv4 address with the value v in host order.
func AddrFrom4(v uint32) Addr { return Addr{Lo: mapped | uint64(v)} }

// AddrFrom converts a netip.Addr. Zones are dropped. The zero netip.Addr gives the zero Addr.
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	b := a.As16()
	return Addr{Hi: binary.BigEndian.Uint64(b[:8]), Lo: binary.BigEndian.Uint64(b[8:])}
}

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return a.Hi == 0 && a.Lo>>32 == 0xffff }

// V4 returns an IPv4 address as a number in host order; for IPv6 it returns the last 32 bits.
func (a Addr) V4() uint32 { return uint32(a.Lo) }

// Netip converts a to a netip.Addr. An IPv4 address is not mapped.
func (a Addr) Netip() netip.Addr {
	if a == (Addr{}) {
		return netip.Addr{}
	}
	if a.Is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], a.V4())
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.Hi)
	binary.BigEndian.PutUint64(b[8:], a.Lo)
	return netip.AddrFrom16(b)
}

// String formats the address as netip does.
func (a Addr) String() string { return a.Netip().String() }

// Proto is an IP protocol number (IANA).
type Proto uint8

// The protocols that the director schedules or answers.
const (
	ICMP   Proto = 1
	TCP    Proto = 6
	UDP    Proto = 17
	ICMPv6 Proto = 58
	SCTP   Proto = 132
)

// String returns the protocol in capitals, as ipvsadm prints it.
func (p Proto) String() string {
	switch p {
	case ICMP:
		return "ICMP"
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case ICMPv6:
		return "ICMPv6"
	case SCTP:
		return "SCTP"
	}
	const digits = "0123456789"
	return "PROTO" + string([]byte{digits[p/100], digits[p/10%10], digits[p%10]})
}

// Tuple identifies a flow, always in the direction from the client to the virtual service.
type Tuple struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Proto            Proto
}

// String formats the tuple like "TCP 192.0.2.7:40000 > 203.0.113.10:80".
func (t Tuple) String() string {
	return t.Proto.String() + " " + netip.AddrPortFrom(t.Src.Netip(), t.SrcPort).String() +
		" > " + netip.AddrPortFrom(t.Dst.Netip(), t.DstPort).String()
}
