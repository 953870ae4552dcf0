package arpd_test

import (
	"net/netip"
	"testing"
	"time"

	"shunt/arpd"
	"shunt/forwarder/frame"
)

// Many neighbours are asked for in portions, each of them once at first and in order, and one that
// moves is asked for before its time.
func TestManyNeighbours(t *testing.T) {
	const many = 20000
	now := time.Unix(1000, 0)
	r := arpd.NewResolver(30 * time.Second)
	targets := map[netip.Addr]frame.MAC{}
	for i := range many {
		targets[netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})] = frame.MAC{}
	}
	r.SetTargets(targets, now)
	self := &arpd.Self{MAC: frame.MAC{2, 0, 0, 0, 0, 1}, V4: netip.MustParseAddr("10.0.0.1")}
	asked, last := map[netip.Addr]int{}, netip.Addr{}
	for len(asked) < many {
		out, next := r.Due(self, now)
		if len(out) == 0 || len(out) > 100 {
			t.Fatalf("%d questions at once", len(out))
		}
		for _, m := range out {
			asked[m.Target]++
			if !last.Less(m.Target) {
				t.Fatalf("%s was asked for after %s", m.Target, last)
			}
			last = m.Target
			mac := frame.MAC{2, 1, 0, 0, m.Target.As4()[2], m.Target.As4()[3]}
			r.Handle(&arpd.Message{Reply: true, Sender: m.Target, SenderMAC: mac, Destination: self.MAC}, now)
		}
		if len(asked) < many {
			now = next
		}
	}
	for a, n := range asked {
		if n != 1 {
			t.Fatalf("%s was asked for %d times", a, n)
		}
	}
	if out, next := r.Due(self, now); len(out) != 0 || next.Sub(now) < 20*time.Second {
		t.Errorf("all answered, but %d more questions, the next in %s", len(out), next.Sub(now))
	}
	if r.Hurried() {
		t.Error("answers do not hurry")
	}
	mover := netip.MustParseAddr("10.1.7.7")
	r.Handle(&arpd.Message{Sender: mover, SenderMAC: frame.MAC{2, 9, 9, 9, 9, 9}, Destination: frame.MAC{255, 255, 255, 255, 255, 255}}, now)
	if !r.Hurried() {
		t.Error("an announcement of another MAC is to be asked about at once")
	}
	if out, _ := r.Due(self, now); len(out) != 1 || out[0].Target != mover {
		t.Errorf("asked %v", out)
	}
}

// Many VIPs are announced in portions: each of them three times, though the first would be due
// again before all had their turn.
func TestManyVIPs(t *testing.T) {
	const many = 10_000
	mac := frame.MAC{2, 0, 0, 0, 0, 1}
	start := time.Unix(1000, 0)
	var vips []netip.Addr
	for i := range many {
		vips = append(vips, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	a := arpd.NewAnnouncer(0)
	a.SetVIPs(vips, start)
	told := map[netip.Addr]int{}
	once := time.Duration(0)
	now := start
	for {
		out, next := a.Due(mac, now)
		if len(out) > 300 {
			t.Fatalf("%d messages at once", len(out))
		}
		for _, m := range out {
			if m.Reply {
				told[m.Sender]++
			}
		}
		if len(told) == many && once == 0 {
			once = now.Sub(start)
		}
		if next.IsZero() {
			break
		}
		if !next.After(now) {
			t.Fatalf("at %s it is to go on at %s", now, next)
		}
		now = next
	}
	for _, v := range vips {
		if told[v] != 3 {
			t.Fatalf("%s was announced %d times", v, told[v])
		}
	}
	if once > 700*time.Millisecond {
		t.Errorf("the last VIP was announced after %s", once)
	}
}

// A change of some VIPs leaves the others as they are: they are neither forgotten nor announced
// again.
func TestChangeVIPs(t *testing.T) {
	addr := netip.MustParseAddr
	mac := frame.MAC{2, 0, 0, 0, 0, 1}
	now := time.Unix(1000, 0)
	a, r := arpd.NewAnnouncer(time.Hour), arpd.NewResponder()
	vips := []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2")}
	a.SetVIPs(vips, now)
	r.SetVIPs(vips)
	for range 3 {
		a.Due(mac, now)
		now = now.Add(time.Second)
	}
	a.ChangeVIPs([]netip.Addr{addr("192.0.2.2"), addr("192.0.2.3")}, []netip.Addr{addr("192.0.2.1"), addr("192.0.2.9")}, now)
	r.ChangeVIPs([]netip.Addr{addr("192.0.2.3")}, []netip.Addr{addr("192.0.2.1")})
	out, _ := a.Due(mac, now)
	for _, m := range out {
		if m.Target != addr("192.0.2.3") {
			t.Errorf("a message about %s", m.Target)
		}
	}
	if len(out) == 0 {
		t.Error("the new VIP is not announced")
	}
	out, _ = a.Due(mac, now.Add(2*time.Hour))
	seen := map[netip.Addr]bool{}
	for _, m := range out {
		seen[m.Target] = true
	}
	if len(seen) != 2 || seen[addr("192.0.2.1")] {
		t.Errorf("announced after the change: %v", seen)
	}
	for vip, want := range map[string]bool{"192.0.2.1": false, "192.0.2.2": true, "192.0.2.3": true} {
		question := arpd.Message{SenderMAC: frame.MAC{2, 0, 0, 0, 0, 9}, Sender: addr("192.0.2.100"), Target: addr(vip)}
		if _, answered, _ := r.Handle(&question, mac, now); answered != want {
			t.Errorf("a question for %s is answered: %v", vip, answered)
		}
	}
}
