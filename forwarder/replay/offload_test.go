package replay_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
)

// tcp4 is a frame of IPv4 and TCP as it is on the wire, tcp6 one of IPv6.
func tcp4(n int) []byte {
	b := make([]byte, 14+20+20+n)
	copy(b[12:], []byte{0x08, 0x00, 0x45, 0, 0, 0, 0, 1, 0, 0, 64, 6, 0, 0, 198, 51, 100, 7, 10, 0, 0, 100, 0x9c, 0x40, 0, 80})
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
	b[46], b[47] = 5<<4, frame.ACK
	binary.BigEndian.PutUint16(b[24:], ^frame.Fold(frame.Sum(b[14:34], 0)))
	binary.BigEndian.PutUint16(b[50:], frame.TransportSum(b[14:], false, 20, frame.TCP))
	return b
}

func tcp6(n int) []byte {
	b := make([]byte, 14+40+20+n)
	copy(b[12:], []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64, 0x20, 1})
	b[38] = 0x20
	binary.BigEndian.PutUint16(b[18:], uint16(20+n))
	b[66], b[67] = 5<<4, frame.ACK
	binary.BigEndian.PutUint16(b[70:], frame.TransportSum(b[14:], true, 40, frame.TCP))
	return b
}

// put returns a copy of b with other bytes at off.
func put(b []byte, off int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[off:], with)
	return b
}

// sent replays one frame, and returns it as it is lent.
func sent(t *testing.T, b []byte, wire int, strict bool) (frame.Frame, replay.Offload) {
	t.Helper()
	s := source(t, pcapFile(binary.LittleEndian, 1, 1, []record{{time: second, data: b, wire: wire}}))
	s.Strict = strict
	batch := make([]frame.Frame, 1)
	if n, _, err := s.Next(batch); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	return batch[0], s.Stats().Offload
}

// TestOffload: what was left to a network card is completed to what the card sends, and nothing
// else is touched.
func TestOffload(t *testing.T) {
	good4, good6 := tcp4(100), tcp6(100)
	tagged := append(append(bytes.Clone(good4[:12]), 0x81, 0, 0, 7), good4[12:]...)
	udp := put(good4, 23, 17)
	udp = put(udp, 14+24, 0, 120)
	unsummed := put(udp, 14+26, 0, 0)
	for _, c := range []struct {
		name       string
		in, want   []byte
		sums, lens uint64
	}{
		{"good", good4, good4, 0, 0},
		{"good, IPv6", good6, good6, 0, 0},
		{"no IP checksum", put(good4, 24, 0, 0), good4, 1, 0},
		{"wrong IP checksum", put(good4, 24, 1, 2), good4, 1, 0},
		{"no TCP checksum", put(good4, 50, 0, 0), good4, 1, 0},
		{"no TCP checksum, IPv6", put(good6, 70, 0, 0), good6, 1, 0},
		{"no length", put(good4, 16, 0, 0), good4, 1, 1},
		{"no length, IPv6", put(good6, 18, 0, 0), good6, 0, 1},
		{"nothing", put(put(put(good4, 16, 0, 0), 24, 0, 0), 50, 0, 0), good4, 1, 1},
		{"tagged", put(tagged, 28, 0, 0), tagged, 1, 0},
		{"UDP without a checksum", fixed(unsummed), fixed(unsummed), 0, 0},
		{"length above the frame", put(good4, 16, 9, 9), put(good4, 16, 9, 9), 0, 0},
		{"version", put(good4, 14, 0x55), put(good4, 14, 0x55), 0, 0},
		{"ARP", put(good4, 12, 8, 6), put(good4, 12, 8, 6), 0, 0},
		{"next header none", put(put(good6, 20, 59), 18, 0, 0), put(put(good6, 20, 59), 18, 0, 0), 0, 0},
	} {
		got, o := sent(t, c.in, 0, false)
		if !bytes.Equal(got.Buf, c.want) || got.Head != 0 || o != (replay.Offload{Checksums: c.sums, Lengths: c.lens}) {
			t.Errorf("%s: %+v, %d bytes before the frame\n%x\nwant\n%x", c.name, o, got.Head, got.Buf, c.want)
		}
		if got, o := sent(t, c.in, 0, true); !bytes.Equal(got.Buf, c.in) || o != (replay.Offload{}) {
			t.Errorf("%s, strictly: %+v\n%x", c.name, o, got.Buf)
		}
	}
	// Of a frame that the capture has cut, the header is completed, and the length is that on the
	// wire.
	got, o := sent(t, put(good4, 16, 0, 0)[:60], len(good4), false)
	if !bytes.Equal(got.Buf, good4[:60]) || o.Lengths != 1 {
		t.Errorf("cut: %+v\n%x", o, got.Buf)
	}
}

// fixed writes the checksum of an IPv4 header.
func fixed(b []byte) []byte {
	b = put(b, 24, 0, 0)
	binary.BigEndian.PutUint16(b[24:], ^frame.Fold(frame.Sum(b[14:34], 0)))
	return b
}

// TestOffloadBig: packets too long for their length field (BIG TCP) are taken, and as long as they
// are.
func TestOffloadBig(t *testing.T) {
	for name, b := range map[string][]byte{"IPv4": put(tcp4(100_000), 16, 0, 0), "IPv6": put(tcp6(100_000), 18, 0, 0), "jumbogram": jumbo(100_000)} {
		f, o := sent(t, b, 0, false)
		var p frame.Packet
		if problem := frame.Parse(&f, &p); problem != frame.OK || int(p.Len) != len(b)-14 || p.TCPFlags != frame.ACK || o.Lengths != 1 || o.Large != 1 {
			t.Errorf("%s: %v, %d bytes, %+v", name, problem, p.Len, o)
		}
		if f, _ = sent(t, b, 0, true); frame.Parse(&f, &p) == frame.OK && p.L4 != 0 {
			t.Errorf("%s is taken strictly", name)
		}
	}
}

// jumbo is a frame of IPv6 with a jumbo payload option (RFC 2675).
func jumbo(n int) []byte {
	b := tcp6(n)
	b = append(append(bytes.Clone(b[:54]), 6, 0, 0xc2, 4, 0, 0, 0, 0), b[54:]...)
	binary.BigEndian.PutUint32(b[58:], uint32(len(b)-54))
	return put(put(b, 18, 0, 0), 20, 0)
}

// Packets without a time are of that of the first that has one.
func TestUntimed(t *testing.T) {
	n := &ng{order: binary.LittleEndian}
	n.section(1, 0)
	n.iface(1, 0)
	for i := range byte(3) {
		n.simple(record{data: payload(20, i)})
	}
	timed := record{data: payload(33, 9), time: 1_700_000_000 * second}
	n.enhanced(0, uint64(timed.time/1000), timed)
	n.simple(record{data: payload(20, 4)})
	want := []record{}
	for _, i := range []byte{0, 1, 2, 9, 4} {
		size := 20
		if i == 9 {
			size = 33
		}
		want = append(want, record{time: timed.time, data: payload(size, i)})
	}
	got, err := drain(t, source(t, n.b), 64)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, want)
	if got, err = drain(t, source(t, n.b[:len(n.b)-50]), 64); err == nil || len(got) != 3 && len(got) != 4 {
		t.Errorf("of a file that is cut: %d packets, %v", len(got), err)
	}
}
