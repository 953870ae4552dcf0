package doctor

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
)

// fake is a healthy host with two legs and a running director, of which a test spoils something.
func fake(t *testing.T, more string) *facts {
	t.Helper()
	cfg, err := config.Parse("shunt.yaml", []byte(more+`
legs: [{interface: eth0}, {interface: eth1}]
services: [{address: 192.168.10.100, port: 80, realservers: [{address: 10.10.0.11}]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	leg := func(i int, network string) legFacts {
		return legFacts{
			cfg: cfg.Legs[i], mac: frame.MAC{2, 0, 0, 0, 0, byte(i)}, nets: []netip.Prefix{netip.MustParsePrefix(network)},
			ifi: &net.Interface{Index: i + 1, MTU: 1500, Name: cfg.Legs[i].Interface, Flags: net.FlagUp | net.FlagRunning},
		}
	}
	return &facts{
		cfg: cfg, legs: []legFacts{leg(0, "192.168.10.2/24"), leg(1, "10.10.0.2/24")}, own: map[netip.Addr]string{},
		guards: map[string]string{"eth0": "shunt_1_eth0", "eth1": "shunt_1_eth1"}, capRaw: true, capAdmin: true,
		status: &api.Overview{Now: now, Status: api.Status{Version: "1",
			Legs: []api.Leg{{Name: "eth0", Received: 1000, ARP: api.ARPCounters{Conflicts: 7}}}, Verdicts: map[string]uint64{"forwarded": 900}}},
		neighbours: []forwarder.Neighbour{{Hop: forwarder.Hop{Leg: 1, Addr: netip.MustParseAddr("10.10.0.11")}}},
	}
}

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (f *facts) conflict(ago time.Duration) {
	f.status.Conflicts = append(f.status.Conflicts, api.Conflict{VIP: netip.MustParseAddr("192.168.10.100"), MAC: "02:00:00:00:00:99", Leg: "eth0", Last: now.Add(-ago)})
}

// A realserver is drained if it has weight 0 wherever it is one: by the running director's weights,
// else by the file's.
func TestDrained(t *testing.T) {
	rip := netip.MustParseAddr("10.10.0.11")
	for name, c := range map[string]struct {
		weights []int32 // that the director has; nil: there is none
		want    bool
	}{
		"by the file": {nil, false}, "by the director": {[]int32{0}, true}, "in one service only": {[]int32{0, 1}, false},
	} {
		f := fake(t, "")
		if c.weights == nil {
			f.status = nil
		}
		for _, w := range c.weights {
			f.status.Services = append(f.status.Services, api.Service{Realservers: []api.Realserver{{Address: netip.MustParseAddrPort("10.10.0.11:80"), Weight: w}}})
		}
		if got := f.drained(rip); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestHost(t *testing.T) {
	for _, c := range []struct {
		name, more string
		spoil      func(*facts)
		want       string // "" : no finding
		evidence   string
	}{
		{name: "healthy", spoil: func(*facts) {}},
		{name: "routing with a guard", spoil: func(f *facts) { f.forward4 = true }},
		{name: "routing of the other family", spoil: func(f *facts) { f.forward6, f.guards = true, nil }, want: "warning guard", evidence: "no guard of this director on eth0"},
		{name: "routing without a guard", spoil: func(f *facts) { f.forward4 = true; delete(f.guards, "eth1") }, want: "error forwarding", evidence: "on eth1"},
		{name: "no guard wanted", more: "guard: off", spoil: func(f *facts) { f.guards = nil }},
		{name: "no director, guard to come", spoil: func(f *facts) { f.forward4, f.guards, f.status = true, nil, nil }},
		{name: "no director, no guard to come", more: "guard: off", spoil: func(f *facts) { f.forward4, f.guards, f.status = true, nil, nil }, want: "error forwarding"},
		{name: "LRO", spoil: func(f *facts) { f.legs[0].lro = true }, want: "error lro"},
		{name: "no CAP_NET_RAW", spoil: func(f *facts) { f.capRaw = false }, want: "warning capabilities", evidence: "lacks CAP_NET_RAW"},
		{name: "no CAP_NET_RAW to start with", spoil: func(f *facts) { f.capRaw, f.status, f.guards = false, nil, nil }, want: "error capabilities"},
		{name: "no carrier", spoil: func(f *facts) { f.legs[1].ifi.Flags &^= net.FlagRunning }, want: "error leg-down"},
		{name: "one network on two legs", spoil: func(f *facts) { f.legs[1].nets = f.legs[0].nets }, want: "warning source-mac"},
		{name: "the same, with own MACs", more: "source_mac: own", spoil: func(f *facts) { f.legs[1].nets = f.legs[0].nets }},
		{name: "preserve on two legs", more: "source_mac: preserve", spoil: func(*facts) {}},
		{name: "own realserver", spoil: func(f *facts) { f.own[netip.MustParseAddr("10.10.0.11")] = "eth1" }, want: "warning own-realserver"},
		{name: "ring", spoil: func(f *facts) { f.status.Legs[0].RingFull = 7 }, want: "warning ring-full",
			evidence: "leg eth0: ring_full is 7, received is 1000, ring.slots is 8192"},
		{name: "slots", spoil: func(f *facts) { f.status.Legs[0].Truncated = 7 }, want: "warning slots"},
		{name: "conflicts", spoil: func(f *facts) { f.conflict(time.Minute) }, want: "warning conflicts",
			evidence: "02:00:00:00:00:99 claimed 192.168.10.100, last 1m0s ago"},
		{name: "conflicts of old", spoil: func(f *facts) { f.conflict(time.Hour) }},
		{name: "table", spoil: func(f *facts) { f.status.Table.Evicted = 7 }, want: "warning table-full"},
		{name: "confined", spoil: func(f *facts) {
			f.status.Confinement = &api.Confinement{Capabilities: []string{"cap_net_raw"}, NoNewPrivs: true, Missing: []string{"landlock: no"}}
		}},
		{name: "not confined", spoil: func(f *facts) {
			f.status.Confinement = &api.Confinement{Capabilities: []string{"cap_sys_admin"}, NoNewPrivs: true}
		}, want: "warning privileges", evidence: "cap_sys_admin"},
		{name: "too big", spoil: func(f *facts) { f.status.Verdicts["send: too big"] = 1 }, want: "warning too-big", evidence: "given once"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, r := fake(t, c.more), &Report{}
			c.spoil(f)
			f.checkHost(r)
			f.checkCounters(r)
			got := ""
			for i, x := range r.Findings {
				if i > 0 {
					got += ", "
				}
				got += string(x.Severity) + " " + x.ID
			}
			if got != c.want {
				t.Fatalf("found %q, want %q: %+v", got, c.want, r.Findings)
			}
			if c.want != "" && !strings.Contains(r.Findings[0].Evidence, c.evidence) {
				t.Errorf("evidence %q, want %q", r.Findings[0].Evidence, c.evidence)
			}
		})
	}
}

// Reports are sorted, and the exit status is that of the worst.
func TestReport(t *testing.T) {
	r := &Report{Config: "shunt.yaml"}
	if r.Status() != 0 {
		t.Errorf("nothing found: status %d", r.Status())
	}
	r.find(Warning, "w", "small", "seen", "do this")
	if r.Status() != StatusWarnings {
		t.Errorf("a warning: status %d", r.Status())
	}
	r.find(Error, "e", "great", "heard", "do that")
	r.well("all else")
	r.sort()
	var b strings.Builder
	r.Print(&b)
	const want = `shunt doctor: shunt.yaml; no director runs

ERROR    great  [e]
         evidence: heard
         remedy:   do that

WARNING  small  [w]
         evidence: seen
         remedy:   do this

ok       all else

1 error, 1 warning
`
	if r.Status() != StatusErrors || b.String() != want {
		t.Errorf("status %d, report:\n%s", r.Status(), b.String())
	}
}

// What could not be looked at is told, and is not well.
func TestUnknown(t *testing.T) {
	r := &Report{Config: "shunt.yaml"}
	r.well("all else")
	r.unknown("u", "the sky", "it is dark", "wait")
	var b strings.Builder
	r.Print(&b)
	if !strings.Contains(b.String(), "UNKNOWN  not checked: the sky  [u]\n         because:  it is dark\n         remedy:   wait\n") ||
		!strings.HasSuffix(b.String(), "0 errors, 0 warnings, 1 not checked\n") || r.Status() != StatusUnknown || r.result() != "unknown" {
		t.Errorf("status %d %s: %s", r.Status(), r.result(), b.String())
	}
	r.find(Warning, "w", "small", "seen", "do this")
	if r.Status() != StatusWarnings {
		t.Errorf("with a warning: status %d", r.Status())
	}
}

// The address from which the way back is tried is outside of the realservers' networks and
// nobody's: one of this host's, or else one near a VIP, or where the VIPs are in the realservers'
// network one that no host has.
func TestStranger(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*facts)
		from  string
		kind  strangerKind
		in    string // network that the address is in
	}{
		{"an address of the public leg", func(*facts) {}, "", own, "192.168.10.2/32"},
		{"a second one of the only leg", func(f *facts) {
			f.legs = f.legs[1:]
			f.legs[0].cfg.Public = true
			f.legs[0].nets = append(f.legs[0].nets, netip.MustParsePrefix("192.168.10.3/24"))
			f.neighbours[0].Leg = 0
		}, "", own, "192.168.10.3/32"},
		{"near the VIP", func(f *facts) { f.legs[0].nets = nil }, "", near, "192.168.10.96/28"},
		{"all addresses near the VIP have hosts", func(f *facts) {
			f.legs[0].nets = nil
			f.cfg.Services[0].Matches[0].Addr = netip.MustParseAddr("10.10.0.100")
		},
			"", abroad, "198.51.100.0/24"},
		{"named", func(*facts) {}, "172.16.0.1", named, "172.16.0.1/32"},
		{"named, of this host", func(f *facts) { f.own[netip.MustParseAddr("172.16.0.1")] = "eth0" }, "172.16.0.1", own, "172.16.0.1/32"},
		{"none wanted", func(*facts) {}, "none", noStranger, ""},
	} {
		f := fake(t, "")
		c.spoil(f)
		if err := f.setFrom(&Options{From: c.from}); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := f.stranger(false, f.candidates())
		if got.kind != c.kind || c.in != "" && !netip.MustParsePrefix(c.in).Contains(got.addr) || c.in == "" && got.addr.IsValid() {
			t.Errorf("%s: %+v, want kind %d in %q", c.name, got, c.kind, c.in)
		}
	}
}

// No candidate is a VIP, a realserver's address or in a realserver's network.
func TestCandidates(t *testing.T) {
	for range 200 {
		f := fake(t, "")
		f.legs[0].nets = nil
		f.cfg.Services[0].Matches = append(f.cfg.Services[0].Matches, f.cfg.Services[0].Matches[0])
		f.cfg.Services[0].Matches[1].Addr = netip.MustParseAddr("192.168.10.101")
		all := f.candidates()
		for _, a := range all {
			if f.taken(a) || f.inside(a) || a == netip.MustParseAddr("192.168.10.101") {
				t.Fatalf("%v has %s", all, a)
			}
		}
		if len(all) != nearby {
			t.Fatalf("%d candidates", len(all))
		}
	}
}

// The probes of both families are read back as what they are, once the addresses are turned round:
// what build writes, read understands.
func TestBuildAndRead(t *testing.T) {
	for _, c := range []struct {
		vip, src string
		vlan     uint16
	}{{"192.168.10.100", "10.10.0.2", 0}, {"2001:db8:10::100", "fd00:10::2", 0}, {"192.168.10.100", "10.10.0.2", 7}} {
		p := &probe{vip: netip.MustParseAddr(c.vip), src: netip.MustParseAddr(c.src), port: 80, srcPort: 4711, seq: 0x12345678, mac: frame.MAC{2, 1}}
		for _, k := range []kind{echo, syn, rst} {
			b, err := p.build(frame.MAC{2, 2}, c.vlan, k)
			if err != nil {
				t.Fatal(err)
			}
			// Our own parser checks lengths and checksums.
			f, got := frame.Frame{Buf: b, Wire: int32(len(b))}, frame.Packet{}
			if res := frame.Parse(&f, &got); res != frame.OK && k != echo {
				t.Errorf("%s kind %d: parsed as %v", c.vip, k, res)
			}
			if got.Dst.Netip() != p.vip || got.Src.Netip() != p.src {
				t.Errorf("from %s to %s", got.Src.Netip(), got.Dst.Netip())
			}
			if a, ok := read(b); ok && k != rst {
				t.Errorf("our own probe of kind %d was read as an answer: %+v", k, a)
			}
		}
	}
}

// No frame makes the reader panic.
func FuzzRead(f *testing.F) {
	p := &probe{vip: netip.MustParseAddr("2001:db8::1"), src: netip.MustParseAddr("fd00::2"), port: 80, seq: 7}
	for _, k := range []kind{echo, syn, rst} {
		b, err := p.build(frame.MAC{2}, 7, k)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := read(slices.Clone(b)); ok && a.kind == 0 {
			t.Error("an answer of no kind")
		}
	})
}
