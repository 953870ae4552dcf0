package director

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"shunt/api"
	"shunt/arpd"
	"shunt/forwarder"
	"shunt/internal/config"
	"shunt/internal/control"
	"shunt/internal/delta"
	"shunt/internal/keptfile"
)

// listener is a subscriber that writes down what it is told, and may refuse it.
type listener struct {
	calls
	d *Director
}

// hears writes a step of a change down, and whether the engine serves what comes.
func (l *listener) hears(what string, d *delta.Delta) {
	var list []string
	for _, n := range d.Resolve {
		list = append(list, fmt.Sprint(n.Leg, "/", n.Addr, "/", n.MAC))
	}
	if len(d.Come)+len(d.Gone)+len(list)+len(d.Forget) == 0 {
		return
	}
	served := !slices.ContainsFunc(d.Come, func(v netip.Addr) bool { return !l.d.engine.Serves(v) })
	l.add(what, d.Come, d.Gone, list, d.Forget, served)
}

func (l *listener) Prepare(d *delta.Delta) error {
	l.hears("before", d)
	return l.err
}

func (l *listener) Settle(d *delta.Delta) error {
	l.hears("after", d)
	return nil
}

const twoLegs = `legs: [{interface: eth0, networks: [198.51.100.0/25]}, {interface: eth1, networks: [198.51.100.128/25]}]
services:
`

// parsed is a configuration with these lines of services.
func parsed(t *testing.T, services ...string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("shunt.yaml", []byte(twoLegs+strings.Join(services, "\n")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const (
	web = `  - {name: web, address: 192.0.2.1, port: 80, realservers: [{address: 198.51.100.1}]}`
	dns = `  - {name: dns, address: 192.0.2.2, port: 53, realservers: [{address: 198.51.100.129, mac: "02:00:00:00:00:01"}]}`
)

// withListener is as much of a director as sources of changes need, and has started.
func withListener(t *testing.T, cfg *config.Config) (*Director, *listener) {
	t.Helper()
	plan, _, err := cfg.Plan(nil)
	if err != nil {
		t.Fatal(err)
	}
	engine := engineOf(t, "eth0", "eth1")
	log := slog.New(slog.DiscardHandler)
	d := &Director{log: log, cfg: cfg, engine: engine, kept: keptfile.NewKeeper(log), legs: []*leg{{name: "eth0"}, {id: 1, name: "eth1"}},
		neighbours: &neighbours{log: log, engine: engine, known: map[forwarder.Hop]arpd.Neighbour{}}}
	l := &listener{d: d}
	d.teller = delta.NewTeller(engine, log, l)
	if err := engine.Update(func(tx *forwarder.Tx) error { return tx.Apply(plan) }); err != nil {
		t.Fatal(err)
	}
	if err := d.teller.Change(d.inForce(), nil); err != nil {
		t.Fatal(err)
	}
	l.lines = nil
	return d, l
}

// A reload tells the differences only. One that is refused changes nothing, and what was to come
// goes again.
func TestReloadTells(t *testing.T) {
	d, l := withListener(t, parsed(t, web))
	if err := d.Reload(parsed(t, web)); err != nil {
		t.Fatal(err)
	}
	l.wants(t)
	l.err = errors.New("the guard is full")
	if err := d.Reload(parsed(t, dns)); !errors.Is(err, l.err) || d.engine.Serves(vip2) || !d.engine.Serves(vip1) || d.reloads.Load() != 1 {
		t.Errorf("refused: %v, served are %v", err, d.engine.VIPs())
	}
	l.wants(t, "before [192.0.2.2] [] [1/198.51.100.129/02:00:00:00:00:01] [] false", "after [] [192.0.2.2] [] [{1 198.51.100.129}] true")
	if r := d.outcomes.reload(); r.Failures != 1 || r.Error != "the guard is full" {
		t.Errorf("noted is %+v", r)
	}
	l.err = nil
	if err := d.Reload(parsed(t, dns)); err != nil {
		t.Fatal(err)
	}
	l.wants(t, "before [192.0.2.2] [] [1/198.51.100.129/02:00:00:00:00:01] [] false", "after [192.0.2.2] [192.0.2.1] [] [{0 198.51.100.1}] true")
	if err := d.Reload(parsed(t, strings.Replace(dns, "00:01", "00:02", 1))); err != nil { // another MAC
		t.Fatal(err)
	}
	l.wants(t, "before [] [] [1/198.51.100.129/02:00:00:00:00:02] [] true")
	other := parsed(t, web)
	other.Legs[1].Interface = "eth7"
	if err := d.Reload(other); err == nil || !strings.Contains(err.Error(), "legs cannot change on reload") {
		t.Errorf("other legs: %v", err)
	}
	l.wants(t)
}

// Changes by the control socket are told before the engine has them and after it, and all or none
// of a transaction.
func TestApplyTells(t *testing.T) {
	d, l := withListener(t, parsed(t, web))
	service := &api.VirtualService{Protocol: "UDP", Address: vip2, Port: 53, Scheduler: "rr"}
	server := &api.VirtualServer{Address: netip.MustParseAddr("198.51.100.130"), Port: 53, Weight: 1}
	apply := func(changes ...api.Change) error { return d.Apply(control.Peer{}, changes) }
	add := []api.Change{{Op: api.OpAddService, Service: service, Force: true}, {Op: api.OpAddServer, Service: service, Server: server}}

	l.err = errors.New("no room in a filter")
	var refused *api.Error
	if err := apply(add...); !errors.As(err, &refused) || refused.Message != "no room in a filter" || d.engine.Serves(vip2) || d.kept.Changes() != 0 {
		t.Errorf("refused: %v, served are %v", err, d.engine.VIPs())
	}
	l.wants(t, "before [192.0.2.2] [] [1/198.51.100.130/00:00:00:00:00:00] [] false", "after [] [192.0.2.2] [] [{1 198.51.100.130}] true")
	l.err = nil
	if err := apply(append(add, add[0])...); !errors.As(err, &refused) || refused.Code != api.CodeExists || refused.Change != 2 || d.engine.Serves(vip2) {
		t.Errorf("a service twice: %+v", refused)
	}
	l.wants(t, "before [192.0.2.2] [] [1/198.51.100.130/00:00:00:00:00:00] [] false", "after [] [192.0.2.2] [] [{1 198.51.100.130}] true")
	if err := apply(add...); err != nil || d.kept.Changes() != 2 {
		t.Errorf("%v, %d changes are kept", err, d.kept.Changes())
	}
	l.wants(t, "before [192.0.2.2] [] [1/198.51.100.130/00:00:00:00:00:00] [] false", "after [192.0.2.2] [] [] [] true")
	server.Weight = 7
	if err := apply(api.Change{Op: api.OpEditServer, Service: service, Server: server}); err != nil {
		t.Error(err)
	}
	l.wants(t) // a weight is the engine's alone
	if err := apply(api.Change{Op: api.OpDeleteService, Service: service}); err != nil {
		t.Error(err)
	}
	l.wants(t, "after [] [192.0.2.2] [] [{1 198.51.100.130}] true")
	if err := apply(append([]api.Change{{Op: api.OpFlush}}, add...)...); err != nil {
		t.Error(err)
	}
	l.wants(t, "before [192.0.2.2] [] [1/198.51.100.130/00:00:00:00:00:00] [] false", "after [192.0.2.2] [192.0.2.1] [] [{0 198.51.100.1}] true")
}

// A realserver whose network is another leg's now is resolved there, and forgotten where it was.
func TestPlacedAnewTells(t *testing.T) {
	d, l := withListener(t, parsed(t, web, dns))
	d.placeAnew()
	l.wants(t)
	d.cfg.Legs[1].Networks = append(d.cfg.Legs[1].Networks, netip.MustParsePrefix("198.51.100.0/30"))
	d.placeAnew()
	l.wants(t, "before [] [] [1/198.51.100.1/00:00:00:00:00:00] [] true", "after [] [] [] [{0 198.51.100.1}] true")
	if !d.engine.InUse(forwarder.Hop{Leg: 1, Addr: netip.MustParseAddr("198.51.100.1")}) {
		t.Errorf("realservers are at %v", d.engine.Hops())
	}
}
