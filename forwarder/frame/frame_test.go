package frame_test

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

func TestMAC(t *testing.T) {
	tests := []struct {
		mac         frame.MAC
		text        string
		zero, group bool
	}{
		{frame.MAC{}, "00:00:00:00:00:00", true, false},
		{frame.MAC{2, 0, 0, 0, 0, 0x1f}, "02:00:00:00:00:1f", false, false},
		{frame.MAC{1, 0, 0x5e, 0, 0, 1}, "01:00:5e:00:00:01", false, true},
		{frame.MAC{255, 255, 255, 255, 255, 255}, "ff:ff:ff:ff:ff:ff", false, true},
	}
	for _, test := range tests {
		if m := test.mac; m.String() != test.text || m.IsZero() != test.zero || m.IsGroup() != test.group {
			t.Errorf("%v: zero %v, group %v, want %s: zero %v, group %v",
				m, m.IsZero(), m.IsGroup(), test.text, test.zero, test.group)
		}
	}
}

// The MACs are written where they belong, and nothing else is.
func TestFrameMACs(t *testing.T) {
	data := make([]byte, 60)
	for _, f := range []frame.Frame{whole(data), headed(data)} {
		f.SetDst(frame.MAC{2, 0, 0, 0, 0, 1})
		f.SetSrc(frame.MAC{2, 0, 0, 0, 0, 2})
		if f.Dst() != (frame.MAC{2, 0, 0, 0, 0, 1}) || f.Src() != (frame.MAC{2, 0, 0, 0, 0, 2}) {
			t.Errorf("the MACs are %v and %v", f.Dst(), f.Src())
		}
		want := "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02" + string(make([]byte, 48))
		if string(f.Data()) != want || string(f.Buf[:f.Head]) != string(make([]byte, f.Head)) {
			t.Errorf("the frame is %x", f.Buf)
		}
	}
}

func TestTruncated(t *testing.T) {
	data := make([]byte, 60)
	for _, f := range []frame.Frame{whole(data), headed(data)} {
		for more, want := range map[int32]bool{-1: false, 0: false, 1: true} {
			f.Wire = 60 + more
			if f.Truncated() != want {
				t.Errorf("%d bytes on the wire, 60 at hand: truncated %v", f.Wire, !want)
			}
		}
	}
}

func TestAddr(t *testing.T) {
	for _, s := range []string{"0.0.0.0", client4, "255.255.255.255", "::", "::1", "::ffff:0:0:1", vip6} {
		a := netip.MustParseAddr(s)
		b := frame.AddrFrom(a)
		if b.Is4() != a.Is4() {
			t.Errorf("%s: IPv4 %v", s, b.Is4())
		}
		if s != "::" && (b.Netip() != a || b.String() != s) { // the zero Addr stands for no address
			t.Errorf("%s comes back as %v", s, b)
		}
	}
	if a := frame.AddrFrom4(0xc0000207); a != addr(client4) || a.V4() != 0xc0000207 {
		t.Errorf("192.0.2.7 is %v", a)
	}
	if a := frame.AddrFrom(netip.Addr{}); a != (frame.Addr{}) || a.Netip().IsValid() {
		t.Errorf("no address is %v", a)
	}
	if a := addr("fe80::1%eth0"); a != addr("fe80::1") {
		t.Errorf("a zone makes %v of fe80::1", a)
	}
	if a := addr("::ffff:192.0.2.7"); a != addr(client4) {
		t.Errorf("an IPv4-mapped address is %v", a)
	}
}

// Every address but the zero one comes back from netip as it was.
func TestAddrRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := frame.Addr{Hi: rapid.Uint64().Draw(t, "hi"), Lo: rapid.Uint64().Draw(t, "lo")}
		if b := frame.AddrFrom(a.Netip()); b != a {
			t.Fatalf("%#v becomes %#v", a, b)
		}
		v := rapid.Uint32().Draw(t, "IPv4")
		if a := frame.AddrFrom4(v); !a.Is4() || a.V4() != v || frame.AddrFrom(a.Netip()) != a {
			t.Fatalf("%#x becomes %#v", v, a)
		}
	})
}

func TestProtoString(t *testing.T) {
	for p, want := range map[frame.Proto]string{
		frame.ICMP: "ICMP", frame.TCP: "TCP", frame.UDP: "UDP", frame.ICMPv6: "ICMPv6", frame.SCTP: "SCTP",
		0: "PROTO000", 47: "PROTO047", 255: "PROTO255",
	} {
		if p.String() != want {
			t.Errorf("protocol %d is called %q, want %q", uint8(p), p, want)
		}
	}
}

func TestTupleString(t *testing.T) {
	for want, p := range map[string]frame.Packet{
		"TCP 192.0.2.7:40000 > 203.0.113.10:80":           seen4(frame.TCP),
		"UDP [2001:db8:1::7]:40000 > [2001:db8:2::10]:80": seen6(frame.UDP),
	} {
		if p.Tuple.String() != want {
			t.Errorf("the tuple is written %q, want %q", p.Tuple, want)
		}
	}
}
