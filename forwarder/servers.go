package forwarder

import (
	"net/netip"
	"slices"
)

// A service's list of realservers grows at its head, as the kernel's does. Lists may be long, and a
// transaction may change all of one: so a step costs the same whatever the length, but for a
// removal in the middle.

// fewServers is up to how many realservers are looked through one by one.
const fewServers = 32

// place is what tells a service's realservers apart.
func (d *destState) place() netip.AddrPort { return netip.AddrPortFrom(d.spec.Addr, d.spec.Port) }

// find returns the realserver at an address and port, or nil.
func (s *serviceState) find(addr netip.Addr, port uint16) *destState {
	if len(s.dests) <= fewServers {
		for _, d := range s.dests {
			if d.spec.Addr == addr && d.spec.Port == port {
				return d
			}
		}
		return nil
	}
	if s.index == nil {
		s.index = make(map[netip.AddrPort]*destState, 2*len(s.dests))
		for _, d := range s.dests {
			s.index[d.place()] = d
		}
	}
	return s.index[netip.AddrPortFrom(addr, port)]
}

// prepend adds a realserver at the head. Slices of the list that others hold stay as they are.
func (s *serviceState) prepend(d *destState) {
	if s.free == 0 {
		n := max(len(s.dests), 1)
		s.room = make([]*destState, n+len(s.dests))
		copy(s.room[n:], s.dests)
		s.free = n
	}
	s.free--
	s.room[s.free] = d
	s.dests = s.room[s.free:]
	if s.index != nil {
		s.index[d.place()] = d
	}
}

// remove takes a realserver out. Slices of the list that others hold stay as they are.
func (s *serviceState) remove(d *destState) {
	if s.dests[0] == d {
		s.dests = s.dests[1:]
	} else {
		i := slices.Index(s.dests, d)
		s.dests = slices.Concat(s.dests[:i], s.dests[i+1:])
	}
	s.room, s.free = nil, 0
	delete(s.index, d.place())
}
