package convert

import (
	"fmt"
	"net/netip"
	"strings"
)

// keepalived reads keepalived.conf from its statements.
func (r *result) keepalived(tree []*node) {
	groups := map[string]*node{}
	for _, n := range tree {
		if n.word(0) == "virtual_server_group" {
			groups[n.word(1)] = n
		}
	}
	for _, n := range tree {
		switch n.word(0) {
		case "virtual_server":
			r.virtualServer(n, groups)
		case "virtual_server_group":
		case "vrrp_instance":
			r.vrrpInstance(n)
		case "global_defs":
			r.globalDefs(n)
		default:
			r.note(n.place, "%s: no counterpart", strings.Join(n.words, " "))
		}
	}
}

// vrrpInstance tells on which interface VIPs are; all else is what shunt has not.
func (r *result) vrrpInstance(n *node) {
	r.note(n.place, "vrrp_instance %s: shunt speaks no VRRP: let keepalived go on doing so, and start and stop shunt from its notify scripts (docs/running.md, \"Two directors\")",
		n.word(1))
	iface := ""
	for _, c := range n.children {
		if c.word(0) == "interface" {
			iface = c.word(1)
		}
	}
	for _, c := range n.children {
		if c.word(0) != "virtual_ipaddress" {
			continue
		}
		for _, a := range c.children {
			text, _, _ := strings.Cut(a.word(0), "/")
			dev := iface
			for i := 1; i+1 < len(a.words); i++ {
				if a.words[i] == "dev" {
					dev = a.words[i+1]
				}
			}
			if addr, err := netip.ParseAddr(text); err == nil {
				r.ifaces[addr] = dev
			}
		}
		r.note(c.place, "virtual_ipaddress: take the VIPs that shunt is to have out of here: they must not be on the director's host")
	}
}

func (r *result) globalDefs(n *node) {
	for _, c := range n.children {
		switch c.word(0) {
		case "lvs_timeouts":
			for i := 1; i+1 < len(c.words); i += 2 {
				seconds, ok := number(c.words[i+1], 1, 2_678_400)
				if key := c.words[i]; ok && (key == "tcp" || key == "tcpfin" || key == "udp") {
					r.timeouts = append(r.timeouts, fmt.Sprintf("%s: %d", key, seconds))
				} else {
					r.note(c.place, "lvs_timeouts: %s %s is not understood", key, c.words[i+1])
				}
			}
		case "lvs_sync_daemon":
			r.note(c.place, "lvs_sync_daemon: connections are not synchronised between directors")
		}
	}
	seen := map[string]bool{}
	out := r.timeouts[:0]
	for _, t := range r.timeouts {
		key, _, _ := strings.Cut(t, ":")
		if !seen[key] {
			seen[key] = true
			out = append(out, t)
		}
	}
	r.timeouts = out
}

// members are the services that a virtual_server stands for: its group has one for each address and mark.
func (r *result) members(n *node, groups map[string]*node) (out []*service) {
	switch n.word(1) {
	case "fwmark":
		return r.mark(n.place, n.word(2))
	case "group":
		g := groups[n.word(2)]
		if g == nil {
			r.note(n.place, "virtual_server group %s: there is no such virtual_server_group", n.word(2))
			return nil
		}
		for _, c := range g.children {
			if c.word(0) == "fwmark" {
				out = append(out, r.mark(c.place, c.word(1))...)
			} else {
				out = append(out, r.addresses(c.place, c.word(0), c.word(1))...)
			}
		}
		return out
	}
	return r.addresses(n.place, n.word(1), n.word(2))
}

func (r *result) mark(p place, text string) []*service {
	m, ok := number(text, 1, 1<<32-1)
	if !ok {
		r.note(p, "fwmark %q is no mark", text)
		return nil
	}
	return []*service{{place: p, mark: uint32(m), proto: "tcp"}}
}

// addresses reads ADDRESS PORT; the address may be a range as 192.168.10.100-110.
func (r *result) addresses(p place, text, port string) (out []*service) {
	base, last, isRange := strings.Cut(text, "-")
	addr, err := netip.ParseAddr(base)
	number, ok := parsePort(port)
	if port == "" {
		number, ok = 0, true
	}
	if err != nil || addr.Zone() != "" || addr.Is4In6() || !ok {
		r.note(p, "%s %s is no address and port: names are not looked up", text, port)
		return nil
	}
	count := 1
	if isRange {
		if count = rangeCount(addr, last); count == 0 {
			r.note(p, "%s is not understood as a range of addresses, of 256 at most", text)
			return nil
		}
	}
	for range count {
		out = append(out, &service{place: p, addr: addr, port: number, proto: "tcp"})
		addr = addr.Next()
	}
	return out
}

// rangeCount is how many addresses there are from one to the one whose last part is given: of IPv4 in decimal, of IPv6 in
// hexadecimal. 0 if it cannot be.
func rangeCount(from netip.Addr, last string) int {
	b := from.AsSlice()
	var end int
	var err error
	if from.Is4() {
		_, err = fmt.Sscanf(last+"\n", "%d\n", &end)
		end -= int(b[3])
	} else {
		_, err = fmt.Sscanf(last+"\n", "%x\n", &end)
		end -= int(b[14])<<8 | int(b[15])
	}
	if err != nil || end < 0 || end > 255 || from.Is4() && end+int(b[3]) > 255 {
		return 0
	}
	return end + 1
}

// checkers are the health checks of keepalived.
const checkers = " HTTP_GET SSL_GET TCP_CHECK SMTP_CHECK MISC_CHECK DNS_CHECK BFD_CHECK UDP_CHECK PING_CHECK FILE_CHECK "

// harmless are keywords that only concern health checks, or nothing that is lost.
const harmless = " delay_loop retry delay_before_retry connect_timeout warmup ip_family inhibit_on_failure virtualhost ha_suspend " +
	"smtp_alert omega lb_argo svr_name snmp_name "

// virtualServer reads one block, into as many services as it stands for.
func (r *result) virtualServer(n *node, groups map[string]*node) {
	members := r.members(n, groups)
	if len(members) == 0 {
		return
	}
	proto := service{place: n.place, proto: "tcp", addr: members[0].addr, mark: members[0].mark, port: members[0].port}
	method, methodAt := "NAT", n.place // what keepalived takes if nothing is said
	var checks []string
	for _, c := range n.children {
		v := c.word(1)
		switch key := c.word(0); {
		case key == "lb_algo" || key == "lvs_sched":
			proto.scheduler = v
		case key == "lb_kind" || key == "lvs_method":
			method, methodAt = strings.ToUpper(v), c.place
		case key == "protocol":
			proto.proto = strings.ToLower(v)
		case key == "persistence_timeout":
			r.persistence(&proto, c)
		case key == "persistence_granularity":
			bits, ok := parseMask(v, proto.addr.Is6())
			if !ok {
				r.note(c.place, "persistence_granularity %s is no netmask", v)
			}
			proto.mask = bits
		case key == "ops":
			proto.onePacket = true
		case key == "sh-port" || key == "sh-fallback" || key == "mh-port" || key == "mh-fallback":
			proto.flags = append(proto.flags, key)
		case key == "flag-1" || key == "flag-2":
			r.flag(&proto, c)
		case key == "real_server":
			r.realServer(&proto, c, method, &checks)
		case strings.Contains(checkers, " "+key+" "):
			checks = append(checks, fmt.Sprintf("%s line %d", key, c.line))
		case strings.Contains(harmless, " "+key+" "):
		default:
			r.note(c.place, "%s: %s: no counterpart", &proto, strings.Join(c.words, " "))
		}
	}
	if len(checks) > 0 {
		r.note(n.place, "%s: health checks are not converted, as shunt checks by ARP alone: have what checks set weight: 0 and reload (%s)", &proto, strings.Join(checks, ", "))
	}
	for _, s := range members {
		proto.place, proto.addr, proto.port, proto.mark = s.place, s.addr, s.port, s.mark
		*s = proto
		s.reals = append([]real(nil), proto.reals...)
		s.flags = append([]string(nil), proto.flags...)
		s.refused = nil
		if s.proto != "tcp" && s.proto != "udp" && s.proto != "sctp" {
			r.refuse(s, n.place, "there is no protocol %q", s.proto)
		}
		if method != "DR" {
			r.refuse(s, methodAt, "it is of %s: shunt does direct routing only; its realservers need the VIP on lo, and a MAC on a leg of the director", method)
		}
		r.services = append(r.services, s)
	}
}

func (r *result) persistence(s *service, c *node) {
	s.persistence = 360
	if c.word(1) == "" {
		return
	}
	n, ok := number(c.word(1), 0, 2_678_400)
	if !ok {
		r.note(c.place, "persistence_timeout %s is no number of seconds up to 31 days: 360 is taken", c.word(1))
		return
	}
	s.persistence = n
}

// flag reads flag-1 and flag-2, which mean what the scheduler makes of them.
func (r *result) flag(s *service, c *node) {
	for _, kind := range []string{"sh", "mh"} {
		if s.scheduler == kind {
			s.flags = append(s.flags, map[string]string{"flag-1": kind + "-fallback", "flag-2": kind + "-port"}[c.word(0)])
			return
		}
	}
	r.note(c.place, "%s: %s means nothing to scheduler %q", s, c.word(0), s.scheduler)
}

// realServer reads a real_server block.
func (r *result) realServer(s *service, n *node, method string, checks *[]string) {
	addr, err := netip.ParseAddr(n.word(1))
	port, ok := s.port, true
	if n.word(2) != "" {
		port, ok = parsePort(n.word(2))
	}
	if err != nil || addr.Zone() != "" || !ok {
		r.note(n.place, "%s: real_server %s %s is no address and port: names are not looked up", s, n.word(1), n.word(2))
		return
	}
	x := real{place: n.place, addr: addr, port: port, weight: 1}
	bound := func(c *node, to *int, high int) {
		v, ok := number(c.word(1), 0, high)
		if !ok {
			r.note(c.place, "real_server %s: %s %s must be a number from 0 to %d", addr, c.word(0), c.word(1), high)
			return
		}
		*to = v
	}
	for _, c := range n.children {
		switch key := c.word(0); {
		case key == "weight":
			bound(c, &x.weight, 65535)
		case key == "uthreshold":
			bound(c, &x.upper, 1<<31-1)
		case key == "lthreshold":
			bound(c, &x.lower, 1<<31-1)
		case key == "lvs_method" || key == "lb_kind":
			if m := strings.ToUpper(c.word(1)); m != "DR" && m != method {
				x.refused = "it is of " + m + ": shunt does direct routing only"
			}
		case strings.Contains(checkers, " "+key+" "):
			*checks = append(*checks, fmt.Sprintf("%s line %d", key, c.line))
		case strings.Contains(harmless, " "+key+" "):
		default:
			r.note(c.place, "real_server %s: %s: no counterpart", addr, strings.Join(c.words, " "))
		}
	}
	s.reals = append(s.reals, x)
}
