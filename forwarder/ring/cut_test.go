package ring

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// bigFrame is a super-frame of IPv6 with a jumbo payload option, as the kernel hands it out.
func bigFrame(payload, size, options, tags int) frame.Frame {
	r := rand.New(rand.NewPCG(1, uint64(payload)))
	b := make([]byte, vnetLen+12)
	for range tags {
		b = append(b, 0x81, 0, 0, 7)
	}
	b = append(b, 0x86, 0xdd)
	l3 := len(b) - vnetLen
	ip := make([]byte, 48)
	for i := 8; i < 40; i++ {
		ip[i] = byte(r.Uint32()) | 0x20
	}
	ip[0], ip[7], ip[40], ip[42], ip[43] = 0x60, 64, byte(frame.TCP), 0xc2, 4
	tcp := make([]byte, 20+options)
	tcp[12], tcp[13] = byte(len(tcp)/4)<<4, frame.ACK|frame.PSH|frame.FIN|flagCWR
	binary.BigEndian.PutUint32(tcp[4:], 0xffff_f000)
	binary.BigEndian.PutUint32(ip[44:], uint32(8+len(tcp)+payload))
	b = append(append(b, ip...), tcp...)
	for range payload {
		b = append(b, byte(r.Uint32()))
	}
	b[vnetFlags], b[vnetGSOType] = flagNeedsCsum, gsoTCP6|gsoECN
	hostOrder.PutUint16(b[vnetGSOSize:], uint16(size))
	hostOrder.PutUint16(b[vnetCsumStart:], uint16(l3+48))
	hostOrder.PutUint16(b[vnetCsumOffset:], 16)
	return frame.Frame{Buf: b, Head: vnetLen, Wire: int32(len(b) - vnetLen)}
}

// TestCut: the pieces are packets that say their length, are no longer than it can say, begin and
// end between two segments, and put together give the frame.
func TestCut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(500, 9000).Draw(rt, "size of a segment")
		n := rapid.IntRange(65536, 524_000).Draw(rt, "payload")
		f := bigFrame(n, size, 4*rapid.IntRange(0, 10).Draw(rt, "options"), rapid.IntRange(0, 1).Draw(rt, "tags"))
		if rapid.Bool().Draw(rt, "tag beside the frame") {
			f.TPID, f.TCI = frame.EtherTypeVLAN, 5
		}
		var c cut
		if !c.cutting(&f) {
			rt.Fatal("it is not cut")
		}
		want := f.Data()[c.l4+c.hl:]
		var got []byte
		for last := false; !last; {
			var room [pieceHead]byte
			head, payload, end := c.next(&room)
			first := len(got) == 0
			last = end
			whole := frame.Frame{Buf: append(bytes.Clone(head), payload...), Head: vnetLen}
			whole.Wire = int32(len(whole.Data()))
			var p frame.Packet
			if problem := frame.Parse(&whole, &p); problem != frame.OK || int(p.Len) != len(whole.Data())-int(p.L3) || int(p.L4-p.L3) != 40 {
				rt.Fatalf("a piece is %v: %+v", problem, p)
			}
			tcp := whole.Data()[p.L4:]
			flags := byte(frame.ACK)
			if last {
				flags |= frame.PSH | frame.FIN
			}
			if first {
				flags |= flagCWR
			}
			if tcp[13]&^flagCWR != flags&^flagCWR || first && tcp[13]&flagCWR == 0 || !first && whole.Buf[vnetGSOType] != 0 && tcp[13]&flagCWR != 0 {
				rt.Fatalf("flags %x, want %x", tcp[13], flags)
			}
			if seq := binary.BigEndian.Uint32(tcp[4:]); seq != 0xffff_f000+uint32(len(got)) {
				rt.Fatalf("sequence %x after %d bytes", seq, len(got))
			}
			if !last && len(payload)%size != 0 || (whole.Buf[vnetGSOType] == 0) != (len(payload) <= size) {
				rt.Fatalf("%d bytes in segments of %d, type %x", len(payload), size, whole.Buf[vnetGSOType])
			}
			if int(hostOrder.Uint16(head[vnetCsumStart:])) != int(p.L4) || len(head)-vnetLen != int(hostOrder.Uint16(head[vnetHdrLen:])) {
				rt.Fatalf("checksum from %d, TCP at %d", hostOrder.Uint16(head[vnetCsumStart:]), p.L4)
			}
			// What the kernel makes of the partial checksum is right.
			sum := ^frame.Fold(frame.Sum(tcp, 0))
			binary.BigEndian.PutUint16(tcp[16:], sum)
			if frame.TransportSum(whole.Data()[p.L3:], true, 40, frame.TCP) != 0 {
				rt.Fatal("wrong checksum")
			}
			if n := segmentLen(&whole); whole.Buf[vnetGSOType] != 0 && n != 40+c.hl+size {
				rt.Fatalf("segments of %d", n)
			}
			got = append(got, payload...)
		}
		if !bytes.Equal(got, want) {
			rt.Fatalf("%d bytes go out of %d", len(got), len(want))
		}
	})
}

// What is no such frame goes out as it is.
func TestCutNot(t *testing.T) {
	good := func() frame.Frame { return bigFrame(100_000, 1440, 12, 0) }
	for name, change := range map[string]func(f *frame.Frame){
		"no header":        func(f *frame.Frame) { f.Buf, f.Head = f.Buf[vnetLen:], 0 },
		"not TCP":          func(f *frame.Frame) { f.Buf[vnetGSOType] = 5 },
		"no GSO":           func(f *frame.Frame) { f.Buf[vnetGSOType] = 0 },
		"whole checksum":   func(f *frame.Frame) { f.Buf[vnetFlags] = 0 },
		"short":            func(f *frame.Frame) { f.Buf = f.Buf[:60_000] },
		"no option":        func(f *frame.Frame) { f.Buf[vnetLen+14+42] = 1 },
		"a length":         func(f *frame.Frame) { f.Buf[vnetLen+14+5] = 1 },
		"IPv4":             func(f *frame.Frame) { f.Buf[vnetLen+14] = 0x45 },
		"no size":          func(f *frame.Frame) { f.Buf[vnetGSOSize], f.Buf[vnetGSOSize+1] = 0, 0 },
		"short TCP header": func(f *frame.Frame) { f.Buf[vnetLen+14+48+12] = 0x40 },
		"checksum far":     func(f *frame.Frame) { hostOrder.PutUint16(f.Buf[vnetCsumStart:], 60_000) },
		"checksum near":    func(f *frame.Frame) { hostOrder.PutUint16(f.Buf[vnetCsumStart:], 10) },
	} {
		f := good()
		change(&f)
		if c := (cut{}); c.cutting(&f) {
			t.Errorf("%s: it is cut", name)
		}
	}
	f := good()
	if c := (cut{}); !c.cutting(&f) {
		t.Error("what is one is not cut")
	}
}
