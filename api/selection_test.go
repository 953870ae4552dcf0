package api

import (
	"errors"
	"net/netip"
	"net/url"
	"testing"
)

func TestSelection(t *testing.T) {
	yes, no := true, false
	c := Connection{Protocol: "TCP", State: "ESTABLISHED", Client: netip.MustParseAddrPort("10.1.2.3:40000"),
		Virtual: netip.MustParseAddrPort("192.0.2.1:80"), Realserver: netip.MustParseAddrPort("10.0.0.11:80")}
	for _, x := range []struct {
		s    Selection
		want bool
	}{
		{Selection{}, true},
		{Selection{Client: "10.0.0.0/8"}, true},
		{Selection{Client: "10.1.2.3"}, true},
		{Selection{Client: "10.1.2.3:40001"}, false},
		{Selection{Client: "10.2.0.0/16"}, false},
		{Selection{Client: "2001:db8::/32"}, false},
		{Selection{Service: "192.0.2.1:80"}, true},
		{Selection{Service: "192.0.2.1:443"}, false},
		{Selection{Realserver: "10.0.0.11"}, true},
		{Selection{Realserver: "10.0.0.12"}, false},
		{Selection{State: "established", Protocol: "tcp"}, true},
		{Selection{State: "FIN_WAIT"}, false},
		{Selection{Protocol: "UDP"}, false},
		{Selection{Templates: &yes}, false},
		{Selection{Templates: &no}, true},
		{Selection{Client: "10.0.0.0/8", Realserver: "10.0.0.12"}, false},
	} {
		match, err := x.s.Matcher("")
		if err != nil || match(&c) != x.want {
			t.Errorf("%+v: %v, want %v", x.s, err, x.want)
		}
		again, err := SelectionOf(x.s.query())
		if err != nil || again.Client != x.s.Client || again.State != x.s.State || (again.Templates == nil) != (x.s.Templates == nil) {
			t.Errorf("%+v came back as %+v, %v", x.s, again, err)
		}
	}
	for field, s := range map[string]Selection{
		"select.client": {Client: "10.0.0.0/33"}, "select.service": {Service: "web"}, "select.realserver": {Realserver: "10.0.0.1:0"}, "select.protocol": {Protocol: "ICMP"},
	} {
		_, err := s.Matcher("select.")
		var f *FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%+v: %v, want an error about %s", s, err, field)
		}
	}
	for field, q := range map[string]url.Values{"clinet": {"clinet": {"10.0.0.1"}}, "client": {"client": {"10.0.0.1", "10.0.0.2"}}, "templates": {"templates": {"perhaps"}}} {
		_, err := SelectionOf(q)
		var f *FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%v: %v, want an error about %s", q, err, field)
		}
	}
}
