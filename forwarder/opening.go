package forwarder

import (
	"encoding/binary"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// opening makes the frame with which a connection of tuple t begins, as it comes to this host: on
// the leg where its source lives if that is a realserver, and with that one's MAC; else on the
// first leg, with a MAC that nobody else has. A connection of another protocol than TCP, UDP and
// SCTP has a header of zeros.
func (w *Worker) opening(c *Control, t frame.Tuple) frame.Frame {
	in, mac := c.wayOf(t.Src)
	if mac.IsZero() {
		for mac = (frame.MAC{2}); w.snap.guard.has(mac[:]); mac[5]++ {
		}
	}
	leg := &w.snap.legs[in]
	f := frame.Frame{Buf: make([]byte, frame.HeaderLen, 128), In: in}
	f.SetDst(leg.MAC)
	f.SetSrc(mac)
	if leg.VLAN != 0 {
		f.TPID, f.TCI = leg.tpid(), leg.VLAN
	}
	binary.BigEndian.PutUint16(f.Buf[12:], frame.EtherTypeIPv4)
	v6 := !t.Src.Is4()
	if v6 {
		binary.BigEndian.PutUint16(f.Buf[12:], frame.EtherTypeIPv6)
	}
	l4 := openingHeader(&t)
	f.Buf = f.Buf[:cap(f.Buf)]
	// ipHeader writes the header of an answer.
	at := ipHeader(f.Buf, frame.HeaderLen, &frame.Packet{Tuple: frame.Tuple{Src: t.Dst, Dst: t.Src}, V6: v6}, uint8(t.Proto), len(l4))
	f.Buf = append(f.Buf[:at], l4...)
	f.Wire = int32(len(f.Buf))
	return f
}

// openingHeader is the transport header of such a frame.
func openingHeader(t *frame.Tuple) []byte {
	b := make([]byte, 20)
	switch t.Proto {
	case frame.TCP:
		b[12], b[13] = 5<<4, frame.SYN
	case frame.UDP:
		b = b[:8]
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	case frame.SCTP:
		b = make([]byte, 32)
		b[12], b[15] = flow.ChunkInit, 20
	}
	binary.BigEndian.PutUint16(b[0:], t.SrcPort)
	binary.BigEndian.PutUint16(b[2:], t.DstPort)
	return b
}

// wayOf returns the leg and the MAC of the realserver that has an address; without one the first
// leg and no MAC.
func (c *Control) wayOf(a frame.Addr) (frame.Leg, frame.MAC) {
	for i := range c.snap.legs {
		if h := c.hops[Hop{frame.Leg(i), a.Netip()}]; h != nil && !h.mac.IsZero() {
			return frame.Leg(i), h.mac
		}
	}
	return 0, frame.MAC{}
}
