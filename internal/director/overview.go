package director

import (
	"time"

	"shunt/api"
)

// Overview is all that a screen shows.
func (d *Director) Overview() api.Overview {
	o := api.Overview{
		Status: d.Status(), Now: time.Now(), Workers: len(d.rings), Services: d.Services(), Neighbours: d.Neighbours(),
		Legs: make([]api.Leg, len(d.legs)), Conflicts: d.outcomes.claims(), Guard: d.guarded.state(),
	}
	o.Reload, o.Drift = d.outcomes.reload(), d.Drift()
	p := d.engine.Probes()
	o.Probes.Mean = p.Mean()
	if p.Buckets > 0 {
		o.Probes.Full = float64(p.Full) / float64(p.Buckets)
	}
	if o.Services == nil {
		o.Services = []api.Service{}
	}
	if o.Neighbours == nil {
		o.Neighbours = []api.Neighbour{}
	}
	copy(o.Legs, d.legsSeen())
	for _, r := range d.rings {
		s := r.Stats()
		for _, l := range s.Legs {
			leg := &o.Legs[l.Leg]
			leg.Slots += l.Slots
			leg.InUse += l.InUse
			leg.Received += l.Received
			leg.Sent += l.Sent
			leg.RingFull += l.Dropped
			leg.NotSent += uint64(l.Lost.Total())
		}
		o.Latency.Sum += s.Latency.Sum.Seconds()
		if o.Latency.Counts == nil {
			o.Latency.Counts = make([]uint64, len(s.Latency.Counts))
			for _, b := range s.Latency.Bounds {
				o.Latency.Bounds = append(o.Latency.Bounds, b.Seconds())
			}
		}
		for i, n := range s.Latency.Counts {
			o.Latency.Counts[i] += n
		}
	}
	return o
}

// legsSeen are the legs without figures. While a change is under way, which may take long, they are as they were before it.
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
