package director

import (
	"bytes"
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
	"shunt/internal/keptfile"
)

// engineOf is an engine with these legs.
func engineOf(t *testing.T, legs ...string) *forwarder.Engine {
	t.Helper()
	cfg := forwarder.Config{Flows: 1024, Settings: forwarder.DefaultSettings()}
	for _, name := range legs {
		cfg.Legs = append(cfg.Legs, forwarder.Leg{Name: name})
	}
	engine, err := forwarder.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine
}

// changer is as much of a director as changing services needs: its only leg has all realservers,
// and 192.0.2.7 is its host's.
func changer(t *testing.T) *Director {
	t.Helper()
	cfg, err := config.Parse("shunt.yaml", []byte(`legs: [{interface: eth0, networks: [10.0.0.0/8, "2000::/3", "fe80::/10"]}]
services: [{name: web, address: 192.0.2.1, port: 80, realservers: [{address: 10.0.0.1}]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	plan, _, err := cfg.Plan(nil)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	d := &Director{log: log, cfg: cfg, engine: engineOf(t, "a"), kept: keptfile.NewKeeper(log)}
	if err := d.engine.Update(func(tx *forwarder.Tx) error { return tx.Apply(plan) }); err != nil {
		t.Fatal(err)
	}
	return d
}

// try has a change translated and made.
func (d *Director) try(c api.Change) *api.Error {
	t := &translator{d: d, networks: make([][]netip.Prefix, 1), own: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.7"): true}}
	err := t.add(&c)
	if err == nil {
		_, err = t.commit()
	}
	if err != nil {
		return refusal(0, err)
	}
	return nil
}

// A number that the file refuses is refused, whatever it would be when it was cut to fewer bits.
func TestNumbersOfChanges(t *testing.T) {
	d := changer(t)
	web := func() *api.VirtualService {
		return &api.VirtualService{Protocol: "TCP", Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Scheduler: "rr"}
	}
	before := d.Table()
	for _, weight := range []int32{-1, 65536, math.MinInt32, math.MaxInt32} {
		for _, op := range []api.Op{api.OpAddServer, api.OpEditServer} {
			addr := netip.MustParseAddr(map[api.Op]string{api.OpAddServer: "10.0.0.2", api.OpEditServer: "10.0.0.1"}[op])
			e := d.try(api.Change{Op: op, Service: web(), Server: &api.VirtualServer{Address: addr, Port: 80, Weight: weight}})
			if e == nil || e.Code != api.CodeInvalid || !strings.Contains(e.Message, "it must be from 0 to 65535") {
				t.Errorf("%s with weight %d: %v", op, weight, e)
			}
		}
	}
	for _, limit := range []int32{-1, math.MinInt32} {
		e := d.try(api.Change{Op: api.OpEditServer, Service: web(), Server: &api.VirtualServer{Address: netip.MustParseAddr("10.0.0.1"), Port: 80, Upper: limit}})
		if e == nil || e.Code != api.CodeRange {
			t.Errorf("upper %d: %v", limit, e)
		}
	}
	for _, s := range []float64{-1, 1e-7, 0.5, 9.3e9, 1e300, 2678401, -1e300} {
		e := d.try(api.Change{Op: api.OpSetTimeouts, Timeouts: &api.Timeouts{TCPFin: s}})
		if e == nil || !strings.Contains(e.Message, ": timeouts.tcpfin is ") || !strings.HasSuffix(e.Message, "it must be from 1s to 744h0m0s") {
			t.Errorf("timeouts of %g s: %v", s, e)
		}
		v := web()
		v.Persistence = s
		if e := d.try(api.Change{Op: api.OpEditService, Service: v}); e == nil || !strings.Contains(e.Message, ": persistence is ") {
			t.Errorf("persistence of %g s: %v", s, e)
		}
	}
	for _, bits := range []int{-1, 33, 128, math.MaxInt} {
		v := web()
		v.Persistence, v.MaskBits = 60, bits
		if e := d.try(api.Change{Op: api.OpEditService, Service: v}); e == nil || !strings.Contains(e.Message, "persistence_mask is ") {
			t.Errorf("a mask of %d bits: %v", bits, e)
		}
	}
	for _, c := range []struct {
		change func(*api.VirtualService)
		code   api.Code
		what   string
	}{
		{func(v *api.VirtualService) { v.Engine = "sip" }, api.CodeUnknownEngine, "no persistence engines"},
		{func(v *api.VirtualService) { v.Persistence, v.Netmask = 60, netip.MustParseAddr("255.0.255.0") }, api.CodeInvalid, "not that of a prefix"},
	} {
		v := web()
		c.change(v)
		if e := d.try(api.Change{Op: api.OpEditService, Service: v}); e == nil || e.Code != c.code || !strings.Contains(e.Message, c.what) {
			t.Errorf("%+v: %v", v, e)
		}
	}
	if now := d.Table(); !equalTables(before, now) {
		t.Errorf("something was changed: %+v, before %+v", now, before)
	}
	if e := d.try(api.Change{Op: api.OpSetTimeouts, Timeouts: &api.Timeouts{TCP: 100}}); e != nil || d.Table().Timeouts != (api.Timeouts{TCP: 100, TCPFin: 120, UDP: 300}) {
		t.Errorf("right timeouts: %v, %+v", e, d.Table().Timeouts)
	}
}

func equalTables(a, b api.Table) bool {
	return a.Timeouts == b.Timeouts && len(a.Services) == len(b.Services) && a.Services[0].VirtualService == b.Services[0].VirtualService &&
		len(a.Services[0].Servers) == len(b.Services[0].Servers) && a.Services[0].Servers[0].VirtualServer == b.Services[0].Servers[0].VirtualServer
}

// Addresses that the file refuses are refused; that of the director's host, of which the file
// warns, wants to be forced.
func TestAddressesOfChanges(t *testing.T) {
	d := changer(t)
	service := func(vip string) *api.VirtualService {
		return &api.VirtualService{Protocol: "TCP", Address: netip.MustParseAddr(vip), Port: 81, Scheduler: "rr"}
	}
	for vip, want := range map[string]string{
		"127.0.0.1": "is not an address that a host", "::1": "is not an address that a host", "224.0.0.1": "is not an address that a host", "0.0.0.0": "is not an address that a host",
		"::ffff:192.0.2.1": "write the IPv4 address as such", "fe80::1%eth0": "an address with a zone", "192.0.2.7": "is an address of this host", "10.0.0.1": "is a realserver's",
	} {
		e := d.try(api.Change{Op: api.OpAddService, Service: service(vip)})
		if e == nil || !strings.Contains(e.Message, want) || (e.Code == api.CodeOwnAddress) != (vip == "192.0.2.7") {
			t.Errorf("VIP %s: %+v, want %s", vip, e, want)
		}
	}
	web := service("192.0.2.1")
	web.Port = 80
	for rip, want := range map[string]string{
		"127.0.0.1": "is not an address that a host", "::ffff:10.0.0.2": "write the IPv4 address as such", "fe80::1%eth0": "an address with a zone",
		"192.0.2.7": "this host", "192.0.2.1": "is a VIP", "2001:db8::1": "is of another family",
	} {
		d.cfg.Legs[0].Networks = append(d.cfg.Legs[0].Networks, netip.MustParsePrefix("192.0.2.0/24"))
		e := d.try(api.Change{Op: api.OpAddServer, Service: web, Server: &api.VirtualServer{Address: netip.MustParseAddr(rip), Port: 80, Weight: 1}})
		if e == nil || !strings.Contains(e.Message, want) || e.Code != api.CodeInvalid {
			t.Errorf("realserver %s: %+v, want %s", rip, e, want)
		}
	}
	if e := d.try(api.Change{Op: api.OpAddService, Service: service("192.0.2.7"), Force: true}); e != nil {
		t.Errorf("forced: %v", e)
	}
	if e := d.try(api.Change{Op: api.OpAddService, Service: service("127.0.0.1"), Force: true}); e == nil {
		t.Error("the loopback was taken, as it was forced")
	}
}

// What is kept and impossible is told and left out; all else is there.
func TestImpossibleKept(t *testing.T) {
	d := changer(t)
	var log bytes.Buffer
	d.log = slog.New(slog.NewTextHandler(&log, nil))
	service := func(vip string, persistence time.Duration) forwarder.ServicePlan {
		return forwarder.ServicePlan{Service: forwarder.Service{Scheduler: "rr", Persistence: persistence, Matches: []forwarder.Match{
			{Addr: netip.MustParseAddr(vip), Proto: frame.TCP, First: 80, Last: 80}}}}
	}
	good := service("192.0.2.1", time.Minute)
	good.Destinations = []forwarder.Destination{{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80, Weight: -1},
		{Addr: netip.MustParseAddr("10.0.0.2"), Port: 80, Weight: 1}, {Addr: netip.MustParseAddr("127.0.0.1"), Port: 80, Weight: 1}}
	kept := &forwarder.Plan{Settings: forwarder.Settings{TCPTimeout: -1}, Services: []forwarder.ServicePlan{
		service("192.0.2.2", -1), good, service("127.0.0.1", 0), service("192.0.2.3", 1<<62)}}
	plan := d.possible(kept)
	if err := d.engine.Update(func(tx *forwarder.Tx) error { return tx.Apply(plan) }); err != nil {
		t.Fatal(err)
	}
	got := d.engine.Services()
	if len(got) != 1 || len(got[0].Destinations) != 1 || got[0].Destinations[0].Addr.String() != "10.0.0.2" || d.engine.Settings() != d.cfg.Settings {
		t.Errorf("served are %+v, settings %+v", got, d.engine.Settings())
	}
	if n := strings.Count(log.String(), "is invalid and is skipped"); n != 6 {
		t.Errorf("%d things were told:\n%s", n, &log)
	}
	// And the same for changes since: each transaction by itself.
	log.Reset()
	d.repeat([][]api.Change{
		{{Op: api.OpSetTimeouts, Timeouts: &api.Timeouts{TCP: 9.3e9}}},
		{{Op: api.OpSetTimeouts, Timeouts: &api.Timeouts{UDP: 60}}},
		{{Op: api.OpAddServer, Service: &api.VirtualService{Mark: 7}}},
		{{Op: api.OpSetTimeouts}},
		{{Op: "rename"}},
	})
	if n := strings.Count(log.String(), "cannot be applied again"); n != 4 || d.Table().Timeouts.UDP != 60 || d.Table().Timeouts.TCP != 900 {
		t.Errorf("%d were told, timeouts %+v:\n%s", n, d.Table().Timeouts, &log)
	}
}
