// Package traffic makes the frames of the wire benchmarks: TCP segments of many clients to one VIP,
// with valid checksums, and a generator that sends them from a TX ring at a given rate.
package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"shunt/forwarder/frame"
)

// A Spec says what is sent. The zero value is not valid; see Default.
type Spec struct {
	Src, Dst frame.MAC
	VIP      netip.Addr // IPv4
	Port     uint16
	Clients  netip.Addr // the first client's address; each has 4096 ports, the next client is the next address
	Length   int        // bytes of a frame without its checksum: 60 to 1514
	Flows    int        // 1 to 1 << 20
	SYN      float64    // share of SYNs among the frames, 0 to 1; the others are of established connections (ACK)
	Zipf     float64    // 0: the flows take turns; above 1: exponent of their popularity
	Seed     uint64
}

// Default is what the benchmarks send where nothing else is said: the shortest frames, 60,000 flows
// in turn, each of which began with a SYN.
func Default() Spec {
	return Spec{
		Src: frame.MAC{2, 0, 0, 0, 0, 1}, Dst: frame.MAC{2, 0, 0, 0, 0, 2},
		VIP: netip.MustParseAddr("192.0.2.100"), Port: 80, Clients: netip.MustParseAddr("198.18.0.0"),
		Length: 60, Flows: 60_000, Seed: 1,
	}
}

const (
	ipAt     = frame.HeaderLen
	tcpAt    = ipAt + 20
	minFrame = 60
	maxFrame = 1514
	portsPer = 4096
	firstSrc = 1024
	// sequence is the length of the list of flows that is gone through again and again where flows
	// do not take turns.
	sequence = 1 << 18

	flagSYN = 0x02
	flagACK = 0x10
)

func (s *Spec) check() error {
	switch {
	case s.Length < minFrame || s.Length > maxFrame:
		return fmt.Errorf("frames of %d bytes: use %d to %d", s.Length, minFrame, maxFrame)
	case s.Flows < 1 || s.Flows > 1<<20:
		return fmt.Errorf("%d flows: use 1 to %d", s.Flows, 1<<20)
	case s.SYN < 0 || s.SYN > 1:
		return fmt.Errorf("a share of %g SYNs: use 0 to 1", s.SYN)
	case s.Zipf != 0 && s.Zipf <= 1:
		return fmt.Errorf("a Zipf exponent of %g: use 0, or more than 1", s.Zipf)
	case !s.VIP.Is4() || !s.Clients.Is4():
		return errors.New("the VIP and the clients must be IPv4 addresses")
	}
	return nil
}

// Frames writes one frame after the other. Its first Flows frames are one SYN of each flow, in
// order, so that all are known; the mix follows. It is used by one goroutine.
type Frames struct {
	spec     Spec
	template []byte
	// What differs from flow to flow, made beforehand: a generator must be faster than what it
	// measures.
	flows []flow
	order []uint32 // nil: in turn
	syns  uint64   // of 1<<32
	rng   *rand.PCG
	n     uint64
}

type flow struct {
	src           [4]byte
	port          [2]byte
	ipSum, tcpSum uint16 // of a SYN
	ackSum        uint16 // of an ACK
}

// New makes the frames of a Spec.
func New(s Spec) (*Frames, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	f := &Frames{spec: s, template: template(s), flows: make([]flow, s.Flows), rng: rand.NewPCG(s.Seed, 1), syns: uint64(s.SYN * (1 << 32))}
	first := binary.BigEndian.Uint32(s.Clients.AsSlice())
	for i := range f.flows {
		w := &f.flows[i]
		binary.BigEndian.PutUint32(w.src[:], first+uint32(i/portsPer))
		binary.BigEndian.PutUint16(w.port[:], firstSrc+uint16(i%portsPer))
		b := append([]byte(nil), f.template...)
		copy(b[ipAt+12:], w.src[:])
		copy(b[tcpAt:], w.port[:])
		w.ipSum = ^sum(b[ipAt:tcpAt], 0)
		b[tcpAt+13] = flagSYN
		w.tcpSum = tcpSum(b)
		b[tcpAt+13] = flagACK
		w.ackSum = tcpSum(b)
	}
	if s.Zipf != 0 {
		r := rand.New(rand.NewPCG(s.Seed, 2))
		// The most popular flows are not the first ones of the table.
		names := r.Perm(s.Flows)
		z := rand.NewZipf(r, s.Zipf, 1, uint64(s.Flows-1))
		f.order = make([]uint32, sequence)
		for i := range f.order {
			f.order[i] = uint32(names[z.Uint64()])
		}
	}
	return f, nil
}

// template is a frame whose source, flags and checksums are still zero.
func template(s Spec) []byte {
	b := make([]byte, s.Length)
	copy(b, s.Dst[:])
	copy(b[6:], s.Src[:])
	binary.BigEndian.PutUint16(b[12:], frame.EtherTypeIPv4)
	ip := b[ipAt:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(s.Length-ipAt))
	ip[6] = 0x40 // do not fragment
	ip[8] = 64
	ip[9] = 6
	copy(ip[16:], s.VIP.AsSlice())
	tcp := b[tcpAt:]
	binary.BigEndian.PutUint16(tcp[2:], s.Port)
	tcp[12] = 5 << 4
	binary.BigEndian.PutUint16(tcp[14:], 0xffff)
	return b
}

// sum is the ones' complement sum of RFC 1071, not inverted.
func sum(b []byte, s uint32) uint16 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// tcpSum is the checksum of the segment in frame b, in which it is still zero.
func tcpSum(b []byte) uint16 {
	pseudo := uint32(6) + uint32(len(b)-tcpAt) + uint32(sum(b[ipAt+12:ipAt+20], 0))
	return ^sum(b[tcpAt:], pseudo)
}

// Length is that of each frame, in bytes.
func (f *Frames) Length() int { return f.spec.Length }

// Next writes the next frame into b, which has room for it.
func (f *Frames) Next(b []byte) {
	var w *flow
	syn := f.n < uint64(len(f.flows))
	switch {
	case syn || f.order == nil:
		w = &f.flows[f.n%uint64(len(f.flows))]
	default:
		w = &f.flows[f.order[f.n%sequence]]
	}
	if !syn && f.syns != 0 {
		syn = f.rng.Uint64()>>32 < f.syns
	}
	f.n++
	copy(b, f.template)
	copy(b[ipAt+12:ipAt+16], w.src[:])
	copy(b[tcpAt:tcpAt+2], w.port[:])
	binary.BigEndian.PutUint16(b[ipAt+10:], w.ipSum)
	if syn {
		b[tcpAt+13] = flagSYN
		binary.BigEndian.PutUint16(b[tcpAt+16:], w.tcpSum)
	} else {
		b[tcpAt+13] = flagACK
		binary.BigEndian.PutUint16(b[tcpAt+16:], w.ackSum)
	}
}
