package ring

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// readable reports whether the event of an engine is set.
func readable(e *Engine) bool {
	fds := []unix.PollFd{{Fd: int32(e.event), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n == 1
}

func TestWake(t *testing.T) {
	w := newLab(t, 1)[0]
	for _, p := range []Preset{Balanced, Latency, Powersave} {
		e := open(t, Config{Legs: []LegConfig{w.leg(0)}, Busy: p}, vip4)
		batch := make([]frame.Frame, 8)
		// Before a call: several count as one.
		e.Wake()
		e.Wake()
		if n, _, err := e.Next(batch); n != 0 || err != nil {
			t.Fatalf("%v: Next: %d, %v", p, n, err)
		}
		if s := e.Stats(); s.Wakes != 1 || s.Timeouts != 0 {
			t.Errorf("%v: %+v", p, s)
		}
		// During calls, until one is woken and not ended by its time.
		var stop atomic.Bool
		var others sync.WaitGroup
		others.Go(func() {
			for !stop.Load() {
				time.Sleep(2 * time.Millisecond)
				e.Wake()
			}
		})
		eventually(t, "Wake ends Next", func() bool {
			n, _, err := e.Next(batch)
			if n != 0 || err != nil {
				t.Fatalf("%v: Next: %d, %v", p, n, err)
			}
			return e.Stats().Wakes >= 10
		})
		stop.Store(true)
		others.Wait()
		// A Wake does not keep a frame back.
		e.Wake()
		w.send(nil, w.frame(datagram(vip4, 10)))
		next(t, e, 1)
		// Without a frame or a Wake the time ends it.
		before := e.Stats().Timeouts
		eventually(t, "the time ends Next", func() bool {
			_, _, err := e.Next(batch)
			return err == nil && e.Stats().Timeouts > before
		})
	}
}

// However a Wake falls together with the end of a call, the engine must not take itself for woken without the event being
// set: no Wake would have an effect any more.
func TestWakeIsNotLost(t *testing.T) {
	w := newLab(t, 1)[0]
	// Powersave does not spin, so that only the event wakes it.
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}, Busy: Powersave}, vip4)
	batch := make([]frame.Frame, 8)
	var stop atomic.Bool
	var others sync.WaitGroup
	others.Go(func() {
		for !stop.Load() {
			e.Wake()
		}
	})
	// Each call ends by a Wake, but for those that find the other goroutine without a processor for long.
	for range 20_000 {
		if e.woken.Load() && e.Stats().Timeouts > 100 {
			break
		}
		if _, _, err := e.Next(batch); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	others.Wait()
	if e.woken.Load() && !readable(e) {
		t.Fatal("the engine is woken, but its event is not set")
	}
}

// A Wake that comes when Next would gather is not lost: the frames are lent at once, and the next call returns.
func TestWakeWhileGathering(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}, Busy: Powersave}, vip4)
	e.pace.gap = 1000 // as after dense traffic
	w.send(nil, w.frame(datagram(vip4, 10)))
	eventually(t, "the frame is in the ring", func() bool { return e.Stats().Legs[0].InUse == 1 })
	e.Wake()
	batch := make([]frame.Frame, 8)
	if n, _, err := e.Next(batch); n != 1 || err != nil {
		t.Fatalf("Next: %d, %v", n, err)
	}
	if s := e.Stats(); s.Gathers != 0 || s.Batches != 1 || s.Wakes != 0 {
		t.Errorf("%+v", s)
	}
	if n, _, err := e.Next(batch); n != 0 || err != nil {
		t.Fatalf("Next: %d, %v", n, err)
	}
	if s := e.Stats(); s.Wakes != 1 || s.Timeouts != 0 {
		t.Errorf("%+v", s)
	}
}

// Gathering fills a batch with what comes meanwhile.
func TestGather(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4)
	const frames = 10
	for n := range frames {
		w.send(nil, w.frame(datagram(vip4, n)))
	}
	eventually(t, "the frames are in the ring", func() bool { return e.Stats().Legs[0].InUse == frames })
	e.pace.gap = 100
	batch := make([]frame.Frame, 64)
	if n, _, err := e.Next(batch); n != frames || err != nil {
		t.Fatalf("Next: %d, %v", n, err)
	}
	if s := e.Stats(); s.Gathers != 1 {
		t.Errorf("%+v", s)
	}
}

func TestClose(t *testing.T) {
	w := newLab(t, 1)[0]
	batch := make([]frame.Frame, 8)
	for _, p := range []Preset{Balanced, Latency, Powersave} {
		e := open(t, Config{Legs: []LegConfig{w.leg(0)}, Busy: p}, vip4)
		w.send(nil, w.frame(datagram(vip4, 10)))
		next(t, e, 1)
		closed := make(chan error)
		go func() {
			time.Sleep(5 * time.Millisecond)
			closed <- e.Close()
		}()
		var err error
		eventually(t, "Next ends", func() bool {
			_, _, err = e.Next(batch)
			return err != nil
		})
		if !errors.Is(err, ErrClosed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v: Next: %v", p, err)
		}
		if err := <-closed; err != nil {
			t.Errorf("%v: Close: %v", p, err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("%v: Close again: %v", p, err)
		}
		if _, _, err := e.Next(batch); !errors.Is(err, ErrClosed) {
			t.Errorf("%v: Next again: %v", p, err)
		}
		if err := e.SetVIPs([]netip.Addr{vip4}); !errors.Is(err, ErrClosed) {
			t.Errorf("%v: SetVIPs: %v", p, err)
		}
		e.Wake()
		// The numbers of the sockets may be those of other files by now.
		if lost := e.Send([]frame.Frame{{Buf: etherIP(datagram(vip4, 1)), Out: 0}}); lost.Down != 1 || lost.Total() != 1 {
			t.Errorf("%v: Send: %+v", p, lost)
		}
		if s := e.Stats(); s.Legs[0].Received != 1 || s.Legs[0].Slots == 0 || s.Memory == 0 {
			t.Errorf("%v: %+v", p, s)
		}
	}
}

// Close while frames are lent: they stay as they are until the next call of Next, and can still be sent.
func TestCloseWhileLent(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4)
	data := w.frame(datagram(vip4, 100))
	w.send(nil, data)
	eventually(t, "the frame is in the ring", func() bool { return e.Stats().Legs[0].InUse == 1 })
	batch := make([]frame.Frame, 8)
	n, _, err := e.Next(batch)
	if n != 1 || err != nil {
		t.Fatalf("Next: %d, %v", n, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	w.send(nil, data)
	same(t, "lent", batch[0].Data(), data)
	batch[0].Out = 0
	if lost := e.Send(batch[:1]); lost.Total() != 0 {
		t.Errorf("lost %+v", lost)
	}
	same(t, "sent", w.recv().data, data)
	if n, _, err := e.Next(batch); n != 0 || !errors.Is(err, ErrClosed) {
		t.Errorf("Next: %d, %v", n, err)
	}
}

// Without an owner Close releases all itself.
func TestCloseFresh(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if !e.res.closed {
		t.Error("the resources are not released")
	}
	if _, _, err := e.Next(make([]frame.Frame, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Next: %v", err)
	}
	if lost := e.Send(make([]frame.Frame, 3)); lost.Down != 3 {
		t.Errorf("Send: %+v", lost)
	}
	e.Stats()
}

// sockets counts the open sockets and events of this process.
func sockets(t *testing.T) int {
	t.Helper()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if to, err := os.Readlink(name); err == nil && (strings.HasPrefix(to, "socket:") || strings.Contains(to, "eventfd")) {
			n++
		}
	}
	return n
}

// Nothing stays open: not after a failure, not after the end, and not where the owner never comes back.
func TestRelease(t *testing.T) {
	w := newLab(t, 1)[0]
	before := sockets(t)
	for range 3 {
		if e, err := Open(Config{Legs: []LegConfig{w.leg(0), {Leg: 1, Name: "nosuch"}}}); e != nil || err == nil {
			t.Fatalf("%v, %v", e, err)
		}
	}
	if n := sockets(t); n != before {
		t.Errorf("%d files after Open failed, want %d", n, before)
	}
	batch := make([]frame.Frame, 1)
	for range 3 {
		e, err := Open(Config{Legs: []LegConfig{w.leg(0)}})
		if err != nil {
			t.Fatal(err)
		}
		e.Wake()
		_, _, _ = e.Next(batch)
		_ = e.Close()
		_, _, _ = e.Next(batch)
	}
	if n := sockets(t); n != before {
		t.Errorf("%d files after the end, want %d", n, before)
	}
	func() {
		e, err := Open(Config{Legs: []LegConfig{w.leg(0)}})
		if err != nil {
			t.Fatal(err)
		}
		e.Wake()
		_, _, _ = e.Next(batch)
		_ = e.Close() // and no Next after it
	}()
	eventually(t, "the garbage collector releases the engine", func() bool {
		runtime.GC()
		return sockets(t) == before
	})
}

func TestOpenErrors(t *testing.T) {
	w := newLab(t, 1)[0]
	for _, c := range []struct {
		name string
		leg  LegConfig
		is   error
		says []string
	}{
		{"no such name", LegConfig{Name: "nosuch"}, nil, []string{"interface nosuch", "ip link"}},
		{"no such number", LegConfig{Index: 12345}, unix.ENODEV, []string{"interface number 12345"}},
		{"the loopback", LegConfig{Name: "lo"}, nil, []string{"interface lo", "loopback"}},
	} {
		e, err := Open(Config{Legs: []LegConfig{c.leg}})
		if e != nil || err == nil {
			t.Errorf("%s: %v, %v", c.name, e, err)
			continue
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is not %v", c.name, err, c.is)
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v does not say %q", c.name, err, s)
			}
		}
	}
	// By its number alone an interface gets its name from the kernel.
	e := open(t, Config{Legs: []LegConfig{{Index: w.link.Attrs().Index}}})
	if l := e.Stats().Legs[0]; l.Name != w.link.Attrs().Name {
		t.Errorf("named %q", l.Name)
	}
	// The capabilities belong to the thread, which ends with this test.
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << unix.CAP_NET_RAW
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Config{Legs: []LegConfig{w.leg(0)}})
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("without the capability: %v", err)
	}
}

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
		// The error of the socket was read: waiting is waiting, not a loop of calls that return at once.
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

// Should the queue for large frames and the ring ever be out of step, no frame is taken for another, and they find
// together again.
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

	// Without another large frame the queue is emptied as well, so that the socket is not readable for ever.
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

// Engines of one group divide the clients as Shard says, in the order in which they were opened, on all legs.
func TestFanout(t *testing.T) {
	wires := newLab(t, 2)
	const workers = 3
	var engines []*Engine
	for range workers {
		e, err := Open(Config{Legs: []LegConfig{wires[0].leg(0), wires[1].leg(1)}, FanoutGroup: 77, FanoutWorkers: workers})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close(); e.res.release() })
		engines = append(engines, e)
	}
	for _, e := range engines {
		if err := e.SetVIPs([]netip.Addr{vip4, vip6}); err != nil {
			t.Fatal(err)
		}
	}
	rounds := func() {
		t.Helper()
		var want [workers]int
		for i := range 100 {
			for _, w := range wires {
				for _, b := range [][]byte{
					ip(a4(0xc6336400+uint32(i)), vip4, frame.UDP, i%11, 0, udp(1, 2, nil)),
					ip(a6(0x20010db8_00000000, uint64(i)), vip6, frame.UDP, 0, 0, udp(1, 2, nil)),
					ip(netip.MustParseAddr("192.0.2.1"), vip4, frame.ICMP, i%11, 0,
						icmpError(3, ip(vip4, a4(0xc6336400+uint32(i)), frame.UDP, 0, 0, udp(2, 1, nil)))),
				} {
					var tags [][4]byte
					if i%3 > 0 {
						tags = append(tags, dtag(9))
					}
					if i%3 > 1 {
						tags = append(tags, tag(8))
					}
					w.send(nil, w.frame(b, tags...))
				}
			}
			want[Shard(frame.AddrFrom4(0xc6336400+uint32(i)), workers)] += 4
			want[Shard(frame.Addr{Hi: 0x20010db8_00000000, Lo: uint64(i)}, workers)] += 2
		}
		for k, e := range engines {
			for _, f := range next(t, e, want[k]) {
				var p, inner frame.Packet
				if problem := frame.Parse(&f, &p); problem != frame.OK && problem != frame.BadL4 {
					t.Fatalf("worker %d: %v in % x", k, problem, f.Data())
				}
				client := p.Src
				if p.Proto == frame.ICMP {
					if problem := frame.ParseInner(&f, &p, &inner); problem != frame.OK {
						t.Fatalf("worker %d: %v in the packet of % x", k, problem, f.Data())
					}
					client = inner.Src
				}
				if n := Shard(client, workers); n != k {
					t.Fatalf("worker %d has a frame of worker %d", k, n)
				}
			}
			e.Wake()
			if n, _, err := e.Next(make([]frame.Frame, 1)); n != 0 || err != nil {
				t.Errorf("worker %d: %d frames more, %v", k, n, err)
			}
		}
	}
	rounds()
	// The order outlives an interface that goes down.
	if err := netlink.LinkSetDown(wires[0].link); err != nil {
		t.Fatal(err)
	}
	wires[0].up()
	rounds()
	// And it is there again after one that was deleted is replaced in all engines.
	wires[0].renew()
	for _, e := range engines {
		take(t, e, 0)
	}
	for _, e := range engines {
		give(t, e, wires[0].leg(0))
	}
	for _, e := range engines {
		if err := e.SetVIPs([]netip.Addr{vip4, vip6}); err != nil {
			t.Fatal(err)
		}
	}
	rounds()

	// A group is of those who want the same of it.
	if e, err := Open(Config{Legs: []LegConfig{wires[1].leg(0)}, FanoutGroup: 77, FanoutWorkers: workers}); err == nil {
		_ = e.Close()
		t.Error("a leg joined the group of another")
	} else if !strings.Contains(err.Error(), "group 77") {
		t.Error(err)
	}
}

// Some sets of VIPs in turn, with frames flowing: what is in all of them is never lost.
func TestSetVIPsInTraffic(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4)
	var many []netip.Addr
	for i := range uint32(5000) {
		many = append(many, a4(0x0a000000+i*77))
	}
	sets := [][]netip.Addr{{vip4}, append([]netip.Addr{vip4}, many...), append([]netip.Addr{vip6, vip4}, many[:300]...), {vip6, vip4}}
	done := make(chan error, 1)
	go func() {
		for i := range 100 {
			if err := e.SetVIPs(sets[i%len(sets)]); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	data := w.frame(datagram(vip4, 10))
	for turning := true; turning; {
		for range 10 {
			w.send(nil, data)
		}
		next(t, e, 10)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			turning = false
		default:
		}
	}
	if err := e.SetVIPs(nil); err != nil {
		t.Fatal(err)
	}
	w.send(nil, data)
	if err := e.SetVIPs(sets[1]); err != nil {
		t.Fatal(err)
	}
	last := w.frame(datagram(many[4999], 20))
	w.send(nil, last)
	same(t, "the first frame after a time without VIPs", next(t, e, 1)[0].Data(), last)
	if err := e.SetFilter(nil); err == nil {
		t.Error("an empty filter was taken")
	}
	if err := e.SetFilter(make([]bpf.RawInstruction, maxProgram+1)); err == nil {
		t.Error("a filter that is too long was taken")
	}
}

// Where the kernel has no memory for a long filter, a shorter one must do: no VIP is left out.
func TestSetVIPsWithoutMemory(t *testing.T) {
	w := newLab(t, 1)[0]
	const limit = "/proc/sys/net/core/optmem_max"
	var many []netip.Addr
	for i := range uint32(1000) {
		many = append(many, a4(0x0a000000+i*77777))
	}
	for _, bytes := range []string{"20480", "8192", "3000"} {
		// Before Linux 6.8 the limit is one for all namespaces, and not to be changed from ours.
		if err := os.WriteFile(limit, []byte(bytes), 0); err != nil {
			t.Logf("the limit stays: %v", err)
		}
		e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, append([]netip.Addr{vip6}, many...)...)
		w.send(nil, ether(w.mac, w.far, frame.EtherTypeARP, make([]byte, 46)))
		for i, a := range many {
			w.send(nil, w.frame(datagram(a, i%100)))
		}
		w.send(nil, w.frame(datagram(vip6, 50)))
		for i, f := range next(t, e, len(many)+1) {
			if i < len(many) {
				same(t, "frame", f.Data(), w.frame(datagram(many[i], i%100)))
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, _ = e.Next(nil)
	}
}
