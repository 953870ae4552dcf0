package wiretest

import (
	"errors"
	"net/netip"
	"testing"

	"shunt/api"
	"shunt/internal/lab"
)

// A service of several matches and no mark is changed by its name: its realserver drained, itself
// deleted and added again.
func TestChangesByName(t *testing.T) {
	w := build(t, "one-arm", 2)
	w.start(w.config("") + `  - name: both
    matches: [{address: ` + lab.VIP + `, port: 80}, {address: ` + lab.VIP + `, port: 443}]
    scheduler: rr
    realservers: [{address: ` + lab.RIP(1) + `}, {address: ` + lab.RIP(2) + `}]
`)
	c := api.NewClient(w.socket)
	both, second := &api.VirtualService{Name: "both", Scheduler: "rr"}, &api.VirtualServer{Address: netip.MustParseAddr(lab.RIP(2))}
	from := func() map[string]int {
		t.Helper()
		out := map[string]int{}
		for range 4 {
			p, err := lab.Fetch(w.ctx, w.browser, w.url)
			w.must(err)
			out[p.From]++
		}
		return out
	}
	w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpEditServer, Service: both, Server: second}}))
	if got := from(); got["web1"] != 4 {
		t.Errorf("with web2 drained pages came from %v", got)
	}
	second.Weight = 1
	w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpDeleteService, Service: both}}))
	w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpAddService, Service: both}, {Op: api.OpAddServer, Service: both, Server: second}}))
	if got := from(); got["web2"] != 4 {
		t.Errorf("with web2 alone pages came from %v", got)
	}
	var refused *api.Error
	err := c.Apply(w.ctx, []api.Change{{Op: api.OpDeleteService, Service: &api.VirtualService{Name: "bothe"}}})
	if !errors.As(err, &refused) || refused.Code != api.CodeNoService {
		t.Errorf("an unknown name: %v", err)
	}
	table, err := c.Table(w.ctx)
	w.must(err)
	if len(table.Services) != 1 || table.Services[0].Name != "both" {
		t.Errorf("the table does not say the name by which the service is changed: %+v", table.Services)
	}
}
