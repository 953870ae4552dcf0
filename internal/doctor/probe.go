package doctor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// kind of a probe, and of an answer.
type kind int

const (
	echo kind = iota + 1
	syn
	rst
	complaint
)

// A probe is one question to a realserver about a VIP, in a frame as the director would send it.
type probe struct {
	kind    kind
	rip     netip.Addr
	vip     netip.Addr
	port    uint16 // of the VIP
	src     netip.Addr
	srcPort uint16
	seq     uint32 // tells the answers apart: of an echo the identifier and the sequence number
	mac     frame.MAC
	out     frame.Leg // by which it leaves
	direct  bool      // the answer crosses no router: it must come from the realserver's MAC

	got  kind      // 0: nothing
	by   frame.MAC // from which MAC it came
	text string    // what came instead of an answer
}

// prober sends probes and collects the answers.
type prober struct {
	mu      sync.Mutex
	waiting int
	done    chan struct{}
	bySeq   map[kind]map[uint32]*probe
	all     []*probe
	fds     []int // sockets that keep our ports from being used by others
}

func newProber() *prober {
	return &prober{done: make(chan struct{}), bySeq: map[kind]map[uint32]*probe{echo: {}, syn: {}}}
}

// add takes a probe into the next run.
func (x *prober) add(p *probe) {
	for p.seq == 0 || x.bySeq[p.kind][p.seq] != nil {
		p.seq = rand.Uint32()
	}
	x.bySeq[p.kind][p.seq] = p
	x.all = append(x.all, p)
	x.waiting++
}

// port reserves a TCP port of an address of ours: nobody else may be connected by it.
func (x *prober) port(a netip.Addr) (uint16, error) {
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(a.AsSlice())})
	if a.Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: a.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	x.fds = append(x.fds, fd)
	if err := unix.Bind(fd, sa); err != nil {
		return 0, fmt.Errorf("reserve a port on %s: %w", a, err)
	}
	got, err := unix.Getsockname(fd)
	switch s := got.(type) {
	case *unix.SockaddrInet4:
		return uint16(s.Port), err
	case *unix.SockaddrInet6:
		return uint16(s.Port), err
	}
	return 0, errors.Join(err, errors.New("getsockname: unexpected address family"))
}

func (x *prober) close() {
	for _, fd := range x.fds {
		_ = unix.Close(fd)
	}
}

// run sends all probes, those without an answer several times, and returns when all are answered,
// or after wait.
func (x *prober) run(ctx context.Context, f *facts, wait time.Duration) error {
	defer x.close()
	if x.waiting == 0 {
		return nil
	}
	var own []netip.Addr
	for _, p := range x.all {
		own = appendNew(own, p.src)
	}
	conns := map[frame.Leg]*packet.Conn{}
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range f.legs { // an answer may come by any of them
		l, leg := &f.legs[i], frame.Leg(i)
		if !l.usable() {
			continue
		}
		prog, err := filter(own, l.cfg.VLAN)
		if err != nil {
			return err
		}
		c, err := packet.Listen(l.ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: prog})
		if err != nil {
			return err
		}
		defer c.Close() // ends the reader
		conns[leg] = c
		wg.Go(func() { x.listen(c) })
	}
	for range rounds {
		if err := x.send(f, conns); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.done:
			return x.reset(f, conns)
		case <-time.After(wait / rounds):
		}
	}
	return x.reset(f, conns)
}

func appendNew(list []netip.Addr, a netip.Addr) []netip.Addr {
	for _, x := range list {
		if x == a {
			return list
		}
	}
	return append(list, a)
}

// unanswered are the probes to be sent again.
func (x *prober) unanswered() (out []*probe) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range x.all {
		if p.got == 0 {
			out = append(out, p)
		}
	}
	return out
}

func (x *prober) send(f *facts, conns map[frame.Leg]*packet.Conn) error {
	for i, p := range x.unanswered() {
		if err := x.write(f, conns, p, p.kind); err != nil {
			return err
		}
		if i%32 == 31 {
			time.Sleep(time.Millisecond) // no burst of hundreds
		}
	}
	return nil
}

func (x *prober) write(f *facts, conns map[frame.Leg]*packet.Conn, p *probe, what kind) error {
	l := &f.legs[p.out]
	b, err := p.build(l.mac, l.cfg.VLAN, what)
	if err != nil {
		return err
	}
	if _, err := conns[p.out].WriteTo(b, &packet.Addr{HardwareAddr: p.mac[:]}); err != nil {
		return fmt.Errorf("send a probe on %s: %w", l.cfg.Name, err)
	}
	return nil
}

// reset ends the connections that the SYNs have half opened: the realserver is not to keep them.
func (x *prober) reset(f *facts, conns map[frame.Leg]*packet.Conn) error {
	for _, p := range x.all {
		x.mu.Lock()
		open := p.kind == syn && p.got == syn
		x.mu.Unlock()
		if open {
			if err := x.write(f, conns, p, rst); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *prober) listen(c *packet.Conn) {
	b := make([]byte, 1<<16)
	for {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		if a, ok := read(b[:n]); ok {
			x.take(a)
		}
	}
}

// take notes an answer.
func (x *prober) take(a answer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a.kind == complaint {
		for _, p := range x.all {
			if p.vip == a.dst && (p.rip == a.from || p.got == 0) {
				p.text = fmt.Sprintf("%s said: %s", a.from, a.text)
			}
		}
		return
	}
	asked := a.kind
	if asked == rst {
		asked = syn
	}
	p := x.bySeq[asked][a.seq]
	if p == nil || p.got != 0 || a.from != p.vip {
		return
	}
	// A realserver that routes, and has no VIP, sends the probe on to where the VIP is: the
	// director, and so another realserver, which answers.
	if p.direct && a.mac != p.mac {
		p.text = fmt.Sprintf("%s answered instead: the realserver forwards packets to the VIP", a.mac)
		return
	}
	p.got, p.by = a.kind, a.mac
	if x.waiting--; x.waiting == 0 {
		close(x.done)
	}
}
