package arpd

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/forwarder/frame"
)

var (
	own    = frame.MAC{2, 0, 0, 0, 0, 2}
	gw     = frame.MAC{2, 0, 0, 0, 0, 0x10}
	web1   = frame.MAC{2, 0, 0, 0, 0, 0x11}
	web1b  = frame.MAC{2, 0, 0, 0, 0, 0x99}
	vip    = netip.MustParseAddr("192.168.10.100")
	dip    = netip.MustParseAddr("10.10.0.2")
	rip    = netip.MustParseAddr("10.10.0.11")
	router = netip.MustParseAddr("192.168.10.1")
	start  = time.Unix(1000, 0)
)

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestMessage(t *testing.T) {
	for _, vlan := range []uint16{0, 7} {
		m := Message{Reply: true, SenderMAC: own, Sender: vip, TargetMAC: gw, Target: router, Source: own, Destination: gw}
		b, err := m.Frame(vlan)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) < 60 {
			t.Errorf("VLAN %d: a frame of %d bytes is a runt", vlan, len(b))
		}
		got, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, got, sameAddr); d != "" {
			t.Errorf("VLAN %d: -sent +read\n%s", vlan, d)
		}
		for n := range 42 {
			if _, err := Parse(b[:n]); err == nil {
				t.Errorf("the first %d bytes of a message were taken for one", n)
			}
		}
	}
	group := Message{SenderMAC: Broadcast, Sender: rip, Target: vip, Source: gw, Destination: Broadcast}
	b, _ := group.Frame(0)
	if _, err := Parse(b); err == nil {
		t.Error("a message from the broadcast address was accepted")
	}
}

func TestResponder(t *testing.T) {
	r := NewResponder()
	ask := request(gw, router, vip, Broadcast)
	if _, send, _ := r.Handle(&ask, own, start); send {
		t.Error("answered for what is no VIP")
	}
	r.SetVIPs([]netip.Addr{vip})
	got, send, conflict := r.Handle(&ask, own, start)
	want := Message{Reply: true, SenderMAC: own, Sender: vip, TargetMAC: gw, Target: router, Source: own, Destination: gw}
	if !send || conflict || got != want {
		t.Errorf("answered %+v (send %v, conflict %v), want %+v", got, send, conflict, want)
	}
	probe := request(gw, netip.Addr{}, vip, Broadcast)
	if got, send, conflict := r.Handle(&probe, own, start); !send || conflict || got.Target != unspecified {
		t.Errorf("a probe for the VIP was answered %+v, %v, %v", got, send, conflict)
	}
	reply := Message{Reply: true, SenderMAC: gw, Sender: router, TargetMAC: own, Target: vip, Source: gw, Destination: own}
	if _, send, conflict := r.Handle(&reply, own, start); send || conflict {
		t.Error("a reply was answered")
	}
	mine := announcement(own, vip, false)
	if _, send, conflict := r.Handle(&mine, own, start); send || conflict {
		t.Error("our own announcement was answered or taken for a conflict")
	}
}

func TestConflict(t *testing.T) {
	r := NewResponder()
	r.SetVIPs([]netip.Addr{vip})
	claims := []Message{
		announcement(web1, vip, false),
		announcement(web1, vip, true),
		{SenderMAC: web1, Sender: vip, Target: router, Source: web1, Destination: Broadcast},                             // asks as the VIP: no arp_announce=2
		{Reply: true, SenderMAC: web1, Sender: vip, TargetMAC: own, Target: unspecified, Source: web1, Destination: own}, // answers a probe: no arp_ignore=1
	}
	defended := 0
	for i, m := range claims {
		got, send, conflict := r.Handle(&m, own, start.Add(time.Duration(i)*4*time.Second))
		if !conflict {
			t.Errorf("claim %d was no conflict", i)
		}
		if send {
			defended++
			if got != announcement(own, vip, false) {
				t.Errorf("claim %d was met by %+v", i, got)
			}
		}
	}
	if defended != 2 {
		t.Errorf("defended %d times in 12 seconds, want 2: not more often than every 10", defended)
	}
}

func TestAnnouncer(t *testing.T) {
	a := NewAnnouncer(time.Minute)
	a.SetVIPs([]netip.Addr{vip}, start)
	var at []time.Duration
	for now := start; now.Before(start.Add(3 * time.Minute)); now = now.Add(100 * time.Millisecond) {
		out, next := a.Due(own, now)
		if len(out) > 0 {
			at = append(at, now.Sub(start))
			if len(out) != 3 || out[0].Sender != unspecified || out[1].Sender != vip || !out[2].Reply {
				t.Fatalf("announced %+v", out)
			}
		}
		if !next.After(now) {
			t.Fatalf("at %s the next is due at %s", now.Sub(start), next.Sub(start))
		}
	}
	want := []time.Duration{0, time.Second, 2 * time.Second, 62 * time.Second, 122 * time.Second}
	if d := cmp.Diff(want, at); d != "" {
		t.Errorf("times of announcements: -want +got\n%s", d)
	}
	other := netip.MustParseAddr("192.168.10.101")
	now := start.Add(4 * time.Minute)
	a.Due(own, now)
	a.SetVIPs([]netip.Addr{vip, other}, now)
	if out, _ := a.Due(own, now); len(out) != 3 || out[0].Target != other {
		t.Errorf("after a new VIP came: %+v", out)
	}
	a.Again(now)
	if out, _ := a.Due(own, now); len(out) != 6 {
		t.Errorf("asked to announce again: %d messages, want 6", len(out))
	}
	once := NewAnnouncer(0)
	once.SetVIPs([]netip.Addr{vip}, start)
	for i := range 3 {
		if out, _ := once.Due(own, start.Add(time.Duration(i)*time.Second)); len(out) != 3 {
			t.Errorf("announcement %d is missing", i)
		}
	}
	if out, next := once.Due(own, start.Add(time.Hour)); len(out) != 0 || !next.IsZero() {
		t.Error("announced again though the period is 0")
	}
}

// play lets the time pass from event to event until the end, and records the questions and changes.
func play(r *Resolver, from, to time.Time) (asked []string, changes []Neighbour) {
	for now := from; now.Before(to); {
		out, next := r.Due(own, dip, now)
		for _, m := range out {
			whom := "all"
			if m.Destination != Broadcast {
				whom = "itself"
			}
			asked = append(asked, now.Sub(from).String()+" "+whom)
		}
		changes = append(changes, r.Changes()...)
		if next.IsZero() {
			break
		}
		now = next
	}
	return asked, changes
}

func states(changes []Neighbour) (out []State) {
	for _, c := range changes {
		out = append(out, c.State)
	}
	return out
}

func TestResolverFindsAndKeeps(t *testing.T) {
	r := NewResolver(30 * time.Second)
	r.SetTargets(map[netip.Addr]frame.MAC{rip: {}}, start)
	out, _ := r.Due(own, dip, start)
	if len(out) != 1 || out[0] != request(own, dip, rip, Broadcast) {
		t.Fatalf("asked %+v", out)
	}
	answer := Message{Reply: true, SenderMAC: web1, Sender: rip, TargetMAC: own, Target: dip, Source: web1, Destination: own}
	now := start.Add(time.Millisecond)
	if !r.Handle(&answer, now) {
		t.Fatal("the answer was of no use")
	}
	if c := r.Changes(); len(c) != 2 || c[1].State != Resolved || c[1].MAC != web1 {
		t.Fatalf("changes %+v", c)
	}
	// After the time of refresh it is asked itself; its answer makes it fresh again.
	now = now.Add(30 * time.Second)
	out, _ = r.Due(own, dip, now)
	if len(out) != 1 || out[0].Destination != web1 {
		t.Fatalf("asked %+v, want a question to itself", out)
	}
	if n := r.Neighbours(); n[0].State != Stale || n[0].MAC != web1 {
		t.Errorf("%+v: want stale, and still usable", n)
	}
	r.Handle(&answer, now)
	if n := r.Neighbours(); n[0].State != Resolved {
		t.Errorf("%+v: want resolved", n)
	}
	r.Changes()
	// Another MAC counts at once, whatever kind of message tells it.
	moved := announcement(web1b, rip, false)
	r.Handle(&moved, now)
	if c := r.Changes(); len(c) != 1 || c[0].MAC != web1b {
		t.Errorf("changes %+v after the neighbour moved", c)
	}
	stranger := announcement(web1b, netip.MustParseAddr("10.10.0.77"), false)
	if r.Handle(&stranger, now) || len(r.Changes()) != 0 {
		t.Error("learnt from a stranger")
	}
}

func TestResolverGivesUp(t *testing.T) {
	r := NewResolver(30 * time.Second)
	r.SetTargets(map[netip.Addr]frame.MAC{rip: {}}, start)
	asked, changes := play(r, start, start.Add(20*time.Second))
	want := []string{"0s all", "100ms all", "300ms all", "700ms all", "1.7s all", "2.7s all", "3.7s all", "5.7s all", "9.7s all", "17.7s all"}
	if d := cmp.Diff(want, asked); d != "" {
		t.Errorf("questions for one that was never there: -want +got\n%s", d)
	}
	if d := cmp.Diff([]State{Incomplete, Failed}, states(changes)); d != "" {
		t.Errorf("states: -want +got\n%s", d)
	}
	if changes[1].MAC != (frame.MAC{}) {
		t.Error("a failed neighbour has a MAC")
	}
	// It comes, and goes.
	answer := announcement(web1, rip, true)
	now := start.Add(time.Minute)
	r.Handle(&answer, now)
	r.Changes()
	asked, changes = play(r, now, now.Add(40*time.Second))
	want = []string{"30s itself", "31s itself", "32s all", "33s all", "34s all", "35s all", "36s all", "38s all"}
	if d := cmp.Diff(want, asked); d != "" {
		t.Errorf("questions for one that went: -want +got\n%s", d)
	}
	if d := cmp.Diff([]State{Stale, Failed}, states(changes)); d != "" {
		t.Errorf("states: -want +got\n%s", d)
	}
}

func TestResolverTargets(t *testing.T) {
	r := NewResolver(time.Minute)
	r.SetTargets(map[netip.Addr]frame.MAC{rip: web1, dip: {}}, start)
	out, _ := r.Due(own, dip, start)
	if len(out) != 1 || out[0].Target != dip {
		t.Errorf("asked %+v; a static neighbour is not asked for", out)
	}
	moved := announcement(web1b, rip, false)
	if r.Handle(&moved, start) {
		t.Error("a static neighbour learnt")
	}
	r.Changes()
	r.SetTargets(map[netip.Addr]frame.MAC{rip: web1}, start)
	if c := r.Changes(); len(c) != 0 {
		t.Errorf("changes %+v, though what stayed is the same", c)
	}
	r.SetTargets(map[netip.Addr]frame.MAC{rip: {}}, start)
	if n := r.Neighbours(); len(n) != 1 || n[0].State != Incomplete {
		t.Errorf("%+v: want incomplete, since the MAC is not given any more", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range []Message{announcement(own, vip, true), request(own, dip, rip, Broadcast), request(own, netip.Addr{}, vip, web1)} {
		for _, vlan := range []uint16{0, 5} {
			b, err := m.Frame(vlan)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	r, res := NewResponder(), NewResolver(time.Minute)
	r.SetVIPs([]netip.Addr{vip})
	res.SetTargets(map[netip.Addr]frame.MAC{rip: {}}, start)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		if !m.Sender.Is4() || !m.Target.Is4() || m.SenderMAC.IsGroup() {
			t.Fatalf("accepted %+v", m)
		}
		if answer, send, _ := r.Handle(&m, own, start); send {
			if _, err := answer.Frame(0); err != nil {
				t.Fatalf("the answer to %+v cannot be sent: %v", m, err)
			}
		}
		res.Handle(&m, start)
	})
}
