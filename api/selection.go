package api

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A Selection chooses connections; a field that is zero chooses all. In a URL its fields are parameters.
type Selection struct {
	Client     string `json:"client,omitempty"`     // an address, address:port or prefix
	Service    string `json:"service,omitempty"`    // a VIP, VIP:port or prefix
	Realserver string `json:"realserver,omitempty"` // a RIP, RIP:port or prefix
	Protocol   string `json:"protocol,omitempty"`   // TCP, UDP, SCTP; IP for templates of services of several ports
	State      string `json:"state,omitempty"`      // as ipvsadm -Lnc prints it
	// Templates chooses templates of persistence only if it is true, connections only if it is false, both if there is none.
	Templates *bool `json:"templates,omitempty"`
}

// A Kill ends connections: POST /v1/connections/kill. All must be true if the selection is empty, so that a forgotten field
// does not end everything.
type Kill struct {
	Select Selection `json:"select"`
	All    bool      `json:"all,omitempty"`
}

// A Move has connections go to another realserver of their service: POST /v1/connections/move.
type Move struct {
	Select Selection  `json:"select"`
	To     netip.Addr `json:"to"`
	All    bool       `json:"all,omitempty"` // as in Kill
}

// Done is the answer to both.
type Done struct {
	Connections int `json:"connections"` // how many, templates among them
}

// A FieldError is a field of a question that is wrong. The status is 400.
type FieldError struct {
	Field   string `json:"field"` // its place, such as changes[3].server.weight
	Message string `json:"error"`
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

// wrong makes a FieldError. What it repeats of a question may be as long as that was: it is cut.
func wrong(field, message string) error {
	return &FieldError{Excerpt(field, 200), Excerpt(message, 1000)}
}

// Excerpt is s, or its beginning and how long it is if it has more than n bytes.
func Excerpt(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(s[:n], ""), len(s))
}

// Empty reports whether the selection chooses all.
func (s *Selection) Empty() bool { return *s == Selection{} }

// query is the selection as parameters of a URL.
func (s *Selection) query() url.Values {
	q := url.Values{}
	for key, value := range map[string]string{"client": s.Client, "service": s.Service, "realserver": s.Realserver, "protocol": s.Protocol, "state": s.State} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if s.Templates != nil {
		q.Set("templates", strconv.FormatBool(*s.Templates))
	}
	return q
}

// SelectionOf reads the parameters of a URL; the error is a *FieldError.
func SelectionOf(q url.Values) (s Selection, err error) {
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

// States are those of connections, as ipvsadm -Lnc prints them: of TCP, of UDP, of SCTP, and of templates.
func States() []string {
	return []string{
		"NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "SYNACK", "UDP",
		"INIT1", "INIT", "C-SENT", "C-REPLIED", "C-WAIT", "COOKIE", "C-ECHOED", "S-SENT", "S-RECEIVED", "S-ACK-SENT", "REJECTED", "CLOSED", "ASSURED",
	}
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

// Matcher checks the selection and returns what tells whether a connection is chosen. prefix goes before the names of fields
// in errors, which are *FieldErrors.
func (s *Selection) Matcher(prefix string) (func(*Connection) bool, error) {
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
	if state != "" && !slices.Contains(States(), state) {
		return nil, wrong(prefix+"state", strconv.Quote(s.State)+" is no state; there are "+strings.Join(States(), ", "))
	}
	return func(c *Connection) bool {
		return (protocol == "" || protocol == c.Protocol) && (state == "" || state == c.State) && (templates == nil || *templates == c.Template) &&
			client.has(c.Client) && service.has(c.Virtual) && server.has(c.Realserver)
	}, nil
}
