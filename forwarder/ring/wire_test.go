package ring

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// datagram is a UDP packet of n bytes of payload from the client to an address.
func datagram(dst netip.Addr, n int) []byte {
	src := client4
	if dst.Is6() {
		src = client6
	}
	return ip(src, dst, frame.UDP, 0, 0, udp(1000, 2000, text(n)))
}

func TestWireReceive(t *testing.T) {
	wires := newLab(t, 2)
	e, err := Open(Config{Legs: []LegConfig{wires[0].leg(3), wires[1].leg(7)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(); e.res.release() })
	// Nothing comes in before the first filter.
	for _, w := range wires {
		w.send(nil, w.frame(datagram(vip4, 1)))
	}
	if err := e.SetVIPs([]netip.Addr{vip4, vip6}); err != nil {
		t.Fatal(err)
	}
	other4, other6 := netip.MustParseAddr("203.0.113.99"), netip.MustParseAddr("2001:db8::99")
	want := map[frame.Leg][][]byte{}
	for i, w := range wires {
		id := frame.Leg([]int{3, 7}[i])
		for n := range 50 {
			// What must not come in, between what must.
			elsewhere := w.frame(datagram(vip4, 5))
			copy(elsewhere, []byte{2, 0, 0, 9, 9, 9})
			broadcast := w.frame(datagram(vip4, 6))
			copy(broadcast, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
			w.send(nil, elsewhere)
			w.send(nil, broadcast)
			w.send(nil, w.frame(datagram(other4, n)))
			w.send(nil, w.frame(datagram(other6, n)))
			w.send(nil, ether(w.mac, w.far, frame.EtherTypeARP, make([]byte, 46)))
			for _, vip := range []netip.Addr{vip4, vip6} {
				data := w.frame(datagram(vip, 20*n))
				w.send(nil, data)
				want[id] = append(want[id], data)
			}
		}
	}
	for _, f := range next(t, e, 200) {
		if len(want[f.In]) == 0 {
			t.Fatalf("a frame more of leg %d", f.In)
		}
		data := want[f.In][0]
		want[f.In] = want[f.In][1:]
		same(t, "frame", f.Data(), data)
		if int(f.Wire) != len(data) || f.TPID != 0 || f.TCI != 0 || f.Truncated() {
			t.Fatalf("Wire %d, tag %#x %d", f.Wire, f.TPID, f.TCI)
		}
	}
	s := e.Stats()
	for i, l := range s.Legs {
		if l.Leg != frame.Leg([]int{3, 7}[i]) || l.Name != wires[i].link.Attrs().Name {
			t.Errorf("leg %d is named %q", l.Leg, l.Name)
		}
		if l.Received != 100 || l.Dropped != 0 || l.Truncated != 0 || l.Oversize != 0 || l.Damaged != 0 || l.Down || l.Gone {
			t.Errorf("%+v", l)
		}
	}
	if s.Batches == 0 {
		t.Errorf("%+v", s)
	}
	// What was lent last is still held, and given back by the next call.
	if n := s.Legs[0].InUse + s.Legs[1].InUse; n == 0 {
		t.Error("no slot is in use while frames are lent")
	}
	e.Wake()
	if n, _, err := e.Next(make([]frame.Frame, 1)); n != 0 || err != nil {
		t.Errorf("Next: %d, %v", n, err)
	}
	if s := e.Stats(); s.Legs[0].InUse != 0 || s.Legs[1].InUse != 0 {
		t.Errorf("slots in use after all: %+v", s.Legs)
	}
}

// A batch that is too small for what has come is no loss, and legs share it.
func TestWireSmallBatch(t *testing.T) {
	wires := newLab(t, 2)
	e := open(t, Config{Legs: []LegConfig{wires[0].leg(0), wires[1].leg(1)}}, vip4)
	for n := range 20 {
		for _, w := range wires {
			w.send(nil, w.frame(datagram(vip4, n)))
		}
	}
	eventually(t, "all frames are in the rings", func() bool {
		s := e.Stats()
		return s.Legs[0].InUse == 20 && s.Legs[1].InUse == 20
	})
	if n, _, err := e.Next(nil); n != 0 || err != nil {
		t.Fatalf("Next with no room: %d, %v", n, err)
	}
	var came [2]int
	batch := make([]frame.Frame, 4)
	for range 10 {
		n, _, err := e.Next(batch)
		if n != len(batch) || err != nil {
			t.Fatalf("Next: %d, %v", n, err)
		}
		var share [2]int
		for _, f := range batch {
			same(t, "frame", f.Data(), wires[f.In].frame(datagram(vip4, came[f.In])))
			came[f.In]++
			share[f.In]++
		}
		if share != [2]int{2, 2} {
			t.Errorf("legs share the batch as %d", share)
		}
	}
	if came != [2]int{20, 20} {
		t.Errorf("%d frames came", came)
	}
}

// Frames larger than a slot arrive whole, between others, also when they are more than one batch
// can lend.
func TestWireGiant(t *testing.T) {
	w := newLab(t, 1)[0]
	w.mtu(9000)
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}, SlotSize: 256}, vip4)
	var want [][]byte
	giants := uint64(0)
	for i := range giantCount + 20 {
		for _, n := range []int{i, 300 + i} {
			data := w.frame(datagram(vip4, n))
			if usualMac+len(data) > 256 {
				giants++
			}
			want = append(want, data)
			w.send(nil, data)
		}
	}
	large := w.frame(datagram(vip4, 8900))
	w.send(nil, large)
	want = append(want, large)
	for i, f := range next(t, e, len(want)) {
		same(t, "frame", f.Data(), want[i])
		if int(f.Wire) != len(want[i]) {
			t.Fatalf("Wire %d, want %d", f.Wire, len(want[i]))
		}
	}
	l := e.Stats().Legs[0]
	if l.Received != uint64(len(want)) || l.Oversize != giants+1 || l.Truncated != 0 || l.SlotSize != 256 {
		t.Errorf("%d giants: %+v", giants+1, l)
	}
}

// super is a TCP super-frame with its virtio_net_hdr.
func super(w *wire, size, payload int) (head, data []byte) {
	data = w.frame(ip(client4, vip4, frame.TCP, 0, 0, tcp(client4, vip4, 3, text(payload))))
	return vnet(flagNeedsCsum, gsoTCP4, frame.HeaderLen+52, uint16(size), frame.HeaderLen+20, 16), data
}

// Super-frames go through with their header, whole: the device at the other end has them in one
// piece.
func TestWireSuper(t *testing.T) {
	wires := newLab(t, 2)
	in, out := wires[0], wires[1]
	e := open(t, Config{Legs: []LegConfig{in.leg(0), out.leg(1)}}, vip4)
	for _, c := range []struct {
		name      string
		payload   int
		tpid, tci uint16
	}{
		{"some segments", 5000, 0, 0},
		{"the largest", 65_000, 0, 0},
		{"with a tag", 5000, 0x8100, 0x2005},
		{"the largest with a tag", 65_000, 0x88a8, 7},
	} {
		head, data := super(in, 1448, c.payload)
		in.send(head, data)
		f := next(t, e, 1)[0]
		same(t, c.name, f.Data(), data)
		h := f.Buf[:vnetLen]
		if h[vnetFlags]&flagNeedsCsum == 0 || h[vnetGSOType] != gsoTCP4 || hostOrder.Uint16(h[vnetGSOSize:]) != 1448 ||
			hostOrder.Uint16(h[vnetCsumStart:]) != 34 || hostOrder.Uint16(h[vnetCsumOffset:]) != 16 {
			t.Fatalf("%s: header % x", c.name, h)
		}
		f.Out, f.TPID, f.TCI = 1, c.tpid, c.tci
		if lost := e.Send([]frame.Frame{f}); lost.Total() != 0 {
			t.Fatalf("%s: lost %+v", c.name, lost)
		}
		g := out.recv()
		same(t, c.name+", at the far end", g.data, data)
		if g.tpid != c.tpid || g.tci != c.tci {
			t.Errorf("%s: tag %#x %#x", c.name, g.tpid, g.tci)
		}
		if g.head[vnetGSOType] != gsoTCP4 || hostOrder.Uint16(g.head[vnetGSOSize:]) != 1448 || hostOrder.Uint16(g.head[vnetCsumStart:]) != 34 {
			t.Errorf("%s: header at the far end % x", c.name, g.head)
		}
	}
	if l := e.Stats().Legs[0]; l.Oversize != 4 || l.Truncated != 0 {
		t.Errorf("%+v", l)
	}

	// Segments that exceed the MTU are too big, until the MTU allows them: it is read again before
	// a frame is lost.
	head, data := super(in, 1448, 5000)
	f := frame.Frame{Buf: append(head, data...), Head: vnetLen, Wire: int32(len(data)), Out: 1}
	out.mtu(1400)
	e.check() // as Next does every second
	if lost := e.Send([]frame.Frame{f}); lost.TooBig != 1 || lost.Total() != 1 {
		t.Errorf("lost %+v", lost)
	}
	out.mtu(1500)
	if lost := e.Send([]frame.Frame{f}); lost.Total() != 0 {
		t.Errorf("after the MTU was raised: lost %+v", lost)
	}
	same(t, "after the MTU was raised", out.recv().data, data)
}

// drain throws away what is at the far end, and returns how many frames these were.
func (w *wire) drain() int {
	for n := 0; ; n++ {
		if _, err := unix.Read(w.fd, w.in); err != nil {
			return n
		}
	}
}

// When the socket's queue takes no more large frames, they come in cut, and those after them whole
// again.
func TestWireTruncated(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}, SlotSize: 256}, vip4)
	// As small as it gets: room for one.
	if err := unix.SetsockoptInt(e.legs[0].rx, unix.SOL_SOCKET, unix.SO_RCVBUF, 0); err != nil {
		t.Fatal(err)
	}
	data := w.frame(datagram(vip4, 1400))
	for round := range 3 {
		const frames = 10
		for range frames {
			w.send(nil, data)
		}
		eventually(t, "all frames are in the ring", func() bool { return e.Stats().Legs[0].InUse == frames })
		all := next(t, e, frames)
		same(t, "first", all[0].Data(), data)
		last := all[frames-1]
		if !last.Truncated() || int(last.Wire) != len(data) || last.Time == 0 {
			t.Fatalf("the last of %d frames: %d bytes of %d", frames, len(last.Data()), last.Wire)
		}
		same(t, "last", last.Data(), data[:256-usualMac])
		l := e.Stats().Legs[0]
		if l.Received != uint64(frames*(round+1)) || l.Oversize+l.Truncated != l.Received || l.Truncated == 0 {
			t.Fatalf("%+v", l)
		}
		e.Wake() // gives back
		_, _, _ = e.Next(make([]frame.Frame, 1))
	}
}

func TestWireSend(t *testing.T) {
	wires := newLab(t, 2)
	e := open(t, Config{Legs: []LegConfig{wires[0].leg(0), wires[1].leg(1)}})
	var batch []frame.Frame
	var want [2][]got
	put := func(out frame.Leg, head, data []byte, tpid, tci uint16) {
		batch = append(batch, frame.Frame{Buf: append(append([]byte(nil), head...), data...), Head: uint8(len(head)), Wire: int32(len(data)),
			Out: out, TPID: tpid, TCI: tci})
		want[out] = append(want[out], got{head, data, tpid, tci})
	}
	// More than one system call takes, for both legs in turn, of all kinds of pieces.
	for i := range 3 * burst {
		data := etherIP(datagram(vip4, 1+7*i))
		binary.BigEndian.PutUint16(data[6:], uint16(i))
		var head []byte
		if i%2 == 0 {
			head = vnet(0, 0, 0, 0, 0, 0)
		}
		tpid, tci := uint16(0), uint16(0)
		switch i % 5 {
		case 3:
			tpid, tci = 0x8100, uint16(i)
		case 4:
			tpid, tci = 0x88a8, 0xf000|uint16(i)
		}
		put(frame.Leg(i/2%2), head, data, tpid, tci)
	}
	// The largest plain frame; a tag does not count.
	put(0, nil, etherIP(datagram(vip4, 1472)), 0, 0)
	put(0, noHeader[:], etherIP(datagram(vip4, 1472)), 0x8100, 9)
	put(1, noHeader[:], etherIP(datagram(vip6, 100)), 0, 0)
	// A tag in the frame, below one beside it.
	put(1, noHeader[:], etherIP(datagram(vip6, 100), tag(3)), 0x88a8, 4)
	// A checksum that the device is to compute, also where a tag moves it.
	data := etherIP(ip(client4, vip4, frame.TCP, 0, 0, tcp(client4, vip4, 1, text(100))))
	put(0, vnet(flagNeedsCsum, 0, 0, 0, 34, 16), data, 0, 0)
	put(0, vnet(flagNeedsCsum, 0, 0, 0, 34, 16), data, 0x8100, 1)
	before := make([][]byte, len(batch))
	for i, f := range batch {
		before[i] = append(before[i], f.Buf...)
	}
	if lost := e.Send(batch); lost.Total() != 0 {
		t.Fatalf("lost %+v", lost)
	}
	for i, f := range batch {
		same(t, "the caller's frame", f.Buf, before[i])
	}
	for i, w := range wires {
		for k, wnt := range want[i] {
			g := w.recv()
			same(t, "frame", g.data, wnt.data)
			if g.tpid != wnt.tpid || g.tci != wnt.tci {
				t.Fatalf("frame %d of leg %d: tag %#x %#x, want %#x %#x", k, i, g.tpid, g.tci, wnt.tpid, wnt.tci)
			}
			needs := wnt.head != nil && wnt.head[vnetFlags]&flagNeedsCsum != 0
			if needs && (g.head[vnetFlags]&flagNeedsCsum == 0 || hostOrder.Uint16(g.head[vnetCsumStart:]) != 34) {
				t.Fatalf("frame %d of leg %d: header % x", k, i, g.head)
			}
		}
		if n := w.drain(); n != 0 {
			t.Errorf("leg %d sent %d frames more", i, n)
		}
		if l := e.Stats().Legs[i]; l.Sent != uint64(len(want[i])) || l.Lost.Total() != 0 {
			t.Errorf("leg %d: %+v, want %d sent", i, l, len(want[i]))
		}
	}
}

// Frames that cannot be sent are counted by reason, and do not keep those around them.
func TestWireSendLost(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}})
	good := etherIP(datagram(vip4, 10))
	small := func() frame.Frame { return frame.Frame{Buf: good, Out: 0} }
	withHead := func(h []byte) frame.Frame {
		return frame.Frame{Buf: append(append([]byte(nil), h...), good...), Head: vnetLen, Out: 0}
	}
	batch := []frame.Frame{
		small(),
		{Buf: etherIP(datagram(vip4, 1473)), Out: 0},          // too big by one byte
		{Buf: good, Out: frame.NoLeg},                         // no leg
		{Buf: good, Out: 5},                                   // a leg that is not there
		{Buf: good, Head: 5, Out: 0},                          // a header that is none
		{Buf: good[:13], Out: 0},                              // a runt
		{Buf: append(noHeader[:], 1, 2, 3), Head: 10, Out: 0}, // a runt with a header
		{Buf: noHeader[:4], Head: 10, Out: 0},                 // a header that is cut
		{Out: 0},                                              // nothing
		withHead(vnet(0, 77, 54, 100, 0, 0)),                  // no kind of super-frame that there is
		withHead(vnet(flagNeedsCsum, 0, 0, 0, 0xff00, 0)),     // a checksum behind the end
		{Buf: good, Out: 0, TPID: 0x8100, TCI: 77},            // fine
		withHead(vnet(0, 0, 0xffff, 0, 0, 0)),                 // more to be kept in one piece than the frame has
		small(), small(),
	}
	lost := e.Send(batch)
	if lost.TooBig != 1 || lost.Down != 2 || lost.Refused != 8 || lost.Full != 0 {
		t.Errorf("lost %+v", lost)
	}
	for i, tci := range []uint16{0, 77, 0, 0} {
		g := w.recv()
		same(t, "frame", g.data, good)
		if g.tci != tci {
			t.Errorf("frame %d: tag %d", i, g.tci)
		}
	}
	if n := w.drain(); n != 0 {
		t.Errorf("%d frames more", n)
	}
	l := e.Stats().Legs[0]
	if l.Sent != 4 || l.Lost.TooBig != 1 || l.Lost.Refused != 8 || l.Lost.Down != 0 || l.Lost.Full != 0 {
		t.Errorf("%+v", l)
	}
	if lost := e.Send(nil); lost.Total() != 0 {
		t.Errorf("an empty batch: lost %+v", lost)
	}
}

func TestWireVLAN(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4, vip6)
	for _, c := range []struct {
		name      string
		tags      [][4]byte
		tpid, tci uint16
	}{
		{"none", nil, 0, 0},
		{"one", [][4]byte{tag(0x2064)}, 0x8100, 0x2064},
		{"priority only", [][4]byte{tag(0xe000)}, 0x8100, 0xe000},
		{"all zero", [][4]byte{tag(0)}, 0x8100, 0},
		{"802.1ad", [][4]byte{dtag(5)}, 0x88a8, 5},
		{"two", [][4]byte{dtag(5), tag(6)}, 0x88a8, 5},
		{"three", [][4]byte{dtag(5), tag(6), tag(7)}, 0x88a8, 5},
	} {
		for _, vip := range []netip.Addr{vip4, vip6} {
			w.send(nil, w.frame(datagram(vip, 50), c.tags...))
			f := next(t, e, 1)[0]
			rest := c.tags
			if len(rest) > 0 {
				rest = rest[1:]
			}
			want := w.frame(datagram(vip, 50), rest...)
			same(t, c.name, f.Data(), want)
			if f.TPID != c.tpid || f.TCI != c.tci || int(f.Wire) != len(want) {
				t.Errorf("%s: tag %#x %#x, Wire %d", c.name, f.TPID, f.TCI, f.Wire)
			}
			f.Out = 0
			f.SetDst(w.far)
			if lost := e.Send([]frame.Frame{f}); lost.Total() != 0 {
				t.Fatalf("%s: lost %+v", c.name, lost)
			}
			g := w.recv()
			same(t, c.name+", at the far end", g.data, f.Data())
			if g.tpid != c.tpid || g.tci != c.tci {
				t.Errorf("%s: tag at the far end %#x %#x", c.name, g.tpid, g.tci)
			}
		}
	}
}
