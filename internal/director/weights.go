package director

import (
	"cmp"
	"fmt"
	"net/netip"

	"shunt/api"
	"shunt/forwarder"
	"shunt/internal/control"
)

// Drain gives a realserver weight 0, in all services or in one.
func (d *Director) Drain(by control.Peer, c api.Servers) ([]api.WeightChange, error) {
	return d.weigh(by, c, func(*forwarder.ServiceInfo, *forwarder.Destination) int32 { return 0 })
}

// Enable gives it back the weight that it had before, or that the file has, or 1.
func (d *Director) Enable(by control.Peer, c api.Servers) ([]api.WeightChange, error) {
	return d.weigh(by, c, func(s *forwarder.ServiceInfo, r *forwarder.Destination) int32 {
		return cmp.Or(r.Weight, r.Restore, d.fileWeight(s.Key(), r.Addr), 1)
	})
}

// fileWeight is the weight that the file gives to a realserver; 0 if none. d.mu is held.
func (d *Director) fileWeight(key forwarder.ServiceKey, addr netip.Addr) int32 {
	for i := range d.cfg.Services {
		if s := &d.cfg.Services[i]; s.Key() == key {
			for j := range s.Realservers {
				if s.Realservers[j].Address == addr {
					return s.Realservers[j].Weight
				}
			}
		}
	}
	return 0
}

// weigh gives a realserver other weights, as one transaction.
func (d *Director) weigh(by control.Peer, c api.Servers, weight func(*forwarder.ServiceInfo, *forwarder.Destination) int32) ([]api.WeightChange, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var done []api.WeightChange
	var changes []api.Change
	known := c.Service == ""
	services := d.engine.Services()
	for i := range services {
		s := &services[i]
		if !isCalled(&s.Service, c.Service) {
			continue
		}
		known = true
		for j := range s.Destinations {
			r := &s.Destinations[j].Destination
			if r.Addr != c.Realserver {
				continue
			}
			w := weight(s, r)
			done = append(done, api.WeightChange{Service: s.Name, Realserver: r.Addr, Old: r.Weight, New: w})
			if w == r.Weight {
				continue
			}
			v := identity(&s.Service)
			changes = append(changes, api.Change{Op: api.OpEditServer, Service: &v, Server: &api.VirtualServer{
				Address: r.Addr, Port: r.Port, Weight: w, Upper: r.Upper, Lower: r.Lower,
			}})
		}
	}
	switch {
	case !known:
		return nil, &api.Error{Code: api.CodeNoService, Message: fmt.Sprintf("unknown service %q: write a name, a VIP or VIP:port", control.Excerpt(c.Service, 100))}
	case len(done) == 0 && c.Service != "":
		return nil, &api.Error{Code: api.CodeNoServer, Message: fmt.Sprintf("service %q has no realserver %s", control.Excerpt(c.Service, 100), c.Realserver)}
	case len(done) == 0:
		return nil, &api.Error{Code: api.CodeNoServer, Message: fmt.Sprintf("no service has a realserver %s", c.Realserver)}
	case len(changes) == 0:
		return done, nil
	}
	return done, d.apply(by, changes)
}

// isCalled reports whether a service is meant by its name, a VIP, or a VIP and a port; by "" every
// one is.
func isCalled(s *forwarder.Service, what string) bool {
	if what == "" || what == s.Name {
		return true
	}
	for _, m := range s.Matches {
		if what == m.Addr.String() || m.First == m.Last && what == netip.AddrPortFrom(m.Addr, m.First).String() {
			return true
		}
	}
	return false
}

// identity names a service as changes do.
func identity(s *forwarder.Service) api.VirtualService {
	k := s.Key()
	v := api.VirtualService{Name: k.Name, Mark: k.Mark, V6: k.V6}
	if k.Mark == 0 { // a range of ports is shown by its first
		m := s.Matches[0]
		v.Protocol, v.Address, v.Port = m.Proto.String(), m.Addr, m.First
	}
	return v
}
