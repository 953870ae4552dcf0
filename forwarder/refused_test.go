package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// orders are those in which three fragments may come.
var orders = [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}

// TestRefusedInFragments: a datagram to a port without a service is refused once, when its last
// fragment has come, as it is in one piece; one that is damaged or not whole is not.
func TestRefusedInFragments(t *testing.T) {
	for _, k := range []talk{talk4(40000, 54), talk6(40000, 54)} {
		for _, proto := range []frame.Proto{frame.UDP, frame.TCP} {
			whole := k.udp(data(200)...)
			if proto == frame.TCP {
				whole = k.tcp(frame.SYN|frame.FIN, data(200)...)
			}
			pieces := k.pieces(whole, 8, 64, 128)
			for _, order := range orders {
				t.Run(fmt.Sprintf("%v %v %v", k.virtual, proto, order), func(t *testing.T) {
					r := start(t)
					someServices(r)
					want := r.give(whole)
					if len(want) != 1 {
						t.Fatal("the whole is not refused")
					}
					for n, i := range order {
						out := r.give(pieces[i])
						if n < 2 && len(out) != 0 || n == 2 && len(out) != 1 {
							t.Fatalf("after %d fragments %d go out", n+1, len(out))
						}
						if n == 2 {
							sameAnswer(t, &out[0], &want[0], &whole, len(pieces[0].Buf))
						}
					}
					if s := r.Stats(); s.Verdicts[forwarder.NoService] != 4 || s.Held != 0 {
						t.Errorf("%v, %d held", s.Verdicts, s.Held)
					}
					if out := r.give(pieces[2]); len(out) != 0 {
						t.Error("a fragment that comes again is answered")
					}
				})
			}
			t.Run(fmt.Sprintf("%v %v damaged", k.virtual, proto), func(t *testing.T) {
				r := start(t)
				someServices(r)
				for i := range pieces {
					broken := k.pieces(whole, uint16(20+i), 64, 128)
					last := broken[i].Buf
					last[len(last)-1] ^= 1
					if out := r.give(broken...); len(out) != 0 {
						t.Errorf("with fragment %d damaged, %d answers", i, len(out))
					}
				}
				if out := r.give(pieces[0], pieces[2]); len(out) != 0 {
					t.Error("not whole, and answered")
				}
				r.after(2 * time.Minute)
				if out := r.give(pieces[1]); len(out) != 0 {
					t.Error("whole too late, and answered")
				}
			})
		}
	}
}

// sameAnswer compares the answer to a datagram in fragments with that to the whole: a quotation
// ends where the first fragment ends.
func sameAnswer(t *testing.T, got, want, whole *frame.Frame, first int) {
	t.Helper()
	var p, q frame.Packet
	if frame.Parse(got, &p) != frame.OK || frame.Parse(want, &q) != frame.OK || p.Tuple != q.Tuple || p.ICMPType != q.ICMPType || p.ICMPCode != q.ICMPCode {
		t.Fatalf("%+v, want %+v", p, q)
	}
	data := got.Data()
	if transportSum(data[p.L3:uint32(p.L3)+p.Len], data[p.L4:], uint8(p.Proto)) != 0 {
		t.Error("its checksum is wrong")
	}
	if p.Proto == frame.TCP {
		if !bytes.Equal(data, want.Data()) {
			t.Errorf("%x, want %x", data, want.Data())
		}
		return
	}
	quote, ip := data[p.L4+8:], whole.Data()[14:]
	head := 20
	if p.V6 {
		head = 40
	}
	if !p.V6 {
		if frame.Fold(frame.Sum(quote[:20], 0)) != 0xffff || binary.BigEndian.Uint16(quote[6:]) != 0 {
			t.Errorf("the quoted header is %x", quote[:20])
		}
		ip = bytes.Clone(ip)
		copy(ip[4:8], quote[4:8]) // id and flags
		copy(ip[10:12], quote[10:12])
	}
	if n := head + 64; len(quote) < n || !bytes.Equal(quote[:n], ip[:n]) || len(quote) > first {
		t.Errorf("the quotation is\n%x, of\n%x", quote, ip)
	}
}

// TestRefusedMany: more datagrams than are remembered cost nothing but answers, and the latest get
// theirs.
func TestRefusedMany(t *testing.T) {
	const n = 40
	r := start(t)
	someServices(r)
	for id := range uint16(n) {
		k := talk4(40000+id, 54)
		r.give(k.pieces(k.udp(data(100)...), id, 64)[0])
	}
	answers := 0
	for id := range uint16(n) {
		k := talk4(40000+id, 54)
		out := r.give(k.pieces(k.udp(data(100)...), id, 64)[1])
		answers += len(out)
		if len(out) == 1 && binary.BigEndian.Uint16(out[0].Buf[14+20+8+20:]) != 40000+id {
			t.Errorf("the answer to %d quotes another", id)
		}
		if late := id >= n-16; late != (len(out) == 1) {
			t.Errorf("%d: %d answers", id, len(out))
		}
	}
	if s := r.Stats(); answers != 16 || s.Verdicts[forwarder.NoService] != 2*n {
		t.Errorf("%d answers, %v", answers, s.Verdicts)
	}
}
