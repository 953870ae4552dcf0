package forwarder_test

import (
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// seconds lets n seconds pass one by one, as the defences look once a second.
func (r *rig) seconds(n int) {
	for range n {
		r.after(time.Second)
	}
}

// web is a rig with one TCP service of two realservers, with these settings in force and looked at.
func web(t *testing.T, set func(*forwarder.Settings), change ...func(*forwarder.Service)) *rig {
	r := start(t)
	r.serve(service("TCP "+vip4+":80", "rr", change...), 1, 2)
	r.set(set)
	r.seconds(1)
	return r
}

// TestDropPacket: in mode 3 one of each am_droprate new flows is refused; frames of flows that are
// known are not.
func TestDropPacket(t *testing.T) {
	r := web(t, func(s *forwarder.Settings) { s.DropPacket, s.AmDroprate = 3, 10 })
	dropped := 0
	for n := range 500 {
		if r.verdict(flood(n)) == forwarder.DropPacket {
			dropped++
			continue
		}
		r.expect(flood(n), forwarder.Forwarded)
	}
	if dropped != 50 {
		t.Fatalf("of 500 new flows %d were dropped, want 50", dropped)
	}
	r.set(func(*forwarder.Settings) {})
	r.seconds(1)
	for n := range 100 {
		r.expect(flood(1000+n), forwarder.Forwarded)
	}
}

// TestDropPacketWhenFull: in modes 1 and 2 that begins when less than an eighth of the table is
// free, and ends with it.
func TestDropPacketWhenFull(t *testing.T) {
	for mode := 1; mode <= 2; mode++ {
		r := web(t, func(s *forwarder.Settings) { s.DropPacket = mode })
		batch := func(first, n int) (dropped uint64) {
			before := r.Stats().Verdicts[forwarder.DropPacket]
			for i := range n {
				r.give(flood(first + i))
			}
			r.seconds(1)
			return r.Stats().Verdicts[forwarder.DropPacket] - before
		}
		if got := batch(0, 890); got != 0 { // seven eighths are 896
			t.Fatalf("mode %d: %d flows were dropped although there is room", mode, got)
		}
		if batch(1000, 100) != 0 || batch(2000, 50) == 0 {
			t.Fatalf("mode %d: dropping does not begin when the table is nearly full", mode)
		}
		r.seconds(70)
		if got := batch(3000, 100); got != 0 {
			t.Fatalf("mode %d: %d flows were dropped although there is room again", mode, got)
		}
	}
}

// TestSecureTCP: a flow is in another state until its handshake is over, which shows that the other
// table is in use.
func TestSecureTCP(t *testing.T) {
	r := web(t, func(s *forwarder.Settings) { s.SecureTCP = 3 })
	k := talk4(40000, 80)
	for _, step := range []struct {
		flags uint8
		state string
	}{{frame.SYN, "SYNACK"}, {frame.ACK, "ESTABLISHED"}, {frame.SYN, "ESTABLISHED"}} {
		r.give(k.tcp(step.flags))
		if c := r.conns(); len(c) != 1 || c[0].State != step.state {
			t.Fatalf("the flow is %+v, want %s", c, step.state)
		}
	}
	if d := r.one().Destinations[0]; d.Active != 1 {
		t.Fatalf("its realserver is %+v", d)
	}
}

// TestDropEntry: embryonic connections end well before their time, all within a round of the table;
// others stay while they are in use, and those with many packets even if they are not.
func TestDropEntry(t *testing.T) {
	r := web(t, func(s *forwarder.Settings) { s.DropEntry = 3 })
	const flows = 200
	for n := range uint16(flows) {
		few, many := talk4(1000+n, 80), talk4(2000+n, 80)
		r.give(few.tcp(frame.SYN), few.tcp(frame.ACK), many.tcp(frame.SYN), flood(int(n)))
		for range 8 {
			r.give(many.tcp(frame.ACK))
		}
	}
	count := func() (embryonic, few, many int) {
		for _, c := range r.conns() {
			switch {
			case c.State == "SYN_RECV":
				embryonic++
			case c.Packets > 8:
				many++
			default:
				few++
			}
		}
		return
	}
	r.seconds(20)
	if e, _, _ := count(); e == 0 || e == flows {
		t.Errorf("after 20 s %d of %d embryonic connections are left", e, flows)
	}
	r.seconds(20)
	if e, few, many := count(); e != 0 || few != flows || many != flows {
		t.Fatalf("after 40 s %d embryonic connections are left, %d with few packets, %d with many", e, few, many)
	}
	r.seconds(60)
	if _, few, many := count(); few < flows/3 || few == flows || many != flows {
		t.Fatalf("after 100 s %d connections with few packets are left, %d with many", few, many)
	}
	r.seconds(600)
	if _, few, many := count(); few > flows/20 || many != flows {
		t.Fatalf("after 700 s %d connections with few packets are left, %d with many", few, many)
	}
	if active, inactive := r.counted(); active+inactive != r.Stats().Flows {
		t.Fatalf("realservers have %d active and %d inactive connections, the table %d", active, inactive, r.Stats().Flows)
	}
}

// TestDropEntryWhenFull: in mode 1 nobody ends early while there is room.
func TestDropEntryWhenFull(t *testing.T) {
	r := web(t, func(s *forwarder.Settings) { s.DropEntry = 1 })
	for n := range 800 {
		r.give(flood(n))
	}
	r.seconds(40)
	if n := r.Stats().Flows; n != 800 {
		t.Fatalf("%d flows are left of 800, which leave room", n)
	}
	for n := range 200 {
		r.give(flood(800 + n))
	}
	r.seconds(10)
	if n := r.Stats().Flows; n > 900 || n < 700 { // until there is room, and no further
		t.Fatalf("%d flows are left of 1000, which left none", n)
	}
}

// TestDropEntryOfTemplates: of the templates those end that nothing depends on and that never had a
// connection.
func TestDropEntryOfTemplates(t *testing.T) {
	r := web(t, func(s *forwarder.Settings) { s.DropEntry = 3 }, func(s *forwarder.Service) { s.Persistence = 10 * time.Minute })
	r.give(talk4(40000, 80).tcp(frame.SYN), talk4(40000, 80).tcp(frame.ACK), talk4(40000, 80).tcp(frame.RST)) // over in 10 s
	for n := range 50 {
		r.give(flood(n))
	}
	r.seconds(90) // two rounds, as a template may come before its flow
	if c := r.conns(); len(c) != 1 || c[0].State != "ASSURED" {
		t.Fatalf("left are %+v, want the template of the one connection", c)
	}
	if d := r.one().Destinations; d[0].Persistent+d[1].Persistent != 1 {
		t.Fatalf("the realservers count %d and %d templates", d[0].Persistent, d[1].Persistent)
	}
}

// TestSweepUnderTraffic: flows end although the worker has no pause, and end soon, one part of the
// table after the other.
func TestSweepUnderTraffic(t *testing.T) {
	r := start(t, func(c *forwarder.Config) { c.Exact, c.Flows = false, 100_000 })
	someServices(r)
	for n := range 5000 {
		r.give(flood(n))
	}
	r.now += 61 * second
	for range 100 {
		r.give(talk4(40000, 80).tcp(frame.ACK)) // refused, again and again
	}
	if n := r.Stats().Flows; n != 0 {
		t.Fatalf("%d flows that have ended are still counted", n)
	}
}
