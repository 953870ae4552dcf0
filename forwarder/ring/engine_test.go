package ring

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// An interface that goes down and comes up again, or is deleted.
func TestDown(t *testing.T) {
	wires := newLab(t, 2)
	w := wires[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0), wires[1].leg(1)}}, vip4)
	in := func(w *wire) {
		t.Helper()
		data := w.frame(datagram(vip4, 10))
		w.send(nil, data)
		same(t, "frame", next(t, e, 1)[0].Data(), data)
	}
	out := func(leg frame.Leg) (down uint32) {
		t.Helper()
		lost := e.Send([]frame.Frame{{Buf: etherIP(datagram(vip4, 10)), Out: leg}, {Buf: etherIP(datagram(vip4, 11)), Out: leg}})
		if lost.Total() != lost.Down {
			t.Fatalf("lost %+v", lost)
		}
		return lost.Down
	}
	batch := make([]frame.Frame, 8)
	idle := func() {
		t.Helper()
		e.Wake()
		if n, _, err := e.Next(batch); n != 0 || err != nil {
			t.Fatalf("Next: %d, %v", n, err)
		}
	}
	in(w)
	if n := out(0); n != 0 {
		t.Fatalf("%d frames were lost", n)
	}
	for range 2 {
		if err := netlink.LinkSetDown(w.link); err != nil {
			t.Fatal(err)
		}
		if n := out(0); n != 2 {
			t.Errorf("%d frames were lost as down, want 2", n)
		}
		// The other leg goes on, and Next does not take the trouble for an end.
		in(wires[1])
		if n := out(1); n != 0 {
			t.Errorf("the other leg lost %d frames", n)
		}
		eventually(t, "the leg is down", func() bool {
			_, _, err := e.Next(batch)
			return err == nil && e.Stats().Legs[0].Down
		})
		// The error of the socket was read: waiting is waiting, not a loop of calls that return at
		// once.
		polls := e.Stats().Polls
		for range 4 {
			idle()
		}
		if n := e.Stats().Polls - polls; n > 100 {
			t.Errorf("%d polls for four calls", n)
		}
		w.up()
		in(w)
		w.drain()
		if n := out(0); n != 0 {
			t.Errorf("%d frames were lost after the leg came up", n)
		}
		w.recv()
		eventually(t, "the leg is up", func() bool {
			_, _, err := e.Next(batch)
			return err == nil && !e.Stats().Legs[0].Down
		})
	}
	if l := e.Stats().Legs[0]; l.Lost.Down != 4 || l.Lost.Total() != 4 || l.Gone {
		t.Errorf("%+v", l)
	}
	if err := netlink.LinkDel(w.link); err != nil {
		t.Fatal(err)
	}
	if n := out(0); n != 2 {
		t.Errorf("%d frames were lost, want 2", n)
	}
	in(wires[1])
	eventually(t, "the leg is gone", func() bool {
		_, _, err := e.Next(batch)
		return err == nil && e.Stats().Legs[0].Gone
	})
	polls := e.Stats().Polls
	for range 4 {
		idle()
	}
	if n := e.Stats().Polls - polls; n > 100 {
		t.Errorf("%d polls for four calls", n)
	}
	if l := e.Stats().Legs[0]; !l.Down || l.Lost.Down != 6 {
		t.Errorf("%+v", l)
	}
	in(wires[1])
}

// A leg that is down when the engine is opened works when it comes up.
func TestOpenDown(t *testing.T) {
	w := newLab(t, 1)[0]
	if err := netlink.LinkSetDown(w.link); err != nil {
		t.Fatal(err)
	}
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4)
	if !e.Stats().Legs[0].Down {
		t.Error("the leg is not down")
	}
	if lost := e.Send([]frame.Frame{{Buf: etherIP(datagram(vip4, 10)), Out: 0}}); lost.Down != 1 {
		t.Errorf("lost %+v", lost)
	}
	w.up()
	data := w.frame(datagram(vip4, 10))
	w.send(nil, data)
	same(t, "frame", next(t, e, 1)[0].Data(), data)
}

// A full ring drops what is newest, says how many, and goes on.
func TestDropped(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}, Slots: 64, SlotSize: 256}, vip4)
	slots := e.Stats().Legs[0].Slots
	for round := range uint64(3) {
		for n := range slots + 10 {
			w.send(nil, w.frame(datagram(vip4, n%100)))
		}
		eventually(t, "all frames were received or dropped", func() bool {
			l := e.Stats().Legs[0]
			return l.InUse == slots && l.Dropped == 10*(round+1)
		})
		for n, f := range next(t, e, slots) {
			same(t, "frame", f.Data(), w.frame(datagram(vip4, n%100)))
		}
		e.Wake() // gives back
		_, _, _ = e.Next(make([]frame.Frame, 1))
	}
	s := e.Stats()
	l := s.Legs[0]
	if l.Received != uint64(3*slots) || l.InUse != 0 || l.Memory != slots*256 || s.Memory != e.Memory() || s.Memory <= l.Memory {
		t.Errorf("%+v", s)
	}
}

// Slots whose header contradicts itself are passed over and given back, and Next sleeps on.
func TestDamaged(t *testing.T) {
	w := newLab(t, 1)[0]
	w.mtu(9000)
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}, SlotSize: 256}, vip4)
	ring := &e.legs[0].walk
	batch := make([]frame.Frame, 8)
	for round, n := range []int{10, 1000} { // the second is larger than a slot
		w.send(nil, w.frame(datagram(vip4, n)))
		eventually(t, "the frame is in the ring", ring.ready)
		hostOrder.PutUint16(ring.mem[ring.next.off+offMac:], 0xffff)
		polls := e.Stats().Polls
		if n, _, err := e.Next(batch); n != 0 || err != nil {
			t.Fatalf("Next: %d, %v", n, err)
		}
		e.Wake()
		_, _, _ = e.Next(batch)
		s := e.Stats()
		if s.Legs[0].Damaged != uint64(round+1) || s.Legs[0].InUse != 0 {
			t.Errorf("%+v", s)
		}
		// While a slot is not given back its socket is readable.
		if n := s.Polls - polls; n > 100 {
			t.Errorf("%d polls for two calls", n)
		}
		for _, n := range []int{10, 1000} {
			data := w.frame(datagram(vip4, n))
			w.send(nil, data)
			same(t, "the frame after", next(t, e, 1)[0].Data(), data)
		}
	}
}

// Should the queue for large frames and the ring ever be out of step, no frame is taken for
// another, and they find together again.
func TestOutOfStep(t *testing.T) {
	w := newLab(t, 1)[0]
	w.mtu(9000)
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}, SlotSize: 256}, vip4)
	ring := &e.legs[0].walk
	large := func(n int) []byte { return w.frame(datagram(vip4, 1000+n)) }
	send := func(n int) {
		t.Helper()
		w.send(nil, large(n))
		eventually(t, "the frame is in the ring", ring.ready)
	}
	// A slot that does not tell of its copy, which then stays in the queue.
	leave := func(n int) {
		t.Helper()
		send(n)
		off := ring.next.off
		storeStatus(ring.mem, off, loadStatus(ring.mem, off)&^unix.TP_STATUS_COPY)
		if f := next(t, e, 1)[0]; !f.Truncated() {
			t.Fatal("the frame is whole")
		}
	}
	leave(1)
	send(2)
	f := next(t, e, 1)[0]
	same(t, "start of a large frame", f.Data()[:100], large(2)[:100])
	if !f.Truncated() && len(f.Data()) != len(large(2)) {
		t.Errorf("%d bytes", len(f.Data()))
	}
	send(3)
	same(t, "a large frame after that", next(t, e, 1)[0].Data(), large(3))

	// Without another large frame the queue is emptied as well, so that the socket is not readable
	// for ever.
	leave(4)
	eventually(t, "Next sleeps", func() bool {
		polls, timeouts := e.Stats().Polls, e.Stats().Timeouts
		_, _, err := e.Next(make([]frame.Frame, 1))
		s := e.Stats()
		return err == nil && s.Timeouts == timeouts+1 && s.Polls < polls+10
	})
	send(5)
	same(t, "a large frame after that", next(t, e, 1)[0].Data(), large(5))
}

// Neither Next nor Send allocates while frames flow: of all sizes, with tags and as super-frames.
func TestNoAllocation(t *testing.T) {
	wires := newLab(t, 2)
	in, out := wires[0], wires[1]
	for _, p := range []Preset{Balanced, Latency, Powersave} {
		e := open(t, Config{Legs: []LegConfig{in.leg(0), out.leg(1)}, Busy: p}, vip4)
		head, data := super(in, 1448, 10_000)
		var frames [][]byte
		for _, b := range [][]byte{in.frame(datagram(vip4, 10)), in.frame(datagram(vip4, 1400)), in.frame(datagram(vip4, 20), tag(5))} {
			frames = append(frames, append(append([]byte(nil), noHeader[:]...), b...))
		}
		frames = append(frames, append(head, data...))
		batch := make([]frame.Frame, 64)
		var lost, sent uint32
		failed := error(nil)
		flow := func() {
			for _, b := range frames {
				if _, err := unix.Write(in.fd, b); err != nil {
					failed = err
				}
			}
			for came := 0; came < len(frames) && failed == nil; {
				n, _, err := e.Next(batch)
				if err != nil {
					failed = err
				}
				for i := range batch[:n] {
					batch[i].Out = 1
				}
				came += n
				lost += e.Send(batch[:n]).Total()
				sent += uint32(n)
			}
			for range frames {
				_, _ = unix.Read(out.fd, out.in)
			}
		}
		if n := testing.AllocsPerRun(200, flow); n != 0 || failed != nil {
			t.Errorf("%v: %v allocations for %d frames (%v)", p, n, len(frames), failed)
		}
		if lost != 0 || sent == 0 {
			t.Errorf("%v: %d frames were sent, %d lost", p, sent, lost)
		}
		// An idle call, which looks at the interfaces too.
		if n := testing.AllocsPerRun(5, func() {
			e.checked = 0
			_, _, failed = e.Next(batch)
		}); n != 0 || failed != nil {
			t.Errorf("%v: %v allocations for an idle call (%v)", p, n, failed)
		}
	}
}
