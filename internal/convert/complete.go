package convert

import (
	"net/netip"
	"slices"

	"shunt/internal/ipvsadm"
)

// finish fills in what was not said, puts right what IPVS would not take, as keepalived does, and
// adds the services.
func (v *virtualServer) finish() {
	if len(v.reals) == 0 {
		v.lose(v.n.place, "%s: no realserver: keepalived ignores it", v.n)
		return
	}
	entries := v.entries()
	if entries == nil {
		return
	}
	v.completeService(entries)
	v.completeReals()
	if v.group != nil && v.nextMark != 0 && !entries[len(entries)-1].isMark {
		v.oneMark(entries)
		return
	}
	if v.group != nil && v.masked {
		v.remark(v.n.place, "%s: for a group keepalived 2.2.7 does not hand the netmask over to IPVS: each client is taken by itself", v.n)
		v.s.MaskBits, v.s.Netmask = 0, netip.Addr{}
	}
	for i := range entries {
		e := &entries[i]
		v.reportPorts(e)
		if v.full {
			return
		}
		for _, s := range e.services(v.s, v.family) {
			s.place = e.place
			v.takePorts(s)
			v.add(s)
		}
	}
}

// oneMark makes one service of all addresses of a group, as keepalived does with nftables_ipvs: by
// a mark that its rules set.
func (v *virtualServer) oneMark(entries []entry) {
	proto := v.s.Protocol
	if v.group.marks[proto] == 0 {
		v.group.marks[proto] = v.nextMark
		v.nextMark++
	}
	s := v.s
	s.Mark, s.V6 = v.group.marks[proto], v.family == 6
	for i := range entries {
		for a := entries[i].first; ; a = a.Next() {
			if len(s.matches) == v.limits.services {
				v.lose(entries[i].place, "%s: its group has more than %d addresses: the others are ignored", v.n, v.limits.services)
				break
			}
			s.matches = append(s.matches, netip.AddrPortFrom(a, entries[i].port))
			if a == entries[i].last {
				break
			}
		}
	}
	v.takePorts(&s)
	v.add(&s)
}

// entries are the addresses, and then the marks, of which there will be services; nil if keepalived
// leaves the block out.
func (v *virtualServer) entries() []entry {
	if v.group == nil {
		return []entry{*v.named}
	}
	g := v.group
	switch {
	case g.has4 && g.has6 && v.family != 0, g.has4 && v.family == 6, g.has6 && v.family == 4:
		v.lose(v.n.place, "%s: the group is of another family, or of both: keepalived ignores it", v.n)
		return nil
	case v.family == 0 && g.has4 != g.has6:
		if v.family = 4; g.has6 {
			v.family = 6
		}
	}
	var addresses, marks []entry
	for _, e := range g.entries {
		if e.isMark {
			marks = append(marks, e)
		} else {
			addresses = append(addresses, e)
		}
	}
	return append(addresses, marks...)
}

func (v *virtualServer) completeService(entries []entry) {
	byAddress := !entries[0].isMark // addresses come first
	s := &v.s
	if byAddress && s.Protocol == "" {
		v.remark(v.n.place, "%s: there is no protocol: keepalived takes UDP", v.n)
		s.Protocol = ipvsadm.UDP
	}
	if byAddress && s.OnePacket && s.Protocol != ipvsadm.UDP {
		v.remark(v.n.place, "%s: ops is for UDP: keepalived ignores it", v.n)
		s.OnePacket = false
	}
	allPorts := slices.ContainsFunc(entries, func(e entry) bool { return !e.isMark && e.port == 0 })
	if allPorts && s.Persistence == 0 {
		v.remark(v.n.place, "%s: a service of all ports needs persistence: keepalived takes %d s", v.n, int(defaultPersistence.Seconds()))
		v.persist(defaultPersistence)
	}
	if s.Scheduler == "" {
		v.remark(v.n.place, "%s: there is no scheduler: keepalived takes wlc", v.n)
		s.Scheduler = "wlc"
	}
	if s.Persistence == 0 {
		s.Engine = "" // it goes with persistence only
	}
}

// completeReals leaves out what is there twice, and fills in methods and weights.
func (v *virtualServer) completeReals() {
	var kept []*realServer
	for _, x := range v.reals {
		if slices.ContainsFunc(kept, func(k *realServer) bool { return k.Address == x.Address && k.Port == x.Port }) {
			v.remark(x.n.place, "%s: %s: it is there already: keepalived ignores it", v.n, x.n)
			continue
		}
		kept = append(kept, x)
		if x.method == "" && v.method == "" {
			v.remark(v.n.place, "%s: there is no lvs_method: keepalived takes NAT", v.n)
			v.method = masquerade
		}
		if x.method == "" {
			x.method = v.method
		}
		if !x.weighted {
			x.Weight = v.weight
		}
	}
	v.reals = kept
}

// reportPorts notes ports of realservers that are not the service's.
func (v *virtualServer) reportPorts(e *entry) {
	if e.isMark {
		return
	}
	for _, x := range v.reals {
		if x.method != masquerade && x.Port != 0 && x.Port != e.port {
			v.remark(x.n.place, "%s: %s: only NAT could change the port: keepalived takes the service's, %d", v.n, x.n, e.port)
		}
	}
}

// takePorts gives a service its realservers, with its port, except where NAT has another.
func (v *virtualServer) takePorts(s *service) {
	s.reals = nil
	for _, x := range v.reals {
		y := x.real
		if y.method != masquerade || y.Port == 0 && v.group == nil {
			y.Port = s.Port
		}
		if known := slices.IndexFunc(s.reals, func(k real) bool { return k.Address == y.Address && k.Port == y.Port }); known >= 0 {
			v.remark(y.place, "%s: %s: IPVS has it already, from line %d", v.n, x.n, s.reals[known].line)
			continue
		}
		s.reals = append(s.reals, y)
	}
}

// add adds a service. One that is there already gets the realservers, as the kernel refuses to add
// it and keepalived goes on.
func (r *result) add(s *service) {
	key := keyOf(&s.VirtualService)
	first := r.known[key]
	switch {
	case first == nil && len(r.services) >= r.limits.services:
		if !r.full {
			r.lose(s.place, "there are more than %d services: this one and the following ones are ignored", r.limits.services)
		}
		r.full = true
		return
	case first == nil:
		r.known[key] = s
		r.services = append(r.services, s)
		return
	}
	r.remark(s.place, "%s: it is there already, from line %d: only its realservers are added to that, as keepalived does", s, first.line)
	for _, x := range s.reals {
		if !slices.ContainsFunc(first.reals, func(k real) bool { return k.Address == x.Address && k.Port == x.Port }) {
			first.reals = append(first.reals, x)
		}
	}
}
