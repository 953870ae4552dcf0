package forwarder_test

import (
	"slices"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// plan is a plan of services with realservers of these numbers, first to last.
func plan(settings forwarder.Settings, services ...forwarder.ServicePlan) forwarder.Plan {
	return forwarder.Plan{Services: services, Settings: settings}
}

func planned(s forwarder.Service, servers ...int) forwarder.ServicePlan {
	p := forwarder.ServicePlan{Service: s}
	for _, n := range servers {
		p.Destinations = append(p.Destinations, dest(s, n))
	}
	return p
}

func (r *rig) apply(p forwarder.Plan) {
	r.Helper()
	r.update(func(tx *forwarder.Tx) error { return tx.Apply(p) })
}

// goes gives a frame and returns the realserver that it goes to; 0 is none.
func (r *rig) goes(f frame.Frame) int {
	r.Helper()
	out := r.give(f)
	if len(out) > 1 {
		r.Fatalf("one frame became %v", out)
	}
	if len(out) == 0 {
		return 0
	}
	return serverOf(out[0])
}

// goesTo gives a frame and fails unless it goes to realserver n.
func (r *rig) goesTo(f frame.Frame, n int) {
	r.Helper()
	if got := r.goes(f); got != n {
		r.Fatalf("the frame goes to realserver %d, want %d", got, n)
	}
}

// TestApply: a plan is carried out by the smallest changes. What stays keeps its flows, its
// counters and its place in the list, on which the schedulers depend; so does a scheduler its
// cursor.
func TestApply(t *testing.T) {
	r := start(t)
	web, dns, old := service("TCP "+vip4+":80", "rr"), service("UDP "+vip4+":53", "rr"), service("TCP "+vip4+":81", "rr")
	set := forwarder.DefaultSettings()
	r.apply(plan(set, planned(web, 1, 2, 3), planned(dns, 1), planned(old, 1)))
	for n := range 5 {
		r.must(r.SetNeighbour(0, server(n+1, false), serverMAC(n+1)))
	}
	if got := numbers(r.Services()[0]); !slices.Equal(got, []int{3, 2, 1}) {
		t.Fatalf("the plan's order became %v, want it newest first", got)
	}
	first := talk4(40000, 80)
	r.goesTo(first.tcp(frame.SYN), 3)

	before := r.all()
	r.apply(plan(set, planned(web, 1, 2, 3), planned(dns, 1), planned(old, 1)))
	if after := r.all(); after != before {
		t.Fatalf("the same plan again changed\n%s to\n%s", before, after)
	}
	r.apply(plan(set, planned(web, 3, 1, 2), planned(dns, 1), planned(old, 1))) // another order is no reason to change
	if after := r.all(); after != before {
		t.Fatalf("the same plan in another order changed\n%s to\n%s", before, after)
	}
	r.goesTo(talk4(40001, 80).tcp(frame.SYN), 2)

	set.SloppyTCP = true
	heavier := planned(web, 1, 3, 4, 5)
	heavier.Destinations[0].Weight = 5
	r.apply(plan(set, heavier, planned(dns, 1)))
	s := r.Services()
	if len(s) != 2 || !slices.Equal(numbers(s[0]), []int{5, 4, 3, 1}) || s[0].Destinations[3].Weight != 5 || !r.Settings().SloppyTCP {
		t.Fatalf("the other plan gave %+v", s)
	}
	if d := s[0].Destinations[2]; d.Counts.Flows != 1 || d.Active != 1 || s[0].Counts.Flows != 2 {
		t.Fatalf("the counters of what stayed are %+v, of the service %+v", d, s[0].Counts)
	}
	r.goesTo(first.tcp(frame.ACK), 3)
	r.goesTo(talk4(40001, 80).tcp(frame.ACK), 0)
	r.expect(talk4(1, 81).tcp(frame.SYN), forwarder.NoService)
	r.goesTo(talk4(40002, 80).tcp(frame.SYN), 1) // the cursor was at 2, which went, so it is at 3 now
}

// TestReturn: a realserver that was removed and is added again within two minutes of its last flow
// takes up its flows and its counters; later it is a new one.
func TestReturn(t *testing.T) {
	s := service("TCP "+vip4+":80", "rr")
	k := talk4(40000, 80)
	remove := func(r *rig, n int) {
		r.update(func(tx *forwarder.Tx) error { return tx.DeleteDestination(s.Key(), dest(s, n)) })
	}
	add := func(r *rig, n int) {
		r.update(func(tx *forwarder.Tx) error { return tx.AddDestination(s.Key(), dest(s, n)) })
	}
	begin := func(t *testing.T) *rig {
		r := start(t)
		r.serve(s, 1)
		r.goesTo(k.tcp(frame.SYN), 1)
		r.goesTo(k.tcp(frame.ACK), 1)
		remove(r, 1)
		r.expect(k.tcp(frame.ACK), forwarder.DestGone)
		return r
	}
	t.Run("with its flows", func(t *testing.T) {
		r := begin(t)
		r.after(10 * time.Minute) // the flow lives for 15
		add(r, 1)
		r.goesTo(k.tcp(frame.ACK), 1)
		if d := r.one().Destinations[0]; d.Active != 1 || d.Counts.Flows != 1 || d.Counts.Packets != 3 {
			t.Fatalf("it came back as %+v", d)
		}
	})
	t.Run("soon after its flows", func(t *testing.T) {
		r := begin(t)
		r.after(16 * time.Minute)
		r.must(r.Update(func(*forwarder.Tx) error { return nil })) // notices that the flow has ended
		r.after(119 * time.Second)
		add(r, 1)
		if d := r.one().Destinations[0]; d.Active+d.Inactive != 0 || d.Counts.Flows != 1 {
			t.Fatalf("it came back as %+v", d)
		}
	})
	t.Run("long after its flows", func(t *testing.T) {
		r := begin(t)
		r.after(16 * time.Minute)
		r.must(r.Update(func(*forwarder.Tx) error { return nil }))
		r.after(121 * time.Second)
		add(r, 1)
		if d := r.one().Destinations[0]; d.Counts != (forwarder.Counts{}) {
			t.Fatalf("it came back with old counters: %+v", d)
		}
	})
	t.Run("long after it went without flows", func(t *testing.T) {
		r := start(t)
		r.serve(s, 1)
		r.goesTo(k.tcp(frame.SYN), 1)
		r.after(10 * time.Minute)
		remove(r, 1)
		r.after(10 * time.Minute) // nothing happens in this time that would remind anyone of it
		add(r, 1)
		if d := r.one().Destinations[0]; d.Counts != (forwarder.Counts{}) {
			t.Fatalf("it came back with old counters: %+v", d)
		}
	})
	t.Run("with inactive flows, or templates, only", func(t *testing.T) {
		for _, persistence := range []time.Duration{0, 5 * time.Hour} {
			r := start(t)
			r.set(func(set *forwarder.Settings) {
				if persistence == 0 {
					set.UDPTimeout = 5 * time.Hour
				}
			})
			dns := service("UDP "+vip4+":53", "rr", func(s *forwarder.Service) { s.Persistence = persistence })
			r.serve(dns, 1)
			datagram := talk4(40000, 53).udp()
			r.goesTo(datagram, 1)
			r.update(func(tx *forwarder.Tx) error { return tx.DeleteDestination(dns.Key(), dest(dns, 1)) })
			for range 4 {
				r.after(time.Hour)
				r.must(r.Update(func(*forwarder.Tx) error { return nil }))
			}
			r.update(func(tx *forwarder.Tx) error { return tx.AddDestination(dns.Key(), dest(dns, 1)) })
			r.goesTo(datagram, 1)
			if d := r.one().Destinations[0]; d.Inactive != 1 || d.Counts.Packets != 2 || persistence != 0 && d.Persistent != 1 {
				t.Fatalf("it came back as %+v", d)
			}
		}
	})
	t.Run("under another service", func(t *testing.T) {
		r := begin(t)
		r.update(func(tx *forwarder.Tx) error { return tx.DeleteService(s.Key()) })
		r.serve(s, 1)
		r.goesTo(k.tcp(frame.ACK), 1)
		if d := r.one().Destinations[0]; d.Active != 1 || d.Counts.Flows != 0 || d.Counts.Packets != 1 {
			t.Fatalf("of a service of the same name it is %+v", d)
		}
	})
	t.Run("its number goes to another", func(t *testing.T) {
		r := begin(t)
		r.after(time.Hour)
		r.must(r.Update(func(*forwarder.Tx) error { return nil }))
		r.after(time.Hour)
		r.must(r.Update(func(*forwarder.Tx) error { return nil }))
		r.must(r.SetNeighbour(0, server(2, false), serverMAC(2)))
		add(r, 2)
		if d := r.one().Destinations[0]; d.Counts != (forwarder.Counts{}) {
			t.Fatalf("a new realserver begins with %+v", d)
		}
		r.goesTo(k.tcp(frame.SYN), 2)
	})
}

// TestGonePolicy: what becomes of the flows of a removed realserver.
func TestGonePolicy(t *testing.T) {
	s := service("TCP "+vip4+":80", "rr")
	dns := service("UDP "+vip4+":53", "rr")
	begin := func(t *testing.T, policy forwarder.GonePolicy) *rig {
		r := start(t)
		r.serve(s, 1, 2)
		r.serve(dns, 1, 2)
		r.set(func(set *forwarder.Settings) { set.Gone = policy })
		r.goesTo(talk4(40000, 80).tcp(frame.SYN), 1)
		r.goesTo(talk4(40000, 80).tcp(frame.ACK), 1)
		r.goesTo(talk4(40000, 53).udp(), 1)
		r.update(func(tx *forwarder.Tx) error {
			if err := tx.DeleteDestination(dns.Key(), dest(dns, 1)); err != nil {
				return err
			}
			return tx.DeleteDestination(s.Key(), dest(s, 1))
		})
		return r
	}
	ack, datagram := talk4(40000, 80).tcp(frame.ACK), talk4(40000, 53).udp()
	t.Run("drop", func(t *testing.T) {
		r := begin(t, forwarder.GoneDrop)
		r.expect(ack, forwarder.DestGone)
		r.expect(datagram, forwarder.DestGone)
		r.expect(talk4(40000, 80).tcp(frame.SYN), forwarder.DestGone)
		if n := r.Stats().Flows; n != 2 {
			t.Fatalf("%d flows are left, want both", n)
		}
	})
	t.Run("reschedule", func(t *testing.T) {
		r := begin(t, forwarder.GoneReschedule)
		r.goesTo(ack, 2)
		r.goesTo(datagram, 2)
		if d := r.Services()[0].Destinations[0]; d.Active != 1 || d.Inactive != 0 || r.Stats().Flows != 2 {
			t.Fatalf("the flow is counted as %+v", d)
		}
		r.update(func(tx *forwarder.Tx) error { return tx.Flush() })
		r.expect(ack, forwarder.NotOurs)
		r.serve(service("TCP "+vip4+":81", "rr"), 1) // the VIP is back, the port is not
		r.expect(ack, forwarder.DestGone)
	})
	t.Run("reset", func(t *testing.T) {
		r := begin(t, forwarder.GoneReset)
		if _, above := answer(r, ack); above.LayerContents()[13] != frame.RST {
			t.Fatalf("the client gets %v", above)
		}
		r.goesTo(datagram, 2)
		if n := r.Stats().Flows; n != 1 {
			t.Fatalf("%d flows are left, want the datagrams'", n)
		}
		r.expect(ack, forwarder.NoFlow)
		r.goesTo(talk4(40000, 80).tcp(frame.SYN), 2)
	})
	t.Run("reset, and the client begins again", func(t *testing.T) {
		r := begin(t, forwarder.GoneReset)
		r.goesTo(talk4(40000, 80).tcp(frame.SYN), 2)
	})
}

// TestExpireNodestConn: with expire_nodest_conn the flows of a removed realserver end with it, and
// those of a quiesced one when their client begins again.
func TestExpireNodestConn(t *testing.T) {
	r := start(t)
	s := service("TCP "+vip4+":80", "rr")
	key := r.serve(s, 1, 2)
	r.set(func(set *forwarder.Settings) { set.ExpireNodestConn = true })
	for n := range uint16(4) {
		r.goesTo(talk4(40000+n, 80).tcp(frame.SYN), int(n)%2+1)
	}
	r.update(func(tx *forwarder.Tx) error { return tx.DeleteDestination(key, dest(s, 1)) })
	if n := r.Stats().Flows; n != 2 {
		t.Fatalf("%d flows are left, want those of realserver 2", n)
	}
	r.goesTo(talk4(40001, 80).tcp(frame.ACK), 2)
	r.expect(talk4(40000, 80).tcp(frame.ACK), forwarder.NoFlow)

	r.update(func(tx *forwarder.Tx) error { return tx.AddDestination(key, dest(s, 1)) })
	r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(key, dest(s, 2, weight(0))) })
	r.goesTo(talk4(40001, 80).tcp(frame.ACK), 2)
	r.goesTo(talk4(40001, 80).tcp(frame.SYN), 1)
}

// TestSetNeighbour: a realserver for whose address nobody answers gets no flows until somebody
// does.
func TestSetNeighbour(t *testing.T) {
	r := start(t)
	s := service("TCP "+vip4+":80", "rr")
	r.serve(s, 1, 2)
	r.goesTo(talk4(40000, 80).tcp(frame.SYN), 1)
	r.must(r.SetNeighbour(0, server(1, false), frame.MAC{}))
	r.expect(talk4(40000, 80).tcp(frame.ACK), forwarder.Unresolved)
	if d := r.one().Destinations[0]; !d.Unreachable || d.MAC != (frame.MAC{}) {
		t.Fatalf("realserver 1 is %+v", d)
	}
	for n := range uint16(3) {
		r.goesTo(talk4(40001+n, 80).tcp(frame.SYN), 2)
	}
	r.must(r.SetNeighbour(1, server(1, false), serverMAC(9))) // on a leg where it does not live
	r.goesTo(talk4(40010, 80).tcp(frame.SYN), 2)
	r.must(r.SetNeighbour(0, server(1, false), serverMAC(7)))
	r.goesTo(talk4(40000, 80).tcp(frame.ACK), 7)
	r.goesTo(talk4(40020, 80).tcp(frame.SYN), 7)
	if d := r.one().Destinations[0]; d.Unreachable || d.MAC != serverMAC(7) {
		t.Fatalf("realserver 1 is %+v", d)
	}
	r.expect(changed(talk4(40000, 80).tcp(frame.ACK), 6, 2, 0, 0, 0, 1, 7), forwarder.LoopGuard)
	r.expect(changed(talk4(40000, 80).tcp(frame.ACK), 6, 2, 0, 0, 0, 1, 1), forwarder.Forwarded) // nobody's MAC any more
}

// TestAwaitedNeighbour: as long as a realserver that could take it is being asked for, a client is
// not told that nobody is there.
func TestAwaitedNeighbour(t *testing.T) {
	r := start(t)
	s := service("TCP "+vip4+":80", "rr")
	r.update(func(tx *forwarder.Tx) error {
		if err := tx.AddService(s); err != nil {
			return err
		}
		return tx.AddDestination(s.Key(), dest(s, 1))
	})
	syn := talk4(40000, 80).tcp(frame.SYN)
	told := func(want int, v forwarder.Verdict) {
		t.Helper()
		r.expect(syn, v)
		if out := r.give(syn); len(out) != want {
			t.Fatalf("%d frames come out, want %d", len(out), want)
		}
		if x := r.explained(talk4(40000, 80), frame.TCP); x.Verdict != v {
			t.Fatalf("explained as %q, want %q", x.Verdict, v)
		}
	}
	at := forwarder.Neighbour{Hop: forwarder.Hop{Leg: 0, Addr: server(1, false)}}
	told(0, forwarder.Unresolved)
	r.must(r.SetNeighbours([]forwarder.Neighbour{at}))
	told(1, forwarder.NoDestination)
	at.Asked = true
	r.must(r.SetNeighbours([]forwarder.Neighbour{at}))
	told(0, forwarder.Unresolved)
	r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), dest(s, 1, weight(0))) })
	told(1, forwarder.NoDestination)
	r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), dest(s, 1)) })
	at.MAC = serverMAC(1)
	r.must(r.SetNeighbours([]forwarder.Neighbour{at}))
	r.goesTo(syn, 1)
}
