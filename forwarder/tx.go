package forwarder

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// A Tx is a transaction in progress: see Control.Update. It is valid until the function that it was
// given to returns.
type Tx struct {
	c    *Control
	undo []func()

	services, dests, macs int // how many were touched before it

	newVIPs []netip.Addr // of services, and
	newHops []Hop        // of realservers that came: see checkMixed
}

func (tx *Tx) rollback() {
	for _, f := range slices.Backward(tx.undo) {
		f()
	}
	tx.undo = nil
	tx.c.touchedServices = tx.c.touchedServices[:tx.services]
	tx.c.touchedDests = tx.c.touchedDests[:tx.dests]
	tx.c.touchedMACs = tx.c.touchedMACs[:tx.macs]
}

// maxServices bounds the number of services, whose ids have 16 bits in the snapshot's tables.
const maxServices = 60000

// AddService adds a virtual service without realservers (ipvsadm -A).
func (tx *Tx) AddService(s Service) error {
	c, key := tx.c, s.Key()
	if c.services[key] != nil {
		return fmt.Errorf("%s: %w", key, ErrServiceExists)
	}
	if err := checkService(&s); err != nil {
		return err
	}
	s.Matches = slices.Clone(s.Matches)
	id := c.freeService(key)
	if id >= maxServices {
		return fmt.Errorf("%s: no more than %d services: %w", key, maxServices, ErrInvalid)
	}
	for len(c.byID) <= id {
		c.byID = append(c.byID, nil)
	}
	vips, err := tx.number(&s)
	if err != nil {
		return err
	}
	tx.useVIPs(s.Matches, 1)
	svc := &serviceState{id: uint16(id), spec: s, vips: vips, dirty: true}
	c.byID[id], c.services[key] = svc, svc
	c.touchedServices = append(c.touchedServices, svc.id)
	reshape := c.reshape
	c.reshape = true
	anew := len(c.anew)
	c.anew = append(c.anew, uint16(id))
	tx.takeUp(svc)
	tx.undo = append(tx.undo, func() {
		c.byID[id] = nil
		c.freeID = min(c.freeID, id)
		delete(c.services, key)
		c.reshape, c.anew = reshape, c.anew[:anew]
	})
	return nil
}

// checkService refuses what the kernel refuses, and what makes no sense.
func checkService(s *Service) error {
	if len(s.Matches) == 0 {
		return fmt.Errorf("service %s has no address: %w", s.Name, ErrInvalid)
	}
	for _, m := range s.Matches {
		if err := CheckAddress(m.Addr); err != nil {
			return fmt.Errorf("service %s: VIP %w", s.Key(), err)
		}
		if m.Addr.Is6() != s.Matches[0].Addr.Is6() {
			return fmt.Errorf("service %s: %s and %s are of different families: %w", s.Key(), s.Matches[0].Addr, m.Addr, ErrInvalid)
		}
		if flow.KindOf(m.Proto) == 0 {
			return fmt.Errorf("service %s: protocol %s is not scheduled: %w", s.Key(), m.Proto, ErrInvalid)
		}
		if m.First > m.Last {
			return fmt.Errorf("service %s: ports %d to %d: %w", s.Key(), m.First, m.Last, ErrInvalid)
		}
	}
	if err := s.checkNumbers(); err != nil {
		return fmt.Errorf("service %s: %w", s.Key(), err)
	}
	// The scheduler and its options are checked where they are known.
	_, err := scheduler.Build(s.Scheduler, s.Options, nil, nil)
	if err != nil {
		return fmt.Errorf("service %s: %w", s.Key(), err)
	}
	return nil
}

// number gives the service's addresses, and the group that it may be, their numbers, and returns
// the former, one for each match. Numbers are never taken back, as flows may refer to them.
func (tx *Tx) number(s *Service) (vips []uint16, err error) {
	c := tx.c
	next := func(a frame.Addr) (uint16, error) {
		if len(c.vipAddrs) > 0xffff {
			return 0, fmt.Errorf("more than 65536 VIPs and groups since the start: %w", ErrInvalid)
		}
		c.vipAddrs = append(c.vipAddrs, a) // the workers read what was there before only
		return uint16(len(c.vipAddrs) - 1), nil
	}
	vips = make([]uint16, len(s.Matches))
	for i, m := range s.Matches {
		a := frame.AddrFrom(m.Addr)
		if _, ok := c.vipIDs[a]; !ok {
			if err := c.reserveFor(a); err != nil {
				return nil, err
			}
			if c.vipIDs[a], err = next(a); err != nil {
				delete(c.vipIDs, a)
				return nil, err
			}
		}
		vips[i] = c.vipIDs[a]
	}
	if key := s.Key(); key.Mark != 0 || key.Name != "" {
		if _, ok := c.groupIDs[key]; !ok {
			if c.groupIDs[key], err = next(frame.Addr{}); err != nil {
				delete(c.groupIDs, key)
				return nil, err
			}
		}
	}
	return vips, nil
}

func (tx *Tx) service(key ServiceKey) (*serviceState, error) {
	svc := tx.c.services[key]
	if svc == nil {
		return nil, fmt.Errorf("%s: %w", key, ErrNoService)
	}
	return svc, nil
}

// save makes the present state of a service come back if the transaction fails. It is called before
// a service changes.
func (tx *Tx) save(svc *serviceState) {
	tx.c.touchedServices = append(tx.c.touchedServices, svc.id)
	old := *svc
	tx.undo = append(tx.undo, func() { *svc = old; svc.index = nil })
}

// EditService changes the scheduler, its options and the persistence of a service (ipvsadm -E), or
// the matches of a group. Another scheduler starts anew; the same goes on.
func (tx *Tx) EditService(s Service) error {
	key := s.Key()
	svc, err := tx.service(key)
	if err != nil {
		return err
	}
	if err := checkService(&s); err != nil {
		return err
	}
	vips, err := tx.number(&s)
	if err != nil {
		return err
	}
	tx.save(svc)
	svc.vips = vips
	if !slices.Equal(s.Matches, svc.spec.Matches) {
		tx.useVIPs(svc.spec.Matches, -1)
		tx.useVIPs(s.Matches, 1)
		reshape := tx.c.reshape
		tx.undo = append(tx.undo, func() { tx.c.reshape = reshape })
		tx.c.reshape = true
	}
	if s.Scheduler != svc.spec.Scheduler {
		svc.changes = nil // the new scheduler begins with the list as it is now
	}
	if s.Scheduler != svc.spec.Scheduler || s.Options != svc.spec.Options {
		svc.dirty = true
	}
	s.Matches = slices.Clone(s.Matches)
	svc.spec = s
	return nil
}

// DeleteService removes a service with its destinations (ipvsadm -D).
func (tx *Tx) DeleteService(key ServiceKey) error {
	svc, err := tx.service(key)
	if err != nil {
		return err
	}
	for len(svc.dests) > 0 {
		d := svc.dests[0] // the first, which is removed without moving the others
		if err := tx.DeleteDestination(key, d.spec); err != nil {
			return err
		}
	}
	c := tx.c
	reshape := c.reshape
	tx.useVIPs(svc.spec.Matches, -1)
	delete(c.services, key)
	c.byID[svc.id] = nil
	c.freeID = min(c.freeID, int(svc.id))
	c.touchedServices = append(c.touchedServices, svc.id)
	c.reshape = true
	tx.undo = append(tx.undo, func() {
		c.services[key], c.byID[svc.id], c.reshape = svc, svc, reshape
	})
	return nil
}

// Flush removes all services (ipvsadm -C).
func (tx *Tx) Flush() error {
	for _, svc := range tx.c.byID {
		if svc != nil {
			if err := tx.DeleteService(svc.spec.Key()); err != nil {
				return err
			}
		}
	}
	return nil
}

// useVIPs counts the matches that come with a service, or go.
func (tx *Tx) useVIPs(matches []Match, by int) {
	c := tx.c
	count := func(by int) {
		for _, m := range matches {
			if c.vipUse[m.Addr] += by; c.vipUse[m.Addr] == 0 {
				delete(c.vipUse, m.Addr)
			}
		}
	}
	count(by)
	tx.undo = append(tx.undo, func() { count(-by) })
	for _, m := range matches {
		if by > 0 && c.vipUse[m.Addr] == 1 {
			tx.newVIPs = append(tx.newVIPs, m.Addr)
		}
	}
}

// checkMixed refuses a transaction after which an address would be a VIP and a realserver's.
func (tx *Tx) checkMixed() error {
	c := tx.c
	both := func(h Hop) bool { return c.hops[h] != nil && c.hops[h].inUse() && c.vipUse[h.Addr] > 0 }
	for _, h := range tx.newHops {
		if both(h) {
			return fmt.Errorf("realserver %s is a VIP: a realserver is reached by an address of its own, and has the VIP on lo: %w", h.Addr, ErrInvalid)
		}
	}
	for _, vip := range tx.newVIPs {
		for leg := range c.legs {
			if both(Hop{frame.Leg(leg), vip}) {
				return fmt.Errorf("the VIP %s is a realserver's address: a realserver is reached by an address of its own: %w", vip, ErrInvalid)
			}
		}
	}
	return nil
}

// checkDest refuses what the kernel refuses (ip_vs_add_dest, ip_vs_ctl.c), and what makes no sense.
func checkDest(key ServiceKey, s *Service, d Destination) error {
	if err := CheckAddress(d.Addr); err != nil {
		return fmt.Errorf("%s: realserver %w", key, err)
	}
	if err := d.checkNumbers(); err != nil {
		return fmt.Errorf("%s: realserver %s: %w", key, d.Addr, err)
	}
	switch {
	case d.Addr.Is6() != s.Matches[0].Addr.Is6():
		return fmt.Errorf("%s: realserver %s is of another family; direct routing needs the same: %w", key, d.Addr, ErrInvalid)
	case d.Lower > d.Upper:
		return fmt.Errorf("%s: realserver %s: the lower threshold %d is above the upper %d: %w", key, d.Addr, d.Lower, d.Upper, ErrThresholds)
	}
	return nil
}

// AddDestination adds a realserver to a service (ipvsadm -a), at the head of its list as the kernel
// does. One that was removed and still has flows, or had some not long ago, is taken up again with
// them.
func (tx *Tx) AddDestination(key ServiceKey, d Destination) error {
	svc, err := tx.service(key)
	if err != nil {
		return err
	}
	if err := checkDest(key, &svc.spec, d); err != nil {
		return err
	}
	if svc.find(d.Addr, d.Port) != nil {
		return fmt.Errorf("%s: realserver %s: %w", key, d.Addr, ErrDestExists)
	}
	c := tx.c
	tx.save(svc)
	gk := destKey{key, d.Addr, d.Port}
	state := c.gone[gk]
	if state != nil && state.isOver(c.clock()) {
		c.forget(gk, state)
		tx.dests, tx.macs = len(c.touchedDests), len(c.touchedMACs) // which stay so if the transaction fails
		state = nil
	}
	if state != nil {
		old := *state
		delete(c.gone, gk)
		tx.undo = append(tx.undo, func() { *state = old; c.gone[gk] = state })
		if state.service != svc && !state.restored {
			tx.startCounting(state.id) // the service was removed too: another one, though of the same name
			state.zero, state.rates = Counts{}, estimator{}
		}
		state.removed, state.since, state.service, state.restored = time.Time{}, time.Time{}, svc, false
	} else {
		id := c.destID()
		state = &destState{id: id, service: svc, load: c.loads.New(), templates: new(atomic.Int32)}
		c.dests[id] = state
		tx.startCounting(id)
		c.join(state, c.hop(d.hop()))
		tx.undo = append(tx.undo, func() { c.leave(state); c.dests[id] = nil; c.freeDests = append(c.freeDests, id) })
	}
	tx.place(state, d)
	tx.newHops = append(tx.newHops, d.hop())
	if d.Weight > 0 {
		state.lastWeight = d.Weight
		c.arrives(state)
	}
	c.weighs(state, 1) // one that comes with weight 0 drains from now on
	svc.prepend(state)
	svc.changes = append(svc.changes, scheduler.Change{Op: scheduler.Add, ID: state.id, Weight: d.Weight})
	svc.dirty = true
	return nil
}

// place gives a destination its settings, and another hop if it lives elsewhere now.
func (tx *Tx) place(state *destState, d Destination) {
	c := tx.c
	c.touchedDests = append(c.touchedDests, state.id)
	state.spec = d
	if h := c.hop(d.hop()); h != state.hop {
		old := state.hop
		c.leave(state)
		c.join(state, h)
		tx.undo = append(tx.undo, func() { c.leave(state); c.join(state, old) })
	}
}

// EditDestination changes weight, thresholds or leg of a realserver (ipvsadm -e); it keeps its
// place in the list.
func (tx *Tx) EditDestination(key ServiceKey, d Destination) error {
	svc, err := tx.service(key)
	if err != nil {
		return err
	}
	if err := checkDest(key, &svc.spec, d); err != nil {
		return err
	}
	state := svc.find(d.Addr, d.Port)
	if state == nil {
		return fmt.Errorf("%s: realserver %s: %w", key, d.Addr, ErrNoDest)
	}
	tx.save(svc)
	old := *state
	tx.undo = append(tx.undo, func() { *state = old })
	tx.place(state, d)
	if d.Weight > 0 {
		state.lastWeight = d.Weight
	}
	tx.c.weighs(state, old.spec.Weight)
	// The kernel tells the scheduler of every edit, whether it changes the weight or not: wrr
	// starts its cycle anew.
	svc.changes = append(svc.changes, scheduler.Change{Op: scheduler.Edit, ID: state.id, Old: old.spec.Weight, Weight: d.Weight})
	svc.dirty = true
	return nil
}

// DeleteDestination removes a realserver from a service (ipvsadm -d). Its flows live on: see
// GonePolicy.
func (tx *Tx) DeleteDestination(key ServiceKey, d Destination) error {
	svc, err := tx.service(key)
	if err != nil {
		return err
	}
	c, state := tx.c, svc.find(d.Addr, d.Port)
	if state == nil {
		return fmt.Errorf("%s: realserver %s: %w", key, d.Addr, ErrNoDest)
	}
	tx.save(svc)
	old := *state
	gk := state.key()
	tx.undo = append(tx.undo, func() { *state = old; delete(c.gone, gk) })
	svc.remove(state)
	svc.changes = append(svc.changes, scheduler.Change{Op: scheduler.Remove, ID: state.id, Old: state.spec.Weight})
	svc.dirty = true
	state.removed = c.clock()
	state.isOver(state.removed) // its time begins if it has no flows
	c.gone[gk] = state
	c.touchedDests = append(c.touchedDests, state.id)
	return nil
}

// Settings are those that hold at this point of the transaction.
func (tx *Tx) Settings() Settings { return tx.c.settings }

// SetSettings replaces the settings.
func (tx *Tx) SetSettings(s Settings) error {
	if err := s.Check(); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	c, old := tx.c, tx.c.settings
	tx.undo = append(tx.undo, func() { c.settings = old })
	c.settings = s
	return nil
}

// Apply makes services and destinations as a plan wants them, by the smallest changes: what the
// plan does not name is removed, what is there keeps its place in its list, what is new is added in
// the plan's order.
func (tx *Tx) Apply(p Plan) error {
	wanted := map[ServiceKey]bool{}
	for i := range p.Services {
		wanted[p.Services[i].Key()] = true
	}
	for _, svc := range slices.Clone(tx.c.byID) {
		if svc != nil && !wanted[svc.spec.Key()] {
			if err := tx.DeleteService(svc.spec.Key()); err != nil {
				return err
			}
		}
	}
	for i := range p.Services {
		if err := tx.applyService(&p.Services[i]); err != nil {
			return err
		}
	}
	return tx.SetSettings(p.Settings)
}

func (tx *Tx) applyService(p *ServicePlan) error {
	key := p.Key()
	svc := tx.c.services[key]
	if svc == nil {
		if err := tx.AddService(p.Service); err != nil {
			return err
		}
		svc = tx.c.services[key]
	} else if !svc.spec.equal(&p.Service) {
		if err := tx.EditService(p.Service); err != nil {
			return err
		}
	}
	if len(svc.dests) > 0 {
		wanted := make(map[netip.AddrPort]bool, len(p.Destinations))
		for _, d := range p.Destinations {
			wanted[netip.AddrPortFrom(d.Addr, d.Port)] = true
		}
		for _, d := range slices.Clone(svc.dests) {
			if !wanted[d.place()] {
				if err := tx.DeleteDestination(key, d.spec); err != nil {
					return err
				}
			}
		}
	}
	for _, d := range p.Destinations {
		state := svc.find(d.Addr, d.Port)
		switch {
		case state == nil:
			if err := tx.AddDestination(key, d); err != nil {
				return err
			}
		case state.spec != d:
			if err := tx.EditDestination(key, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// startCounting has the counters of a destination start at zero.
func (tx *Tx) startCounting(id uint32) {
	c := tx.c
	n := len(c.fresh)
	c.fresh = append(c.fresh, id)
	tx.undo = append(tx.undo, func() { c.fresh = c.fresh[:n] })
}
