package traffic

import (
	"encoding/binary"
	"net/netip"

	"shunt/forwarder/frame"
)

// A Target is what an attacker on the client's wire knows.
type Target struct {
	Src, Dst frame.MAC
	VIP      netip.Addr // IPv4; TCP is served at port 80, UDP at port 53
	Victim   netip.Addr // a client whose connections are to be ended
	Ports    [2]uint16  // from where to where the victim's ports are
}

// An Attack writes one forged frame after the other, each of 60 bytes, with valid checksums. It is
// used by one goroutine.
type Attack struct {
	Name  string
	to    Target
	frame func(a *Attack, n uint64)
	n     uint64
	b     [minFrame]byte
}

// Attacks lists all kinds.
func Attacks(to Target) []*Attack {
	pair := func(first, second func(*Attack, uint64)) func(*Attack, uint64) {
		return func(a *Attack, n uint64) {
			if n%2 == 0 {
				first(a, n/2)
			} else {
				second(a, n/2)
			}
		}
	}
	segment := func(port uint16, flags uint8) func(*Attack, uint64) {
		return func(a *Attack, n uint64) { a.tcp(spoofed(n), source(n), port, flags, uint32(n)) }
	}
	datagram := func(port uint16) func(*Attack, uint64) {
		return func(a *Attack, n uint64) { a.udp(spoofed(n), source(n), port, 0) }
	}
	forged := func(flags uint8) func(*Attack, uint64) {
		return func(a *Attack, n uint64) {
			span := uint64(to.Ports[1]-to.Ports[0]) + 1
			// Each port in turn, each time with another number: the golden ratio spreads them.
			a.tcp(v4(to.Victim), to.Ports[0]+uint16(n%span), 80, flags, uint32(n/span)*0x9e3779b9)
		}
	}
	var all []*Attack
	for _, k := range []struct {
		name string
		make func(*Attack, uint64)
	}{
		{"SYN", segment(80, flagSYN)},
		{"SYN+ACK", segment(80, flagSYN|flagACK)},
		{"ACK", segment(80, flagACK)},
		{"SYN and bare ACK", pair(segment(80, flagSYN), segment(80, flagACK))},
		{"SYN, ACK and FIN", func(a *Attack, n uint64) {
			segment(80, [3]uint8{flagSYN, flagACK, flagFIN | flagACK}[n%3])(a, n/3)
		}},
		{"forged conversations", conversation},
		{"UDP, one packet", datagram(53)},
		{"UDP, two packets", pair(datagram(53), datagram(53))},
		{"forged RST", forged(flagRST)},
		{"forged FIN", forged(flagFIN | flagACK)},
		{"forged, no flags", forged(0)},
		{"fragments", func(a *Attack, n uint64) {
			// First ones whose rest never comes, and rests whose first never comes.
			a.udp(spoofed(n), source(n), 53, 0x2000>>(n%2)|uint16(n%2)*100)
		}},
		{"who-has", func(a *Attack, n uint64) { a.arp(n) }},
		{"pings", func(a *Attack, n uint64) { a.ping(n) }},
		{"closed TCP port", segment(81, flagSYN)},
		{"closed UDP port", datagram(81)},
	} {
		all = append(all, &Attack{Name: k.name, to: to, frame: k.make})
	}
	return all
}

// crowd is how many flows take each step together, so that time passes between the packets of each.
const crowd = 2000

// conversation writes what looks like a handshake and requests: four packets of each flow, a tenth
// of a second apart at 20,000 a second.
func conversation(a *Attack, n uint64) {
	flags := [4]uint8{flagSYN, flagACK, flagACK, flagACK}[n/crowd%4]
	who := n/(4*crowd)*crowd + n%crowd
	a.tcp(spoofed(who), source(who), 80, flags, 1)
}

const (
	flagFIN = 0x01
	flagRST = 0x04
)

// Length is that of each frame.
func (a *Attack) Length() int { return minFrame }

// Next writes the next frame into b, which has room for it.
func (a *Attack) Next(b []byte) {
	clear(a.b[:])
	copy(a.b[0:], a.to.Dst[:])
	copy(a.b[6:], a.to.Src[:])
	a.frame(a, a.n)
	a.n++
	copy(b, a.b[:])
}

// spoofed is one of the 131,072 addresses of 198.18.0.0/15, which nobody has (RFC 2544); source is
// a port, so that tuples are repeated after a few billion only.
func spoofed(n uint64) uint32 { return 198<<24 | 18<<16 | uint32(n&0x1ffff) }
func source(n uint64) uint16  { return 1024 + uint16(n>>17%64000) }

func v4(a netip.Addr) uint32 { return binary.BigEndian.Uint32(a.AsSlice()) }

// ip writes a header of IPv4 for n bytes of payload, and returns the frame from there on.
func (a *Attack) ip(src uint32, proto uint8, n int, frag uint16) []byte {
	binary.BigEndian.PutUint16(a.b[12:], frame.EtherTypeIPv4)
	h := a.b[ipAt : ipAt+20]
	h[0], h[8], h[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+n))
	binary.BigEndian.PutUint16(h[4:], uint16(a.n))
	binary.BigEndian.PutUint16(h[6:], frag)
	binary.BigEndian.PutUint32(h[12:], src)
	copy(h[16:], a.to.VIP.AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^sum(h, 0))
	return a.b[tcpAt : tcpAt+n]
}

// summed writes the checksum of a segment, with its pseudo-header, at l4[at:].
func (a *Attack) summed(l4 []byte, proto uint8, at int) {
	pseudo := uint32(proto) + uint32(len(l4)) + uint32(sum(a.b[ipAt+12:ipAt+20], 0))
	binary.BigEndian.PutUint16(l4[at:], ^sum(l4, pseudo))
}

func (a *Attack) tcp(src uint32, from, to uint16, flags uint8, seq uint32) {
	l4 := a.ip(src, 6, 20, 0x4000)
	binary.BigEndian.PutUint16(l4[0:], from)
	binary.BigEndian.PutUint16(l4[2:], to)
	binary.BigEndian.PutUint32(l4[4:], seq)
	if flags&flagACK != 0 {
		binary.BigEndian.PutUint32(l4[8:], 1)
	}
	l4[12], l4[13], l4[14] = 5<<4, flags, 0x40
	a.summed(l4, 6, 16)
}

func (a *Attack) udp(src uint32, from, to uint16, frag uint16) {
	l4 := a.ip(src, 17, 24, frag)
	binary.BigEndian.PutUint16(l4[0:], from)
	binary.BigEndian.PutUint16(l4[2:], to)
	binary.BigEndian.PutUint16(l4[4:], 24)
	a.summed(l4, 17, 6)
}

func (a *Attack) ping(n uint64) {
	l4 := a.ip(spoofed(n), 1, 26, 0)
	l4[0] = 8
	binary.BigEndian.PutUint32(l4[4:], uint32(n))
	binary.BigEndian.PutUint16(l4[2:], ^sum(l4, 0))
}

// arp asks who has the VIP, in the name of many.
func (a *Attack) arp(n uint64) {
	copy(a.b[0:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(a.b[12:], []byte{0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1})
	copy(a.b[22:], a.to.Src[:])
	binary.BigEndian.PutUint32(a.b[28:], spoofed(n))
	copy(a.b[38:], a.to.VIP.AsSlice())
}
