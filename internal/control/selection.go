package control

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"shunt/api"
)

// selectionOf reads the parameters of a URL; the error is a *api.FieldError.
func selectionOf(q url.Values) (s api.Selection, err error) {
	fields := map[string]*string{"client": &s.Client, "service": &s.Service, "realserver": &s.Realserver, "protocol": &s.Protocol, "state": &s.State}
	for key, values := range q {
		switch to := fields[key]; {
		case len(values) != 1:
			return s, wrong(key, "is given more than once")
		case key == "templates":
			yes, err := strconv.ParseBool(values[0])
			if err != nil {
				return s, wrong(key, "write true or false")
			}
			s.Templates = &yes
		case to == nil:
			return s, wrong(key, "there is no such parameter; there are client, service, realserver, protocol, state and templates")
		default:
			*to = values[0]
		}
	}
	return s, nil
}

// place is one end of a connection that is chosen.
type place struct {
	any    bool
	prefix netip.Prefix
	port   uint16 // 0 is any
}

func parsePlace(field, text string) (place, error) {
	if text == "" {
		return place{any: true}, nil
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return place{prefix: p.Masked()}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return place{prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	if ap, err := netip.ParseAddrPort(text); err == nil && ap.Addr().Zone() == "" && ap.Port() != 0 {
		return place{prefix: netip.PrefixFrom(ap.Addr(), ap.Addr().BitLen()), port: ap.Port()}, nil
	}
	return place{}, wrong(field, strconv.Quote(text)+" is neither an address, an address and a port, nor a prefix: write 192.0.2.7, 192.0.2.7:80 or 192.0.2.0/24")
}

func (p *place) has(a netip.AddrPort) bool {
	return p.any || p.prefix.Contains(a.Addr()) && (p.port == 0 || p.port == a.Port())
}

// Matcher checks a selection and returns what tells whether a connection is chosen. prefix goes
// before the names of fields in errors, which are *api.FieldErrors.
func Matcher(s *api.Selection, prefix string) (func(*api.Connection) bool, error) {
	client, err := parsePlace(prefix+"client", s.Client)
	if err != nil {
		return nil, err
	}
	service, err := parsePlace(prefix+"service", s.Service)
	if err != nil {
		return nil, err
	}
	server, err := parsePlace(prefix+"realserver", s.Realserver)
	if err != nil {
		return nil, err
	}
	protocol, state, templates := strings.ToUpper(s.Protocol), strings.ToUpper(s.State), s.Templates
	switch protocol {
	case "", "TCP", "UDP", "SCTP", "IP":
	default:
		return nil, wrong(prefix+"protocol", strconv.Quote(s.Protocol)+" is none of TCP, UDP, SCTP and IP")
	}
	if state != "" && !slices.Contains(api.States(), state) {
		return nil, wrong(prefix+"state", strconv.Quote(s.State)+" is no state; there are "+strings.Join(api.States(), ", "))
	}
	return func(c *api.Connection) bool {
		return (protocol == "" || protocol == c.Protocol) && (state == "" || state == c.State) && (templates == nil || *templates == c.Template) &&
			client.has(c.Client) && service.has(c.Virtual) && server.has(c.Realserver)
	}, nil
}
