package forwarder

import (
	"net/netip"
	"slices"

	"shunt/forwarder/frame"
)

// A Hop is where a realserver lives: its address, and the leg by which it is reached.
type Hop struct {
	Leg  frame.Leg
	Addr netip.Addr
}

// hop is where the destination lives.
func (d *Destination) hop() Hop { return Hop{d.Leg, d.Addr} }

// Lookup returns the service with this key.
func (c *Control) Lookup(key ServiceKey) (s Service, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	svc := c.services[key]
	if svc == nil {
		return s, false
	}
	return svc.spec, true
}

// Named returns the services of this name: names are for people, and nothing but the configuration
// keeps them apart.
func (c *Control) Named(name string) (out []Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if svc := c.services[ServiceKey{Name: name}]; svc != nil {
		return []Service{svc.spec} // the name is its key
	}
	for _, svc := range c.services {
		if svc.spec.Name == name {
			out = append(out, svc.spec)
		}
	}
	return out
}

// LookupDestination returns the realserver of a service with this address and port.
func (c *Control) LookupDestination(key ServiceKey, addr netip.Addr, port uint16) (d Destination, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	svc := c.services[key]
	if svc == nil {
		return d, false
	}
	state := svc.find(addr, port)
	if state == nil {
		return d, false
	}
	return state.spec, true
}

// HopsOf lists where the realservers of a service live.
func (c *Control) HopsOf(key ServiceKey) (out []Hop) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if svc := c.services[key]; svc != nil {
		for _, d := range svc.dests {
			out = append(out, d.spec.hop())
		}
	}
	return out
}

// Serves reports whether an address is one of a service.
func (c *Control) Serves(vip netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.snap.vips.find(frame.AddrFrom(vip))
	return ok
}

// VIPs lists the addresses of all services, each once, in the order of the services.
func (c *Control) VIPs() []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]netip.Addr, 0, len(c.vipAddrs))
	seen := make([]bool, len(c.vipAddrs))
	for _, svc := range c.byID {
		if svc == nil {
			continue
		}
		for i, m := range svc.spec.Matches {
			if id := svc.vips[i]; !seen[id] {
				seen[id] = true
				out = append(out, m.Addr)
			}
		}
	}
	return out
}

// Hops lists where realservers live, each place once, in no order. Those of removed ones are not
// among them.
func (c *Control) Hops() []Hop {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Hop, 0, len(c.hops))
	for h, state := range c.hops {
		if state.inUse() {
			out = append(out, h)
		}
	}
	return out
}

// InUse reports whether a realserver lives there.
func (c *Control) InUse(h Hop) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.hops[h]
	return state != nil && state.inUse()
}

// inUse reports whether one of the destinations that live there is a realserver of its service.
func (h *hopState) inUse() bool {
	return slices.ContainsFunc(h.dests, func(d *destState) bool { return d.removed.IsZero() })
}
