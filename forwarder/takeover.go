package forwarder

import (
	"errors"
	"slices"
	"sync/atomic"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// keep decides about an entry that was taken over, and counts it. See flow.Resume.
func (s *state) keep(k *flow.Key, e *flow.Entry) bool {
	// A flow that has had no packet was about to begin when the process ended, and it is not sure
	// with which destination.
	if !k.Kind.IsTemplate() && e.Packets == 0 || !s.names.fits(k, e.Dest) {
		return false
	}
	s.tally[e.Dest].count(e)
	return true
}

// restore makes the control plane know what was taken over: numbers go on to mean what they meant;
// destinations are there as removed ones, so that those which the configuration has are taken up
// again with their flows.
func (s *state) restore(c *Control) error {
	c.vipAddrs = make([]frame.Addr, len(s.names.vips))
	for id, v := range s.names.vips {
		switch {
		case v.addr != frame.Addr{}:
			c.vipAddrs[id] = v.addr
			c.vipIDs[v.addr] = uint16(id)
			if err := c.reserveFor(v.addr); err != nil {
				return err
			}
		case v.group != ServiceKey{}:
			c.groupIDs[v.group] = uint16(id)
		}
	}
	c.kept, c.reserved = map[ServiceKey]keptService{}, map[uint16]bool{}
	former := map[ServiceKey]*serviceState{}
	for id, key := range s.names.services {
		k := keptService{id: id, zero: s.zeros.growServices(nil, int(id)+1)[id]}
		for _, w := range c.workers {
			k.rates.last.add(at(w.services, int(id)))
		}
		c.kept[key], c.reserved[id] = k, true
		former[key] = &serviceState{id: id, spec: key.service()}
	}
	zeros := s.zeros.growDests(nil, len(s.names.dests))
	c.dests = make([]*destState, len(s.names.dests))
	for id, d := range s.names.dests {
		if !d.known {
			c.freeDests = append(c.freeDests, uint32(id))
			continue
		}
		svc := former[d.service]
		if svc == nil {
			svc = &serviceState{spec: d.service.service()}
			former[d.service] = svc
		}
		n := s.tally[id]
		state := &destState{
			id: uint32(id), service: svc, spec: Destination{Addr: d.addr, Port: d.port}, load: c.loads.New(), templates: new(atomic.Int32),
			removed: c.clock(), restored: true, zero: zeros[id],
		}
		state.load.Restore(n.active, n.inactive)
		state.templates.Store(n.templates)
		for _, w := range c.workers {
			state.rates.last.add(at(w.dests, id))
		}
		c.dests[id] = state
		c.gone[d.destKey] = state
		c.join(state, c.hop(Hop{Addr: d.addr}))
		c.touchedDests = append(c.touchedDests, state.id)
	}
	return nil
}

// reserveFor makes sure that the tables have memory for flows to a VIP. Where the files have no
// room it is the process's own.
func (c *Control) reserveFor(vip frame.Addr) error {
	if vip.Is4() || c.v6 {
		return nil
	}
	for _, w := range c.workers {
		if err := w.table.ReserveIPv6(); errors.Is(err, flow.ErrOwnMemory) {
			c.state.lose(err)
		} else if err != nil {
			return err
		}
	}
	c.v6 = true
	return nil
}

// keptService is what is left of a service of the process before, until it is added again.
type keptService struct {
	id    uint16
	zero  Counts
	rates estimator
}

// service is as much of a service as its key tells.
func (k ServiceKey) service() Service {
	s := Service{Mark: k.Mark, V6: k.V6, Name: k.Name}
	if k.Mark == 0 && k.Name == "" {
		s.Matches = []Match{{Addr: k.Addr, Proto: k.Proto, First: k.Port, Last: k.Port}}
		if k.Port == 0 {
			s.Matches[0].Last = 65535
		}
	}
	return s
}

// freeService finds an id for a service: the one that it had in the process before, or one that is
// nobody's.
func (c *Control) freeService(key ServiceKey) int {
	if k, ok := c.kept[key]; ok {
		return int(k.id)
	}
	id := c.freeID
	for id < len(c.byID) && c.byID[id] != nil || c.reserved[uint16(id)] {
		id++
	}
	c.freeID = id
	return id
}

// takeUp gives a new service what it had in the process before, if it was there.
func (tx *Tx) takeUp(svc *serviceState) {
	c, key := tx.c, svc.spec.Key()
	k, ok := c.kept[key]
	if !ok {
		return
	}
	svc.zero, svc.rates = k.zero, k.rates
	delete(c.kept, key)
	delete(c.reserved, k.id)
	c.going = append(c.going, k.id)
	tx.undo = append(tx.undo, func() {
		c.kept[key], c.reserved[k.id] = k, true
		c.going = c.going[:len(c.going)-1]
	})
}

// counting are the new services whose counters start at zero.
func (c *Control) counting() []uint16 {
	if len(c.going) == 0 {
		return c.anew
	}
	going := map[uint16]bool{}
	for _, id := range c.going {
		going[id] = true
	}
	return slices.DeleteFunc(slices.Clone(c.anew), func(id uint16) bool { return going[id] })
}
