package arpd

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shunt/forwarder/frame"
)

// wire is a Conn whose other end the test holds.
type wire struct {
	in     chan []byte
	closed chan struct{}
	once   sync.Once

	mu  sync.Mutex
	out []Message
}

func newWire() *wire { return &wire{in: make(chan []byte), closed: make(chan struct{})} }

func (w *wire) Read(b []byte) (int, error) {
	select {
	case f := <-w.in:
		return copy(b, f), nil
	case <-w.closed:
		return 0, net.ErrClosed
	}
}

func (w *wire) Write(b []byte) (int, error) {
	m, err := Parse(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = append(w.out, m)
	return len(b), err
}

func (w *wire) Close() error { w.once.Do(func() { close(w.closed) }); return nil }

func (w *wire) sent() []Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.out
	w.out = nil
	return out
}

func (w *wire) put(t *testing.T, m Message) {
	b, err := m.Frame(0)
	if err != nil {
		t.Fatal(err)
	}
	w.in <- b
}

// A Link, from its first announcement to its end, in the time of a bubble.
func TestLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		var mu sync.Mutex
		var changes []Neighbour
		conflicts := map[netip.Addr]frame.MAC{}
		l := NewLink(w, LinkConfig{MAC: own, Addr: dip, Announce: time.Minute, Refresh: 30 * time.Second,
			Changed:  func(n Neighbour) { mu.Lock(); changes = append(changes, n); mu.Unlock() },
			Conflict: func(a netip.Addr, m frame.MAC) { mu.Lock(); conflicts[a] = m; mu.Unlock() },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { l.Run(ctx); close(done) }()

		l.SetVIPs([]netip.Addr{vip, netip.MustParseAddr("2001:db8::1")})
		l.SetTargets(map[netip.Addr]frame.MAC{rip: {}, netip.MustParseAddr("2001:db8::2"): {}})
		synctest.Wait()
		out := w.sent()
		six := announcement(own, netip.MustParseAddr("2001:db8::1"), true)
		six.Destination = groupMAC(allNodes)
		if len(out) != 7 || out[1] != announcement(own, vip, false) || out[4] != six || out[5] != self.request(rip, Broadcast) ||
			out[6].Target != netip.MustParseAddr("2001:db8::2") {
			t.Fatalf("at the start: %+v", out)
		}

		w.put(t, Message{Reply: true, SenderMAC: web1, Sender: rip, TargetMAC: own, Target: dip, Source: web1, Destination: own})
		w.put(t, (&Self{MAC: gw, V4: router}).request(vip, Broadcast))
		w.in <- []byte("neither Ethernet nor ARP")
		w.put(t, announcement(web1b, vip, true))
		synctest.Wait()
		out = w.sent()
		if len(out) != 2 || out[0].Destination != gw || !out[0].Reply || out[1] != announcement(own, vip, false) {
			t.Errorf("answered %+v, want a reply to the router and a defence", out)
		}
		mu.Lock()
		if len(changes) != 3 || changes[2].MAC != web1 {
			t.Errorf("changes %+v", changes)
		}
		if conflicts[vip] != web1b {
			t.Errorf("conflicts %v", conflicts)
		}
		mu.Unlock()
		c := l.Counters()
		if c.Received != 4 || c.Malformed != 1 || c.Answered != 1 || c.Conflicts != 1 || c.Learnt != 1 || c.Announced != 2 {
			t.Errorf("counters %+v", c)
		}

		// Nobody answers any more.
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if n := l.Neighbours(); len(n) != 2 || n[0].State != Failed || n[1].State != Failed {
			t.Errorf("neighbours %+v, want it failed", n)
		}
		if l.Counters().Failures != 2 {
			t.Errorf("counters %+v", l.Counters())
		}
		cancel()
		<-done
	})
}

func TestAnswersAreBounded(t *testing.T) {
	var a allowance
	n := 0
	for i := range 10000 {
		if a.take(start.Add(time.Duration(i) * 100 * time.Microsecond)) { // ten thousand in a second
			n++
		}
	}
	if n < 1100 || n > 1200 {
		t.Errorf("%d answers in the first second, want 1000 and the burst", n)
	}
}
