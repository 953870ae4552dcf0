package forwarder_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// pass lets n seconds pass, and the engine see to what is to be done in each.
func (r *rig) pass(n int) {
	r.Helper()
	for range n {
		r.after(time.Second)
		r.must(r.Maintain())
	}
}

func TestRates(t *testing.T) {
	r := start(t)
	r.serve(service("UDP "+vip4+":53", "rr"), 1, 2)
	r.must(r.Maintain())
	port := uint16(1000)
	for range 60 {
		for range 10 { // ten flows of two packets in a second
			f := talk4(port, 53).udp(1, 2, 3)
			r.give(f, f)
			port++
		}
		r.pass(1)
	}
	s := r.Services()[0]
	want := forwarder.Rates{FlowsPerSecond: 10, PacketsPerSecond: 20, BytesPerSecond: 20 * 31}
	if s.Rates != want {
		t.Errorf("service: %+v, want %+v", s.Rates, want)
	}
	if got := s.Destinations[0].Rates; got.FlowsPerSecond != 5 || got.PacketsPerSecond != 10 {
		t.Errorf("destination: %+v, want half of %+v", got, want)
	}
	// When nothing comes any more the average falls by a quarter every two seconds, and then to
	// nothing.
	r.pass(2)
	if got := r.Services()[0].Rates.PacketsPerSecond; got != 15 {
		t.Errorf("two seconds later %d packets a second, want 15", got)
	}
	r.pass(120)
	if got := r.Services()[0].Rates; got != (forwarder.Rates{}) {
		t.Errorf("two minutes later %+v, want nothing", got)
	}
}

// A realserver of weight 0 keeps its flows for as long as it may, and not longer.
func TestDrainDeadline(t *testing.T) {
	for _, c := range []struct {
		policy forwarder.GonePolicy
		want   forwarder.Verdict
	}{{forwarder.GoneDrop, forwarder.DestGone}, {forwarder.GoneReset, forwarder.DestGone}, {forwarder.GoneReschedule, forwarder.Forwarded}} {
		r := start(t)
		r.set(func(s *forwarder.Settings) { s.Gone = c.policy })
		web := service("TCP "+vip4+":80", "rr")
		key := r.serve(web, 1, 2)
		k := talk4(40000, 80)
		r.goesTo(k.tcp(frame.SYN), 1)
		edit := func(change ...func(*forwarder.Destination)) {
			r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(key, dest(web, 1, change...)) })
		}
		drain := func(d *forwarder.Destination) { d.Weight, d.Drain = 0, 10*time.Second }
		edit(drain)
		r.pass(9)
		r.goesTo(k.tcp(frame.ACK), 1)
		r.goesTo(talk4(40001, 80).tcp(frame.SYN), 2)
		r.pass(1)
		if got := r.verdict(k.tcp(frame.ACK)); got != c.want {
			t.Errorf("policy %d, past the deadline: %v, want %v", c.policy, got, c.want)
		}
		if s := r.Services()[0]; !s.Destinations[0].Drained || s.Destinations[1].Drained {
			t.Errorf("the list does not tell who is drained: %+v", s.Destinations)
		}
		// A second edit of the same does not begin anew; a weight brings it back.
		edit(drain)
		if got := r.Services()[0].Destinations[0].Drained; !got {
			t.Error("an edit that changed nothing began the drain anew")
		}
		edit()
		r.goesTo(talk4(40002, 80).tcp(frame.SYN), 1)
		if c.policy == forwarder.GoneDrop {
			r.goesTo(k.tcp(frame.ACK), 1)
		}
		edit(drain)
		r.pass(9)
		r.goesTo(talk4(40002, 80).tcp(frame.ACK), 1)
	}
}

// One that comes back gets its share little by little.
func TestSlowStart(t *testing.T) {
	r := start(t)
	web := service("TCP "+vip4+":80", "wlc", func(s *forwarder.Service) { s.SlowStart = 100 * time.Second })
	r.serve(web, 1, 2)
	r.pass(101)
	port := uint16(10000)
	open := func(n int) (to [3]int) {
		for range n {
			out := r.give(talk4(port, 80).tcp(frame.SYN))
			to[serverOf(out[0])]++
			port++
		}
		return to
	}
	if to := open(100); to[1] != 50 || to[2] != 50 {
		t.Fatalf("in the steady state %v, want halves", to)
	}
	// 2 goes and comes back, when the flows of before have ended.
	r.must(r.SetNeighbour(0, server(2, false), frame.MAC{}))
	r.pass(121)
	r.must(r.SetNeighbour(0, server(2, false), serverMAC(2)))
	r.pass(10)
	if to := open(110); to[2] < 9 || to[2] > 11 {
		t.Errorf("after a tenth of the time it got %d of 110, want 10", to[2])
	}
	r.pass(91)
	// The time is over, and the flows so far have ended: halves again.
	if to := open(90); to[1] != 45 || to[2] != 45 {
		t.Errorf("at the end %v, want halves", to)
	}
}

// The schedulers with a cursor do not heed the ramp, and must not lose their place by it.
func TestSlowStartKeepsTurns(t *testing.T) {
	for _, sched := range []string{"rr", "wrr"} {
		r := start(t)
		r.serve(service("TCP "+vip4+":80", sched, func(s *forwarder.Service) { s.SlowStart = 100 * time.Second }), 1, 2, 3)
		for i := range 12 {
			r.goesTo(talk4(uint16(5000+i), 80).tcp(frame.SYN), i%3+1)
			r.pass(1)
		}
	}
}

func TestZero(t *testing.T) {
	r := start(t)
	web := r.serve(service("TCP "+vip4+":80", "rr"), 1)
	dns := r.serve(service("UDP "+vip4+":53", "rr"), 1)
	count := func() (out []uint64) {
		for _, s := range r.Services() {
			out = append(out, s.Counts.Packets, s.Destinations[0].Counts.Packets)
		}
		return out
	}
	give := func() {
		r.give(talk4(1000, 80).tcp(frame.SYN), talk4(1000, 80).tcp(frame.ACK), talk4(1000, 53).udp())
	}
	give()
	r.must(r.Zero(&web))
	if got := count(); !slices.Equal(got, []uint64{0, 0, 1, 1}) {
		t.Errorf("after one was set to zero: %v", got)
	}
	give()
	r.must(r.Zero(nil))
	give()
	if got := count(); !slices.Equal(got, []uint64{2, 2, 1, 1}) {
		t.Errorf("after all were set to zero, and more came: %v", got)
	}
	r.update(func(tx *forwarder.Tx) error { return tx.DeleteService(dns) })
	if err := r.Zero(&dns); !errors.Is(err, forwarder.ErrNoService) {
		t.Errorf("a service that is gone: %v", err)
	}
	if s := r.Services()[0]; s.Destinations[0].Active != 1 {
		t.Errorf("the connections were touched: %+v", s)
	}
	r.serve(service("UDP "+vip4+":53", "rr"), 1)
	if got := r.Services()[1].Counts; got != (forwarder.Counts{}) {
		t.Errorf("a new service begins with %+v", got)
	}
}
