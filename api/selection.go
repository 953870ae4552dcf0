package api

import (
	"net/netip"
	"net/url"
	"strconv"
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

// States are those of connections, as ipvsadm -Lnc prints them: of TCP, of UDP, of SCTP, and of templates.
func States() []string {
	return []string{
		"NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "SYNACK", "UDP",
		"INIT1", "INIT", "C-SENT", "C-REPLIED", "C-WAIT", "COOKIE", "C-ECHOED", "S-SENT", "S-RECEIVED", "S-ACK-SENT", "REJECTED", "CLOSED", "ASSURED",
	}
}
