package convert

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Note is something that could not be converted, or that has to be looked at.
type Note struct {
	File string
	Line int // counted from 1
	Text string
}

func (n Note) String() string { return fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Text) }

// place is where something was written.
type place struct {
	file string
	line int
}

// service is a virtual service as IPVS knows it.
type service struct {
	place
	addr        netip.Addr
	port        int // 0: all
	proto       string
	mark        uint32 // if not 0, instead of address, port and protocol
	scheduler   string
	flags       []string
	persistence int // seconds; 0 is none
	mask        int // bits; 0 is a whole address
	onePacket   bool
	reals       []real
	refused     []string // why it can only be a comment
}

// real is one realserver of a service.
type real struct {
	place
	addr         netip.Addr
	port         int
	weight       int
	upper, lower int
	refused      string // why it can only be a comment
}

// result gathers what was read.
type result struct {
	services []*service
	ifaces   map[netip.Addr]string // of VIPs, where the file tells
	timeouts []string              // of ipvs.timeouts, as YAML
	notes    []Note
}

func (r *result) note(p place, format string, args ...any) {
	r.notes = append(r.notes, Note{p.file, p.line, fmt.Sprintf(format, args...)})
}

// refuse makes a service a comment.
func (r *result) refuse(s *service, p place, format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	s.refused = append(s.refused, why)
	r.note(p, "%s: %s", s, why)
}

func (s *service) String() string {
	if s.mark != 0 {
		return fmt.Sprintf("service of mark %d", s.mark)
	}
	return fmt.Sprintf("service %s %s", strings.ToUpper(s.proto), netip.AddrPortFrom(s.addr, uint16(s.port)))
}

// schedulers are those of IPVS, which shunt has all.
const schedulers = " rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos "

func knownScheduler(s string) bool { return s != "" && strings.Contains(schedulers, " "+s+" ") }

// number reads a decimal number in a range.
func number(s string, low, high int) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= low && n <= high
}

// parsePort reads a port, by number or by the few names that such files use.
func parsePort(s string) (int, bool) {
	if n, ok := map[string]int{"http": 80, "https": 443, "ftp": 21, "smtp": 25, "domain": 53, "ssh": 22, "imap": 143, "ldap": 389, "mysql": 3306}[s]; ok {
		return n, true
	}
	return number(s, 0, 65535)
}

// parseMask reads a netmask, as 255.255.255.0, or a prefix length.
func parseMask(s string, v6 bool) (bits int, ok bool) {
	if v6 {
		return number(s, 1, 128)
	}
	if n, ok := number(s, 1, 32); ok {
		return n, true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, false
	}
	b := a.As4()
	m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	for m&(1<<31) != 0 {
		bits++
		m <<= 1
	}
	return bits, m == 0 && bits > 0
}

// finish judges what can be judged of a service only when all of it has been read.
func (r *result) finish() {
	seen := map[string]*service{}
	for _, s := range r.services {
		if s.mark != 0 {
			r.refuse(s, s.place, "which packets have the mark is set by the firewall: write their addresses and ports under matches:")
		} else {
			key := s.String()
			if first := seen[key]; first != nil {
				r.refuse(s, s.place, "it is there already, from line %d", first.line)
			} else {
				seen[key] = s
			}
			if s.port == 0 && s.persistence == 0 {
				r.refuse(s, s.place, "a service of all ports needs persistence")
			}
		}
		if s.scheduler != "" && !knownScheduler(s.scheduler) {
			r.refuse(s, s.place, "there is no scheduler %q", s.scheduler)
		}
		if s.onePacket && s.proto != "udp" && s.mark == 0 {
			r.refuse(s, s.place, "one-packet scheduling is for UDP")
		}
		r.finishReals(s)
	}
}

func (r *result) finishReals(s *service) {
	left := 0
	known := map[netip.Addr]int{}
	for i := range s.reals {
		x := &s.reals[i]
		why := ""
		switch {
		case x.refused != "":
			why = x.refused
		case s.mark == 0 && x.port != s.port:
			why = fmt.Sprintf("port %d: direct routing cannot change the port, which is %d", x.port, s.port)
		case s.mark == 0 && x.addr.Is4() != s.addr.Is4():
			why = "it is of another family than the VIP"
		case known[x.addr] != 0:
			why = fmt.Sprintf("it is there already, from line %d", known[x.addr])
		case x.lower > x.upper:
			why = fmt.Sprintf("its lower threshold %d is above the upper one, %d", x.lower, x.upper)
		}
		if x.refused = why; why != "" {
			r.note(x.place, "%s: realserver %s: %s", s, x.addr, why)
			continue
		}
		known[x.addr] = x.line
		left++
	}
	if left == 0 && len(s.refused) == 0 {
		r.refuse(s, s.place, "it has no realserver that can be converted")
	}
}
