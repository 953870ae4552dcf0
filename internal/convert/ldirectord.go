package convert

import (
	"strings"
)

// ldirectord reads ldirectord.cf: a virtual= begins a service, and what is indented below belongs to it.
func (r *result) ldirectord(name, text string) {
	var s *service
	checks := false
	for i, line := range strings.Split(text, "\n") {
		p := place{name, i + 1}
		if j := strings.IndexByte(line, '#'); j >= 0 {
			line = line[:j]
		}
		indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`)
		switch {
		case !ok && key == "":
		case !ok:
			r.note(p, "%q is not understood", key)
		case key == "virtual" || key == "virtual6":
			s = r.ldirectordVirtual(p, value)
		case !indented && s == nil, !indented && key != "real" && key != "real6":
			if key == "fallback" || key == "supervised" || key == "fork" {
				r.note(p, "%s: no counterpart", key)
			}
			checks = checks || strings.HasPrefix(key, "check") || strings.HasPrefix(key, "negotiate")
		case s == nil: // of a service that was not understood
		default:
			r.ldirectordKey(p, s, key, value, &checks)
		}
	}
	if checks {
		r.note(place{name, 1}, "health checks are not converted, as shunt checks by ARP alone; ldirectord itself runs over shunt (docs/ipvsadm.md)")
	}
}

func (r *result) ldirectordVirtual(p place, value string) *service {
	s := &service{place: p, proto: "tcp"}
	if m, ok := number(value, 1, 1<<32-1); ok {
		s.mark = uint32(m)
	} else {
		addr, port, ok := addrPort(value)
		if !ok || port < 0 {
			r.note(p, "virtual=%s is no address and port: names are not looked up", value)
			return nil
		}
		s.addr, s.port = addr, port
	}
	r.services = append(r.services, s)
	return s
}

func (r *result) ldirectordKey(p place, s *service, key, value string, checks *bool) {
	ok := true
	switch key {
	case "real", "real6":
		r.ldirectordReal(p, s, value)
	case "scheduler":
		s.scheduler = value
	case "persistent":
		s.persistence, ok = number(value, 1, 2_678_400)
	case "netmask":
		s.mask, ok = parseMask(value, s.addr.Is6())
	case "protocol":
		switch value {
		case "tcp", "udp", "sctp":
			s.proto = value
		case "fwm":
		default:
			ok = false
		}
	case "ops":
		s.onePacket = value == "yes"
	case "fallback", "quiescent":
		r.note(p, "%s: %s: no counterpart", s, key)
	case "service", "checktype", "request", "receive", "checkport", "checktimeout", "negotiatetimeout", "checkinterval", "checkcount", "failurecount",
		"virtualhost", "httpmethod", "login", "passwd", "database", "secret", "load", "checkcommand", "emailalert", "emailalertfreq", "emailalertstatus",
		"emailalertfrom", "monitorfile", "cleanstop", "smtp":
		*checks = true
	default:
		ok = false
	}
	if !ok {
		r.note(p, "%s: %s=%s is not understood", s, key, value)
	}
}

// ldirectordReal reads ADDRESS[->ADDRESS][:PORT] gate|masq|ipip [weight] [...].
func (r *result) ldirectordReal(p place, s *service, value string) {
	words := strings.Fields(value)
	if len(words) == 0 {
		r.note(p, "%s: real= without an address", s)
		return
	}
	first, last, isRange := strings.Cut(words[0], "->")
	port := s.port
	if isRange {
		a, n, ok := addrPort(last)
		if ok && n >= 0 {
			port = n
		}
		last = a.String()
	}
	addr, n, ok := addrPort(first)
	if n >= 0 {
		port = n
	}
	x := real{place: p, addr: addr, port: port, weight: 1}
	if !ok {
		r.note(p, "%s: real=%s is no address and port: names are not looked up", s, words[0])
		return
	}
	method := "masq"
	for _, w := range words[1:] {
		if n, is := number(w, 0, 65535); is {
			x.weight = n
			break
		}
		if w == "gate" || w == "masq" || w == "ipip" {
			method = w
		}
	}
	if method != "gate" {
		x.refused = "it is of " + method + ": shunt does direct routing only (gate)"
	}
	for count := 0; ; count++ {
		s.reals = append(s.reals, x)
		if !isRange || x.addr.String() == last {
			return
		}
		if x.addr = x.addr.Next(); count == 255 || !x.addr.IsValid() {
			r.note(p, "%s: the range of realservers has no end within 256 addresses", s)
			return
		}
	}
}
