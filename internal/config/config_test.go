package config

import (
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

const good = `legs:
  - interface: eth0
services:
  - name: web
    address: 192.168.10.100
    port: 80
    realservers:
      - address: 10.10.0.11
      - address: 10.10.0.12
        weight: 2
`

func TestGood(t *testing.T) {
	c, err := Parse("shunt.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	want := forwarder.Service{Name: "web", Scheduler: "wlc",
		Matches: []forwarder.Match{{Addr: netip.MustParseAddr("192.168.10.100"), Proto: frame.TCP, First: 80, Last: 80}}}
	if d := cmp.Diff(want, c.Services[0].Service, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("service: -want +got\n%s", d)
	}
	if r := c.Services[0].Realservers; len(r) != 2 || r[0].Weight != 1 || r[1].Weight != 2 {
		t.Errorf("realservers %+v", r)
	}
	if !c.Legs[0].Public || c.Legs[0].Name != "eth0" || !c.Guard || c.Flows != DefaultFlows || c.ARP.Announce != time.Minute {
		t.Errorf("defaults: %+v", c)
	}
	if c.Settings != forwarder.DefaultSettings() {
		t.Errorf("settings %+v are not the defaults", c.Settings)
	}
}

// The example that is installed must be valid, as it stands and with everything that it shows as a
// default.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../packaging/shunt.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Parse("shunt.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	// Lines that begin with # and a key, or with white space, # and a key.
	text = regexp.MustCompile(`(?m)^ *#table_size:.*\n`).ReplaceAll(text, nil) // of another scheduler than the example's
	all := regexp.MustCompile(`(?m)^( *)#( *(?:- )?[a-z_]+:)`).ReplaceAll(text, []byte("$1$2"))
	full, err := Parse("shunt.yaml", all)
	if err != nil {
		t.Fatalf("with all comments taken as keys: %v", err)
	}
	if n := strings.Count(string(all), "#") + 30; n > strings.Count(string(text), "#") {
		t.Errorf("only %d comments were keys: the pattern of this test fits no more", strings.Count(string(text), "#")-strings.Count(string(all), "#"))
	}
	if full.Settings.TCPTimeout != 15*time.Minute || full.Services[1].Mark != 7 {
		t.Errorf("the keys in the comments were not read: %+v", full.Settings)
	}
	full.Settings.TCPTimeout, full.Settings.TCPFinTimeout, full.Settings.UDPTimeout = 0, 0, 0
	if plain.Settings != full.Settings || !reflect.DeepEqual(plain.Ring, full.Ring) || plain.Control != full.Control || plain.ARP != full.ARP ||
		plain.Flows != full.Flows || plain.Log != full.Log || plain.Guard != full.Guard || plain.Workers != full.Workers {
		t.Errorf("what the example shows as defaults are others:\n%+v\n%+v", plain, full)
	}
}

// What is not written is the preset's; what is written replaces it, and 0 is not at all.
func TestRingTimes(t *testing.T) {
	for text, want := range map[string]Ring{
		"{}":                          {},
		"{spin: 0, gather: 0}":        {Spin: -1, Gather: -1},
		"{spin: 2ms, gather: 50us}":   {Spin: 2 * time.Millisecond, Gather: 50 * time.Microsecond},
		"{cpus: [3], busy: balanced}": {CPUs: []int{3}},
	} {
		c, err := Parse("x", []byte(good+"ring: "+text+"\n"))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		want.Slots, want.SlotSize, want.Busy = 8192, 2048, "balanced"
		if !reflect.DeepEqual(c.Ring, want) {
			t.Errorf("%s: %+v, want %+v", text, c.Ring, want)
		}
	}
}

func TestListen(t *testing.T) {
	for text, want := range map[string]string{
		"9405": "127.0.0.1:9405", `"10.0.0.2:9405"`: "10.0.0.2:9405", `"[fd00::2]:9405"`: "[fd00::2]:9405", "off": "", "0.0.0.0:80": "0.0.0.0:80",
	} {
		c, err := Parse("x", []byte(good+"http: {listen: "+text+"}\n"))
		if err != nil || c.HTTP.Listen != want {
			t.Errorf("listen: %s is %q, %v; want %q", text, c.HTTP.Listen, err, want)
		}
	}
	for text, want := range map[string]string{
		`":9405"`: "would listen on all addresses", "0": "not where one can listen", "65536": "not where one can listen",
		`"localhost:9405"`: "not where one can listen", "10.0.0.2": "not where one can listen", "[1, 2]": "a list where one value is expected",
	} {
		if _, err := Parse("x", []byte(good+"http: {listen: "+text+"}\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen: %s: %v; want: %s", text, err, want)
		}
	}
}

func TestForms(t *testing.T) {
	c, err := Parse("x", []byte(`legs:
  - {interface: eth0, vlan: 7, public: false}
  - {interface: eth1, name: out, networks: [10.0.0.0/8], public: true}
log: {level: debug, format: json}
guard: off
workers: 1
control: {socket: off}
when_gone: reset
table_full: refuse
source_mac: own
answer: false
stray_icmp: drop
strict_rst: false
ipvs: {sloppy_tcp: true, conn_reuse_mode: 3, timeouts: {tcp: 100, udp: 1m}}
services:
  - address: 192.0.2.1
    protocol: udp
    port: "8000-8099"
    scheduler: mh
    flags: [mh-port, mh-fallback]
    table_size: 65537
    realservers: [{address: 10.0.0.1, mac: "02:00:00:00:00:11", upper: 10, lower: 5, leg: out}]
  - address: 2001:db8::1
    port: all
    persistence: true
    persistence_mask: 64
    realservers: [{address: "2001:db8:1::1"}]
`))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Services[0]
	if s.Name != "UDP 192.0.2.1 ports 8000-8099" || s.Matches[0].First != 8000 || s.Matches[0].Last != 8099 || s.Matches[0].Proto != frame.UDP {
		t.Errorf("%+v", s)
	}
	if s.Options != (scheduler.Options{Flags: scheduler.Fallback | scheduler.Port, TableSize: 65537}) {
		t.Errorf("options %+v", s.Options)
	}
	if r := s.Realservers[0]; r.MAC.String() != "02:00:00:00:00:11" || r.Upper != 10 || r.Lower != 5 || r.Leg != "out" {
		t.Errorf("realserver %+v", r)
	}
	if s := c.Services[1]; s.Persistence != 6*time.Minute || s.MaskBits != 64 || !s.V6 || s.Name != "TCP [2001:db8::1]:0" {
		t.Errorf("%+v", s)
	}
	if c.Legs[0].Public || !c.Legs[1].Public || c.Legs[0].VLAN != 7 || c.Guard || c.Control.Socket != "" || c.Workers != 1 {
		t.Errorf("%+v", c)
	}
	set := c.Settings
	if !set.Silent || set.StrayICMP || set.StrictRST || !set.SloppyTCP || set.ConnReuseMode != 3 || set.Gone != forwarder.GoneReset || !set.RefuseWhenFull ||
		set.Source != forwarder.SourceOwn || set.TCPTimeout != 100*time.Second || set.UDPTimeout != time.Minute {
		t.Errorf("%+v", set)
	}
	if got := c.VIPs(); len(got) != 2 {
		t.Errorf("VIPs %v", got)
	}
}

// Each edit of the good file gives an error at a place, which says what is wrong and what would be
// right.
func TestWrong(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown key", "    port: 80\n", "    prot: 80\n", `shunt.yaml:6:5: unknown key "prot"`},
		{"unknown key at the top", "legs:", "colour: red\nlegs:", `shunt.yaml:1:1: unknown key "colour"`},
		{"syntax", "    port: 80\n", "    port: [80\n", "shunt.yaml:6:5: this is not YAML: ',' or ']' is missing"},
		{"text for a number", "weight: 2", "weight: heavy", "shunt.yaml:10:17: "},
		{"weight", "weight: 2", "weight: 65536", "shunt.yaml:10:17: weight is 65536: it must be from 0 to 65535"},
		{"state", "services:\n", "state_dir: run/shunt\nservices:\n", "shunt.yaml:3:12: the directory \"run/shunt\" must be an absolute path, or off"},
		{"proc", "services:\n", "proc_dir: /proc\nservices:\n", "shunt.yaml:3:11: the directory \"/proc\" must be an absolute path that is not below /proc, or off"},
		{"negative weight", "weight: 2", "weight: -1", "shunt.yaml:10:17: weight is -1"},
		{"port", "port: 80", "port: 70000", "shunt.yaml:6:11: port is 70000: ports go from 1 to 65535"},
		{"range", "port: 80", `port: "90-80"`, "shunt.yaml:6:11: port is 90-80"},
		{"no port", "    port: 80\n", "", "shunt.yaml:4:5: there is no port"},
		{"all ports", "port: 80", "port: all", "shunt.yaml:6:11: a service of all ports needs persistence"},
		{"scheduler", "port: 80", "port: 80\n    scheduler: fastest", `shunt.yaml:7:16: unknown scheduler "fastest": there are rr, wrr, lc`},
		{"flag", "port: 80", "port: 80\n    flags: [sh-port]", "shunt.yaml:7:13: flag sh-port is of scheduler sh, and this service has wlc"},
		{"table", "port: 80", "port: 80\n    scheduler: mh\n    table_size: 4096", "shunt.yaml:8:17: mh: a table of 4096: its size must be a prime"},
		{"VIP", "192.168.10.100", "www.example.com", `shunt.yaml:5:14: the VIP "www.example.com" is not an IP address`},
		{"multicast", "192.168.10.100", "224.0.0.1", "shunt.yaml:5:14: the VIP 224.0.0.1 is not an address that a host"},
		{"realserver is the VIP", "10.10.0.12", "192.168.10.100", "shunt.yaml:9:18: realserver 192.168.10.100 is a VIP"},
		{"realserver twice", "10.10.0.12", "10.10.0.11", "shunt.yaml:9:18: realserver 10.10.0.11 is in this service already"},
		{"family", "10.10.0.12", "2001:db8::2", "shunt.yaml:9:18: realserver 2001:db8::2 and the VIP 192.168.10.100 are of different families"},
		{"no realservers", good[strings.Index(good, "    realservers"):], "", "shunt.yaml:4:5: the service has no realservers"},
		{"service twice", "services:\n", "services:\n  - {name: a, address: 192.168.10.100, port: 80, realservers: [{address: 10.0.0.1}]}\n",
			"shunt.yaml:5:5: there is a service for TCP 192.168.10.100:80 already"},
		{"ranges overlap", "services:\n", "services:\n  - {name: a, address: 192.168.10.100, port: 80-90, realservers: [{address: 10.0.0.1}]}\n  - {name: b, address: 192.168.10.100, port: 85-99, realservers: [{address: 10.0.0.1}]}\n",
			`shunt.yaml:5:6: the service shares ports of TCP 192.168.10.100 with "a"`},
		{"no legs", "legs:\n  - interface: eth0\n", "", "shunt.yaml: there are no legs"},
		{"VLAN of a leg twice", "  - interface: eth0\n", "  - {interface: eth0, vlan: 7}\n  - {interface: eth0, vlan: 7, vlan_protocol: 802.1ad, name: y}\n  - {interface: eth0, vlan: 7, name: x}\n", "shunt.yaml:4:17: interface eth0 has a leg of VLAN 7 already"},
		{"kind of VLAN", "  - interface: eth0\n", "  - {interface: eth0, vlan: 7, vlan_protocol: QinQ}\n", "shunt.yaml:2:47: vlan_protocol is \"QinQ\": write 802.1Q or 802.1ad"},
		{"leg twice", "  - interface: eth0\n", "  - interface: eth0\n  - interface: eth0\n    name: two\n", "shunt.yaml:3:16: interface eth0 has a leg of VLAN 0 already"},
		{"unknown leg", "weight: 2", "leg: eth7", `shunt.yaml:10:14: there is no leg "eth7": there are eth0`},
		{"network", "interface: eth0", "interface: eth0\n    networks: [10.0.0.1]", `shunt.yaml:3:16: "10.0.0.1" is not a network`},
		{"no public leg", "interface: eth0", "interface: eth0\n    public: false", "shunt.yaml:2:3: no leg is public"},
		{"mac", "weight: 2", "mac: 01:00:5e:00:00:01", "shunt.yaml:10:14: 01:00:5e:00:00:01 is not the address of one host"},
		{"thresholds", "weight: 2", "upper: 5\n        lower: 6", "shunt.yaml:11:16: the lower threshold 6 is above the upper 5"},
		{"duration", "legs:", "arp: {refresh: soon}\nlegs:", `shunt.yaml:1:16: refresh is "soon": write a time such as 90s`},
		{"choice", "legs:", "source_mac: mine\nlegs:", `shunt.yaml:1:13: source_mac is "mine": write auto, preserve or own`},
		{"guard", "legs:", "guard: maybe\nlegs:", `shunt.yaml:1:8: guard is "maybe": write auto or off`},
		{"flows", "legs:", "flows: 17000000\nlegs:", "shunt.yaml:1:8: flows is 17000000: it must be from 1024 to 16000000"},
		{"processors", "legs:", "ring: {cpus: [0, 1]}\nlegs:", "shunt.yaml:1:14: cpus names 2, and workers is 1: name one processor for each worker"},
		{"processor", "legs:", "ring: {cpus: [1024]}\nlegs:", "shunt.yaml:1:15: processor 1024: it must be a whole number from 0 to 1023"},
		{"spin", "legs:", "ring: {spin: 2s}\nlegs:", "shunt.yaml:1:14: spin is 2s: it must be from 0s to 100ms"},
		{"gather", "legs:", "ring: {gather: 1s}\nlegs:", "shunt.yaml:1:16: gather is 1s: it must be from 0s to 10ms"},
		{"busy", "legs:", "ring: {busy: always}\nlegs:", `shunt.yaml:1:14: busy is "always": write balanced, latency or powersave`},
		{"socket", "legs:", "control: {socket: shunt.sock}\nlegs:", `shunt.yaml:1:19: the socket "shunt.sock" must be an absolute path`},
		{"mode without quotes", "legs:", "control: {mode: 0660}\nlegs:", `shunt.yaml:1:17: mode 0660: write permissions as octal digits`},
		{"mask and workers", "services:\n", "workers: 2\nservices:\n  - {name: m, address: 192.168.10.9, port: 80, persistence: 6m, persistence_mask: 24, realservers: [{address: 10.10.0.12}]}\n", "shunt.yaml:5:83: clients of one prefix"},
		{"expiration", "legs:", "ipvs: {lblc_expiration: soon}\nlegs:", `shunt.yaml:1:25: lblc_expiration is "soon"`},
		{"mode", "legs:", "control: {mode: \"rw\"}\nlegs:", `shunt.yaml:1:17: mode rw: write permissions as octal digits`},
		{"mask without persistence", "port: 80", "port: 80\n    persistence_mask: 24", "shunt.yaml:7:23: a mask is of use only with persistence"},
		{"one packet", "port: 80", "port: 80\n    one_packet: true", "shunt.yaml:7:17: one_packet is for UDP only"},
		{"mac differs", "services:\n", "services:\n  - {name: a, address: 192.168.10.9, port: 80, realservers: [{address: 10.10.0.12, mac: \"02:00:00:00:00:01\"}]}\n",
			"shunt.yaml:10:9: realserver 10.10.0.12 has another mac"},
		{"slow start", "port: 80", "port: 80\n    scheduler: rr\n    slow_start: 30s", "shunt.yaml:8:17: slow_start is for the schedulers"},
		{"drain", "weight: 2", "weight: 2\n        drain: 5m", "shunt.yaml:11:16: drain is the patience with"},
		{"key twice", "port: 80", "port: 80\n    port: 81", "shunt.yaml:7:5: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(good, c.old) {
				t.Fatalf("the good file has no %q", c.old)
			}
			text := strings.Replace(good, c.old, c.new, 1)
			_, err := Parse("shunt.yaml", []byte(text))
			if err == nil {
				t.Fatalf("accepted:\n%s", text)
			}
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if !strings.Contains(err.Error(), "^") && !strings.Contains(c.want, "shunt.yaml: ") {
				t.Errorf("no excerpt: %v", err)
			}
		})
	}
}

func TestExcerpt(t *testing.T) {
	_, err := Parse("shunt.yaml", []byte(strings.Replace(good, "weight: 2", "weight: 70000", 1)))
	want := `shunt.yaml:10:17: weight is 70000: it must be from 0 to 65535
     8 |       - address: 10.10.0.11
     9 |       - address: 10.10.0.12
>   10 |         weight: 70000
       |                 ^`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestPlan(t *testing.T) {
	text := strings.Replace(good, "  - interface: eth0\n", "  - interface: eth0\n  - interface: eth1\n    networks: [10.10.0.12/32]\n", 1)
	c, err := Parse("shunt.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	nets := [][]netip.Prefix{{netip.MustParsePrefix("10.10.0.2/24")}, {netip.MustParsePrefix("172.16.0.1/16")}}
	plan, neighbours, err := c.Plan(nets)
	if err != nil {
		t.Fatal(err)
	}
	d := plan.Services[0].Destinations
	if len(d) != 2 || d[0].Leg != 0 || d[1].Leg != 1 || d[0].Port != 80 {
		t.Errorf("destinations %+v", d)
	}
	if len(neighbours) != 2 || neighbours[1].Leg != 1 {
		t.Errorf("neighbours %+v", neighbours)
	}
	_, _, err = c.Plan([][]netip.Prefix{{netip.MustParsePrefix("192.168.10.2/24")}, nil})
	if want := "shunt.yaml:10:18: realserver 10.10.0.11 is on none of the legs' networks: eth0 (192.168.10.0/24), eth1 (10.10.0.12/32)"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	text, err := os.ReadFile("../../packaging/shunt.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("services: [{matches: [{}], realservers: [{}]}]\nlegs: [{networks: [1]}]"))
	f.Add([]byte(bomb(2, 2)))
	f.Add([]byte("legs: &a [{interface: \"${X:-y}\", vlan: 1_0}]\nservices: *a\nworkers: 0x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4<<10 {
			return // what is large is TestBounds'
		}
		c, err := Parse("fuzz", text)
		if err != nil {
			if s := err.Error(); s == "" || len(s) > 64<<10 || !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x1b\x7f") {
				t.Errorf("the error %q", s)
			}
			return
		}
		if len(c.Legs) == 0 || len(c.Services) > 0 && len(c.VIPs()) == 0 {
			t.Errorf("accepted without legs, or with services without VIPs: %q", text)
		}
		// What is valid here, the engine must take.
		nets := make([][]netip.Prefix, len(c.Legs))
		for i := range nets {
			nets[i] = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		}
		plan, _, err := c.Plan(nets)
		if err != nil || len(c.Legs) > 32 {
			return
		}
		legs := make([]forwarder.Leg, len(c.Legs))
		e, err := forwarder.New(forwarder.Config{Legs: legs, Flows: 1024})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if err := e.Update(func(tx *forwarder.Tx) error { return tx.Apply(plan) }); err != nil {
			t.Errorf("the engine refuses what is valid here: %v", err)
		}
	})
}

// TestEmptyServices: an empty list of services is meant, a key without a value is not.
func TestEmptyServices(t *testing.T) {
	if c, err := Parse("f", []byte("legs: [{interface: eth0}]\nservices: []\n")); err != nil || len(c.Services) != 0 {
		t.Errorf("an empty list: %v", err)
	}
	for _, text := range []string{"legs: [{interface: eth0}]\nservices:\n", "legs: [{interface: eth0}]\nservices: null\n", "legs: [{interface: eth0}]\n"} {
		if _, err := Parse("f", []byte(text)); err == nil || !strings.Contains(err.Error(), "there are no services") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestStateDir: each director has a directory of its own, without being told.
func TestStateDir(t *testing.T) {
	for _, c := range []struct{ more, want string }{
		{"", "/run/shunt/shunt.state"},
		{"control: {socket: /run/shunt/second.sock}\n", "/run/shunt/second.state"},
		{"control: {socket: off}\n", "/run/shunt/shunt.state"},
		{"state_dir: /dev/shm/x\n", "/dev/shm/x"},
		{"state_dir: off\n", ""},
	} {
		cfg, err := Parse("shunt.yaml", []byte(c.more+good))
		if err != nil || cfg.StateDir != c.want {
			t.Errorf("%q: the directory is %q, want %q: %v", c.more, cfg.StateDir, c.want, err)
		}
	}
}

// TestSocketName: a name stands for the director's socket, and its state is beside it.
func TestSocketName(t *testing.T) {
	text := strings.Replace(good, "legs:", "control: {socket: web2}\nlegs:", 1)
	c, err := Parse("shunt.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if c.Control.Socket != "/run/shunt/web2.sock" || c.StateDir != "/run/shunt/web2.state" {
		t.Errorf("socket %s, state %s", c.Control.Socket, c.StateDir)
	}
}
