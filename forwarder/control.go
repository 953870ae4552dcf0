package forwarder

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// Errors of transactions; test with errors.Is. The texts in brackets are ipvsadm's.
var (
	ErrServiceExists = errors.New("service already exists")
	ErrNoService     = errors.New("no such service")
	ErrDestExists    = errors.New("destination already exists")
	ErrNoDest        = errors.New("no such destination")
	ErrInvalid       = errors.New("invalid operation")
	ErrThresholds    = fmt.Errorf("thresholds out of range: %w", ErrInvalid)
)

// trashTime is how long a removed destination is remembered after its last flow, as in the kernel
// (IP_VS_DEST_TRASH_PERIOD, ip_vs_ctl.c): added again within that time, its flows and counters go on.
const trashTime = 120 * time.Second

// Control is the control plane of a director: it holds services and destinations as they are to be, builds what the
// workers read, and hands it to them. Its methods may be called from any goroutine.
type Control struct {
	mu        sync.Mutex
	workers   []*Worker
	legs      []Leg
	settings  Settings
	services  map[ServiceKey]*serviceState
	byID      []*serviceState
	dests     []*destState // by id, nil where the id is free
	freeDests []uint32
	gone      map[goneKey]*destState
	vipIDs    map[frame.Addr]uint16
	groupIDs  map[ServiceKey]uint16
	vipAddrs  []frame.Addr
	macs      map[hop]frame.MAC
	loads     scheduler.Loads
	snap      *snapshot
	clock     func() time.Time
	estimated time.Time // when rates were measured last

	// what the next snapshot has to tell
	fresh   []uint32
	anew    []uint16
	reshape bool // services came or went: the tables of VIPs and ports are to be made anew
}

// hop is a realserver's place on the wire.
type hop struct {
	leg  frame.Leg
	addr netip.Addr
}

type goneKey struct {
	service ServiceKey
	addr    netip.Addr
	port    uint16
}

// serviceState is a service as the control plane knows it.
type serviceState struct {
	id      uint16
	spec    Service
	dests   []*destState // newest first, as the kernel keeps them
	changes []scheduler.Change
	dirty   bool // the list or the scheduler changed since the last snapshot
	sched   []scheduler.Scheduler
	list    []uint32
	rates   estimator
	zero    Counts // what is not shown: see Engine.Zero
}

type destState struct {
	id         uint32
	service    *serviceState
	spec       Destination
	lastWeight int32
	load       *scheduler.Load
	templates  *atomic.Int32 // templates that name it: PersistConn
	removed    time.Time     // zero while it is a realserver
	since      time.Time     // removed and without flows since

	rates        estimator
	zero         Counts
	came         time.Time // it may have new flows since: the slow start counts from here
	ramp         int32     // as scheduler.Destination's
	drainedSince time.Time // its weight is 0 since; zero if it is not, or was from the first
	drained      bool      // and it had as long as it may
}

// newControl returns the control plane of workers.
func newControl(workers []*Worker, legs []Leg, settings Settings, clock func() time.Time) *Control {
	c := &Control{
		workers: workers, legs: legs, settings: settings, clock: clock,
		services: map[ServiceKey]*serviceState{}, gone: map[goneKey]*destState{},
		vipIDs: map[frame.Addr]uint16{}, groupIDs: map[ServiceKey]uint16{}, macs: map[hop]frame.MAC{},
		reshape: true,
	}
	return c
}

// Update runs a transaction: fn describes changes by calling the methods of tx, in order. If fn or a change fails,
// nothing is changed and the error is returned. Else all of it is in force for all workers when Update returns, from
// one frame to the next; no frame sees a part of it.
func (c *Control) Update(fn func(tx *Tx) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweepGone() // fn may add one again whose time is over
	tx := &Tx{c: c}
	err := fn(tx)
	if err == nil {
		err = c.commit()
	}
	if err != nil {
		tx.rollback()
	}
	tx.c = nil
	return err
}

// SetNeighbour tells on which MAC a realserver's address answers; the zero MAC means that nobody answers, which takes
// the realserver out of scheduling until somebody does.
func (c *Control) SetNeighbour(leg frame.Leg, addr netip.Addr, mac frame.MAC) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := hop{leg, addr}
	old := c.macs[h]
	if old == mac {
		return nil
	}
	c.macs[h] = mac
	if old.IsZero() {
		for _, d := range c.dests {
			if d != nil && d.removed.IsZero() && d.spec.Leg == leg && d.spec.Addr == addr {
				c.arrives(d)
			}
		}
	}
	return c.commit()
}

// SetLeg changes what is known of a leg: its MAC or its MTU, when the interface got another.
func (c *Control) SetLeg(leg frame.Leg, l Leg) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(leg) >= len(c.legs) {
		return fmt.Errorf("leg %d: %w", leg, ErrInvalid)
	}
	c.legs = slices.Clone(c.legs)
	c.legs[leg] = l
	return c.commit()
}

// Settings returns the settings in force.
func (c *Control) Settings() Settings {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settings
}

// commit makes the next snapshot and has all workers adopt it.
func (c *Control) commit() error {
	c.sweepGone()
	s := &snapshot{legs: c.legs, settings: c.settings, fresh: c.fresh, anew: c.anew}
	for _, svc := range c.byID {
		if svc == nil || !svc.dirty {
			continue
		}
		if err := c.build(svc); err != nil {
			return err
		}
	}
	for _, svc := range c.byID {
		if svc != nil && svc.dirty {
			s.changed = append(s.changed, svc.id)
			svc.dirty, svc.changes = false, nil
		}
	}
	s.timeouts = flow.DefaultTimeouts()
	s.timeouts.Set(c.settings.TCPTimeout, c.settings.TCPFinTimeout, c.settings.UDPTimeout)
	c.fillServices(s)
	c.fillDests(s)
	if c.reshape || c.snap == nil {
		c.fillTables(s)
		c.reshape = false
	} else {
		s.vips, s.ports = c.snap.vips, c.snap.ports
	}
	s.vipAddrs = c.vipAddrs
	c.snap = s
	c.fresh, c.anew = nil, nil
	for _, w := range c.workers {
		w.Do(func() { w.adopt(s) })
	}
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

func (c *Control) fillServices(s *snapshot) {
	s.services = make([]service, len(c.byID))
	for id, svc := range c.byID {
		if svc == nil {
			continue
		}
		spec := &svc.spec
		out := &s.services[id]
		*out = service{present: true, persistent: spec.Persistence > 0, onePacket: spec.OnePacket,
			hashed: scheduler.Hashed(spec.Scheduler), key: spec.Key(),
			timeout: flow.Ticks(spec.Persistence), list: svc.list, sched: svc.sched}
		out.mask4, out.mask6 = prefixMask(spec.MaskBits)
		if spec.Mark != 0 || len(spec.Matches) > 1 || len(spec.Matches) == 1 && spec.Matches[0].First != spec.Matches[0].Last && !spec.Matches[0].allPorts() {
			out.group = true
			out.vip = c.groupIDs[spec.Key()]
		} else if len(spec.Matches) == 1 {
			out.port = spec.Matches[0].First
			out.all = spec.Matches[0].allPorts()
		}
	}
}

func (c *Control) fillDests(s *snapshot) {
	s.dests = make([]dest, len(c.dests))
	macs := make([]frame.MAC, 0, len(c.macs)+len(c.legs))
	for _, l := range c.legs {
		macs = append(macs, l.MAC)
	}
	for id, d := range c.dests {
		if d == nil {
			continue
		}
		mac := c.macs[hop{d.spec.Leg, d.spec.Addr}]
		out := &s.dests[id]
		*out = dest{mac: mac, out: d.spec.Leg, available: d.removed.IsZero() && !d.drained, resolved: !mac.IsZero(), service: d.service.id,
			mtu: c.mtu(d.spec.Leg), weight: d.spec.Weight, load: d.load, templates: d.templates}
		// Only now that the transaction succeeds: the workers read the load while it is under way.
		d.load.SetThresholds(d.spec.Upper, d.spec.Lower)
		d.load.SetUnreachable(mac.IsZero())
		if !mac.IsZero() {
			macs = append(macs, mac)
		}
	}
	s.guard = newMACSet(macs)
}

// mtu is the length of the longest packet that leaves by a leg.
func (c *Control) mtu(leg frame.Leg) uint32 {
	if int(leg) >= len(c.legs) || c.legs[leg].MTU == 0 {
		return math.MaxUint32
	}
	return c.legs[leg].MTU
}

func (c *Control) fillTables(s *snapshot) {
	vips := map[frame.Addr]uint16{}
	var claims []claim
	for _, svc := range c.byID {
		if svc == nil {
			continue
		}
		for _, m := range svc.spec.Matches {
			a := frame.AddrFrom(m.Addr)
			vip := c.vipIDs[a]
			vips[a] = vip
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

// sweepGone forgets removed destinations that no flow has named for long enough.
func (c *Control) sweepGone() {
	now := c.clock()
	for key, d := range c.gone {
		active, inactive := d.load.Conns()
		switch {
		case active != 0 || inactive != 0 || d.templates.Load() != 0:
			d.since = time.Time{}
		case d.since.IsZero():
			d.since = now
		case now.Sub(d.since) >= trashTime:
			c.dests[d.id] = nil
			c.freeDests = append(c.freeDests, d.id)
			delete(c.gone, key)
		}
	}
}

// destID returns a free id for a destination.
func (c *Control) destID() uint32 {
	if n := len(c.freeDests); n > 0 {
		id := c.freeDests[n-1]
		c.freeDests = c.freeDests[:n-1]
		return id
	}
	c.dests = append(c.dests, nil)
	return uint32(len(c.dests) - 1)
}
