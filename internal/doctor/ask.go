package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"shunt/arpd"
	"shunt/forwarder/frame"
)

// rounds is how often something is asked before no answer is believed to be one.
const rounds = 3

type question struct {
	leg  frame.Leg
	addr netip.Addr
}

// An ear hears ARP and neighbour discovery on all legs: who answers for an address, and who asks
// for which.
type ear struct {
	f     *facts
	conns []arpd.Conn // by leg; nil: the leg cannot be used
	fds   []int       // sockets that have the interfaces take the frames of all groups
	wg    sync.WaitGroup

	mu       sync.Mutex
	answered map[question][]frame.MAC
	asked    map[frame.MAC][]netip.Addr
	lent     map[netip.Addr]bool      // addresses that are answered for
	deaf     map[frame.MAC]netip.Addr // whom not: the realservers
}

func (f *facts) listen() (*ear, error) {
	e := &ear{f: f, conns: make([]arpd.Conn, len(f.legs)), answered: map[question][]frame.MAC{}, asked: map[frame.MAC][]netip.Addr{},
		lent: map[netip.Addr]bool{}, deaf: map[frame.MAC]netip.Addr{}}
	for i := range f.legs {
		if !f.legs[i].usable() {
			continue
		}
		c, err := arpd.Dial(f.legs[i].ifi, f.legs[i].cfg.VLAN)
		if err != nil {
			e.close()
			return nil, err
		}
		e.conns[i] = c
		e.hearGroups(f.legs[i].ifi.Index)
		e.wg.Go(func() { e.read(c, frame.Leg(i)) })
	}
	return e, nil
}

// hearGroups has an interface take the frames of all groups: the question for a gateway by IPv6
// goes to the group of that gateway. Without it less is heard.
func (e *ear) hearGroups(ifindex int) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	e.fds = append(e.fds, fd)
	_ = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_ALLMULTI})
}

func (e *ear) close() {
	for _, c := range e.conns {
		if c != nil {
			_ = c.Close() // ends the reader
		}
	}
	for _, fd := range e.fds {
		_ = unix.Close(fd)
	}
	e.wg.Wait()
}

func (e *ear) read(c arpd.Conn, leg frame.Leg) {
	b := make([]byte, 1<<16)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		m, err := arpd.Parse(b[:n])
		if err != nil || m.SenderMAC == e.f.legs[leg].mac {
			continue
		}
		if answer, ok := e.hear(leg, &m); ok {
			if b, err := answer.Frame(e.f.legs[leg].cfg.VLAN); err == nil {
				_, _ = c.Write(b) // an answer that is lost is asked for again
			}
		}
	}
}

// hear notes a message, and returns what is to be answered if it asks for an address that is lent.
func (e *ear) hear(leg frame.Leg, m *arpd.Message) (answer arpd.Message, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m.Reply {
		q := question{leg, m.Sender.Unmap()}
		if !slices.Contains(e.answered[q], m.SenderMAC) {
			e.answered[q] = append(e.answered[q], m.SenderMAC)
		}
		return answer, false
	}
	if m.Sender != m.Target && !slices.Contains(e.asked[m.SenderMAC], m.Target) {
		e.asked[m.SenderMAC] = append(e.asked[m.SenderMAC], m.Target)
	}
	if _, deaf := e.deaf[m.SenderMAC]; deaf || !e.lent[m.Target] {
		return answer, false
	}
	mac := e.f.legs[leg].mac
	answer = arpd.Message{Reply: true, SenderMAC: mac, Sender: m.Target, TargetMAC: m.SenderMAC, Target: m.Sender, Source: mac, Destination: m.SenderMAC}
	if m.Sender.Is6() && m.Sender.IsUnspecified() {
		answer.Destination = arpd.Broadcast
	}
	return answer, true
}

// who answered for an address on a leg.
func (e *ear) who(q question) []frame.MAC {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.answered[q])
}

// questions of a MAC so far.
func (e *ear) questions(mac frame.MAC) []netip.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked[mac])
}

// lend has addresses answered for from now on, but not to realservers: one that asks for such an
// address has a route to it of its own.
func (e *ear) lend(addrs []netip.Addr, realservers map[netip.Addr]frame.MAC) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range addrs {
		e.lent[a] = true
		for _, c := range e.conns {
			if j, ok := c.(arpd.Joiner); ok && a.Is6() {
				_ = j.Join(a)
			}
		}
	}
	for rip, mac := range realservers {
		e.deaf[mac] = rip
	}
}

// ask asks for what targets returns for a leg, by ARP and neighbour discovery, and listens for as
// long as wait. Who answers for a VIP may be several, so that all of the time is waited.
func (e *ear) ask(ctx context.Context, wait time.Duration, targets func(frame.Leg) []netip.Addr) error {
	for range rounds {
		for i, c := range e.conns {
			if c == nil {
				continue
			}
			for _, addr := range targets(frame.Leg(i)) {
				if err := e.question(frame.Leg(i), addr); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait / rounds):
		}
	}
	return nil
}

// question asks for an address once: as who we are, and if it might be nobody's also as nobody (RFC
// 5227, 2.1.1), since some hosts do not answer who is in another network.
func (e *ear) question(leg frame.Leg, addr netip.Addr) error {
	l := &e.f.legs[leg]
	senders := []netip.Addr{l.sender(addr)}
	if slices.Contains(e.f.maybe, addr) {
		senders = append(senders, unspecified(addr.Is6()))
	}
	for _, s := range senders {
		m := arpd.Message{SenderMAC: l.mac, Sender: s, Target: addr, Source: l.mac, Destination: arpd.Broadcast}
		b, err := m.Frame(l.cfg.VLAN)
		if err == nil {
			_, err = e.conns[leg].Write(b)
		}
		if err != nil {
			return fmt.Errorf("ARP request for %s on %s: %w", addr, l.cfg.Name, err)
		}
	}
	return nil
}

// targets are the addresses that are asked for on a leg: all VIPs, the realservers that are there,
// and what may be lent.
func (f *facts) targets(leg frame.Leg) []netip.Addr {
	out := append(f.cfg.VIPs(), f.maybe...)
	for _, n := range f.neighbours {
		if _, own := f.own[n.Addr]; n.Leg == leg && !own {
			out = append(out, n.Addr)
		}
	}
	return out
}

// free lists the addresses that may be lent and for which nobody answered.
func (e *ear) free() (out []netip.Addr) {
	for _, a := range e.f.maybe {
		if !slices.ContainsFunc(e.f.allLegs(), func(l frame.Leg) bool { return len(e.who(question{l, a})) > 0 }) {
			out = append(out, a)
		}
	}
	return out
}

func (f *facts) allLegs() (out []frame.Leg) {
	for i := range f.legs {
		out = append(out, frame.Leg(i))
	}
	return out
}

func unspecified(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// sender is the address from which a question for addr is asked: our own, or none.
func (l *legFacts) sender(addr netip.Addr) netip.Addr {
	if own := l.addr(addr.Is6()); own.IsValid() {
		return own
	}
	for _, p := range l.nets {
		if p.Addr().Is6() == addr.Is6() {
			return p.Addr() // link-local
		}
	}
	return unspecified(addr.Is6())
}
