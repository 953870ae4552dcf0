package forwarder_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"shunt/forwarder/frame"
)

// packet is a frame as the traces write it.
type packet struct {
	At     string // who received it
	EthSrc string `json:"eth_src"`
	Same   bool   // as sent, but for MACs and TTL

	Src, Dst string
	TTL      *int
	IPID     *int `json:"ip_id"`
	TotLen   int  `json:"tot_len"`
	PLen     int
	TOS      int
	DF       bool
	Frag     *struct {
		Off int
		MF  bool
	}
	Proto   any // a name, or a number
	Sport   *uint16
	Dport   *uint16
	Seq     uint32
	Ack     uint32
	Flags   *string
	DataLen int `json:"data_len"`
	ULen    *int
	Chunk   int
	Type    *int
	Code    *int
	ID      *int
	ICMPSeq int `json:"icmp_seq"`
	MTU     int
	Inner   *packet
	VLAN    []any
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func mac(s string) (m frame.MAC) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != 6 {
		panic("bad MAC " + s)
	}
	return frame.MAC(b)
}

// opens reports whether the packet begins a flow in the sequences of the traces.
func (p *packet) opens() bool {
	return p.Flags == nil && p.ULen != nil || p.Flags != nil && *p.Flags == "S"
}

var protocols = map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}

func (p *packet) proto() uint8 {
	switch v := p.Proto.(type) {
	case string:
		return protocols[v]
	case float64:
		return uint8(v)
	}
	return 0
}

// frame returns the bytes that the event's frame had at the client's port.
func (e *event) frame() ([]byte, error) {
	if e.TxHex != "" {
		return hex.DecodeString(e.TxHex)
	}
	p := &e.Tx
	if p.TotLen == 0 && p.PLen == 0 {
		return nil, fmt.Errorf("a packet without a length: %+v", p)
	}
	return ethernet(p, strings.Contains(e.Note, "bad")), nil
}

// ethernet builds the frame of p from the client to the director; bad spoils the transport
// checksum.
func ethernet(p *packet, bad bool) []byte {
	eth := make([]byte, 14)
	to, from := mac(ownMAC), mac(clientMAC)
	copy(eth[0:], to[:])
	copy(eth[6:], from[:])
	binary.BigEndian.PutUint16(eth[12:], frame.EtherTypeIPv4)
	if addr(p.Src).Is6() {
		binary.BigEndian.PutUint16(eth[12:], frame.EtherTypeIPv6)
	}
	return append(eth, p.ip(bad)...)
}

// ip builds the IP packet.
func (p *packet) ip(bad bool) []byte {
	src, dst := addr(p.Src), addr(p.Dst)
	if src.Is6() {
		b := make([]byte, 40, 40+p.PLen)
		b[0] = 6 << 4
		binary.BigEndian.PutUint16(b[4:], uint16(p.PLen))
		b[6], b[7] = p.proto(), byte(*p.TTL)
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
		return append(b, p.transport(p.PLen, bad)...)
	}
	b := make([]byte, 20, p.TotLen)
	b[0], b[1] = 4<<4|5, byte(p.TOS)
	binary.BigEndian.PutUint16(b[2:], uint16(p.TotLen))
	id := 0x1234
	if p.IPID != nil {
		id = *p.IPID
	}
	binary.BigEndian.PutUint16(b[4:], uint16(id))
	var off uint16
	if p.DF {
		off |= 0x4000
	}
	if p.Frag != nil {
		off |= uint16(p.Frag.Off / 8)
		if p.Frag.MF {
			off |= 0x2000
		}
	}
	binary.BigEndian.PutUint16(b[6:], off)
	b[8], b[9] = byte(*p.TTL), p.proto()
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b, 0))
	return append(b, p.transport(p.TotLen-20, bad)...)
}

// transport builds what follows the IP header, cut or filled up to n bytes, with its checksum.
func (p *packet) transport(n int, bad bool) []byte {
	var b []byte
	sum := -1 // where the checksum is
	be := binary.BigEndian
	switch {
	case p.Frag != nil && p.Frag.Off > 0 || p.Sport == nil && p.Type == nil:
	case p.proto() == 6:
		b = make([]byte, 20)
		be.PutUint32(b[4:], p.Seq)
		be.PutUint32(b[8:], p.Ack)
		b[12] = byte(max(n-p.DataLen, 0)/4) << 4
		if p.Flags != nil {
			for _, c := range *p.Flags {
				b[13] |= 1 << strings.IndexRune("FSRPAUEC", c)
			}
		}
		be.PutUint16(b[14:], 0xffff)
		sum = 16
	case p.proto() == 17:
		b = make([]byte, 8)
		be.PutUint16(b[4:], uint16(*p.ULen))
		sum = 6
	case p.proto() == 132:
		b = make([]byte, 16)
		b[12] = byte(p.Chunk)
		be.PutUint16(b[14:], 20)
	default: // ICMP
		b = make([]byte, 8)
		b[0], b[1] = byte(*p.Type), byte(*p.Code)
		if p.ID != nil {
			be.PutUint16(b[4:], uint16(*p.ID))
			be.PutUint16(b[6:], uint16(p.ICMPSeq))
		}
		if p.Inner != nil {
			be.PutUint32(b[4:], uint32(p.MTU))
			b = append(b, p.Inner.quoted()...)
		}
		sum = 2
	}
	if p.Sport != nil && len(b) >= 4 {
		be.PutUint16(b[0:], *p.Sport)
		be.PutUint16(b[2:], *p.Dport)
	}
	for len(b) < n {
		b = append(b, 'x')
	}
	b = b[:n]
	if sum >= 0 && sum+2 <= n {
		s := uint32(0)
		if p.proto() != 1 {
			s = uint32(n) + uint32(p.proto())
			for _, a := range []string{p.Src, p.Dst} {
				s += uint32(^checksum(addr(a).AsSlice(), 0))
			}
		}
		c := checksum(b, s)
		if bad {
			c ^= 0x0101
		}
		be.PutUint16(b[sum:], c)
	}
	return b
}

// quoted builds the packet that an ICMP error quotes. Where only four bytes of its transport header
// were quoted the traces do not write the ports, which are those of flow 5001.
func (p *packet) quoted() []byte {
	q := *p
	if q.Sport == nil && q.Frag == nil {
		port, client := uint16(80), uint16(5001)
		if q.proto() == 17 {
			port = 53
		}
		q.Sport, q.Dport, q.ULen = &port, &client, new(int)
	}
	return q.ip(false)
}

// checksum is that of RFC 1071, over b and what s has already added up.
func checksum(b []byte, s uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// wire makes a frame of bytes as a ring would lend it: the VLAN tag beside it, on the leg of that
// VLAN.
func wire(raw []byte) frame.Frame {
	f := frame.Frame{Buf: append([]byte(nil), raw...)}
	if binary.BigEndian.Uint16(raw[12:]) == frame.EtherTypeVLAN {
		f.TPID, f.TCI = frame.EtherTypeVLAN, binary.BigEndian.Uint16(raw[14:])
		f.Buf = append(f.Buf[:12], f.Buf[16:]...)
		if f.TCI&0xfff == 10 {
			f.In = vlanLeg
		}
	}
	f.Wire = int32(len(f.Buf))
	return f
}

// compareFrames compares the answers to the client with those of the kernel, and the VLANs of
// forwarded frames.
func compareFrames(out []frame.Frame, want []packet) error {
	if len(out) != len(want) {
		return fmt.Errorf("%d frames, the kernel's were %d", len(out), len(want))
	}
	for i, o := range out {
		w := &want[i]
		vlan := 0
		if len(w.VLAN) == 2 {
			vlan = int(w.VLAN[1].(float64))
		}
		if got := int(o.TCI & 0xfff); got != vlan {
			return fmt.Errorf("in VLAN %d, the kernel's in %d", got, vlan)
		}
		if w.At != "client" || w.Same {
			continue
		}
		if got, want := describe(o.Data()[14:]), w.describe(); got != want {
			return fmt.Errorf("answered\n%s, the kernel\n%s", got, want)
		}
	}
	return nil
}

// describe writes an answer of the director in the words of packet.describe.
func describe(b []byte) string {
	be := binary.BigEndian
	ip, l4, proto := "", b[20:], b[9]
	sum := checksum(b[:20], 0)
	if b[0]>>4 == 6 {
		sum = 0
		l4, proto = b[40:], b[6]
		ip = fmt.Sprintf("%s > %s ttl %d len %d", netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[7], be.Uint16(b[4:]))
	} else {
		ip = fmt.Sprintf("%s > %s ttl %d tos %d len %d df %t", netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[8], b[1], be.Uint16(b[2:]), b[6]&0x40 != 0)
	}
	if sum |= transportSum(b, l4, proto); sum != 0 {
		ip += " with a bad checksum"
	}
	switch proto {
	case 6:
		flags := ""
		for i, c := range "FSRPAUEC" {
			if l4[13]>>i&1 != 0 {
				flags += string(c)
			}
		}
		return fmt.Sprintf("%s tcp %d > %d seq %d ack %d %s", ip, be.Uint16(l4), be.Uint16(l4[2:]), be.Uint32(l4[4:]), be.Uint32(l4[8:]), flags)
	case 1, 58:
		s := fmt.Sprintf("%s icmp %d/%d", ip, l4[0], l4[1])
		if t := l4[0]; proto == 1 && t != 0 || proto == 58 && t < 128 {
			s += " mtu " + strconv.Itoa(int(be.Uint32(l4[4:])))
		} else {
			s += fmt.Sprintf(" id %d seq %d", be.Uint16(l4[4:]), be.Uint16(l4[6:]))
		}
		return s
	}
	return fmt.Sprintf("%s protocol %d", ip, proto)
}

// transportSum adds up a transport segment with its checksum, and the pseudo-header where there is
// one: 0 is right.
func transportSum(ip, l4 []byte, proto uint8) uint16 {
	if proto == 1 {
		return checksum(l4, 0)
	}
	addrs := ip[12:20]
	if ip[0]>>4 == 6 {
		addrs = ip[8:40]
	}
	return checksum(l4, uint32(len(l4))+uint32(proto)+uint32(^checksum(addrs, 0)))
}

// describe writes an answer of the kernel: all but what hosts choose freely, its IP id.
func (p *packet) describe() string {
	s := fmt.Sprintf("%s > %s ttl %d tos %d len %d df %t", addr(p.Src), addr(p.Dst), *p.TTL, p.TOS, p.TotLen, p.DF)
	if p.PLen > 0 {
		s = fmt.Sprintf("%s > %s ttl %d len %d", addr(p.Src), addr(p.Dst), *p.TTL, p.PLen)
	}
	switch p.proto() {
	case 6:
		return fmt.Sprintf("%s tcp %d > %d seq %d ack %d %s", s, *p.Sport, *p.Dport, p.Seq, p.Ack, *p.Flags)
	case 1, 58:
		s = fmt.Sprintf("%s icmp %d/%d", s, *p.Type, *p.Code)
		if p.ID != nil {
			return fmt.Sprintf("%s id %d seq %d", s, *p.ID, p.ICMPSeq)
		}
		return s + " mtu " + strconv.Itoa(p.MTU)
	}
	return fmt.Sprintf("%s protocol %d", s, p.proto())
}
