package convert

import (
	"net/netip"
	"strings"
)

// ipvsadm reads what `ipvsadm -S -n` writes: a line for each service (-A) and each realserver (-a).
func (r *result) ipvsadm(name string, text string) {
	byKey := map[string]*service{}
	for i, line := range strings.Split(text, "\n") {
		p := place{name, i + 1}
		words := strings.Fields(line)
		if len(words) > 0 && words[0] == "ipvsadm" {
			words = words[1:]
		}
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		adds := words[0] == "-A" || words[0] == "--add-service"
		if !adds && words[0] != "-a" && words[0] != "--add-server" {
			r.note(p, "%s: only -A and -a are converted", words[0])
			continue
		}
		s, x, method := r.ipvsadmLine(p, words[1:])
		if s == nil {
			continue
		}
		if adds {
			byKey[s.String()] = s
			r.services = append(r.services, s)
			continue
		}
		to := byKey[s.String()]
		if to == nil || !x.addr.IsValid() {
			r.note(p, "the realserver belongs to no service that was added before")
			continue
		}
		if method != "DR" {
			x.refused = "it is of " + method + ": shunt does direct routing only"
		}
		if x.port < 0 {
			x.port = to.port
		}
		to.reals = append(to.reals, x)
	}
}

// ipvsadmLine reads the options of one line; s is nil if there is something in them that was not understood.
func (r *result) ipvsadmLine(p place, words []string) (s *service, x real, method string) {
	s, x, method = &service{place: p, proto: "tcp"}, real{place: p, weight: 1, port: -1}, "DR"
	bad := func(option, value string) (*service, real, string) {
		r.note(p, "%s %s is not understood: the line is left out", option, value)
		return nil, x, ""
	}
	for i := 0; i < len(words); i++ {
		option, value := words[i], ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		ok := true
		switch option {
		case "-t", "-u", "--tcp-service", "--udp-service", "--sctp-service":
			s.proto = map[string]string{"-u": "udp", "--udp-service": "udp", "--sctp-service": "sctp"}[option]
			if s.proto == "" {
				s.proto = "tcp"
			}
			s.addr, s.port, ok = addrPort(value)
			s.port = max(s.port, 0)
			i++
		case "-f", "--fwmark-service":
			var m int
			m, ok = number(value, 1, 1<<32-1)
			s.mark = uint32(m)
			i++
		case "-6", "-n", "-g", "--gatewaying":
		case "-m", "--masquerading":
			method = "NAT"
		case "-i", "--ipip":
			method = "TUN"
		case "-o", "--ops":
			s.onePacket = true
		case "-s", "--scheduler":
			s.scheduler = value
			i++
		case "-b", "--sched-flags":
			for f := range strings.SplitSeq(value, ",") {
				if f != "sh-fallback" && f != "sh-port" && f != "mh-fallback" && f != "mh-port" {
					return bad(option, value)
				}
				s.flags = append(s.flags, f)
			}
			i++
		case "-p", "--persistent":
			s.persistence = 360
			if n, is := number(value, 1, 2_678_400); is {
				s.persistence = n
				i++
			}
		case "-M", "--netmask":
			s.mask, ok = parseMask(value, s.addr.Is6())
			i++
		case "-r", "--real-server":
			x.addr, x.port, ok = addrPort(value)
			i++
		case "-w", "--weight":
			x.weight, ok = number(value, 0, 65535)
			i++
		case "-x", "--u-threshold":
			x.upper, ok = number(value, 0, 1<<31-1)
			i++
		case "-y", "--l-threshold":
			x.lower, ok = number(value, 0, 1<<31-1)
			i++
		default:
			return bad(option, value)
		}
		if !ok {
			return bad(option, value)
		}
	}
	if !s.addr.IsValid() && s.mark == 0 {
		r.note(p, "there is no service in this line")
		return nil, x, ""
	}
	return s, x, method
}

// addrPort reads ADDRESS[:PORT]; the port is -1 if there is none.
func addrPort(s string) (netip.Addr, int, bool) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a, -1, a.Zone() == "" && !a.Is4In6()
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return netip.Addr{}, 0, false
	}
	a, err := netip.ParseAddr(strings.Trim(s[:i], "[]"))
	port, ok := parsePort(s[i+1:])
	return a, port, err == nil && ok && a.Zone() == "" && !a.Is4In6()
}
