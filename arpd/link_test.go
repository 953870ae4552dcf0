package arpd

import (
	"context"
	"errors"
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
			Changed:  func(list []Neighbour) { mu.Lock(); changes = append(changes, list...); mu.Unlock() },
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

// A flood is read at a bounded rate, less of it is looked at if it is of one MAC, and an answer is
// not kept up by it.
func TestReadingIsBounded(t *testing.T) {
	for _, senders := range []int{1, 200} {
		synctest.Test(t, func(t *testing.T) {
			w := &splitter{newWire(), make(chan []byte)}
			l := NewLink(w, LinkConfig{MAC: own, Addr: dip, Refresh: time.Hour})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { l.Run(ctx); close(done) }()
			l.SetTargets(map[netip.Addr]frame.MAC{rip: {}})
			l.SetVIPs([]netip.Addr{vip})
			synctest.Wait()
			var flood [][]byte
			for i := range senders {
				question := (&Self{MAC: frame.MAC{2, 0, 0, 0, 1, byte(i)}, V4: router}).request(vip, Broadcast)
				b, err := question.Frame(0)
				if err != nil {
					t.Fatal(err)
				}
				flood = append(flood, b)
			}
			began := time.Now()
			const n = 50_000
			for i := range n {
				if i == n/2 {
					b, err := answerOf(web1, rip).Frame(0)
					if err != nil {
						t.Fatal(err)
					}
					w.answers <- b
					synctest.Wait()
					if got := l.Neighbours()[0]; got.MAC != web1 {
						t.Errorf("in the flood the answer was lost: %+v", got)
					}
				}
				w.in <- flood[i%senders]
			}
			took := time.Since(began)
			looked := n - l.Counters().Excess
			switch rate := float64(n-readBurst) / took.Seconds(); {
			case senders == 1 && (rate < readRate || rate > 1.3*readRate/unread):
				t.Errorf("of one MAC %d messages were read in %s", n, took)
			case senders > 1 && (rate < readRate*0.9 || rate > readRate*1.1):
				t.Errorf("of many MACs %d messages were read in %s", n, took)
			case senders == 1 && float64(looked) > senderRate*(took.Seconds()+1)+10:
				t.Errorf("%d messages of one MAC were looked at in %s", looked, took)
			case senders > 1 && looked < n*9/10:
				t.Errorf("of many MACs only %d messages were looked at", looked)
			}
			cancel()
			<-done
			if got := l.Counters().Received; got != n+1 {
				t.Errorf("%d messages were received, not %d", got, n+1)
			}
		})
	}
}

// splitter is a wire whose answers come apart.
type splitter struct {
	*wire
	answers chan []byte
}

func (s *splitter) ReadAnswer(b []byte) (int, error) {
	select {
	case f := <-s.answers:
		return copy(b, f), nil
	case <-s.closed:
		return 0, net.ErrClosed
	}
}

// A Link tells when somebody else answers for a neighbour.
func TestLinkTellsDisputes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		var mu sync.Mutex
		var told []Neighbour
		l := NewLink(w, LinkConfig{MAC: own, Addr: dip, Refresh: time.Hour, Disputed: func(n Neighbour) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, n)
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { l.Run(ctx); close(done) }()
		l.SetTargets(map[netip.Addr]frame.MAC{rip: {}})
		synctest.Wait()
		w.put(t, *answerOf(web1, rip))
		w.put(t, *answerOf(web1b, rip))
		synctest.Wait()
		mu.Lock()
		if len(told) != 1 || told[0].MAC != web1 || told[0].Rival != web1b || l.Counters().Disputes != 1 {
			t.Errorf("told of %+v, counted %+v", told, l.Counters())
		}
		mu.Unlock()
		w.sent()
		time.Sleep(staleGap)
		synctest.Wait()
		if out := w.sent(); len(out) != 1 || out[0].Destination != web1 {
			t.Errorf("asked again: %+v", out)
		}
		w.put(t, *answerOf(web1, rip))
		time.Sleep(2 * staleGap)
		synctest.Wait()
		w.sent()
		l.Suspect([]netip.Addr{rip})
		synctest.Wait()
		if out := w.sent(); len(out) != 1 || out[0].Destination != web1 {
			t.Errorf("suspected, it is asked %+v", out)
		}
		cancel()
		<-done
	})
}

// The Conn in a Slot can be exchanged while it is read: what was joined is joined again, and what
// the old one had is over.
func TestSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlot(nil)
		if _, err := s.Write([]byte{1}); err == nil {
			t.Error("written to nothing")
		}
		group := netip.MustParseAddr("2001:db8::1")
		if err := s.Join(group); err != nil {
			t.Fatal(err)
		}
		read := make(chan string)
		go func() {
			defer close(read)
			for {
				b := make([]byte, 10)
				n, err := s.Read(b)
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Error(err)
					}
					return
				}
				read <- string(b[:n])
			}
		}()
		var conns []*joiner
		for i := range 3 {
			c := &joiner{wire: newWire(), joined: map[netip.Addr]bool{}, dropped: 5}
			conns = append(conns, c)
			if err := s.Put(c); err != nil {
				t.Fatal(err)
			}
			c.in <- []byte{'a' + byte(i)}
			if got := <-read; got != string('a'+rune(i)) {
				t.Errorf("read %q of Conn %d", got, i)
			}
			if !c.joined[group] {
				t.Errorf("Conn %d did not join", i)
			}
			if got := s.Dropped(); got != uint64(5*(i+1)) {
				t.Errorf("%d were dropped", got)
			}
			if i == 1 {
				if err := s.Put(nil); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
		}
		for _, c := range conns[:2] {
			<-c.closed
		}
		if err := s.Leave(group); err != nil || conns[2].joined[group] {
			t.Errorf("Leave: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		<-read
		<-conns[2].closed
		late := newWire()
		if err := s.Put(late); err != nil {
			t.Fatal(err)
		}
		<-late.closed
	})
}

// joiner is a wire with groups and a count.
type joiner struct {
	*wire
	joined  map[netip.Addr]bool
	dropped uint64
}

func (j *joiner) Join(a netip.Addr) error  { j.joined[a] = true; return nil }
func (j *joiner) Leave(a netip.Addr) error { delete(j.joined, a); return nil }
func (j *joiner) Dropped() uint64          { return j.dropped }

func TestAnswersAreBounded(t *testing.T) {
	a := allowance{rate: answerRate, burst: answerBurst}
	n := 0
	for i := range 10000 {
		if a.take(start.Add(time.Duration(i) * 100 * time.Microsecond)) { // ten thousand in a second
			n++
		}
	}
	if n < 650 || n > 700 {
		t.Errorf("%d answers in the first second, want 500 and the burst", n)
	}
}
