// Package delta tells all that follow the engine what a change brings and takes: the filters of the
// rings, the guard, the resolver, the responder and the announcer. Each one is a [Subscriber]. All
// get the same [Delta], in one order.
//
// A source of changes (the file, the control socket, the interfaces) describes a [Change] and gives
// it to [Teller.Change], together with the transaction of the engine.
package delta

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// A Delta is what one step of a change brings and takes. Subscribers must not change it. They may
// keep its slices, which stay as they are.
type Delta struct {
	VIPs []netip.Addr // all VIPs when the step is done, sorted; only there if VIPs come or go, or if Interfaces or Own is there
	Come []netip.Addr // VIPs that come, each once
	Gone []netip.Addr // VIPs that go, each once; only in Settle

	Resolve []forwarder.Neighbour // realservers that come to a leg, and those that get another static MAC
	Forget  []forwarder.Hop       // realservers that leave a leg; only in Settle

	Interfaces []string      // names of the legs' interfaces, if one was replaced or renamed; otherwise nil
	Own        []netip.Addr  // addresses of this host, if they may have changed; otherwise nil
	Wait       time.Duration // how long a subscriber may wait in Prepare until what comes can be used
}

// A Subscriber follows what the engine serves. Its methods are called by one goroutine at a time.
type Subscriber interface {
	// Prepare is called before the engine changes, in the order of the subscribers. What comes must
	// work when Prepare returns. An error refuses the change.
	Prepare(d *Delta) error
	// Settle is called when the engine has changed, in the reverse order. After a refusal it is
	// called too, for those that were asked to prepare: Gone and Forget then list what was to come.
	// An error is logged, and the change stays.
	Settle(d *Delta) error
}

// Engine is what the deltas are measured by: what it serves after a transaction.
type Engine interface {
	Serves(vip netip.Addr) bool
	InUse(h forwarder.Hop) bool
}

// A Change names what a transaction may bring or take. What it names and does not change is told to
// nobody.
type Change struct {
	VIPs        []netip.Addr          // of services that may come or go
	Realservers []forwarder.Neighbour // that may come or go; those that come have the MAC that the configuration gives, if any
	All         bool                  // all that was told before may go, too
	Interfaces  []string              // as in Delta
	Own         []netip.Addr          // as in Delta
	Wait        time.Duration         // as in Delta
}

// Teller tells the subscribers. It is not safe for several goroutines.
type Teller struct {
	engine      Engine
	log         *slog.Logger
	subscribers []Subscriber
	vips        map[netip.Addr]bool         // as they were told, and
	sorted      []netip.Addr                // the same; each change makes another slice
	hops        map[forwarder.Hop]frame.MAC // with their static MACs, as they were told
}

// NewTeller makes a Teller that has told nothing yet. The order of the subscribers is that of
// Prepare.
func NewTeller(engine Engine, log *slog.Logger, subscribers ...Subscriber) *Teller {
	return &Teller{engine: engine, log: log, subscribers: subscribers, vips: map[netip.Addr]bool{}, hops: map[forwarder.Hop]frame.MAC{}}
}

// Change has the subscribers prepare, calls commit, and has them settle. If a subscriber or commit
// refuses, the subscribers go back to what was before, and Change returns the error. A nil commit
// stands for an engine that changed already.
func (t *Teller) Change(c Change, commit func() error) error {
	s := t.begin(&c)
	asked := 0
	var err error
	for asked < len(t.subscribers) && err == nil {
		err = t.subscribers[asked].Prepare(&s.Delta)
		asked++
	}
	if err == nil && commit != nil {
		err = commit()
	}
	after := t.after(s, err != nil)
	for _, sub := range slices.Backward(t.subscribers[:asked]) {
		if e := sub.Settle(after); e != nil {
			t.log.Error("not all follow the change of the services", "error", e)
			if err != nil {
				err = errors.Join(err, e)
			}
		}
	}
	return err
}

// step is a Delta for Prepare, and what is needed for the one that follows it.
type step struct {
	Delta
	change *Change
	was    map[forwarder.Hop]frame.MAC // MACs that were told before, of those in Resolve
}

// begin finds what is new in a change, and notes it as told.
func (t *Teller) begin(c *Change) *step {
	s := &step{change: c, was: map[forwarder.Hop]frame.MAC{}}
	s.Interfaces, s.Own, s.Wait = c.Interfaces, c.Own, c.Wait
	for _, v := range c.VIPs {
		if !t.vips[v] {
			t.vips[v] = true
			s.Come = append(s.Come, v)
		}
	}
	for _, n := range c.Realservers {
		h := n.Hop
		mac, told := t.hops[h]
		if told && mac == n.MAC {
			continue
		}
		if told {
			s.was[h] = mac
		}
		t.hops[h] = n.MAC
		s.Resolve = append(s.Resolve, n)
	}
	if len(s.Come) > 0 { // which are few in most cases: sorting what is nearly sorted takes little
		t.sorted = slices.Concat(t.sorted, s.Come)
		slices.SortFunc(t.sorted, netip.Addr.Compare)
	}
	s.VIPs = t.all(&s.Delta)
	return s
}

// after finds what came and what went.
func (t *Teller) after(s *step, refused bool) *Delta {
	d := &Delta{Interfaces: s.Interfaces, Own: s.Own}
	for _, v := range s.Come {
		if t.engine.Serves(v) {
			d.Come = append(d.Come, v)
		}
	}
	vips, hops := s.change.VIPs, make([]forwarder.Hop, 0, len(s.change.Realservers))
	for _, n := range s.change.Realservers {
		hops = append(hops, n.Hop)
	}
	if s.change.All {
		vips, hops = t.sorted, slices.Collect(maps.Keys(t.hops))
	}
	for _, v := range vips {
		if t.vips[v] && !t.engine.Serves(v) {
			delete(t.vips, v)
			d.Gone = append(d.Gone, v)
		}
	}
	for _, h := range hops {
		if _, told := t.hops[h]; told && !t.engine.InUse(h) {
			delete(t.hops, h)
			d.Forget = append(d.Forget, h)
		}
	}
	if refused {
		for h, mac := range s.was {
			t.hops[h] = mac
			d.Resolve = append(d.Resolve, forwarder.Neighbour{Hop: h, MAC: mac})
		}
	}
	if len(d.Gone) > 0 {
		t.sorted = slices.DeleteFunc(slices.Clone(t.sorted), func(v netip.Addr) bool { return !t.vips[v] })
	}
	d.VIPs = t.all(d)
	return d
}

// all lists all VIPs if a subscriber may need them for d.
func (t *Teller) all(d *Delta) []netip.Addr {
	if len(d.Come)+len(d.Gone) == 0 && d.Interfaces == nil && d.Own == nil {
		return nil
	}
	return t.sorted
}
