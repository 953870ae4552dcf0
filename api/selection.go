package api

import (
	"net/netip"
	"net/url"
	"strconv"
)

// A Selection selects connections that match all of its fields. A zero field matches any
// connection.
type Selection struct {
	Client     string `json:"client,omitempty"`     // an address, address:port or prefix
	Service    string `json:"service,omitempty"`    // a VIP, VIP:port or prefix
	Realserver string `json:"realserver,omitempty"` // a RIP, RIP:port or prefix
	Protocol   string `json:"protocol,omitempty"`   // TCP, UDP, SCTP; IP for templates of services of several ports
	State      string `json:"state,omitempty"`      // as ipvsadm -Lnc prints it
	// Templates: true selects only templates of persistence, false only connections, nil both.
	Templates *bool `json:"templates,omitempty"`
}

// A Kill ends connections: POST /v1/connections/kill. With an empty selection All must be true, so
// that a forgotten field does not end all connections.
type Kill struct {
	Select Selection `json:"select"`
	All    bool      `json:"all,omitempty"`
}

// A Move moves connections to another realserver of their service: POST /v1/connections/move.
type Move struct {
	Select Selection  `json:"select"`
	To     netip.Addr `json:"to"`
	All    bool       `json:"all,omitempty"` // as in Kill
}

// Done is the answer to a Kill or a Move.
type Done struct {
	Connections int `json:"connections"` // their number, including templates
}

// A FieldError names a field of a request that is wrong. The HTTP status is 400.
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

// States returns the names of all states of connections and templates, as ipvsadm -Lnc prints them.
func States() []string {
	return []string{
		"NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "SYNACK", "UDP",
		"INIT1", "INIT", "C-SENT", "C-REPLIED", "C-WAIT", "COOKIE", "C-ECHOED", "S-SENT", "S-RECEIVED", "S-ACK-SENT", "REJECTED", "CLOSED", "ASSURED",
	}
}
