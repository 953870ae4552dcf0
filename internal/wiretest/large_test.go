package wiretest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shunt/api"
)

// A configuration of thousands of services is read again and again, and services come, change and
// go by the control socket, while connections talk and datagrams are echoed: not a packet is lost,
// and no connection is broken.
func TestLargeReloads(t *testing.T) {
	eachFamily(t, 2, largeReloads, "two-arm")
}

func largeReloads(t *testing.T, w *world) {
	w.serveTalks()
	w.serveEchoes()
	services := 2000
	if w.family.name == "IPv6" {
		services /= 4
	}
	if race {
		services /= 2
	}
	config := func(services, weight int) string {
		text := w.config("", on("tcp", 7, w.all()), on("udp", 9000, w.all()))
		return text + crowd(w.family, services, weight)
	}
	w.quiet = true // the crowd's MACs are given, and those of the two are waited for below
	w.start(config(services, 1))
	w.eventually("both realservers have answered", func() bool {
		for i := range w.Webs {
			if r, ok := w.realserver(i + 1); !ok || r.MAC == "" {
				return false
			}
		}
		return true
	})
	k := w.talkTo(20)
	e := w.echoes(4)
	c := w.director.Client
	for round := range 4 {
		e.more("before a reload")
		left := services - round%2*services/4 // a quarter of them goes, and comes again
		w.must(w.director.Reload(config(left, 2+round)))
		if n := len(w.services()); n != left+2 {
			t.Fatalf("after reload %d there are %d services, want %d", round+1, n, left+2)
		}
		e.more("after a reload")
		for n := range 5 {
			vip := crowdVIP(w.family, services+n)
			added := &api.VirtualService{Protocol: "TCP", Address: vip, Port: 80, Scheduler: "wlc"}
			there := &api.VirtualService{Protocol: "TCP", Address: crowdVIP(w.family, n*left/5), Port: 80}
			server := &api.VirtualServer{Address: crowdServer(w.family, 5*(n*left/5)), Port: 80, Weight: int32(7 + n)}
			w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpAddService, Service: added}}))
			w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpAddServer, Service: there, Server: &api.VirtualServer{Address: netip.MustParseAddr(w.family.rip(1)), Port: 80, Weight: 1}}}))
			w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpEditServer, Service: there, Server: server}}))
			w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpDeleteServer, Service: there, Server: server}}))
			if n%2 == 0 {
				w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpDeleteService, Service: added}}))
			}
		}
		e.more("after edits")
	}
	k.everyone("after the last reload")
	w.must(k.end())
	sent, err := e.end()
	w.must(err)
	s := w.status()
	if s.Reloads != 4 || s.Changes != 23 {
		t.Errorf("%d reloads, and since the last one %d changes, are counted; want 4 and 23", s.Reloads, s.Changes)
	}
	for name, n := range s.Verdicts {
		if n != 0 && name != "forwarded" && (w.family.name != "IPv6" || name != "not a VIP") { // the realservers' neighbour discovery
			t.Errorf("%d frames: %s", n, name)
		}
	}
	for _, l := range s.Legs {
		if l.RingFull+l.NotSent+l.Oversize+l.Truncated+l.Damaged != 0 {
			t.Errorf("leg %+v", l)
		}
	}
	if v := w.services()[1]; v.Protocol != "UDP" || v.Counts.Packets != sent {
		t.Errorf("%d datagrams were sent, and %d of %s are counted", sent, v.Counts.Packets, v.Protocol)
	}
	t.Logf("%d datagrams were sent and came back", sent)
}

// crowd is many services of five realservers each, which nobody asks for anything.
func crowd(f family, services, weight int) string {
	var b strings.Builder
	for i := range services {
		fmt.Fprintf(&b, "  - name: crowd-%d\n    address: %q\n    port: 80\n    scheduler: wrr\n    realservers:\n", i, crowdVIP(f, i))
		for j := range 5 {
			n := 5*i + j
			fmt.Fprintf(&b, "      - {address: %q, weight: %d, leg: eth1, mac: \"02:00:01:00:%02x:%02x\"}\n", crowdServer(f, n), weight+j, n>>8, n&255)
		}
	}
	return b.String()
}

func crowdVIP(f family, n int) netip.Addr {
	if f.name == "IPv6" {
		return netip.MustParseAddr(fmt.Sprintf("fd00:98::%x", n+1))
	}
	return netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)})
}

func crowdServer(f family, n int) netip.Addr {
	if f.name == "IPv6" {
		return netip.MustParseAddr(fmt.Sprintf("fd00:99::%x", n+1))
	}
	return netip.AddrFrom4([4]byte{10, 99, byte(n >> 8), byte(n)})
}

// inFlight bounds the datagrams of a flow that are on their way: as many as fit into the buffer of
// a socket that nobody reads for long, since the machine is busy. What does not come back is then
// lost, and nothing else.
const inFlight = 64

// echoes is flows of numbered datagrams, each of which is to come back once. On a busy machine the
// kernel's own stack may let one overtake another, as they are sent from several processors.
type echoes struct {
	w     *world
	stop  chan struct{}
	wg    sync.WaitGroup
	conns []net.Conn
	sent  atomic.Uint64
	back  atomic.Uint64
	mu    sync.Mutex
	errs  []error
}

// echoes has so many flows begin to send some hundred datagrams a second each.
func (w *world) echoes(flows int) *echoes {
	w.t.Helper()
	e := &echoes{w: w, stop: make(chan struct{})}
	for range flows {
		c, err := w.Client.Dial(&net.Dialer{}, w.family.udp, w.family.at(w.family.vip, "9000"))
		w.must(err)
		w.t.Cleanup(func() { c.Close() })
		e.conns = append(e.conns, c)
		var sent, back atomic.Uint64
		e.wg.Go(func() {
			for {
				select {
				case <-e.stop:
					return
				case <-time.After(3 * time.Millisecond):
				}
				if sent.Load()-back.Load() >= inFlight {
					continue
				}
				if _, err := c.Write(binary.BigEndian.AppendUint64(nil, sent.Load())); err != nil {
					e.failed(err)
					return
				}
				sent.Add(1)
				e.sent.Add(1)
			}
		})
		go e.read(c, &back)
	}
	return e
}

// read takes what comes back on a flow.
func (e *echoes) read(c net.Conn, back *atomic.Uint64) {
	buf := make([]byte, 1500)
	seen := map[uint64]bool{}
	for {
		n, err := c.Read(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			e.failed(err)
			return
		case n < 8 || seen[binary.BigEndian.Uint64(buf[n-8:n])]:
			e.failed(fmt.Errorf("to %v came %x, after %d others", c.LocalAddr(), buf[:n], back.Load()))
			return
		}
		seen[binary.BigEndian.Uint64(buf[n-8:n])] = true
		back.Add(1)
		e.back.Add(1)
	}
}

func (e *echoes) failed(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.errs = append(e.errs, err)
}

func (e *echoes) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return errors.Join(e.errs...)
}

// more waits until datagrams have come back that were sent since now.
func (e *echoes) more(when string) {
	e.w.t.Helper()
	want := e.sent.Load() + 20
	e.w.eventually("datagrams come back "+when, func() bool {
		e.w.must(e.err())
		return e.back.Load() >= want
	})
}

// end stops sending, waits until all has come back, and returns how much that is.
func (e *echoes) end() (sent uint64, err error) {
	e.w.t.Helper()
	close(e.stop)
	e.wg.Wait()
	e.w.eventually("all datagrams have come back", func() bool { return e.err() != nil || e.back.Load() == e.sent.Load() })
	return e.sent.Load(), e.err()
}
