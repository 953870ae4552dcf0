package convert

import (
	"fmt"
	"net/netip"
	"strings"

	"shunt/api"
	"shunt/internal/ipvsadm"
)

// A Note is something that was found in the file and that somebody has to know.
type Note struct {
	File string
	Line int // counted from 1
	Text string
	Loss bool // the result lacks something; else it says what the other program would have done, too
}

func (n Note) String() string {
	if n.Loss {
		return fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Text)
	}
	return fmt.Sprintf("%s:%d: note: %s", n.File, n.Line, n.Text)
}

// place is where something was written.
type place struct {
	file string
	line int
}

// service is a virtual service as IPVS would have it. A reader makes it; judge says whether shunt
// can have it, too.
type service struct {
	place
	api.VirtualService
	matches []netip.AddrPort // that a mark stands for, with the service's protocol; none if only the firewall knows
	reals   []real
	refused []string // why it can only be a comment
}

// real is one realserver of a service.
type real struct {
	place
	api.VirtualServer
	method  method
	refused string // why it can only be a comment
}

// method is a way of forwarding.
type method string

// The methods, by the names of keepalived.
const (
	direct     method = "DR"
	masquerade method = "NAT"
	tunnel     method = "TUN"
)

// result gathers what was read.
type result struct {
	services []*service
	ifaces   map[netip.Addr]string // of VIPs, where the file tells
	timeouts api.Timeouts
	notes    []Note
	checks   []check
	names    ipvsadm.Names
	limits   limits
	known    map[serviceKey]*service // the services
	nextMark uint32                  // of a group, where keepalived has nftables_ipvs; else 0
	full     bool                    // there are as many services as may be
}

// A serviceKey is what services must not share.
type serviceKey struct {
	mark  uint32
	v6    bool
	proto string
	at    netip.AddrPort
}

func keyOf(s *api.VirtualService) serviceKey {
	if s.Mark != 0 {
		return serviceKey{mark: s.Mark, v6: s.V6}
	}
	return serviceKey{proto: s.Protocol, at: netip.AddrPortFrom(s.Address, s.Port)}
}

// check is a kind of health check, and where it is written.
type check struct {
	kind   string
	places []place
}

// maxNotes bounds what is told of one file.
const maxNotes = 10_000

// lose notes what the result lacks.
func (r *result) lose(p place, format string, args ...any) { r.note(p, true, format, args...) }

// remark notes what the other program does, too.
func (r *result) remark(p place, format string, args ...any) { r.note(p, false, format, args...) }

func (r *result) note(p place, loss bool, format string, args ...any) {
	switch n := len(r.notes); {
	case n < maxNotes:
		r.notes = append(r.notes, Note{p.file, max(p.line, 1), oneLine(fmt.Sprintf(format, args...)), loss})
	case n == maxNotes:
		r.notes = append(r.notes, Note{p.file, max(p.line, 1), "there are more notes than these", true})
	}
}

// checked notes a health check; those of one kind become one note.
func (r *result) checked(kind string, p place) {
	for i := range r.checks {
		if c := &r.checks[i]; c.kind == kind {
			if c.places[len(c.places)-1] != p {
				c.places = append(c.places, p)
			}
			return
		}
	}
	r.checks = append(r.checks, check{kind, []place{p}})
}

// noteChecks makes the notes about health checks.
func (r *result) noteChecks(remedy string) {
	for _, c := range r.checks {
		var others []string
		for _, p := range c.places[1:] {
			if len(others) == 5 {
				others = append(others, fmt.Sprintf("%d more", len(c.places)-6))
				break
			}
			at := fmt.Sprint(p.line)
			if p.file != c.places[0].file {
				at = p.file + ":" + at
			}
			others = append(others, at)
		}
		also := ""
		if len(others) > 0 {
			also = " (also line " + strings.Join(others, ", ") + ")"
		}
		r.lose(c.places[0], "%s%s: health checks are not converted, shunt checks by ARP only: %s", c.kind, also, remedy)
	}
	r.checks = nil
}

// refuse makes a service a comment.
func (r *result) refuse(s *service, p place, format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	s.refused = append(s.refused, why)
	r.lose(p, "%s: %s", s, why)
}

func (s *service) String() string {
	if s.Mark != 0 {
		return fmt.Sprintf("service of mark %d", s.Mark)
	}
	return fmt.Sprintf("service %s %s", s.Protocol, netip.AddrPortFrom(s.Address, s.Port))
}
