package director

import (
	"time"

	"shunt/api"
	"shunt/forwarder/ring"
)

// Overview is all that a screen shows.
func (d *Director) Overview() api.Overview {
	rings := d.ringStats()
	o := api.Overview{
		Status: d.status(rings), Now: time.Now(), Workers: len(rings), Reload: d.outcomes.reload(), Drift: d.Drift(),
		Latency: latency(rings), Conflicts: d.outcomes.claims(), Guard: d.guarded.state(),
		Services: orEmpty(d.Services()), Neighbours: orEmpty(d.Neighbours()),
	}
	p := d.engine.Probes()
	o.Probes.Mean = p.Mean()
	if p.Buckets > 0 {
		o.Probes.Full = float64(p.Full) / float64(p.Buckets)
	}
	return o
}

// orEmpty has a list that is empty be one in JSON, too.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// ringCounters adds what the rings of all workers have counted to their legs, and returns what is
// not of a leg.
func ringCounters(legs []api.Leg, rings []ring.Stats) []api.RingCounters {
	out := make([]api.RingCounters, len(rings))
	for i := range rings {
		s := &rings[i]
		out[i] = api.RingCounters{Batches: s.Batches, Bytes: uint64(s.Memory)}
		for _, l := range s.Legs {
			leg := &legs[l.Leg]
			leg.Slots += l.Slots
			leg.InUse += l.InUse
			leg.Received += l.Received
			leg.Sent += l.Sent
			leg.RingFull += l.Dropped
			leg.NotSent += uint64(l.Lost.Total())
			leg.Oversize += l.Oversize
			leg.Truncated += l.Truncated
			leg.Damaged += l.Damaged
		}
	}
	return out
}

// latency adds up the histograms of all workers, which have the same bounds.
func latency(rings []ring.Stats) (out api.Latency) {
	for i := range rings {
		h := &rings[i].Latency
		if i == 0 {
			out.Counts = make([]uint64, len(h.Counts))
			for _, b := range h.Bounds {
				out.Bounds = append(out.Bounds, b.Seconds())
			}
		}
		for j, n := range h.Counts {
			out.Counts[j] += n
		}
		out.Sum += h.Sum.Seconds()
	}
	return out
}

// legsSeen are the legs without figures. While a change is under way, which may take long, they are
// as they were before it.
func (d *Director) legsSeen() []api.Leg {
	seen := d.seenLegs.Load()
	if seen == nil {
		d.mu.Lock()
	} else if !d.mu.TryLock() {
		return *seen
	}
	defer d.mu.Unlock()
	legs := make([]api.Leg, len(d.legs))
	for i, l := range d.legs {
		legs[i] = api.Leg{Name: l.name, Interface: l.iface, MAC: l.mac.String(), Up: l.present && l.up, Public: l.isPub}
	}
	d.seenLegs.Store(&legs)
	return legs
}
