package control

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"testing"

	"shunt/api"
)

func TestSelection(t *testing.T) {
	yes, no := true, false
	c := api.Connection{Protocol: "TCP", State: "ESTABLISHED", Client: netip.MustParseAddrPort("10.1.2.3:40000"),
		Virtual: netip.MustParseAddrPort("192.0.2.1:80"), Realserver: netip.MustParseAddrPort("10.0.0.11:80")}
	for _, x := range []struct {
		s    api.Selection
		want bool
	}{
		{api.Selection{}, true},
		{api.Selection{Client: "10.0.0.0/8"}, true},
		{api.Selection{Client: "10.1.2.3"}, true},
		{api.Selection{Client: "10.1.2.3:40001"}, false},
		{api.Selection{Client: "10.2.0.0/16"}, false},
		{api.Selection{Client: "2001:db8::/32"}, false},
		{api.Selection{Service: "192.0.2.1:80"}, true},
		{api.Selection{Service: "192.0.2.1:443"}, false},
		{api.Selection{Realserver: "10.0.0.11"}, true},
		{api.Selection{Realserver: "10.0.0.12"}, false},
		{api.Selection{State: "established", Protocol: "tcp"}, true},
		{api.Selection{State: "FIN_WAIT"}, false},
		{api.Selection{Protocol: "UDP"}, false},
		{api.Selection{Templates: &yes}, false},
		{api.Selection{Templates: &no}, true},
		{api.Selection{Client: "10.0.0.0/8", Realserver: "10.0.0.12"}, false},
	} {
		match, err := Matcher(&x.s, "")
		if err != nil || match(&c) != x.want {
			t.Errorf("%+v: %v, want %v", x.s, err, x.want)
		}
		var again api.Selection
		c := api.NewClient(serve(t, func(w http.ResponseWriter, r *http.Request) {
			again, err = selectionOf(r.URL.Query())
			write(w, []api.Connection{})
		}))
		if err := c.Connections(t.Context(), &x.s, nil); err != nil {
			t.Error(err)
		}
		if err != nil || again.Client != x.s.Client || again.State != x.s.State || (again.Templates == nil) != (x.s.Templates == nil) {
			t.Errorf("%+v came back as %+v, %v", x.s, again, err)
		}
	}
	for field, s := range map[string]api.Selection{
		"select.client": {Client: "10.0.0.0/33"}, "select.service": {Service: "web"}, "select.realserver": {Realserver: "10.0.0.1:0"}, "select.protocol": {Protocol: "ICMP"},
	} {
		_, err := Matcher(&s, "select.")
		var f *api.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%+v: %v, want an error about %s", s, err, field)
		}
	}
	for field, q := range map[string]url.Values{"clinet": {"clinet": {"10.0.0.1"}}, "client": {"client": {"10.0.0.1", "10.0.0.2"}}, "templates": {"templates": {"perhaps"}}} {
		_, err := selectionOf(q)
		var f *api.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%v: %v, want an error about %s", q, err, field)
		}
	}
}
