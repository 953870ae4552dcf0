package forwarder

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
// (IP_VS_DEST_TRASH_PERIOD, ip_vs_ctl.c): added again within that time, its flows and counters go
// on.
const trashTime = 120 * time.Second

// Control is the control plane of a director: it holds services and destinations as they are to be,
// builds what the workers read, and hands it to them. Its methods may be called from any goroutine.
type Control struct {
	mu        sync.Mutex
	workers   []*Worker
	legs      []Leg
	settings  Settings
	services  map[ServiceKey]*serviceState
	byID      []*serviceState
	dests     []*destState // by id, nil where the id is free
	freeDests []uint32
	gone      map[destKey]*destState
	vipIDs    map[frame.Addr]uint16
	groupIDs  map[ServiceKey]uint16
	vipAddrs  []frame.Addr
	vipUse    map[netip.Addr]int // how many matches of services have it
	hops      map[Hop]*hopState
	macs      map[frame.MAC]int       // how many hops that are in use, and legs, have it
	clients   map[frame.MAC]time.Time // see noteClients
	loads     scheduler.Loads
	snap      *snapshot
	clock     func() time.Time
	cut       uint32                     // files that were cut under workers, as far as was seen to: see mended
	state     *state                     // nil if nothing is kept for the next process
	kept      map[ServiceKey]keptService // services of the process before that were not added again
	reserved  map[uint16]bool            // their ids
	beginning bool                       // destinations that were taken over are not gone: they are still to be added
	v6        bool                       // the tables have memory for IPv6
	estimated time.Time                  // when rates were measured last
	swept     time.Time                  // when removed destinations were looked through last
	freeID    int                        // no service's id below is free

	// what the next snapshot has to tell
	fresh           []uint32
	anew            []uint16
	going           []uint16 // of these, those whose counters go on from the process before
	touchedServices []uint16 // by id: their entries are to be made anew, maybe more than once
	touchedDests    []uint32 // likewise
	touchedMACs     []frame.MAC
	beside          bool // see edits; for tests
	reshape         bool // services came or went: the tables of VIPs and ports are to be made anew
}

// hopState is what is known of a hop.
type hopState struct {
	mac   frame.MAC
	asked bool         // nobody knows yet whether somebody answers
	dests []*destState // that live there, removed ones too as long as they are remembered
}

// destKey identifies a destination.
type destKey struct {
	service ServiceKey
	addr    netip.Addr
	port    uint16
}

// serviceState is a service as the control plane knows it.
type serviceState struct {
	id      uint16
	spec    Service
	vips    []uint16     // the numbers of its matches' addresses
	dests   []*destState // newest first, as the kernel keeps them; see servers.go
	room    []*destState // what dests is the end of, and how many of its first are free
	free    int
	index   map[netip.AddrPort]*destState // of a long list; nil: to be made
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
	hop        *hopState
	removed    time.Time // zero while it is a realserver
	restored   bool      // of the process before: its counters go on when it is added again
	since      time.Time // removed and without flows since

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
		services: map[ServiceKey]*serviceState{}, gone: map[destKey]*destState{},
		vipIDs: map[frame.Addr]uint16{}, groupIDs: map[ServiceKey]uint16{}, vipUse: map[netip.Addr]int{}, hops: map[Hop]*hopState{},
		macs: map[frame.MAC]int{}, clients: map[frame.MAC]time.Time{},
		reshape: true,
	}
	for _, l := range legs {
		c.countMAC(l.MAC, 1)
	}
	return c
}

// begin makes the first snapshot.
func (c *Control) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beginning = true
	defer func() { c.beginning = false }()
	return c.commit()
}

// Update runs a transaction: fn describes changes by calling the methods of tx, in order. If fn or
// a change fails, nothing is changed and the error is returned. Else all of it is in force for all
// workers when Update returns, from one frame to the next; no frame sees a part of it.
func (c *Control) Update(fn func(tx *Tx) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweepGone()
	tx := &Tx{c: c, services: len(c.touchedServices), dests: len(c.touchedDests), macs: len(c.touchedMACs)}
	err := fn(tx)
	if err == nil {
		err = tx.checkMixed()
	}
	if err == nil {
		err = c.commit()
	}
	if err != nil {
		tx.rollback()
	}
	tx.c = nil
	return err
}

// A Neighbour is a realserver's address on a leg, and the MAC on which it answers; the zero MAC
// means that nobody answers, or not yet. A realserver of which nothing was told is being asked for.
type Neighbour struct {
	Hop
	MAC   frame.MAC
	Asked bool // the MAC is not known yet, and its answer is awaited
}

// SetNeighbour tells on which MAC a realserver's address answers; the zero MAC means that nobody
// answers, which takes the realserver out of scheduling until somebody does.
func (c *Control) SetNeighbour(leg frame.Leg, addr netip.Addr, mac frame.MAC) error {
	return c.SetNeighbours([]Neighbour{{Hop: Hop{leg, addr}, MAC: mac}})
}

// SetNeighbours is SetNeighbour for many at once, which costs little more than for one.
func (c *Control) SetNeighbours(list []Neighbour) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	if slices.ContainsFunc(list, func(n Neighbour) bool { return !n.MAC.IsZero() && c.macs[n.MAC] == 0 }) {
		c.noteClients()
	}
	for _, n := range list {
		h := c.hop(n.Hop)
		asked := n.Asked && n.MAC.IsZero()
		if h.mac == n.MAC && h.asked == asked {
			continue
		}
		h.asked = asked
		changed = true
		old := h.mac
		h.mac = n.MAC
		if len(h.dests) > 0 {
			c.countMAC(old, -1)
			c.countMAC(n.MAC, 1)
		}
		for _, d := range h.dests {
			c.touchedDests = append(c.touchedDests, d.id)
			if old.IsZero() && !n.MAC.IsZero() && d.removed.IsZero() {
				c.arrives(d)
			}
		}
	}
	if !changed {
		return nil
	}
	return c.commit()
}

// hop returns what is known of a hop, from now on.
func (c *Control) hop(h Hop) *hopState {
	s := c.hops[h]
	if s == nil {
		s = &hopState{asked: true}
		c.hops[h] = s
	}
	return s
}

// join notes that a destination lives at a hop.
func (c *Control) join(d *destState, h *hopState) {
	if len(h.dests) == 0 {
		c.countMAC(h.mac, 1)
	}
	h.dests = append(h.dests, d)
	d.hop = h
}

// leave notes that it lives there no more.
func (c *Control) leave(d *destState) {
	h := d.hop
	last := len(h.dests) - 1
	h.dests[slices.Index(h.dests, d)] = h.dests[last]
	h.dests[last] = nil
	h.dests = h.dests[:last]
	if last == 0 {
		c.countMAC(h.mac, -1)
	}
}

// countMAC counts who has a MAC.
func (c *Control) countMAC(m frame.MAC, by int) {
	if m.IsZero() {
		return
	}
	if c.macs[m] += by; c.macs[m] == 0 {
		delete(c.macs, m)
	}
	c.touchedMACs = append(c.touchedMACs, m)
}

// SetLeg changes what is known of a leg: its MAC or its MTU, when the interface got another.
func (c *Control) SetLeg(leg frame.Leg, l Leg) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(leg) >= len(c.legs) {
		return fmt.Errorf("leg %d: %w", leg, ErrInvalid)
	}
	c.countMAC(c.legs[leg].MAC, -1)
	c.countMAC(l.MAC, 1)
	c.legs = slices.Clone(c.legs)
	c.legs[leg] = l
	for _, d := range c.dests {
		if d != nil && d.spec.Leg == leg {
			c.touchedDests = append(c.touchedDests, d.id) // for the MTU
		}
	}
	return c.commit()
}

// Settings returns the settings in force.
func (c *Control) Settings() Settings {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settings
}

// sweepEvery is how often removed destinations are looked through: there may be many.
const sweepEvery = time.Second

// sweepGone forgets removed destinations that no flow has named for long enough, and reports
// whether there were any.
func (c *Control) sweepGone() (any bool) {
	now := c.clock()
	if now.Sub(c.swept) < sweepEvery {
		return false
	}
	c.swept = now
	for key, d := range c.gone {
		if d.isOver(now) {
			c.forget(key, d)
			any = true
		}
	}
	return any
}

// isOver reports whether a removed destination has had no flows for long enough.
func (d *destState) isOver(now time.Time) bool {
	active, inactive := d.load.Conns()
	switch {
	case active != 0 || inactive != 0 || d.templates.Load() != 0:
		d.since = time.Time{}
	case d.since.IsZero():
		d.since = now
	}
	return !d.since.IsZero() && now.Sub(d.since) >= trashTime
}

// forget gives the id of a removed destination back.
func (c *Control) forget(key destKey, d *destState) {
	c.leave(d)
	c.dests[d.id] = nil
	c.freeDests = append(c.freeDests, d.id)
	c.touchedDests = append(c.touchedDests, d.id)
	delete(c.gone, key)
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
