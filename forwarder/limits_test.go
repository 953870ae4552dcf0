package forwarder_test

import (
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

func TestCheckAddress(t *testing.T) {
	for a, ok := range map[string]bool{
		"192.0.2.1": true, "2001:db8::1": true, "fe80::1": true, "169.254.0.1": true,
		"127.0.0.1": false, "127.9.9.9": false, "::1": false, "::ffff:192.0.2.1": false, "fe80::1%eth0": false, "224.0.0.1": false, "ff02::1": false,
		"0.0.0.0": false, "::": false, "255.255.255.255": false,
	} {
		if err := forwarder.CheckAddress(netip.MustParseAddr(a)); (err == nil) != ok || err != nil && !errors.Is(err, forwarder.ErrInvalid) {
			t.Errorf("%s: %v", a, err)
		}
	}
	if err := forwarder.CheckAddress(netip.Addr{}); !errors.Is(err, forwarder.ErrInvalid) {
		t.Errorf("no address: %v", err)
	}
}

// Times are made of numbers without going round.
func TestSeconds(t *testing.T) {
	for _, f := range []float64{-1, -math.MaxFloat64, 0, 1e-7, 0.999, 2678400.001, 9.3e9, 1e19, math.MaxFloat64, math.Inf(1), math.Inf(-1), math.NaN()} {
		if err := forwarder.Timeouts.Check("timeouts.tcp", forwarder.Seconds(f)); !errors.Is(err, forwarder.ErrRange) || !strings.HasPrefix(err.Error(), "timeouts.tcp is ") {
			t.Errorf("%g: %v", f, err)
		}
	}
	for f, want := range map[float64]time.Duration{0: 0, 1e-10: 1, -1e-10: -1, 1.1: 1100 * time.Millisecond, 1: time.Second, 1.5: 1500 * time.Millisecond, 2678400: 31 * 24 * time.Hour} {
		if d := forwarder.Seconds(f); d != want {
			t.Errorf("%g: %v", f, d)
		}
	}
}

// The engine is the last door: it takes no number out of range, whoever asks.
func TestEngineRefuses(t *testing.T) {
	e, err := forwarder.New(forwarder.Config{Legs: []forwarder.Leg{{}}, Flows: 1024})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	service := func(change func(*forwarder.Service)) forwarder.Service {
		s := forwarder.Service{Scheduler: "rr", Matches: []forwarder.Match{
			{Addr: netip.MustParseAddr("192.0.2.1"), Proto: frame.TCP, First: 80, Last: 80}}}
		change(&s)
		return s
	}
	key := service(func(*forwarder.Service) {})
	if err := e.Update(func(tx *forwarder.Tx) error { return tx.AddService(key) }); err != nil {
		t.Fatal(err)
	}
	dest := func(change func(*forwarder.Destination)) func(*forwarder.Tx) error {
		d := forwarder.Destination{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80, Weight: 1}
		change(&d)
		return func(tx *forwarder.Tx) error { return tx.AddDestination(key.Key(), d) }
	}
	edit := func(change func(*forwarder.Service)) func(*forwarder.Tx) error {
		return func(tx *forwarder.Tx) error { return tx.EditService(service(change)) }
	}
	set := func(change func(*forwarder.Settings)) func(*forwarder.Tx) error {
		s := forwarder.DefaultSettings()
		change(&s)
		return func(tx *forwarder.Tx) error { return tx.SetSettings(s) }
	}
	for name, step := range map[string]func(*forwarder.Tx) error{
		"weight -1":          dest(func(d *forwarder.Destination) { d.Weight = -1 }),
		"weight 65536":       dest(func(d *forwarder.Destination) { d.Weight = 65536 }),
		"upper":              dest(func(d *forwarder.Destination) { d.Upper = -1 }),
		"lower":              dest(func(d *forwarder.Destination) { d.Lower = -1 }),
		"drain":              dest(func(d *forwarder.Destination) { d.Drain = 25 * time.Hour }),
		"negative drain":     dest(func(d *forwarder.Destination) { d.Drain = -1 }),
		"persistence":        edit(func(s *forwarder.Service) { s.Persistence = 32 * 24 * time.Hour }),
		"short persistence":  edit(func(s *forwarder.Service) { s.Persistence = 1 }),
		"mask":               edit(func(s *forwarder.Service) { s.MaskBits = 33 }),
		"negative mask":      edit(func(s *forwarder.Service) { s.MaskBits = -1 }),
		"slow start":         edit(func(s *forwarder.Service) { s.SlowStart = 2 * time.Hour }),
		"negative time-out":  set(func(s *forwarder.Settings) { s.TCPTimeout = -1 }),
		"long time-out":      set(func(s *forwarder.Settings) { s.UDPTimeout = 1 << 62 }),
		"short time-out":     set(func(s *forwarder.Settings) { s.TCPFinTimeout = 100 }),
		"drop_entry":         set(func(s *forwarder.Settings) { s.DropEntry = 4 }),
		"drop_packet":        set(func(s *forwarder.Settings) { s.DropPacket = -1 }),
		"secure_tcp":         set(func(s *forwarder.Settings) { s.SecureTCP = 4 }),
		"conn_reuse_mode":    set(func(s *forwarder.Settings) { s.ConnReuseMode = 4 }),
		"am_droprate":        set(func(s *forwarder.Settings) { s.AmDroprate = -1 }),
		"am_droprate, large": set(func(s *forwarder.Settings) { s.AmDroprate = 1_000_001 }),
	} {
		if err := e.Update(step); !errors.Is(err, forwarder.ErrRange) && !errors.Is(err, forwarder.ErrThresholds) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := e.Services(); len(s) != 1 || len(s[0].Destinations) != 0 || e.Settings() != (forwarder.Settings{}) {
		t.Errorf("something was taken: %+v, %+v", s, e.Settings())
	}
}

// An address is a VIP or a realserver's, whichever comes first and in one transaction or two; one
// that was the other may become it.
func TestVIPOrRealserver(t *testing.T) {
	a, b, rip := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("10.0.0.1")
	plan := func(vip, rip netip.Addr) forwarder.ServicePlan {
		return forwarder.ServicePlan{
			Service:      forwarder.Service{Scheduler: "rr", Matches: []forwarder.Match{{Addr: vip, Proto: frame.TCP, First: 80, Last: 80}}},
			Destinations: []forwarder.Destination{{Addr: rip, Port: 80, Weight: 1}},
		}
	}
	e, err := forwarder.New(forwarder.Config{Legs: []forwarder.Leg{{Name: "a"}, {Name: "b"}}, Flows: 1024})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	apply := func(services ...forwarder.ServicePlan) error {
		return e.Update(func(tx *forwarder.Tx) error { return tx.Apply(forwarder.Plan{Services: services}) })
	}
	for i, step := range []struct {
		services []forwarder.ServicePlan
		ok       bool
	}{
		{[]forwarder.ServicePlan{plan(a, a)}, false},
		{[]forwarder.ServicePlan{plan(a, rip)}, true},
		{[]forwarder.ServicePlan{plan(a, rip), plan(b, a)}, false},
		{[]forwarder.ServicePlan{plan(a, rip), plan(rip, b)}, false},
		{[]forwarder.ServicePlan{plan(a, rip), plan(b, rip)}, true},
		{[]forwarder.ServicePlan{plan(b, a)}, true}, // a was a VIP
		{[]forwarder.ServicePlan{plan(a, b)}, true}, // and they change places
		{[]forwarder.ServicePlan{plan(a, b), plan(b, rip)}, false},
		{[]forwarder.ServicePlan{plan(rip, a), plan(b, a)}, true},
		{nil, true},
		{[]forwarder.ServicePlan{plan(a, rip)}, true},
	} {
		before := len(e.Services())
		if err := apply(step.services...); (err == nil) != step.ok || err != nil && !errors.Is(err, forwarder.ErrInvalid) {
			t.Errorf("step %d: %v", i, err)
		}
		if now := len(e.Services()); !step.ok && now != before {
			t.Errorf("step %d: %d services, there were %d", i, now, before)
		}
	}
}
