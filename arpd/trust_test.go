package arpd

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// answerOf is what a host with a MAC answers to a question of ours.
func answerOf(mac frame.MAC, addr netip.Addr) *Message {
	return &Message{Reply: true, SenderMAC: mac, Sender: addr, TargetMAC: own, Target: dip, Source: mac, Destination: own}
}

// A neighbourhood is a resolver and the hosts that may answer it for one address.
type neighbourhood struct {
	r     *Resolver
	now   time.Time
	hosts []frame.MAC // who has the address, in the order in which they answer a question to all
}

func newNeighbourhood(addr netip.Addr, hosts ...frame.MAC) *neighbourhood {
	n := &neighbourhood{r: NewResolver(30 * time.Second), now: start, hosts: hosts}
	n.r.SetTargets(map[netip.Addr]frame.MAC{addr: {}}, start)
	n.pass(10 * time.Millisecond)
	return n
}

// pass lets the time pass. Whoever is asked answers at once.
func (n *neighbourhood) pass(d time.Duration) {
	for end := n.now.Add(d); ; {
		out, next := n.r.Due(&self, n.now)
		for _, m := range out {
			for _, h := range n.hosts {
				if m.Destination == Broadcast || m.Destination == h {
					n.r.Handle(answerOf(h, m.Target), n.now)
				}
			}
		}
		n.r.Changes()
		if n.r.Hurried() {
			continue
		}
		if next.IsZero() || next.After(end) {
			n.now = end
			return
		}
		n.now = next
	}
}

func (n *neighbourhood) at() Neighbour { return n.r.Neighbours()[0] }

// Two frames do not divert a realserver: one that has the director ask, and an answer.
func TestForgedAnswers(t *testing.T) {
	for _, addr := range []netip.Addr{rip, rip6} {
		// The forger answers each question too, before the realserver and after it.
		for _, hosts := range [][]frame.MAC{{web1, web1b}, {web1b, web1}} {
			n := newNeighbourhood(addr, web1)
			n.hosts = hosts
			forged := announcement(web1b, addr, true)
			n.r.Handle(&forged, n.now)
			n.pass(3 * time.Second)
			got := n.at()
			if got.MAC != web1 || got.Disputes == 0 || got.Rival != web1b || got.Disputed.IsZero() {
				t.Errorf("%s, answered in the order %v: %+v", addr, hosts, got)
			}
			if d := n.r.Disputes(); len(d) == 0 || d[0].MAC != web1 || d[0].Rival != web1b {
				t.Errorf("%s: disputes %+v", addr, d)
			}
			n.pass(10 * time.Minute)
			if got := n.at(); got.MAC != web1 {
				t.Errorf("%s: after ten minutes %+v", addr, got)
			}
		}
		// He answers to no question in particular.
		n := newNeighbourhood(addr, web1)
		for range 100 {
			n.r.Handle(answerOf(web1b, addr), n.now)
			n.pass(50 * time.Millisecond)
		}
		if got := n.at(); got.MAC != web1 {
			t.Errorf("%s: after answers that came after the first %+v", addr, got)
		}
	}
}

// Who is at its MAC stays there, whatever is forged, and when.
func TestNobodyIsDiverted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := newNeighbourhood(rip, web1)
		for range rapid.IntRange(1, 60).Draw(t, "messages") {
			mac := rapid.SampledFrom([]frame.MAC{web1b, gw, {2, 0, 0, 0, 0, 0x42}}).Draw(t, "forger")
			m := *answerOf(mac, rip)
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				m = announcement(mac, rip, true)
			case 1:
				m = announcement(mac, rip, false)
			case 2: // he answers each question, from now on or no more
				n.hosts = []frame.MAC{web1}
				if rapid.Bool().Draw(t, "answers") {
					n.hosts = rapid.Permutation([]frame.MAC{web1, mac}).Draw(t, "order")
				}
			}
			n.r.Handle(&m, n.now)
			n.pass(time.Duration(rapid.IntRange(0, 40_000).Draw(t, "ms")) * time.Millisecond)
			if got := n.at(); got.MAC != web1 {
				t.Fatalf("at %s", got.MAC)
			}
		}
	})
}

// A neighbour that has moved is followed: about a second after it announced that, or else after it
// was found silent.
func TestMovedNeighbour(t *testing.T) {
	for _, c := range []struct {
		name      string
		announced bool
		within    time.Duration
	}{{"announced", true, checkTries * checkGap}, {"silent", false, 30*time.Second + staleUnicast*staleGap}} {
		n := newNeighbourhood(rip, web1)
		n.hosts = []frame.MAC{web1b}
		if c.announced {
			m := announcement(web1b, rip, false)
			n.r.Handle(&m, n.now)
		}
		n.pass(c.within - 20*time.Millisecond)
		if got := n.at(); got.MAC != web1 {
			t.Errorf("%s: %+v, before it was found silent", c.name, got)
		}
		n.pass(30 * time.Millisecond)
		if got := n.at(); got.MAC != web1b || got.State != Resolved || got.Disputes != 0 {
			t.Errorf("%s: after %s %+v", c.name, c.within, got)
		}
	}
}

// A neighbour that seems to lose frames is asked at once, and is known to be gone some seconds
// later; one that answers stays.
func TestSuspect(t *testing.T) {
	n := newNeighbourhood(rip, web1)
	n.pass(5 * time.Second)
	n.r.Suspect(rip, n.now)
	if !n.r.Hurried() {
		t.Error("nobody is asked")
	}
	n.pass(10 * time.Millisecond)
	if got := n.at(); got.State != Resolved || n.r.targets[rip].asked.Before(n.now.Add(-time.Second)) {
		t.Errorf("who answers is %+v, asked at %s", got, n.r.targets[rip].asked.Sub(start))
	}
	n.r.Suspect(rip, n.now)
	if n.r.Hurried() {
		t.Error("who was asked within the last second is asked again")
	}
	n.pass(5 * time.Second)
	n.hosts = nil
	n.r.Suspect(rip, n.now)
	n.pass(staleTries*suspectGap + 10*time.Millisecond)
	if got := n.at(); got.State != Failed {
		t.Errorf("who is gone is %+v", got)
	}
	n.r.Suspect(rip, n.now)
	n.r.Suspect(netip.MustParseAddr("10.10.0.77"), n.now)
	if n.r.Hurried() {
		t.Error("who is being asked for already, or nobody's neighbour, is asked for")
	}
}
