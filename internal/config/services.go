package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

func (v *validator) services(f *file, legs []Leg) []Service {
	var out []Service
	if f.Services == nil { // an empty list is meant: services are added at run time then
		v.missing("$", "services", "there are no services: name at least one, as in\nservices:\n  - address: 192.0.2.10\n    port: 80\n    realservers: [{address: 10.0.0.11}]")
	}
	names := map[string]string{} // the paths of those that have them
	keys := map[forwarder.ServiceKey]string{}
	vips := map[netip.Addr]bool{}
	ranges := map[endpoint][]claimed{}
	for i := range f.Services {
		path := fmt.Sprintf("$.services[%d]", i)
		n := v.errs
		s := v.service(path, &f.Services[i], f)
		if v.errs == n {
			if first, twice := keys[s.Key()]; twice {
				v.wrong(path, "there is a service for %s already: %s", s.Key(), v.src.position(first))
			} else if first, twice := names[s.Name]; twice {
				v.wrong(path+".name", "a service named %q exists already: %s", s.Name, v.src.position(first+".name"))
			} else {
				names[s.Name], keys[s.Key()] = path, path
				v.overlaps(path, &s, ranges)
			}
		}
		for _, m := range s.Matches {
			vips[m.Addr] = true
		}
		out = append(out, s)
	}
	v.realservers(f, out, vips, legs)
	return out
}

// endpoint is what ports are counted for.
type endpoint struct {
	addr  netip.Addr
	proto frame.Proto
}

// claimed is a range of ports that a service has.
type claimed struct {
	match   forwarder.Match
	service string
	mark    bool
}

// overlaps refuses services between which the port does not decide: two ranges that share some
// ports. A single port comes before a range, a range before all ports, and a mark before all of
// them.
func (v *validator) overlaps(path string, s *Service, ranges map[endpoint][]claimed) {
	width := func(m forwarder.Match) int {
		switch {
		case m.First == m.Last:
			return 0
		case m.First == 0 && m.Last == 65535:
			return 2
		}
		return 1
	}
	for _, m := range s.Matches {
		for _, r := range ranges[endpoint{m.Addr, m.Proto}] {
			if r.mark == (s.Mark != 0) && width(r.match) == width(m) && m.First <= r.match.Last && r.match.First <= m.Last {
				v.wrong(path, "the service shares ports of %s %s with %q: a frame would belong to both", m.Proto, m.Addr, r.service)
				return
			}
		}
	}
	for _, m := range s.Matches {
		e := endpoint{m.Addr, m.Proto}
		ranges[e] = append(ranges[e], claimed{m, s.Name, s.Mark != 0})
	}
}

func (v *validator) service(path string, f *serviceFile, all *file) Service {
	s := Service{path: path}
	s.Name = f.Name
	v.name(path+".name", f.Name)
	s.OnePacket = f.OnePacket
	if len(f.Matches) > 0 {
		if f.Address != "" || f.Port.set || f.Protocol != "" {
			v.wrong(path+".matches", "a service has either matches or address, protocol and port, not both")
		}
		for j := range f.Matches {
			s.Matches = append(s.Matches, v.match(fmt.Sprintf("%s.matches[%d]", path, j), &f.Matches[j])...)
		}
		if f.Name == "" && !f.Mark.set {
			v.missing(path, "name", "a service with matches needs a name")
		}
	} else if !v.failed[path+".matches"] {
		s.Matches = v.match(path, &matchFile{f.Address, f.Protocol, f.Port})
	}
	s.Mark = uint32(v.number(path+".mark", f.Mark, 0, forwarder.Marks))
	for _, m := range s.Matches {
		if m.Addr.Is6() != s.Matches[0].Addr.Is6() {
			v.wrong(path+".matches", "a service has either IPv4 or IPv6 addresses, not both: make it two")
			break
		}
	}
	if len(s.Matches) > 0 {
		s.V6 = s.Matches[0].Addr.Is6()
	}
	if s.Name == "" && len(s.Matches) > 0 {
		s.Name = defaultName(&s.Service)
	}
	if s.OnePacket {
		for _, m := range s.Matches {
			if m.Proto != frame.UDP {
				v.wrong(path+".one_packet", "one_packet is for UDP only")
				break
			}
		}
	}
	v.scheduling(path, f, &s, all)
	v.persistence(path, f, &s)
	return s
}

// defaultName is what ipvsadm would print.
func defaultName(s *forwarder.Service) string {
	if m := s.Matches[0]; s.Mark == 0 && m.First != m.Last && (m.First != 0 || m.Last != 65535) {
		return fmt.Sprintf("%s %s ports %d-%d", m.Proto, m.Addr, m.First, m.Last)
	}
	return s.Key().String()
}

// match reads an address, a protocol and a port, a range of ports or all of them.
func (v *validator) match(path string, f *matchFile) []forwarder.Match {
	m, before := forwarder.Match{}, v.errs
	if f.Address == "" {
		v.missing(path, "address", "there is no address: write address: and the VIP")
	} else {
		m.Addr, _ = v.address(path+".address", f.Address, "the VIP")
	}
	switch v.choice(path+".protocol", strings.ToLower(f.Protocol), "tcp", "udp", "sctp") {
	case "udp":
		m.Proto = frame.UDP
	case "sctp":
		m.Proto = frame.SCTP
	default:
		m.Proto = frame.TCP
	}
	var err error
	if !f.Port.set {
		v.missing(path, "port", "there is no port: write a port such as 80, a range such as \"8000-8099\", or all")
	} else if m.First, m.Last, err = ports(f.Port.text); err != nil {
		v.wrong(path+".port", "%v", err)
	}
	if v.errs > before {
		return nil
	}
	return []forwarder.Match{m}
}

// ports reads 80, "8000-8099", all and 0, which is the same as all.
func ports(s string) (first, last uint16, err error) {
	s = strings.TrimSpace(s)
	if s == "all" || s == "0" {
		return 0, 65535, nil
	}
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	a, err1 := strconv.ParseUint(strings.TrimSpace(low), 10, 32)
	b, err2 := strconv.ParseUint(strings.TrimSpace(high), 10, 32)
	switch {
	case errors.Join(err1, err2) != nil:
		return 0, 0, errors.New(sprintf("port is %q: write a port such as 80, a range such as \"8000-8099\", or all", s))
	case a < 1 || b > 65535 || a > b:
		return 0, 0, fmt.Errorf("port is %s: ports go from 1 to 65535, ranges upwards", s)
	}
	return uint16(a), uint16(b), nil
}

// address reads an address that a host can have.
func (v *validator) address(path, s, what string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		v.wrong(path, "%s %q is not an IP address%s", what, s, addressHint(s, what != "the VIP"))
		return netip.Addr{}, false
	}
	if err := forwarder.CheckAddress(a); err != nil {
		v.wrong(path, "%s %s", what, strings.TrimSuffix(err.Error(), ": "+forwarder.ErrInvalid.Error()))
		return a, false
	}
	return a, true
}

// A flagWord is what a flag of schedulers is called.
type flagWord struct {
	name, needs string // needs: the scheduler that has the name
	flag        scheduler.Flags
}

var flagWords = []flagWord{
	{"sh-fallback", "sh", scheduler.Fallback}, {"sh-port", "sh", scheduler.Port}, {"mh-fallback", "mh", scheduler.Fallback}, {"mh-port", "mh", scheduler.Port},
	{"flag-1", "", scheduler.Fallback}, {"flag-2", "", scheduler.Port}, {"flag-3", "", scheduler.Flag3}, // as ipvsadm has them
}

func (v *validator) scheduling(path string, f *serviceFile, s *Service, all *file) {
	s.Scheduler = f.Scheduler
	if s.Scheduler == "" {
		s.Scheduler = "wlc"
	}
	for j, name := range f.Flags {
		at := slices.IndexFunc(flagWords, func(w flagWord) bool { return w.name == name })
		if at < 0 {
			v.wrong(fmt.Sprintf("%s.flags[%d]", path, j), "unknown flag %q: there are sh-fallback, sh-port, mh-fallback and mh-port, and flag-1, flag-2 and flag-3 "+
				"for any scheduler", name)
			continue
		}
		if w := flagWords[at]; w.needs != "" && s.Scheduler != w.needs {
			v.wrong(fmt.Sprintf("%s.flags[%d]", path, j), "flag %s is of scheduler %s, and this service has %s", name, w.needs, s.Scheduler)
		}
		s.Options.Flags |= flagWords[at].flag
	}
	if s.SlowStart = v.duration(path+".slow_start", f.SlowStart, 0, forwarder.SlowStarts); s.SlowStart > 0 && !slices.Contains(scheduler.Ramped(), s.Scheduler) {
		v.wrong(path+".slow_start", "slow_start is for the schedulers that would give a newcomer all new connections: %s; this service has %s",
			verbatim(strings.Join(scheduler.Ramped(), ", ")), s.Scheduler)
	}
	s.Options.TableSize = int(v.number(path+".table_size", f.TableSize, 0, between(1, math.MaxInt32)))
	switch s.Scheduler {
	case "lblc":
		s.Options.Expiration = int64(quiet().duration("$.ipvs.lblc_expiration", all.IPVS.LblcExpiration, 0, forwarder.Expirations))
	case "lblcr":
		s.Options.Expiration = int64(quiet().duration("$.ipvs.lblcr_expiration", all.IPVS.LblcrExpiration, 0, forwarder.Expirations))
	}
	if _, err := scheduler.Build(s.Scheduler, s.Options, nil, nil); errors.Is(err, scheduler.ErrUnknown) {
		v.wrong(path+".scheduler", "%v", err)
	} else if err != nil {
		v.wrong(path+".table_size", "%v", err)
	}
}

// quiet is a validator that finds out whether something is wrong, and not where.
func quiet() *validator { return &validator{} }

func (v *validator) persistence(path string, f *serviceFile, s *Service) {
	switch strings.ToLower(f.Persistence.text) {
	case "true":
		s.Persistence = DefaultPersist
	case "false":
	default:
		s.Persistence = v.duration(path+".persistence", f.Persistence, 0, forwarder.Persistences)
	}
	masks := forwarder.Masks4
	if s.V6 {
		masks = forwarder.Masks6
	}
	s.MaskBits = int(v.number(path+".persistence_mask", f.Mask, 0, masks))
	if off := !f.Persistence.set || strings.EqualFold(f.Persistence.text, "false"); f.Mask.set && off && !v.failed[path+".persistence"] {
		v.wrong(path+".persistence_mask", "a mask is of use only with persistence: write persistence: 6m")
	}
	if s.Persistence == 0 && !v.failed[path+".persistence"] && s.Mark == 0 && len(s.Matches) == 1 && s.Matches[0].First == 0 && s.Matches[0].Last == 65535 {
		v.wrong(path+".port", "a service of all ports needs persistence, so that a client's connections meet one realserver, as in IPVS: "+
			"write persistence: 6m, or port: \"1-65535\" if each connection may go its own way")
	}
}

func (v *validator) realservers(f *file, services []Service, vips map[netip.Addr]bool, legs []Leg) {
	type place struct {
		leg  string
		addr netip.Addr
	}
	macs := make(map[place]frame.MAC, f.realservers())
	glance := quiet()
	for i := range f.Services {
		list := services[i].path + ".realservers"
		if f.Services[i].Realservers == nil { // likewise
			v.missing(services[i].path, "realservers", "the service has no realservers: its clients would be refused; write realservers: [] if they are added at run time")
		}
		seen := make(map[netip.Addr]bool, len(f.Services[i].Realservers))
		services[i].Realservers = make([]Realserver, 0, len(f.Services[i].Realservers))
		for j := range f.Services[i].Realservers {
			path := list + "[" + strconv.Itoa(j) + "]"
			// Where each of its values would be found takes longer to write than to look at the
			// values. Hence this is asked twice.
			r := glance.realserver("", &f.Services[i].Realservers[j], legs)
			if r.path = path; glance.errs > 0 {
				glance.errs = 0
				v.realserver(path, &f.Services[i].Realservers[j], legs)
				continue
			}
			s := &services[i]
			switch {
			case vips[r.Address]:
				v.wrong(path+".address", "realserver %s is a VIP: a realserver is reached by an address of its own, and has the VIP on lo", r.Address)
			case seen[r.Address]:
				v.wrong(path+".address", "realserver %s is in this service already", r.Address)
			case len(s.Matches) > 0 && r.Address.Is6() != s.V6:
				v.wrong(path+".address", "realserver %s and the VIP %s are of different families; direct routing needs the same", r.Address, s.Matches[0].Addr)
			}
			seen[r.Address] = true
			at := place{r.Leg, r.Address}
			if m, ok := macs[at]; ok && m != r.MAC {
				v.wrong(path, "realserver %s has another mac, or none, in another service: write the same everywhere", r.Address)
			}
			macs[at] = r.MAC
			s.Realservers = append(s.Realservers, r)
		}
	}
}

func (v *validator) realserver(path string, f *realserverFile, legs []Leg) Realserver {
	r := Realserver{path: path, Leg: f.Leg}
	if f.Address == "" {
		v.missing(path, "address", "the realserver has no address")
	}
	if f.Address != "" {
		r.Address, _ = v.address(path+".address", f.Address, "the realserver")
	}
	r.Weight = int32(v.number(path+".weight", f.Weight, 1, forwarder.Weights))
	r.Upper = int32(v.number(path+".upper", f.Upper, 0, forwarder.Thresholds))
	r.Lower = int32(v.number(path+".lower", f.Lower, 0, forwarder.Thresholds))
	r.Drain = v.duration(path+".drain", f.Drain, 0, forwarder.DrainPatience)
	if r.Drain > 0 && r.Weight != 0 {
		v.wrong(path+".drain", "drain is the patience with the connections of a realserver of weight 0; this one has weight %d", r.Weight)
	}
	if r.Lower > r.Upper {
		v.wrong(path+".lower", "the lower threshold %d is above the upper %d", r.Lower, r.Upper)
	}
	if f.MAC != "" {
		m, err := net.ParseMAC(f.MAC)
		if err != nil || len(m) != 6 {
			v.wrong(path+".mac", "%q is not an Ethernet address: write it as 02:00:00:00:00:11", f.MAC)
		} else if r.MAC = frame.MAC(m); r.MAC.IsGroup() || r.MAC.IsZero() {
			v.wrong(path+".mac", "%s is not the address of one host", r.MAC)
		}
	}
	if f.Leg != "" {
		var names []string
		for _, l := range legs {
			if l.Name == f.Leg {
				return r
			}
			names = append(names, l.Name)
		}
		v.wrong(path+".leg", "there is no leg %q: there are %s", f.Leg, verbatim(strings.Join(names, ", ")))
	}
	return r
}
