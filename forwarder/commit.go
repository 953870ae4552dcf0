package forwarder

import (
	"fmt"
	"math"
	"slices"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// commit makes the next snapshot and has all workers adopt it. It makes anew what was touched since
// the last one, so that an edit costs the same whether there are ten realservers or a hundred
// thousand.
func (c *Control) commit() error {
	slices.Sort(c.touchedServices)
	c.touchedServices = slices.Compact(c.touchedServices)
	for _, id := range c.touchedServices {
		if svc := c.byID[id]; svc != nil && svc.dirty {
			if err := c.build(svc); err != nil {
				return err
			}
		}
	}
	old := c.snap
	if old == nil {
		old = &snapshot{}
	}
	s := &snapshot{
		legs: c.legs, settings: c.settings, vipAddrs: c.vipAddrs, vips: old.vips, ports: old.ports, timeouts: flow.DefaultTimeouts(),
		edits: &edits{
			services: make([]serviceEdit, len(c.touchedServices)), numServices: len(c.byID), anew: c.counting(),
			dests: make([]destEdit, len(c.touchedDests)), numDests: len(c.dests), fresh: c.fresh,
			beside: c.beside,
		},
	}
	s.timeouts.Set(c.settings.TCPTimeout, c.settings.TCPFinTimeout, c.settings.UDPTimeout)
	slices.Sort(c.anew)
	for i, id := range c.touchedServices {
		e, svc := &s.edits.services[i], c.byID[id]
		e.id = id
		c.fillService(&e.service, svc)
		if svc != nil && svc.dirty {
			svc.dirty, svc.changes = false, nil
			// The instances of a new service have nothing to take over. That it takes a while does
			// not matter here.
			if contains(c.anew, id) {
				for _, instance := range svc.sched {
					instance.Take(nil)
				}
			} else {
				e.takes = true
			}
		}
	}
	for i, id := range c.touchedDests {
		e := &s.edits.dests[i]
		e.id = id
		c.fillDest(&e.dest, c.dests[id])
	}
	if c.settings.ExpireNodestConn && !c.beginning {
		for _, d := range c.dests {
			if d != nil && !d.available() {
				s.edits.gone = append(s.edits.gone, d.id)
			}
		}
	}
	for _, m := range c.touchedMACs {
		s.edits.macs = append(s.edits.macs, macEdit{m, c.macs[m] > 0 && !c.fromClients(m)})
	}
	if c.reshape {
		c.fillTables(s)
	}
	c.state.write(c, s.edits.fresh, s.edits.anew)
	c.snap = s
	c.going = nil
	c.fresh, c.anew, c.touchedServices, c.touchedDests, c.touchedMACs, c.reshape = nil, nil, nil, nil, nil, false
	ready := make([]*snapshot, len(c.workers))
	for i, w := range c.workers {
		ready[i] = w.prepare(s)
	}
	for i, w := range c.workers {
		w.Do(func() { w.adopt(s, ready[i]) })
	}
	for i, w := range c.workers {
		w.settle(s, ready[i])
	}
	s.edits = nil // their memory is of no use any more
	return nil
}

// build makes the scheduler instances of a service for all workers.
func (c *Control) build(svc *serviceState) error {
	list := make([]scheduler.Destination, len(svc.dests))
	ids := make([]uint32, len(svc.dests))
	for i, d := range svc.dests {
		list[i] = scheduler.Destination{ID: d.id, Addr: d.spec.Addr, Port: d.spec.Port, Weight: d.spec.Weight,
			LastWeight: d.lastWeight, Load: d.load, Ramp: d.ramp}
		ids[i] = d.id
	}
	first, err := scheduler.Build(svc.spec.Scheduler, svc.spec.Options, list, svc.changes)
	if err != nil {
		return fmt.Errorf("service %s: %w", svc.spec.Key(), err)
	}
	scheds := make([]scheduler.Scheduler, len(c.workers))
	for i := range scheds {
		if scheds[i] = first; i > 0 {
			scheds[i] = first.Fork()
		}
	}
	svc.sched, svc.list = scheds, ids
	return nil
}

// fillService writes what the datapath needs of a service, or of none.
func (c *Control) fillService(out *service, svc *serviceState) {
	if svc == nil {
		*out = service{}
		return
	}
	spec := &svc.spec
	*out = service{present: true, persistent: spec.Persistence > 0, onePacket: spec.OnePacket,
		hashed: scheduler.Hashed(spec.Scheduler), key: spec.Key(),
		timeout: flow.Ticks(spec.Persistence), list: svc.list, sched: svc.sched,
		blind: len(svc.sched) > 0 && !scheduler.ReadsRequest(svc.sched[0])}
	out.mask4, out.mask6 = prefixMask(spec.MaskBits)
	if spec.Mark != 0 || len(spec.Matches) > 1 || len(spec.Matches) == 1 && spec.Matches[0].First != spec.Matches[0].Last && !spec.Matches[0].allPorts() {
		out.group = true
		out.vip = c.groupIDs[spec.Key()]
	} else if len(spec.Matches) == 1 {
		out.port = spec.Matches[0].First
		out.all = spec.Matches[0].allPorts()
	}
}

// available reports whether it is a realserver of its service, and not one whose time to drain is
// over.
func (d *destState) available() bool { return d.removed.IsZero() && !d.drained }

// fillDest writes what the datapath needs of a destination, or of none.
func (c *Control) fillDest(out *dest, d *destState) {
	if d == nil {
		*out = dest{}
		return
	}
	mac := d.hop.mac
	*out = dest{mac: mac, out: d.spec.Leg, available: d.available(), resolved: !mac.IsZero(), asked: d.hop.asked, service: d.service.id,
		mtu: c.mtu(d.spec.Leg), vlan: c.legs[d.spec.Leg].VLAN, weight: d.spec.Weight, load: d.load, templates: d.templates}
	// Only now that the transaction succeeds: the workers read the load while it is under way.
	d.load.SetThresholds(d.spec.Upper, d.spec.Lower)
	d.load.SetUnreachable(mac.IsZero())
}

// mtu is the length of the longest packet that leaves by a leg.
func (c *Control) mtu(leg frame.Leg) uint32 {
	if int(leg) >= len(c.legs) || c.legs[leg].MTU == 0 {
		return math.MaxUint32
	}
	return c.legs[leg].MTU
}

func (c *Control) fillTables(s *snapshot) {
	seen := make([]bool, len(c.vipAddrs))
	vips := make([]vipSlot, 0, len(c.vipAddrs))
	claims := make([]claim, 0, len(c.byID))
	for _, svc := range c.byID {
		if svc == nil {
			continue
		}
		for i, m := range svc.spec.Matches {
			vip := svc.vips[i]
			if !seen[vip] {
				seen[vip] = true
				vips = append(vips, vipSlot{frame.AddrFrom(m.Addr), uint32(vip) + 1})
			}
			kind := flow.KindOf(m.Proto)
			cl := claim{slot: int(vip)*4 + int(kind), first: m.First, last: m.Last, service: svc.id}
			switch {
			case svc.spec.Mark != 0:
				cl.rank = rankMark
			case m.First == m.Last:
				cl.rank = rankPort
			case m.allPorts():
				cl.rank = rankAll
			default:
				cl.rank = rankRange
			}
			claims = append(claims, cl)
			if cl.rank == rankPort && m.Proto == frame.TCP && m.First == 21 {
				for _, r := range [][2]uint16{{20, 20}, {1024, 65535}} {
					cl.rank, cl.first, cl.last = rankFTP, r[0], r[1]
					claims = append(claims, cl)
				}
			}
		}
	}
	s.vips = newVIPTable(vips)
	s.ports = newPortTable(claims, len(c.vipAddrs))
}
