package forwarder_test

import (
	"testing"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// headed puts a virtio_net_hdr with these flags before a frame.
func headed(f frame.Frame, flags byte) frame.Frame {
	f = clone(f)
	f.Buf = append(append([]byte{flags}, make([]byte, 9)...), f.Buf...)
	f.Head = 10
	return f
}

// spoilt is a frame with another last byte, and so with a wrong transport checksum.
func spoilt(f frame.Frame) frame.Frame {
	f = clone(f)
	f.Buf[len(f.Buf)-1] ^= 0x40
	return f
}

// TestBadChecksumsAreNotAnswered: as a host, the director answers only what arrived intact, as far
// as it can be told; what goes on to a realserver is the realserver's to judge.
func TestBadChecksumsAreNotAnswered(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame frame.Frame
		want  forwarder.Verdict // of the spoilt frame
	}{
		{"SYN to no service", talk4(40000, 8080).tcp(frame.SYN, 1, 2, 3), forwarder.NoService},
		{"SYN to no service, IPv6", talk6(40000, 8080).tcp(frame.SYN, 1, 2, 3), forwarder.NoService},
		{"ACK of no flow", talk4(40000, 80).tcp(frame.ACK, 1, 2, 3), forwarder.NoFlow},
		{"UDP to no service", talk4(40000, 8080).udp(1, 2, 3), forwarder.NoService},
		{"UDP to no service, IPv6", talk6(40000, 8080).udp(1, 2, 3), forwarder.NoService},
		{"ping", talk4(0, 0).icmp(8, 0, 0, 1, 0, 1), forwarder.BadTransport},
		{"ping, IPv6", talk6(0, 0).icmp(128, 0, 0, 1, 0, 1), forwarder.BadTransport},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			for _, f := range []frame.Frame{c.frame, headed(c.frame, 0), headed(spoilt(c.frame), 1), headed(spoilt(c.frame), 2)} {
				if out := r.give(f); len(out) != 1 {
					t.Fatalf("%d answers to %x", len(out), f.Buf)
				}
			}
			for _, f := range []frame.Frame{spoilt(c.frame), headed(spoilt(c.frame), 0), headed(spoilt(c.frame), 4)} {
				before := r.Stats().Verdicts[c.want]
				if out := r.give(f); len(out) != 0 || r.Stats().Verdicts[c.want] != before+1 {
					t.Fatalf("%d answers to %x; %v", len(out), f.Buf, r.Stats().Verdicts)
				}
			}
		})
	}
	r := start(t)
	someServices(r)
	for _, f := range []frame.Frame{talk4(40000, 80).tcp(frame.SYN), talk6(40000, 53).udp(1)} {
		r.expect(spoilt(f), forwarder.Forwarded)
	}
	// ip_vs_leave answers without a look at the checksum.
	if out := r.give(spoilt(talk4(40000, 81).tcp(frame.SYN, 1))); len(out) != 1 {
		t.Fatalf("%d answers, want one", len(out))
	}
}

// TestUDPChecksums: which checksums of a datagram a host believes.
func TestUDPChecksums(t *testing.T) {
	k, k6 := talk4(40000, 8080), talk6(40000, 8080)
	short := k.udp(1, 2, 3, 4)
	for _, c := range []struct {
		name    string
		frame   frame.Frame
		answers int
	}{
		{"none", changed(k.udp(1, 2), 40, 0, 0), 1},
		{"none, IPv6", changed(k6.udp(1, 2), 60, 0, 0), 0},
		{"a length beyond the packet", changed(short, 38, 0, 200), 0},
		{"a length below the header", changed(short, 38, 0, 7), 0},
		{"bytes behind the datagram", func() frame.Frame {
			seg := append(k.udp(1, 2).Buf[34:], 9, 9, 9)
			return k.whole(frame.UDP, seg)
		}(), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			if out := r.give(c.frame); len(out) != c.answers {
				t.Fatalf("%d answers, want %d", len(out), c.answers)
			}
		})
	}
}

// TestAnswersAndDF: answers have the DF bit where Linux's have it: in a RST, not in what ICMP says.
func TestAnswersAndDF(t *testing.T) {
	r := start(t)
	someServices(r)
	for _, c := range []struct {
		frame frame.Frame
		df    bool
	}{
		{talk4(40000, 8080).tcp(frame.SYN), true},
		{talk4(40000, 8080).udp(1), false},
		{talk4(40000, 81).tcp(frame.SYN), false},
		{talk4(0, 0).icmp(8, 0, 0, 1, 0, 1), false},
	} {
		for _, bits := range []byte{0, 0x40} { // of the request
			out := r.give(changed(c.frame, 20, bits, 0))
			if len(out) != 1 || out[0].Buf[20]&0x40 != 0 != c.df {
				t.Fatalf("%v is answered by %v", c.frame, out)
			}
			decode(t, out[0].Buf)
		}
	}
}
