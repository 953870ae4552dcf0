package forwarder

import (
	"fmt"
	"time"
)

// Maintain does what is to be done now and then, and should be called once a second: it measures
// rates, lets destinations that start slowly have more, and ends the patience with those that
// drain. It never waits for traffic longer than the workers take for a batch. The error is that of
// a configuration which could not be built, and leaves all as it was.
func (e *Engine) Maintain() error {
	c := e.Control
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mended()
	now := c.clock()
	if now.Sub(c.estimated) >= EstimatePeriod {
		c.estimated = now
		c.estimate()
		c.noteClients()
		c.state.retry(c)
	}
	if forgot, moved := c.sweepGone(), c.progress(now); forgot || moved {
		return c.commit()
	}
	return nil
}

// estimate measures the rates of all services and destinations.
func (c *Control) estimate() {
	services, dests := c.totals()
	for id, svc := range c.byID {
		if svc != nil {
			svc.rates.add(services[id])
		}
	}
	for id, d := range c.dests {
		if d != nil {
			d.rates.add(dests[id])
		}
	}
}

// Zero has the counters of a service and its destinations shown from zero on, or of all services if
// key is nil (ipvsadm -Z). Numbers of connections and rates stay.
func (e *Engine) Zero(key *ServiceKey) error {
	c := e.Control
	c.mu.Lock()
	defer c.mu.Unlock()
	if key != nil && c.services[*key] == nil {
		return fmt.Errorf("%s: %w", key, ErrNoService)
	}
	services, dests := c.totals()
	for id, svc := range c.byID {
		if svc == nil || key != nil && svc.spec.Key() != *key {
			continue
		}
		svc.zero = services[id]
		c.state.zero(svc.id, svc.zero)
		for _, d := range svc.dests {
			d.zero = dests[d.id]
			c.state.zeroDest(d.id, d.zero)
		}
	}
	return nil
}

// totals adds up the counters of all workers, by id.
func (c *Control) totals() (services, dests []Counts) {
	services = make([]Counts, len(c.byID))
	dests = make([]Counts, len(c.dests))
	for _, w := range c.workers {
		addUp(w, services, &w.services)
		addUp(w, dests, &w.dests)
	}
	return services, dests
}

// totalsStep is how many counters a worker is kept from its frames for at a time.
const totalsStep = 8192

// addUp adds a worker's counters to sums, in short steps between batches.
func addUp(w *Worker, sums []Counts, counters *[]Counts) {
	for start := 0; start < len(sums); start += totalsStep {
		end := min(start+totalsStep, len(sums))
		var part [totalsStep]Counts
		w.Do(func() {
			for i := start; i < end; i++ {
				part[i-start] = at(*counters, i)
			}
		})
		for i := start; i < end; i++ {
			sums[i].add(part[i-start])
		}
	}
}

// progress moves on slow starts and drains, and reports whether anything changed.
func (c *Control) progress(now time.Time) (changed bool) {
	for _, svc := range c.byID {
		if svc == nil {
			continue
		}
		for _, d := range svc.dests {
			if ramp := d.rampAt(now, svc.spec.SlowStart); ramp != d.ramp {
				d.ramp, changed = ramp, true
				c.touch(svc)
			}
			if d.spec.Weight == 0 && d.spec.Drain > 0 && !d.drained && !d.drainedSince.IsZero() && now.Sub(d.drainedSince) >= d.spec.Drain {
				d.drained, changed = true, true
				c.touchedDests = append(c.touchedDests, d.id)
			}
		}
	}
	return changed
}

// fullRamp is the ramp of a destination that has its whole share: see scheduler.Destination.
const fullRamp = 0

// rampAt is how many thousandths of its share a destination has at a time after it came; 0 is all.
func (d *destState) rampAt(now time.Time, slowStart time.Duration) int32 {
	age := now.Sub(d.came)
	if slowStart <= 0 || d.came.IsZero() || age >= slowStart {
		return fullRamp
	}
	return int32(min(max(1000*age/slowStart, 1), 999))
}

// arrives notes that a destination may have new flows from now on, which it could not before.
func (c *Control) arrives(d *destState) {
	d.came = c.clock()
	d.ramp = d.rampAt(d.came, d.service.spec.SlowStart)
	if d.ramp != fullRamp {
		c.touch(d.service)
	}
}

// touch has the schedulers of a service made anew by the next commit.
func (c *Control) touch(svc *serviceState) {
	svc.dirty = true
	c.touchedServices = append(c.touchedServices, svc.id)
}

// weighs notes the weight that a destination has now, and had before: a drain begins or ends, a
// slow start begins.
func (c *Control) weighs(d *destState, before int32) {
	switch {
	case d.spec.Weight == 0 && before != 0:
		d.drainedSince = c.clock()
	case d.spec.Weight == 0:
		// It may have been given more time.
		d.drained = d.drained && d.spec.Drain > 0 && c.clock().Sub(d.drainedSince) >= d.spec.Drain
	case d.spec.Weight != 0:
		d.drained, d.drainedSince = false, time.Time{}
		if before == 0 {
			c.arrives(d)
		}
	}
}
