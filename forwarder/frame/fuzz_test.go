package frame_test

import (
	"bytes"
	"testing"

	"shunt/forwarder/frame"
)

// FuzzParse reads any bytes as a frame. more is by how much the frame was longer on the wire than
// what is at hand; head says whether a virtio_net_hdr comes first.
func FuzzParse(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.data, int32(0), false)
		f.Add(s.data[:s.need-1], int32(len(s.data)-s.need+1), false)
	}
	for _, s := range innerSamples(f) {
		f.Add(s.data, int32(0), false)
		f.Add(s.data[:s.need-1], int32(len(s.data)-s.need+1), false)
	}
	for _, v6 := range []bool{false, true} {
		data := superFrame(f, v6, 100)
		f.Add(append(make([]byte, vnetHead), data...), int32(100_000), true)
	}
	f.Fuzz(func(t *testing.T, buf []byte, more int32, head bool) {
		fr := frame.Frame{Buf: buf}
		if head && len(buf) >= vnetHead {
			fr.Head = vnetHead
		}
		more = max(more, -int32(len(fr.Data()))) % (1 << 20)
		fr.Wire = int32(len(fr.Data())) + more
		before := bytes.Clone(buf)
		p, problem := parse(fr)
		sane(t, fr, p, problem)
		glanced(t, fr, p, problem)

		if problem == frame.OK && p.L4 != 0 && (p.Proto == frame.ICMP || p.Proto == frame.ICMPv6) {
			var in, again frame.Packet
			problem := frame.ParseInner(&fr, &p, &in)
			saneInner(t, fr, in, problem)
			again.L3, again.V6, again.SrcPort = 1, true, 2
			if frame.ParseInner(&fr, &p, &again) != problem || again != in {
				t.Fatalf("the quotation is read as %#v first, and then as %#v", in, again)
			}
		}
		if !bytes.Equal(buf, before) {
			t.Fatal("the frame is not what it was")
		}

		// One byte of padding more changes nothing in a whole frame without offloads.
		if problem == frame.OK && fr.Head == 0 && more == 0 {
			longer, problem := parse(whole(append(bytes.Clone(buf), 0x5a)))
			if problem != frame.OK || longer != p {
				t.Fatalf("%#v becomes %#v by a byte of padding: %v", p, longer, problem)
			}
		}
	})
}

// sane checks what holds for every frame.
func sane(t *testing.T, f frame.Frame, p frame.Packet, problem frame.Problem) {
	b := f.Data()
	if problem > frame.Cut {
		t.Fatalf("there is no problem %d", problem)
	}
	if problem == frame.Cut && !f.Truncated() {
		t.Fatalf("a whole frame is found cut short: %#v", p)
	}
	if int(p.L3) > len(b) || p.VLANs > 2 {
		t.Fatalf("the IP header is outside of the frame: %#v", p)
	}
	if problem != frame.OK {
		if p.L4 != 0 || p.SrcPort != 0 || p.DstPort != 0 || p.TCPFlags != 0 || p.ICMPType != 0 || p.Chunk != 0 {
			t.Fatalf("%v, but the transport header is read: %#v", problem, p)
		}
		return
	}
	header, proto := 20, 8
	if p.V6 {
		header = 40
	}
	switch p.Proto {
	case frame.TCP:
		proto = 20
	case frame.SCTP:
		proto = 12
	}
	l3, end := int(p.L3), int(p.L3)+int(p.Len)
	if l3 != 14+4*int(p.VLANs) || l3+header > len(b) || int(p.Len) < header || end > int(f.Wire) {
		t.Fatalf("the packet is outside of the frame: %#v", p)
	}
	if p.V6 == p.Src.Is4() || p.V6 == p.Dst.Is4() {
		t.Fatalf("the addresses are of the wrong family: %#v", p)
	}
	if p.Fragment != (p.FragOff != 0 || p.FragMore) || p.FragOff%8 != 0 {
		t.Fatalf("it is a fragment or not: %#v", p)
	}
	if (p.L4 == 0) != (p.FragOff != 0) {
		t.Fatalf("only a later fragment has no transport header: %#v", p)
	}
	if p.L4 != 0 && (int(p.L4) < l3+header || int(p.L4)+proto > min(end, len(b))) {
		t.Fatalf("the transport header is outside of the packet: %#v", p)
	}
}

// saneInner checks what holds for every quotation.
func saneInner(t *testing.T, f frame.Frame, in frame.Packet, problem frame.Problem) {
	switch problem {
	case frame.OK:
		if in.Proto != frame.TCP && in.Proto != frame.UDP && in.Proto != frame.SCTP {
			t.Fatalf("there are ports in %v: %#v", in.Proto, in)
		}
		if in.V6 == in.Src.Is4() || in.V6 == in.Dst.Is4() {
			t.Fatalf("the addresses are of the wrong family: %#v", in)
		}
	case frame.Cut:
		if !f.Truncated() {
			t.Fatalf("a whole frame is found cut short: %#v", in)
		}
	case frame.BadIP, frame.BadL4, frame.OtherProto:
	default:
		t.Fatalf("a quotation cannot be found %q", problem)
	}
	if problem != frame.OK && (in.SrcPort != 0 || in.DstPort != 0) {
		t.Fatalf("%v, but ports are read: %#v", problem, in)
	}
	if only := (frame.Packet{Tuple: in.Tuple, V6: in.V6}); in != only {
		t.Fatalf("more is set than the tuple: %#v", in)
	}
}

// glanced checks that a Glance that says yes says what Parse says.
func glanced(t *testing.T, f frame.Frame, p frame.Packet, problem frame.Problem) {
	var plain frame.Plain
	if b := frame.Glance6(&f, &plain); b != nil {
		src, dst := frame.Addresses6(b)
		want := frame.Packet{Tuple: frame.Tuple{Src: src, Dst: dst, SrcPort: plain.SrcPort, DstPort: plain.DstPort, Proto: plain.Proto},
			L3: 14, L4: 54, Len: uint32(plain.Len), V6: true, DF: true, TTL: f.Data()[21], TCPFlags: plain.TCPFlags}
		if problem != frame.OK || want != p {
			t.Fatalf("at a glance the frame is %#v, but it is %#v: %v", want, p, problem)
		}
	}
	if frame.Glance(&f, &plain) == nil {
		return
	}
	full := frame.Packet{FragID: 1, VLANs: 1, Fragment: true, Chunk: 1}
	if plain.Packet(&f, &full); problem != frame.OK || full != p {
		t.Fatalf("at a glance the frame is %#v, but it is %#v: %v", full, p, problem)
	}
}

// TestGlance: what is plain is taken for plain, and nothing else.
func TestGlance(t *testing.T) {
	for _, s := range samples(t) {
		f := whole(s.data)
		p, problem := parse(f)
		glanced(t, f, p, problem)
		var plain frame.Plain
		want := problem == frame.OK && !p.V6 && p.L3 == 14 && p.L4 == 34 && !p.Fragment && (p.Proto == frame.TCP || p.Proto == frame.UDP) && len(s.data) >= 54
		if got := frame.Glance(&f, &plain) != nil; got != want {
			t.Errorf("%s: plain at a glance: %v, want %v", s.name, got, want)
		}
		want = problem == frame.OK && p.V6 && p.L3 == 14 && p.L4 == 54 && !p.Fragment && (p.Proto == frame.TCP || p.Proto == frame.UDP) && len(s.data) >= 74
		if got := frame.Glance6(&f, &plain) != nil; got != want {
			t.Errorf("%s: plain at a glance, of IPv6: %v, want %v", s.name, got, want)
		}
		for i := range s.data { // one byte wrong
			b := bytes.Clone(s.data)
			b[i] ^= 0x41
			f := whole(b)
			p, problem := parse(f)
			glanced(t, f, p, problem)
		}
	}
}

// FuzzParseInner reads any bytes as what an ICMP error of a family quotes.
func FuzzParseInner(f *testing.F) {
	for _, s := range innerSamples(f) {
		p, problem := parse(whole(s.data))
		if problem != frame.OK {
			f.Fatalf("%s: %v", s.name, problem)
		}
		f.Add(s.data[p.L4+8:], p.V6)
	}
	f.Fuzz(func(t *testing.T, quote []byte, v6 bool) {
		p := frame.Packet{Tuple: frame.Tuple{Proto: frame.ICMP}, L3: 14, L4: 34}
		if v6 {
			p = frame.Packet{Tuple: frame.Tuple{Proto: frame.ICMPv6}, L3: 14, L4: 54, V6: true}
		}
		data := append(make([]byte, p.L4+8), quote...)
		p.Len = uint32(len(data)) - uint32(p.L3)
		fr := whole(data)
		var in frame.Packet
		problem := frame.ParseInner(&fr, &p, &in)
		saneInner(t, fr, in, problem)
		if problem != frame.OK {
			return
		}
		// What is behind the ports does not matter, and of the whole packet, seen from the other
		// end, Parse reads the same.
		var again frame.Packet
		fr = whole(append(data, 1, 2, 3))
		p.Len += 3
		if frame.ParseInner(&fr, &p, &again) != frame.OK || again != in {
			t.Fatalf("with three bytes more %#v becomes %#v", in, again)
		}
	})
}
