package ring

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"shunt/forwarder/frame"
)

// renew deletes the wire and makes another with the same names.
func (w *wire) renew() {
	w.t.Helper()
	name, peer := w.link.Attrs().Name, w.peer.Attrs().Name
	if err := netlink.LinkDel(w.link); err != nil {
		w.t.Fatal(err)
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: net.HardwareAddr(w.mac[:])},
		PeerName:  peer, PeerHardwareAddr: net.HardwareAddr(w.far[:]),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		w.t.Fatal(err)
	}
	old := w.link.Attrs().Index
	w.link, w.peer = w.find(name), w.find(peer)
	if w.link.Attrs().Index == old {
		w.t.Fatalf("the new interface has the number %d of the old one", old)
	}
	w.up()
	w.open()
}

// take has a leg go without sockets, as its owner would.
func take(t *testing.T, e *Engine, leg frame.Leg) {
	t.Helper()
	old, err := e.Exchange(leg, nil)
	if err != nil || old == nil {
		t.Fatalf("Exchange: %v, %v", old, err)
	}
	old.Close()
}

// give opens the sockets of a leg anew.
func give(t *testing.T, e *Engine, lc LegConfig) {
	t.Helper()
	s, err := e.OpenSockets(lc)
	if err != nil {
		t.Fatal(err)
	}
	if old, err := e.Exchange(lc.Leg, s); err != nil || old != nil {
		t.Fatalf("Exchange: %v, %v", old, err)
	}
}

// A leg whose interface was deleted goes on with the one that takes its place, and the others go on
// meanwhile.
func TestExchange(t *testing.T) {
	wires := newLab(t, 2)
	w, other := wires[0], wires[1]
	e := open(t, Config{Legs: []LegConfig{w.leg(0), other.leg(5)}}, vip4)
	memory := e.Memory()
	in := func(w *wire) {
		t.Helper()
		data := w.frame(datagram(vip4, 10))
		w.send(nil, data)
		same(t, "frame", next(t, e, 1)[0].Data(), data)
	}
	for round := range uint32(3) {
		in(w)
		in(other)
		take(t, e, 0)
		if lost := e.Send([]frame.Frame{{Buf: etherIP(datagram(vip4, 10)), Out: 0}}); lost.Down != 1 || lost.Total() != 1 {
			t.Errorf("lost %+v", lost)
		}
		if l := e.Stats().Legs[0]; !l.Gone || !l.Down || l.Lost.Down != round+1 || l.Memory != 0 || l.InUse != 0 || l.Name != w.link.Attrs().Name {
			t.Errorf("without sockets: %+v", l)
		}
		if e.Memory() >= memory {
			t.Error("the ring is still counted")
		}
		in(other)
		if err := e.SetVIPs([]netip.Addr{vip4, vip6}); err != nil {
			t.Errorf("while a leg has no sockets: %v", err)
		}
		w.renew()
		if _, err := e.OpenSockets(LegConfig{Leg: 9, Name: "d0"}); err == nil {
			t.Error("sockets were opened for a leg that the engine does not have")
		}
		give(t, e, w.leg(0))
		// Nothing comes in before the filter is set.
		w.send(nil, w.frame(datagram(vip4, 77)))
		in(other)
		if err := e.SetVIPs([]netip.Addr{vip4}); err != nil {
			t.Fatal(err)
		}
		in(w)
		w.drain()
		if lost := e.Send([]frame.Frame{{Buf: etherIP(datagram(vip4, 10)), Out: 0}}); lost.Total() != 0 {
			t.Errorf("lost %+v", lost)
		}
		w.recv()
		l := e.Stats().Legs[0]
		if l.Gone || l.Down || l.Received != uint64(2*(round+1)) || l.Sent != uint64(round+1) || l.Dropped != 0 {
			t.Errorf("%+v", l)
		}
		if e.Memory() != memory {
			t.Errorf("%d bytes, and before %d", e.Memory(), memory)
		}
	}
	n := sockets(t)
	s, err := e.OpenSockets(w.leg(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Exchange(3, s); err == nil {
		t.Error("a leg that is not there was given sockets")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Exchange(0, s); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	s.Close()
	if got := sockets(t); got != n {
		t.Errorf("%d sockets are open, and before there were %d", got, n)
	}
	if _, _, err := e.Next(make([]frame.Frame, 1)); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if got := sockets(t); got != n-5 { // two for each leg, and the event
		t.Errorf("%d sockets are open after Close, and there were %d", got, n)
	}
}

// Another goroutine may ask and change what it may at any time, while the owner exchanges sockets.
func TestExchangeWatched(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			e.Stats()
			e.Memory()
			e.Wake()
			if err := e.SetVIPs([]netip.Addr{vip4, vip6}); err != nil {
				done <- err
				return
			}
		}
	}()
	batch := make([]frame.Frame, 8)
	for range 20 {
		if _, _, err := e.Next(batch); err != nil {
			t.Fatal(err)
		}
		take(t, e, 0)
		give(t, e, w.leg(0))
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
