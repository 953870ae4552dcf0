package arpd

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"

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
	self   = Self{MAC: own, V4: dip}
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
	ask := (&Self{MAC: gw, V4: router}).request(vip, Broadcast)
	if _, send, _ := r.Handle(&ask, own, start); send {
		t.Error("answered for what is no VIP")
	}
	r.SetVIPs([]netip.Addr{vip})
	got, send, conflict := r.Handle(&ask, own, start)
	want := Message{Reply: true, SenderMAC: own, Sender: vip, TargetMAC: gw, Target: router, Source: own, Destination: gw}
	if !send || conflict || got != want {
		t.Errorf("answered %+v (send %v, conflict %v), want %+v", got, send, conflict, want)
	}
	ask4 := probe(gw, vip)
	if got, send, conflict := r.Handle(&ask4, own, start); !send || conflict || got.Target != netip.IPv4Unspecified() {
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
		{SenderMAC: web1, Sender: vip, Target: router, Source: web1, Destination: Broadcast},                                         // asks as the VIP: no arp_announce=2
		{Reply: true, SenderMAC: web1, Sender: vip, TargetMAC: own, Target: netip.IPv4Unspecified(), Source: web1, Destination: own}, // answers a probe: no arp_ignore=1
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
			if len(out) != 3 || out[0].Sender != netip.IPv4Unspecified() || out[1].Sender != vip || !out[2].Reply {
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

// Between announcements the addresses are asked for, everywhere, and where they are not announced
// too; many not in one burst.
func TestAnnouncerWatches(t *testing.T) {
	var vips []netip.Addr
	for i := range 2*atMost + 1 {
		vips = append(vips, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	for _, c := range []struct {
		name   string
		silent bool
		period time.Duration
		want   int // announcements of each
	}{{"public", false, 45 * time.Second, 5}, {"private", true, 45 * time.Second, 0}, {"public, announced once", false, 0, 3}} {
		a := NewAnnouncer(c.period)
		a.Watch, a.Silent = 10*time.Second, c.silent
		a.SetVIPs(vips, start)
		asked, told := map[netip.Addr][]time.Duration{}, map[netip.Addr]int{}
		end := start.Add(100 * time.Second)
		for now := start; now.Before(end); {
			out, next := a.Due(own, now)
			probes := 0
			for _, m := range out {
				switch {
				case m.Sender.IsUnspecified():
					probes++
					asked[m.Target] = append(asked[m.Target], now.Sub(start))
				case !m.Reply:
					told[m.Target]++
				}
			}
			if probes > atMost && len(out) == probes {
				t.Fatalf("%s: %d questions at once", c.name, probes)
			}
			if !next.After(now) {
				t.Fatalf("%s: at %s the next is due at %s", c.name, now.Sub(start), next.Sub(start))
			}
			now = next
		}
		for _, v := range vips {
			if told[v] != c.want {
				t.Errorf("%s: %s was announced %d times, not %d", c.name, v, told[v], c.want)
			}
			last := time.Duration(0)
			for _, at := range append(asked[v], 100*time.Second) {
				if at-last > 10*time.Second+3*probeGap {
					t.Errorf("%s: %s was asked for at %s and then at %s", c.name, v, last, at)
				}
				last = at
			}
		}
	}
}

// On a private link a claim is noticed, and nothing said.
func TestSilentResponder(t *testing.T) {
	r := NewResponder()
	r.Silent = true
	r.SetVIPs([]netip.Addr{vip})
	question := (&Self{MAC: gw, V4: router}).request(vip, Broadcast)
	if answer, send, conflict := r.Handle(&question, own, start); send || conflict {
		t.Errorf("a question: %+v, %t, %t", answer, send, conflict)
	}
	claimed := announcement(web1, vip, true)
	if answer, send, conflict := r.Handle(&claimed, own, start); send || !conflict {
		t.Errorf("a claim: %+v, %t, %t", answer, send, conflict)
	}
}

// When the interface is another one, all neighbours are asked for at once, those that failed like
// new ones; the MACs of the others are believed until they fail.
func TestResolverAgain(t *testing.T) {
	r := NewResolver(time.Hour)
	other, static := netip.MustParseAddr("10.10.0.12"), netip.MustParseAddr("10.10.0.13")
	r.SetTargets(map[netip.Addr]frame.MAC{rip: {}, other: {}, static: web1b}, start)
	r.Due(&self, start)
	r.Handle(&Message{Reply: true, SenderMAC: web1, Sender: rip, TargetMAC: own, Target: dip, Source: web1, Destination: own}, start)
	now := start.Add(time.Minute)
	play(r, start, now)
	r.Changes()
	r.Again(now)
	out, _ := r.Due(&self, now)
	if len(out) != 2 || out[0].Destination != Broadcast || out[1].Destination != Broadcast {
		t.Fatalf("asked %+v", out)
	}
	got := r.Neighbours()
	if got[0].State != Stale || got[0].MAC != web1 || got[1].State != Incomplete || got[2].State != Static {
		t.Errorf("neighbours %+v", got)
	}
	if _, changes := play(r, now.Add(time.Millisecond), now.Add(time.Minute)); len(changes) == 0 {
		t.Error("neighbours that do not answer do not fail")
	}
	if got := r.Neighbours(); got[0].State != Failed || got[1].State != Failed {
		t.Errorf("neighbours %+v", got)
	}
}

// play lets the time pass from event to event until the end, and records the questions and changes.
func play(r *Resolver, from, to time.Time) (asked []string, changes []Neighbour) {
	for now := from; now.Before(to); {
		out, next := r.Due(&self, now)
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
	out, _ := r.Due(&self, start)
	if len(out) != 1 || out[0] != self.request(rip, Broadcast) {
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
	out, _ = r.Due(&self, now)
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
	// An announcement of another MAC moves nobody, but has everybody asked at once; the answer
	// counts.
	now = now.Add(10 * time.Second)
	moved := announcement(web1b, rip, false)
	r.Handle(&moved, now)
	if n := r.Neighbours(); n[0].MAC != web1 {
		t.Errorf("%+v: a message that nobody asked for moved a neighbour", n)
	}
	out, _ = r.Due(&self, now)
	if len(out) != 1 || out[0].Destination != Broadcast {
		t.Fatalf("asked %+v, want a question to all", out)
	}
	// Another one within the second does not make us ask again.
	r.Handle(&moved, now.Add(time.Millisecond))
	if out, _ := r.Due(&self, now.Add(2*time.Millisecond)); len(out) != 0 {
		t.Errorf("asked again: %+v", out)
	}
	r.Changes()
	late := answer
	late.SenderMAC = web1b
	now = now.Add(5 * time.Millisecond)
	r.Handle(&late, now)
	if c := r.Changes(); len(c) != 0 {
		t.Errorf("changes %+v before the neighbour was asked at its MAC", c)
	}
	asked, changes := play(r, now, now.Add(3*time.Second))
	if d := cmp.Diff([]string{"0s itself", "500ms itself"}, asked); d != "" {
		t.Errorf("questions to the MAC from before: -want +got\n%s", d)
	}
	if len(changes) != 1 || changes[0].MAC != web1b || changes[0].Since.Sub(now) != time.Second {
		t.Errorf("changes %+v after the neighbour moved", changes)
	}
	// With learn_gratuitous the announcement is enough.
	r.LearnGratuitous = true
	back := announcement(web1, rip, false)
	r.Handle(&back, now.Add(time.Minute))
	if c := r.Changes(); len(c) != 1 || c[0].MAC != web1 {
		t.Errorf("changes %+v after an announcement that was to be believed", c)
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
	comes := announcement(web1, rip, true)
	now := start.Add(time.Minute)
	r.Handle(&comes, now)
	if out, _ := r.Due(&self, now); len(out) != 1 {
		t.Fatalf("asked %+v when it announced itself", out)
	}
	answer := Message{Reply: true, SenderMAC: web1, Sender: rip, TargetMAC: own, Target: dip, Source: web1, Destination: own}
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
	out, _ := r.Due(&self, start)
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

// TestResolverRemembers: who is removed and comes back soon, as one that fails its health checks
// does, is there at once.
func TestResolverRemembers(t *testing.T) {
	for _, c := range []struct {
		away time.Duration
		want State
	}{{time.Second, Stale}, {remembered, Incomplete}} {
		r := NewResolver(time.Minute)
		r.Add(rip, frame.MAC{}, start)
		r.Due(&self, start)
		m := announcement(web1, rip, true)
		m.Destination = own
		r.Handle(&m, start)
		r.Remove(rip, start)
		r.Changes()
		back := start.Add(c.away)
		r.Add(rip, frame.MAC{}, back)
		changes := r.Changes()
		if len(changes) != 1 || changes[0].State != c.want || changes[0].MAC.IsZero() != (c.want == Incomplete) {
			t.Errorf("back after %v: %+v, want it %v", c.away, changes, c.want)
		}
		if out, _ := r.Due(&self, back); len(out) != 1 || out[0].Target != rip {
			t.Errorf("back after %v: asked %+v", c.away, out)
		}
	}
}

// Who has no address of the family asks as nobody by IPv4, and by IPv6 as the link-local address of
// its MAC: what nobody asked is answered to all, and such an answer is none to a question.
func TestAsksWithoutAddress(t *testing.T) {
	nobody := Self{MAC: frame.MAC{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}}
	for _, c := range []struct{ whom, as string }{{"192.0.2.1", "0.0.0.0"}, {"2001:db8::1", "fe80::11:22ff:fe33:4455"}} {
		if m := nobody.request(netip.MustParseAddr(c.whom), Broadcast); m.Sender.String() != c.as {
			t.Errorf("%s is asked for as %s, not as %s", c.whom, m.Sender, c.as)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range []Message{announcement(own, vip, true), self.request(rip, Broadcast), probe(own, vip), probe(own, vip6), announcement(own, vip6, true)} {
		for _, vlan := range []uint16{0, 5} {
			b, err := m.Frame(vlan)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	r, res := NewResponder(), NewResolver(time.Minute)
	r.SetVIPs([]netip.Addr{vip, vip6})
	res.SetTargets(map[netip.Addr]frame.MAC{rip: {}}, start)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		if m.Sender.Is4() != m.Target.Is4() || m.SenderMAC.IsGroup() {
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

var (
	vip6    = netip.MustParseAddr("2001:db8::100")
	rip6    = netip.MustParseAddr("2001:db8:1::11")
	router6 = netip.MustParseAddr("fe80::1")
)

// Every kind of message must come back as it was sent, and must not when it is cut or damaged.
func TestNDPMessages(t *testing.T) {
	me := Self{MAC: own, V6: netip.MustParseAddr("2001:db8:1::2")}
	unicast := me.request(rip6, web1)
	answer := Message{Reply: true, SenderMAC: own, Sender: vip6, Target: router6, Source: own, Destination: gw}
	for name, c := range map[string]struct {
		m    Message
		dest frame.MAC
	}{
		"solicitation":         {me.request(rip6, Broadcast), frame.MAC{0x33, 0x33, 0xff, 0, 0, 0x11}},
		"unicast solicitation": {unicast, web1},
		"probe":                {probe(own, vip6), frame.MAC{0x33, 0x33, 0xff, 0, 1, 0}},
		"announcement":         {announcement(own, vip6, false), frame.MAC{0x33, 0x33, 0, 0, 0, 1}},
		"answer":               {answer, gw},
	} {
		for _, vlan := range []uint16{0, 9} {
			b, err := c.m.Frame(vlan)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := c.m
			want.Destination, want.TargetMAC = c.dest, frame.MAC{}
			got, err := Parse(b)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if d := cmp.Diff(want, got, sameAddr); d != "" {
				t.Errorf("%s, VLAN %d: -sent +read\n%s", name, vlan, d)
			}
			for n := range len(b) {
				if _, err := Parse(b[:n]); err == nil {
					t.Errorf("%s: the first %d of %d bytes were taken for it", name, n, len(b))
				}
			}
			at := 14
			if vlan != 0 {
				at = 18
			}
			for i := at; i < len(b); i++ {
				if i >= at+1 && i < at+4 {
					continue // traffic class and flow label have no meaning here
				}
				bad := append([]byte(nil), b...)
				bad[i] ^= 0x10
				if m, err := Parse(bad); err == nil {
					t.Errorf("%s: with byte %d changed it is read as %+v", name, i, m)
				}
			}
		}
	}
}

func TestResponderIPv6(t *testing.T) {
	r := NewResponder()
	r.SetVIPs([]netip.Addr{vip6})
	ask := (&Self{MAC: gw, V6: router6}).request(vip6, Broadcast)
	got, send, conflict := r.Handle(&ask, own, start)
	if !send || conflict || got.Target != router6 || got.Sender != vip6 || got.Destination != gw {
		t.Errorf("answered %+v, %v, %v", got, send, conflict)
	}
	// Who looks whether the address is free hears from all nodes' group (RFC 4861, 7.2.4).
	dad := probe(gw, vip6)
	got, send, _ = r.Handle(&dad, own, start)
	b, err := got.Frame(0)
	if !send || err != nil || [6]byte(b[:6]) != [6]byte{0x33, 0x33, 0, 0, 0, 1} {
		t.Errorf("a probe was answered %+v, %v", got, err)
	}
	claim := announcement(web1, vip6, true)
	if _, _, conflict := r.Handle(&claim, own, start); !conflict {
		t.Error("a claim of the VIP was no conflict")
	}
}

func TestFilter(t *testing.T) {
	frames := map[string][]byte{}
	for name, m := range map[string]Message{"arp": self.request(rip, Broadcast), "reply": announcement(own, vip, true), "solicitation": probe(own, vip6), "advertisement": announcement(own, vip6, true)} {
		b, err := m.Frame(0)
		if err != nil {
			t.Fatal(err)
		}
		frames[name] = b
	}
	echo := append([]byte(nil), frames["solicitation"]...)
	echo[54] = 128
	tcp := append([]byte(nil), frames["solicitation"]...)
	tcp[20] = 6
	ip := append([]byte(nil), frames["arp"]...)
	ip[13] = 0
	frames["no echo"], frames["no tcp"], frames["no ip"] = echo, tcp, ip
	for name, b := range frames {
		// The machine that runs programs here knows no extensions: what they load is put in their
		// place.
		for _, c := range []struct {
			vlan, tag uint16
			typ       uint32
			ours      bool
			tpid      uint16 // of the leg; the frame's is 0x8100
		}{
			{0, 0, 0, true, 0x8100}, {0, 0, 2, true, 0x8100}, {0, 0, 3, false, 0x8100}, {0, 0, 4, false, 0x8100}, {0, 5, 0, false, 0x8100},
			{5, 5, 1, true, 0x8100}, {5, 0, 0, false, 0x8100}, {5, 6, 0, false, 0x8100}, {5, 5, 0, false, 0x88a8},
			{0, 0xe000, 0, true, 0x8100}, {5, 0xe005, 0, true, 0x8100}, // with a priority
		} {
			for which := everything; which <= answersOnly; which++ {
				prog := filter(c.vlan, c.tpid, which)
				for i, in := range prog {
					if e, ok := in.(bpf.LoadExtension); ok {
						v := uint32(c.tag)
						switch e.Num {
						case bpf.ExtType:
							v = c.typ
						case bpf.ExtVLANProto:
							v = 0x8100
						}
						prog[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: v}
					}
				}
				vm, err := bpf.NewVM(prog)
				if err != nil {
					t.Fatal(err)
				}
				n, err := vm.Run(b)
				if err != nil {
					t.Fatal(err)
				}
				want := c.ours && !strings.HasPrefix(name, "no ")
				if answer := (name == "reply" || name == "advertisement") && c.typ == 0; which != everything {
					want = want && answer == (which == answersOnly)
				}
				if (n > 0) != want {
					t.Errorf("%s, leg of VLAN %d, frame of VLAN %d, kind %d, filter %d: let in is %v", name, c.vlan, c.tag, c.typ, which, n > 0)
				}
			}
		}
	}
}
