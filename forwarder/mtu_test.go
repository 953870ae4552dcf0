package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/gopacket/layers"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// df forbids an IPv4 packet to be fragmented.
func df(f frame.Frame) frame.Frame { return changed(f, 20, 0x40|f.Buf[20]) }

// super puts a virtio_net_hdr before a frame: one of segments of size bytes of payload, of a kind
// of linux/virtio_net.h.
func super(f frame.Frame, kind byte, size uint16) frame.Frame {
	h := make([]byte, 10, 10+len(f.Buf))
	h[0], h[1] = 1, kind
	binary.NativeEndian.PutUint16(h[4:], size)
	f.Buf, f.Head = append(h, f.Buf...), 10
	return f
}

// TestMTU: a packet goes on if it fits, at the limit too, whatever the other legs take. Of a
// super-frame it is the segments that have to fit.
func TestMTU(t *testing.T) {
	const tcp4, udp4, tcp6, ecn = 1, 3, 4, 0x80
	options := func(f frame.Frame) frame.Frame { // a TCP header of 32 bytes, twelve of which were data
		f = clone(f)
		f.Buf[int(f.Head)+14+20+12] = 8 << 4
		return f
	}
	for _, c := range []struct {
		what  string
		frame frame.Frame
		mtu   uint32
		want  forwarder.Verdict
	}{
		{"no limit", df(talk4(1, 80).tcp(frame.SYN, data(9000)...)), 0, forwarder.Forwarded},
		{"jumbo", df(talk4(1, 80).tcp(frame.SYN, data(8960)...)), 9000, forwarder.Forwarded},
		{"jumbo and a byte", df(talk4(1, 80).tcp(frame.SYN, data(8961)...)), 9000, forwarder.FragNeeded},
		{"at the limit", df(talk4(1, 80).tcp(frame.SYN, data(1460)...)), 1500, forwarder.Forwarded},
		{"a byte more", df(talk4(1, 80).tcp(frame.SYN, data(1461)...)), 1500, forwarder.FragNeeded},
		{"a byte more, without DF", talk4(1, 80).tcp(frame.SYN, data(1461)...), 1500, forwarder.AboveMTU},
		{"at the limit, IPv6", talk6(1, 80).tcp(frame.SYN, data(1440)...), 1500, forwarder.Forwarded},
		{"a byte more, IPv6", talk6(1, 80).tcp(frame.SYN, data(1441)...), 1500, forwarder.FragNeeded},
		{"padding does not count", padded(talk4(1, 80).tcp(frame.SYN, data(1460)...), 7), 1500, forwarder.Forwarded},

		{"segments at the limit", super(df(talk4(1, 80).tcp(frame.SYN, data(30000)...)), tcp4, 1460), 1500, forwarder.Forwarded},
		{"segments with ECN at the limit", super(df(talk4(1, 80).tcp(frame.SYN, data(30000)...)), tcp4|ecn, 1460), 1500, forwarder.Forwarded},
		{"segments above it", super(df(talk4(1, 80).tcp(frame.SYN, data(30000)...)), tcp4, 1461), 1500, forwarder.FragNeeded},
		{"segments above it, without DF", super(talk4(1, 80).tcp(frame.SYN, data(30000)...), tcp4, 1461), 1500, forwarder.AboveMTU},
		{"segments with TCP options at the limit", options(super(df(talk4(1, 80).tcp(frame.SYN, data(30000)...)), tcp4, 1448)), 1500, forwarder.Forwarded},
		{"segments with TCP options above it", options(super(df(talk4(1, 80).tcp(frame.SYN, data(30000)...)), tcp4, 1449)), 1500, forwarder.FragNeeded},
		{"segments of IPv6 at the limit", super(talk6(1, 80).tcp(frame.SYN, data(30000)...), tcp6, 1440), 1500, forwarder.Forwarded},
		{"segments of IPv6 above it", super(talk6(1, 80).tcp(frame.SYN, data(30000)...), tcp6, 1441), 1500, forwarder.FragNeeded},
		{"datagrams at the limit", super(df(talk4(1, 53).udp(data(9000)...)), udp4, 1472), 1500, forwarder.Forwarded},
		{"datagrams above it", super(df(talk4(1, 53).udp(data(9000)...)), udp4, 1473), 1500, forwarder.FragNeeded},
		{"a header that says nothing of segments", super(df(talk4(1, 80).tcp(frame.SYN, data(1461)...)), 0, 100), 1500, forwarder.FragNeeded},

		{"an ICMP error", talk4(1, 80).icmpError(frame.TCP), 60, forwarder.AboveMTU},
		{"an ICMP error with DF", df(talk4(1, 80).icmpError(frame.TCP)), 60, forwarder.FragNeeded},
	} {
		for _, out := range []frame.Leg{0, 1} {
			t.Run(fmt.Sprintf("%s, by leg %d", c.what, out), func(t *testing.T) {
				r := start(t)
				someServices(r)
				heads(r, out)
				r.give(talk4(1, 80).tcp(frame.SYN))
				legs := []forwarder.Leg{{MAC: legMAC[0]}, {MAC: legMAC[1]}}
				legs[out].MTU = c.mtu
				legs[1-out].MTU = 41 // of the leg that the frames do not leave by: it limits nothing
				for i := range legs {
					r.must(r.SetLeg(frame.Leg(i), legs[i]))
				}
				r.expect(c.frame, c.want)
			})
		}
	}
}

// heads moves all realservers behind a leg.
func heads(r *rig, leg frame.Leg) {
	for _, s := range r.Services() {
		for _, d := range s.Destinations {
			d.Leg = leg
			r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), d.Destination) })
			r.must(r.SetNeighbour(leg, d.Addr, serverMAC(int(d.Addr.AsSlice()[len(d.Addr.AsSlice())-1]))))
		}
	}
}

// padded is a frame with some bytes behind the packet.
func padded(f frame.Frame, n int) frame.Frame {
	f = clone(f)
	f.Buf = append(f.Buf, make([]byte, n)...)
	f.Wire += int32(n)
	return f
}

// TestMTUAnswer: the sender is told which length passes, and about which of its packets; the flow
// lives on, and takes the packet that the sender makes of it then.
func TestMTUAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		talk talk
		head int // of IP and TCP
	}{{"IPv4", talk4(40000, 80), 40}, {"IPv6", talk6(40000, 80), 60}} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			limited(1400)(r)
			r.expect(c.talk.tcp(frame.SYN), forwarder.Forwarded)
			large := df4(c.talk.tcp(frame.ACK, make([]byte, 1401-c.head)...))
			network, above := answer(r, large)
			quote := large.Buf[14:]
			switch m := above.(type) {
			case *layers.ICMPv4:
				if m.TypeCode != layers.CreateICMPv4TypeCode(3, 4) || m.Id != 0 || m.Seq != 1400 || network.(*layers.IPv4).TOS != 0xc0 ||
					!bytes.Equal(m.Payload, quote[:548]) {
					t.Fatalf("answered by %+v", m)
				}
			case *layers.ICMPv6:
				if m.TypeCode != layers.CreateICMPv6TypeCode(2, 0) || binary.BigEndian.Uint32(m.Payload) != 1400 || !bytes.HasPrefix(quote, m.Payload[4:]) {
					t.Fatalf("answered by %+v", m)
				}
			default:
				t.Fatalf("answered by %v", above)
			}
			r.expect(df4(c.talk.tcp(frame.ACK, make([]byte, 1400-c.head)...)), forwarder.Forwarded)
			r.set(func(s *forwarder.Settings) { s.Silent = true })
			if out := r.give(large); len(out) != 0 {
				t.Fatalf("a silent director answers %v", out)
			}
		})
	}
}

// df4 is df for a packet of IPv4, and nothing for one of IPv6.
func df4(f frame.Frame) frame.Frame {
	if f.Buf[12] == 0x08 {
		f = df(f)
	}
	return f
}

// TestMTURate: these answers are limited in rate together with all others; the packets are counted
// nevertheless.
func TestMTURate(t *testing.T) {
	r := start(t)
	someServices(r)
	limited(1400)(r)
	large := df(talk4(40000, 53).udp(make([]byte, 1400)...))
	const n = 400
	for range n {
		r.give(large)
	}
	s := r.Stats()
	if s.Verdicts[forwarder.FragNeeded] != n || s.Answered != 250 || s.Limited != n-250 {
		t.Fatalf("of %d packets %d were too long, %d answered, %d not", n, s.Verdicts[forwarder.FragNeeded], s.Answered, s.Limited)
	}
}

// TestMTUFragments: a fragment that is longer than the MTU is answered if it is the first of its
// datagram, and counted if it is not, also if it waited for the first.
func TestMTUFragments(t *testing.T) {
	r := start(t)
	someServices(r)
	k := talk4(40000, 53)
	pieces := k.pieces(k.udp(make([]byte, 3000)...), 7, 1480)
	limited(1000)(r)
	// Fragments as no host makes them, but as a router may: DF is set.
	r.give(df(pieces[1]))
	if out := r.give(df(pieces[0])); len(out) != 1 || out[0].Dst() != routerMAC {
		t.Fatalf("%d frames come out, want the answer", len(out))
	}
	if s := r.Stats(); s.Verdicts[forwarder.FragNeeded] != 2 || s.Answered != 1 {
		t.Fatalf("%d too long, %d answered, want 2 and 1", s.Verdicts[forwarder.FragNeeded], s.Answered)
	}
}
