package forwarder_test

import (
	"bytes"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// reused returns a function that gives each run of a fuzz target the same engine, in which all
// flows and fragments of the runs before have ended: to make an engine takes longer than a run. The
// clock of a table has an end, so there is a new engine each year.
func reused(f *testing.F, build func(failer) *rig) func(*testing.T) *rig {
	const between, year = time.Hour, int64(365 * 24 * time.Hour)
	var r *rig
	f.Cleanup(func() {
		if r != nil {
			r.must(r.Close())
		}
	})
	return func(t *testing.T) *rig {
		t.Helper()
		if r != nil && r.now > year {
			r.must(r.Close())
			r = nil
		}
		if r == nil {
			r = build(t)
		}
		r.failer = t
		r.after(between)
		if s := r.Stats(); s.Flows != 0 || s.Held != 0 {
			t.Fatalf("%d entries and %d fragments are left after %v", s.Flows, s.Held, between)
		}
		return r
	}
}

// FuzzProcess gives an engine any frame that is addressed to its leg, after a few packets that
// begin flows, and looks at what comes out: the frame itself with other MACs, or one answer that is
// a right packet from the VIP to the sender. head says whether the first ten bytes are a
// virtio_net_hdr. The leg's MTU is small, so that packets above it occur.
func FuzzProcess(f *testing.F) {
	for _, k := range []talk{talk4(40000, 80), talk6(40000, 80), talk4(40000, 8080), talk6(40000, 8080)} {
		large := make([]byte, 600)
		for _, one := range []frame.Frame{
			k.tcp(frame.SYN), k.tcp(frame.ACK, 1, 2, 3), k.tcp(frame.ACK, large...), df4(k.tcp(frame.ACK, large...)), k.udp(1, 2), k.sctp(1),
			k.icmpError(frame.TCP), k.icmpErrorQuoting(frame.UDP, 8), k.icmp(8, 0, 0, 1, 0, 1), k.icmp(128, 0, 0, 1, 0, 1),
		} {
			f.Add(one.Buf, false)
		}
		f.Add(super(df4(k.tcp(frame.ACK, make([]byte, 3000)...)), 1, 500).Buf, true)
		for _, piece := range k.pieces(k.udp(large...), 7, 64, 128) {
			f.Add(piece.Buf, false)
		}
	}
	next := reused(f, func(t failer) *rig {
		r := newRig(t, func(c *forwarder.Config) { c.Legs[0].MTU = 500 })
		someServices(r)
		r.serve(service("UDP "+vip4+":80", "sh"), 1, 2) // of which errors go by hash
		return r
	})
	syn4, syn6 := talk4(40000, 80).tcp(frame.SYN), talk6(40000, 80).tcp(frame.SYN)
	f.Fuzz(func(t *testing.T, b []byte, head bool) {
		r := next(t)
		r.give(syn4, syn6)
		in := frame.Frame{Buf: bytes.Clone(b)}
		if head && len(b) >= 10 {
			in.Head = 10
		}
		in.Wire = int32(len(in.Data()))
		if d := in.Data(); len(d) >= 12 {
			copy(d, legMAC[0][:])
			copy(d[6:], routerMAC[:])
		}
		before, answered := r.total(), r.Stats().Answered
		out := r.give(in)
		s := r.Stats()
		if got := r.total(); got != before+1 {
			t.Fatalf("%d verdicts for one frame", got-before)
		}
		if len(out) > 1 {
			t.Fatalf("%d frames come out for one", len(out))
		}
		for _, o := range out {
			if o.Dst() == routerMAC {
				checkAnswer(t, in, o, s.Answered > answered)
				continue
			}
			if serverOf(o) == 0 || !bytes.Equal(o.Data()[12:], in.Data()[12:]) || !bytes.Equal(o.Buf[:o.Head], in.Buf[:in.Head]) || o.Wire != in.Wire {
				t.Fatalf("%x goes out as %x", in.Buf, o.Buf)
			}
		}
	})
}

// checkAnswer checks an answer of the director to a frame, one of its own making or a ping turned
// round.
func checkAnswer(t *testing.T, in, o frame.Frame, made bool) {
	t.Helper()
	var p, q frame.Packet
	frame.Parse(&in, &q)
	if problem := frame.Parse(&o, &p); problem != frame.OK || p.Src != q.Dst || p.Dst != q.Src {
		t.Fatalf("%x is answered by %x: %v, from %v to %v", in.Buf, o.Buf, problem, p.Src, p.Dst)
	}
	if o.Head != 0 && !made {
		return // the checksum of a ping may be partial
	}
	data := o.Data()
	ip := data[p.L3 : uint32(p.L3)+p.Len]
	if transportSum(ip, data[p.L4:uint32(p.L3)+p.Len], uint8(p.Proto)) != 0 {
		t.Fatalf("%x is answered by %x: its checksum is wrong", in.Buf, o.Buf)
	}
	if made && (len(data) > 640 || int(o.Wire) != len(data)) {
		t.Fatalf("an answer of %d bytes, which says %d", len(data), o.Wire)
	}
	if p.Proto == frame.ICMP || p.Proto == frame.ICMPv6 {
		if echo := p.ICMPType == 0 || p.ICMPType == 129; echo == made {
			t.Fatalf("%x is answered by an ICMP message %d/%d", in.Buf, p.ICMPType, p.ICMPCode)
		}
	}
}
