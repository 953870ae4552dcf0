package config

import (
	"fmt"
	"net/netip"
	"strings"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// Plan decides on which leg each realserver lives, and returns what the engine is to do and the
// neighbours that it needs, with a MAC where the file gives it. networks has for each leg what is
// known of its interface, nil if nothing is; the networks that the file gives for a leg come
// before. A realserver that is on none of them is an error.
func (c *Config) Plan(networks [][]netip.Prefix) (forwarder.Plan, []forwarder.Neighbour, error) {
	plan := forwarder.Plan{Settings: c.Settings}
	var neighbours []forwarder.Neighbour
	var wrong []misplaced
	known := make(map[forwarder.Neighbour]bool, len(c.placed))
	for i := range c.Services {
		s := &c.Services[i]
		sp := forwarder.ServicePlan{Service: s.Service, Destinations: make([]forwarder.Destination, 0, len(s.Realservers))}
		for _, r := range s.Realservers {
			leg, bad := c.leg(&r, networks)
			if bad != nil {
				wrong = append(wrong, *bad)
				continue
			}
			sp.Destinations = append(sp.Destinations, forwarder.Destination{
				Addr: r.Address, Port: s.port(), Weight: r.Weight, Upper: r.Upper, Lower: r.Lower, Leg: leg, Drain: r.Drain,
			})
			if n := (forwarder.Neighbour{Hop: forwarder.Hop{Leg: leg, Addr: r.Address}, MAC: r.MAC}); !known[n] {
				known[n] = true
				neighbours = append(neighbours, n)
			}
		}
		plan.Services = append(plan.Services, sp)
	}
	if len(wrong) > 0 {
		return plan, neighbours, c.src.all(wrong)
	}
	return plan, neighbours, nil
}

// port is the port of the service's realservers: its own, or 0 if it has several.
func (s *Service) port() uint16 {
	if k := s.Key(); k.Name == "" && k.Mark == 0 {
		return k.Port
	}
	return 0
}

// Place finds the leg of a realserver. If the file has it with a leg, that is it.
func (c *Config) Place(addr netip.Addr, networks [][]netip.Prefix) (frame.Leg, error) {
	r := c.placed[addr]
	if r == nil {
		r = &Realserver{Address: addr}
	}
	leg, bad := c.leg(r, networks)
	if bad != nil {
		return 0, c.src.all([]misplaced{*bad})
	}
	return leg, nil
}

// LegError is an error about leg i, at its key in the file.
func (c *Config) LegError(i int, key, format string, args ...any) error {
	return c.src.wrong(fmt.Sprintf("$.legs[%d].%s", i, key), format, args...)
}

// RealserverError is an error about a realserver of the file, at its address there.
func (c *Config) RealserverError(r *Realserver, format string, args ...any) error {
	return c.src.wrong(r.path+".address", format, args...)
}

// Group returns the service that the file defines for a mark; nil if it defines none.
func (c *Config) Group(mark uint32, v6 bool) *Service {
	for i := range c.Services {
		if s := &c.Services[i]; mark != 0 && s.Mark == mark && s.V6 == v6 {
			return s
		}
	}
	return nil
}

// Named returns the service of this name in the file; nil if there is none.
func (c *Config) Named(name string) *Service {
	for i := range c.Services {
		if s := &c.Services[i]; s.Name == name {
			return s
		}
	}
	return nil
}

// Expiration is the file's lblc_expiration or lblcr_expiration for services with that scheduler,
// which are added at run time too; 0 for others, and for the default.
func (c *Config) Expiration(scheduler string) int64 {
	switch f := &c.written.IPVS; scheduler {
	case "lblc":
		return int64(quiet().duration("", f.LblcExpiration, 0, forwarder.Expirations))
	case "lblcr":
		return int64(quiet().duration("", f.LblcrExpiration, 0, forwarder.Expirations))
	}
	return 0
}

// StaticMAC is the MAC that the file gives to a realserver; zero if none.
func (c *Config) StaticMAC(addr netip.Addr) frame.MAC { return c.static[addr] }

// leg finds where a realserver lives.
func (c *Config) leg(r *Realserver, networks [][]netip.Prefix) (frame.Leg, *misplaced) {
	best, bits, unknown := frame.NoLeg, -1, 0
	for i := range c.Legs {
		l := &c.Legs[i]
		if r.Leg != "" {
			if l.Name == r.Leg {
				return frame.Leg(i), nil
			}
			continue
		}
		nets := l.networks(i, networks)
		if len(nets) == 0 {
			unknown++
		}
		for _, n := range nets {
			if n.Contains(r.Address) && n.Bits() > bits {
				best, bits = frame.Leg(i), n.Bits()
			}
		}
	}
	if best != frame.NoLeg {
		return best, nil
	}
	if unknown == 1 && len(c.Legs) == 1 {
		return 0, nil // the only leg, of which nothing is known: a capture, or an interface without an address
	}
	var tried []string
	for i := range c.Legs {
		l := &c.Legs[i]
		nets := l.networks(i, networks)
		if len(nets) == 0 {
			tried = append(tried, l.Name+" (no networks known)")
		}
		for _, n := range nets {
			tried = append(tried, fmt.Sprintf("%s (%s)", l.Name, n.Masked()))
		}
	}
	return 0, &misplaced{r.path + ".address", sprintf("realserver %s is on none of the legs' networks: %s; give the leg's interface an address in "+
		"its network, or write networks: under the leg, or leg: under the realserver", r.Address, verbatim(strings.Join(tried, ", ")))}
}

// networks are the file's of leg i, or else those of its interface.
func (l *Leg) networks(i int, known [][]netip.Prefix) []netip.Prefix {
	if len(l.Networks) == 0 && i < len(known) {
		return known[i]
	}
	return l.Networks
}
