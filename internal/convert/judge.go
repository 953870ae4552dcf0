package convert

import (
	"fmt"
	"net/netip"
	"slices"

	"shunt/forwarder"
	"shunt/internal/ipvsadm"
	"shunt/scheduler"
)

// judge says of each service and realserver whether shunt can have it. What it cannot have becomes
// a comment and a note.
func (r *result) judge() {
	vips := map[netip.Addr]bool{}
	claimed := map[serviceKey]bool{}
	for _, s := range r.services {
		r.judgeMatches(s, claimed)
		r.judgeService(s)
		if len(s.refused) > 0 {
			continue
		}
		vips[s.Address] = true
		for _, m := range s.matches {
			vips[m.Addr()] = true
		}
	}
	for _, s := range r.services {
		r.judgeReals(s, vips)
	}
}

// judgeMatches leaves out what a service of a mark cannot have. Of two such services the first has
// an address and port.
func (r *result) judgeMatches(s *service, claimed map[serviceKey]bool) {
	var kept []netip.AddrPort
	for _, m := range s.matches {
		key := serviceKey{proto: s.Protocol, at: m}
		if why := notOfAHost(m.Addr()); why != "" {
			r.lose(s.place, "%s: %s is no address that shunt could answer for: %s", s, m, why)
		} else if claimed[key] {
			r.lose(s.place, "%s: %s is there already", s, m)
		} else {
			claimed[key] = true
			kept = append(kept, m)
		}
	}
	s.matches = kept
}

func (r *result) judgeService(s *service) {
	if s.Mark != 0 && len(s.matches) == 0 {
		r.refuse(s, s.place, "which packets have the mark is set by the firewall: write their addresses and ports under matches:")
	} else if why := notOfAHost(s.Address); s.Mark == 0 && why != "" {
		r.refuse(s, s.place, "%s is no address that shunt could answer for: %s", s.Address, why)
	}
	if !slices.Contains(scheduler.Names(), s.Scheduler) {
		r.refuse(s, s.place, "shunt has no scheduler %q", s.Scheduler)
	}
	if s.Engine != "" {
		r.refuse(s, s.place, "shunt has no persistence engine, and this is of %q", s.Engine)
	}
	if s.Netmask.IsValid() {
		r.refuse(s, s.place, "the netmask of its persistence is not that of a prefix")
	}
	if s.Port == 0 && s.Mark == 0 && s.Persistence == 0 {
		r.refuse(s, s.place, "a service of all ports needs persistence")
	}
	if s.OnePacket && s.Protocol != ipvsadm.UDP && s.Mark == 0 {
		r.refuse(s, s.place, "one-packet scheduling is for UDP")
	}
	meant := uint8(scheduler.Fallback | scheduler.Port)
	if s.Scheduler != "sh" && s.Scheduler != "mh" {
		meant = 0
	}
	if s.Flags&^meant != 0 {
		r.remark(s.place, "%s: it has flags that mean nothing to scheduler %s: they are left out", s, s.Scheduler)
		s.Flags &= meant
	}
}

// notOfAHost says why no host on a network can have an address; "" if one can.
func notOfAHost(a netip.Addr) string {
	switch {
	case !a.IsValid() || a.IsUnspecified():
		return "it is the unspecified address"
	case a.IsLoopback():
		return "it is the host's own loopback address"
	case a.IsMulticast():
		return "it is a multicast address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "it is the broadcast address"
	case a.Is4In6():
		return "it is an IPv4 address in an IPv6 one"
	}
	return ""
}

// judgeReals judges the realservers of a service. vips are those that shunt will have.
func (r *result) judgeReals(s *service, vips map[netip.Addr]bool) {
	left := 0
	known := map[netip.Addr]int{}
	for i := range s.reals {
		x := &s.reals[i]
		why := notOfAHost(x.Address)
		switch {
		case why != "":
			why = "shunt cannot send to it: " + why
		case x.method != direct:
			why = fmt.Sprintf("its method is %s: shunt supports direct routing only", x.method)
		case s.Mark == 0 && x.Port != s.Port:
			why = fmt.Sprintf("port %d: direct routing cannot change the port, which is %d", x.Port, s.Port)
		case x.Address.Is6() != s.Is6():
			why = "it is of another family than the VIP"
		case vips[x.Address]:
			why = "it is a VIP: a realserver needs an address of its own"
		case known[x.Address] != 0:
			why = fmt.Sprintf("it is there already, from line %d", known[x.Address])
		case x.Lower > x.Upper:
			why = fmt.Sprintf("its lower threshold %d is above the upper one, %d: IPVS refuses it, too", x.Lower, x.Upper)
		case forwarder.Weights.Check("", int64(x.Weight)) != nil:
			why = fmt.Sprintf("its weight %d is above %d", x.Weight, forwarder.Weights.High)
		}
		if x.refused = why; why != "" {
			r.lose(x.place, "%s: realserver %s: %s", s, x.Address, why)
			continue
		}
		known[x.Address] = x.line
		left++
	}
	if left == 0 && len(s.refused) == 0 {
		r.refuse(s, s.place, "it has no realserver that can be converted")
	}
}
