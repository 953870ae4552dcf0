package forwarder_test

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// flood is a SYN of client number n, of whom no two are alike.
func flood(n int) frame.Frame {
	a := netip.AddrFrom4([4]byte{100, 64, byte(n >> 8), byte(n)})
	return talk{netip.AddrPortFrom(a, 40000), netip.AddrPortFrom(addr(vip4), 80)}.tcp(frame.SYN)
}

// counted adds up what the realservers say they have.
func (r *rig) counted() (active, inactive int) {
	for _, s := range r.Services() {
		for _, d := range s.Destinations {
			active += int(d.Active)
			inactive += int(d.Inactive)
		}
	}
	return active, inactive
}

// TestFloodSparesEstablished: when the table is full, connections that were never completed make
// room for the new, and whoever has a connection keeps it.
func TestFloodSparesEstablished(t *testing.T) {
	r := start(t)
	r.serve(service("TCP "+vip4+":80", "rr"), 1, 2, 3)
	const established = 500
	homes := map[uint16]int{}
	for n := range uint16(established) {
		homes[n] = r.converse(talk4(1024+n, 80))
	}
	r.provenBy(established)
	for n := range 20000 {
		r.give(flood(n))
		if n%1000 == 0 {
			r.after(100 * time.Millisecond)
		}
	}
	s := r.Stats()
	if s.Flows > s.Capacity || s.Table.Evicted == 0 || s.Verdicts[forwarder.TableFull] > 200 {
		t.Fatalf("after the flood: %d flows of %d, %d ended early, %d refused", s.Flows, s.Capacity, s.Table.Evicted, s.Verdicts[forwarder.TableFull])
	}
	for n, home := range homes {
		r.goesTo(talk4(1024+n, 80).tcp(frame.ACK), home)
	}
	if active, inactive := r.counted(); active+inactive != r.Stats().Flows {
		t.Fatalf("realservers have %d active and %d inactive connections, the table %d", active, inactive, r.Stats().Flows)
	}
}

// TestHandshakesInAFlood: in a full table the oldest of the connections that were never completed
// makes room, so that a handshake that takes as long as fifty other SYNs is completed.
func TestHandshakesInAFlood(t *testing.T) {
	r := start(t)
	r.serve(service("TCP "+vip4+":80", "rr"), 1, 2, 3)
	n := 0
	more := func(count int) {
		for range count {
			r.give(flood(n))
			r.after(10 * time.Millisecond) // a flow lives for some ten seconds then
			n++
		}
	}
	more(5000)
	completed := 0
	for client := range uint16(100) {
		k := talk4(1024+client, 80)
		home := serverOf(r.give(k.tcp(frame.SYN))[0])
		more(50)
		if out := r.give(k.tcp(frame.ACK)); len(out) == 1 && serverOf(out[0]) == home {
			completed++
		}
	}
	if completed < 95 {
		t.Errorf("%d of 100 handshakes were completed", completed)
	}
}

// TestRefuseWhenFull: by the other policy nobody is ended early, and what finds no room is refused
// and leaves no trace.
func TestRefuseWhenFull(t *testing.T) {
	r := start(t)
	r.serve(service("TCP "+vip4+":80", "rr"), 1, 2, 3)
	r.set(func(s *forwarder.Settings) { s.RefuseWhenFull = true })
	homes := map[int]int{}
	for n := range 3000 {
		if out := r.give(flood(n)); len(out) == 1 {
			homes[n] = serverOf(out[0])
		}
	}
	s := r.Stats()
	if s.Flows != len(homes) || s.Table.Evicted != 0 || s.Verdicts[forwarder.TableFull] != uint64(3000-len(homes)) || s.Table.Refused != uint64(3000-len(homes)) {
		t.Fatalf("%d flows went on; %+v", len(homes), s)
	}
	if s.Flows < s.Capacity*98/100 || s.Flows > s.Capacity {
		t.Fatalf("the table of %d is full with %d", s.Capacity, s.Flows)
	}
	for n, home := range homes {
		r.goesTo(flood(n), home)
	}
	if active, inactive := r.counted(); active != len(homes) || inactive != 0 {
		t.Fatalf("realservers have %d active and %d inactive connections, want %d and 0", active, inactive, len(homes))
	}
	r.after(2 * time.Minute)
	r.goesTo(flood(5000), 1+3000%3) // and the scheduler was asked for all that were refused, as the kernel's is
}

// TestFullAddsUp: whatever comes while the table is full, of persistent services too, the counts of
// realservers are those of the flows and templates that there are.
func TestFullAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t)
		defer r.Close()
		persistence := rapid.SampledFrom([]time.Duration{0, 30 * time.Second}).Draw(t, "persistence")
		s := service("TCP "+vip4+":80", "wlc", func(s *forwarder.Service) { s.Persistence = persistence })
		r.serve(s, 1, 2, 3)
		refuse := rapid.Bool().Draw(t, "refuse")
		gone := rapid.SampledFrom([]forwarder.GonePolicy{forwarder.GoneDrop, forwarder.GoneReschedule, forwarder.GoneReset}).Draw(t, "gone")
		r.set(func(s *forwarder.Settings) { s.RefuseWhenFull, s.Gone = refuse, gone })
		for n := range 1300 {
			r.give(flood(n))
		}
		for range 30 {
			n := rapid.IntRange(0, 1500).Draw(t, "client")
			flags := rapid.SampledFrom([]uint8{frame.SYN, frame.ACK, frame.RST | frame.ACK, frame.FIN | frame.ACK}).Draw(t, "flags")
			r.give(changed(flood(n), 47, flags))
			switch rapid.IntRange(0, 9).Draw(t, "now and then") {
			case 0:
				r.after(wholeSteps(31 * time.Second))
			case 1:
				r.must(r.Update(func(tx *forwarder.Tx) error { _ = tx.DeleteDestination(s.Key(), dest(s, 1)); return nil }))
			case 2:
				r.must(r.Update(func(tx *forwarder.Tx) error { _ = tx.AddDestination(s.Key(), dest(s, 1)); return nil }))
			}
			// A realserver that is gone is not listed; when it is back, all that happened meanwhile
			// has to add up.
			flows, templates := map[netip.Addr]int{}, map[netip.Addr]int{}
			for _, c := range r.conns() {
				if c.Template {
					templates[c.Destination.Addr()]++
				} else {
					flows[c.Destination.Addr()]++
				}
			}
			for _, d := range r.one().Destinations {
				if int(d.Active+d.Inactive) != flows[d.Addr] || int(d.Persistent) != templates[d.Addr] {
					t.Fatalf("%v says %d active, %d inactive, %d templates; there are %d flows, %d templates", d.Addr, d.Active, d.Inactive, d.Persistent,
						flows[d.Addr], templates[d.Addr])
				}
			}
		}
	})
}
