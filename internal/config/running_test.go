package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// whole has every key that is not a service's, each with another value than its default.
const whole = `
log: {level: debug, format: json}
legs:
  - {name: out, interface: eth0, networks: ["192.0.2.0/24", "2001:db8::/64"]}
  - {name: "in 1", interface: eth1, vlan: 7, vlan_protocol: 802.1ad, public: true, networks: [10.0.0.0/8, "fd00::/8"]}
source_mac: own
guard: off
arp: {announce: 0, refresh: 5, watch: 1m30s, learn_gratuitous: true}
flows: 2048
table_full: refuse
when_gone: reset
answer: false
stray_icmp: drop
workers: 2
ring: {slots: 512, slot_size: 4096, busy: powersave, spin: 0, gather: 20us, cpus: [1, 0]}
control: {socket: web2, mode: "0600", group: adm}
http: {listen: 9405}
state_dir: off
proc_dir: /run/x
ipvs:
  sloppy_tcp: true
  sloppy_sctp: true
  conn_reuse_mode: 0
  expire_nodest_conn: true
  expire_quiescent_template: true
  drop_entry: 1
  drop_packet: 2
  am_droprate: 7
  secure_tcp: 3
  schedule_icmp: true
  lblc_expiration: 60
  lblcr_expiration: 61s
  timeouts: {tcp: 100, tcpfin: 20, udp: 30}
services:
  - {address: 192.0.2.10, port: 80, realservers: [{address: 10.0.0.11, mac: "02:00:00:00:00:11"}, {address: 10.0.0.12, leg: "in 1", weight: 0, drain: 90}]}
`

// meaning is a configuration without what says where it was written.
func meaning(c *Config) Config {
	out := *c
	out.Path, out.Digest, out.src, out.written, out.static, out.placed = "", [32]byte{}, nil, nil, nil, nil
	out.Services = append([]Service(nil), c.Services...)
	for i := range out.Services {
		s := &out.Services[i]
		s.path, s.Realservers = "", slices.Clone(s.Realservers)
		for j := range s.Realservers {
			s.Realservers[j].path = ""
		}
		if len(s.Realservers) == 0 {
			s.Realservers = nil
		}
	}
	return out
}

func roundTrip(t rapid.TB, c *Config) {
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("again", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := Diff(c, again); len(diff) > 0 {
		t.Fatalf("%v\n%s", diff, text)
	}
	if a, b := meaning(c), meaning(again); !reflect.DeepEqual(a, b) {
		t.Fatalf("it was\n%+v\nand is read as\n%+v\n%s", a, b, text)
	}
}

// servicesOf makes services as ipvsadm, the API and files can make them.
func servicesOf(t *rapid.T) (p []forwarder.ServicePlan) {
	names := scheduler.Names()
	for i := range rapid.IntRange(0, 4).Draw(t, "services") {
		v6 := rapid.Bool().Draw(t, "v6")
		at := func(network byte, n int) netip.Addr {
			if v6 {
				return netip.AddrFrom16([16]byte{0x20, 1, 13: network, 15: byte(n)})
			}
			return netip.AddrFrom4([4]byte{10, 0, network, byte(n)})
		}
		s := forwarder.Service{V6: v6, Scheduler: rapid.SampledFrom(names).Draw(t, "scheduler"), Name: rapid.StringMatching(`[ -~äß]{1,9}`).Draw(t, "name") + string(rune('a'+i))}
		for j := range rapid.SampledFrom([]int{1, 1, 3}).Draw(t, "matches") {
			m := forwarder.Match{Addr: at(9, 1+3*i+j), Proto: rapid.SampledFrom([]frame.Proto{frame.TCP, frame.UDP, frame.SCTP}).Draw(t, "protocol"), First: 80, Last: 80}
			switch rapid.IntRange(0, 3).Draw(t, "ports") {
			case 0:
				m.Last = 90
			case 1:
				m.First, m.Last = 0, 65535
				s.Persistence = 6 * time.Minute
			}
			s.OnePacket = j == 0 && m.Proto == frame.UDP || s.OnePacket && m.Proto == frame.UDP
			s.Matches = append(s.Matches, m)
		}
		s.Mark = rapid.SampledFrom([]uint32{0, 0, uint32(i + 1)}).Draw(t, "mark")
		s.Options.Flags = scheduler.Flags(rapid.IntRange(0, 7).Draw(t, "flags"))
		if s.Persistence != 0 && rapid.Bool().Draw(t, "mask") {
			s.MaskBits = rapid.IntRange(1, 32).Draw(t, "bits")
		}
		if slices.Contains(scheduler.Ramped(), s.Scheduler) {
			s.SlowStart = time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "slow start"))
		}
		if s.Scheduler == "mh" {
			s.Options.TableSize = rapid.SampledFrom([]int{0, 251}).Draw(t, "table")
		}
		sp := forwarder.ServicePlan{Service: s}
		for j := range rapid.IntRange(0, 3).Draw(t, "realservers") {
			d := forwarder.Destination{Addr: at(1, j+1), Weight: int32(rapid.IntRange(0, 65535).Draw(t, "weight")), Upper: int32(rapid.IntRange(0, 9).Draw(t, "upper"))}
			d.Lower = int32(rapid.IntRange(0, int(d.Upper)).Draw(t, "lower"))
			d.Drain = time.Duration(rapid.IntRange(0, 99).Draw(t, "drain")) * time.Second // which counts at weight 0
			sp.Destinations = append(sp.Destinations, d)
		}
		p = append(p, sp)
	}
	return p
}

// What is written of a running configuration is right, and means the same when it is read.
func TestRunningConfiguration(t *testing.T) {
	base, err := Parse("whole", []byte(strings.Replace(whole, "workers: 2\nring: {slots: 512, slot_size: 4096, busy: powersave, spin: 0, gather: 20us, cpus: [1, 0]}",
		"workers: 1\nring: {slots: 512, spin: 0}", 1)))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		plan := forwarder.Plan{Services: servicesOf(t), Settings: base.Settings}
		for _, d := range []*time.Duration{&plan.Settings.TCPTimeout, &plan.Settings.TCPFinTimeout, &plan.Settings.UDPTimeout} {
			*d = time.Duration(rapid.IntRange(0, 2_678_400).Draw(t, "timeout")) * time.Second
		}
		for i := range plan.Services {
			switch s := &plan.Services[i]; s.Scheduler { // as the file has it for all
			case "lblc":
				s.Options.Expiration = int64(time.Minute)
			case "lblcr":
				s.Options.Expiration = int64(61 * time.Second)
			}
		}
		roundTrip(t, base.With(plan))
	})
}

// The same for files: with every key, and the examples of the documents.
func TestWrittenConfiguration(t *testing.T) {
	texts := []string{whole, "legs: [{interface: eth0}]\nservices: []\n"}
	files, _ := filepath.Glob("../../docs/examples/*.yaml")
	for _, f := range append(files, "../../packaging/shunt.yaml") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	for _, text := range texts {
		c, err := Parse("it", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c)
	}
}

// Every key that has another value is a difference, by the name that it has in the file.
func TestDiffOfKeys(t *testing.T) {
	a, err := Parse("bare", []byte("legs: [{name: out, interface: eth0, networks: [\"192.0.2.0/24\", \"2001:db8::/64\"]}, {name: \"in 1\", interface: eth1, vlan: 7, vlan_protocol: 802.1ad, public: true}]\n"+
		whole[strings.Index(whole, "services:"):]))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse("whole", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"log.level INFO -> DEBUG", "log.format auto -> json", "ipvs.sloppy_tcp false -> true", "ipvs.sloppy_sctp false -> true", "ipvs.conn_reuse_mode 1 -> 0",
		"ipvs.expire_nodest_conn false -> true", "ipvs.expire_quiescent_template false -> true", "ipvs.drop_entry 0 -> 1", "ipvs.drop_packet 0 -> 2",
		"ipvs.am_droprate 10 -> 7", "ipvs.secure_tcp 0 -> 3", "ipvs.schedule_icmp false -> true", "ipvs.timeouts.tcp default -> 1m40s",
		"ipvs.timeouts.tcpfin default -> 20s", "ipvs.timeouts.udp default -> 30s", "source_mac auto -> own", "when_gone drop -> reset", "table_full evict -> refuse",
		"stray_icmp forward -> drop", "answer true -> false", "arp.announce 1m0s -> 0s", "arp.refresh 30s -> 5s", "arp.watch 30s -> 1m30s",
		"arp.learn_gratuitous false -> true", "guard true -> false", "flows 1000000 -> 2048", "workers 1 -> 2", "ring.slots 8192 -> 512",
		"ring.spin default -> 0s", "ring.cpus", "legs.networks", "http.listen", "control.mode 0660 -> 0600", "state_dir", "proc_dir",
	}
	diff := Diff(a, b)
	var lines []string
	for i := range diff {
		lines = append(lines, diff[i].String())
	}
	got := strings.Join(lines, "\n")
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("there is no %q in\n%s", w, got)
		}
	}
	for _, d := range diff {
		if d.Restart != (!strings.HasPrefix(d.Key, "ipvs.") && !slices.Contains([]string{"log.level", "source_mac", "when_gone", "table_full", "stray_icmp", "answer", "legs.networks"}, d.Key)) {
			t.Errorf("%s", d.String())
		}
	}
	if d := Diff(b, b); len(d) != 0 {
		t.Errorf("it differs from itself: %v", d)
	}
}

func TestDiffOfServices(t *testing.T) {
	read := func(services string) *Config {
		c, err := Parse("it", []byte("legs: [{interface: eth0}]\nservices:\n"+services))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a := read(`  - {name: web, address: 192.0.2.10, port: 80, realservers: [{address: 10.0.0.11}, {address: 10.0.0.12}]}
  - {name: old, address: 192.0.2.10, port: 81, realservers: [{address: 10.0.0.11}]}
`)
	b := read(`  - {name: new, address: 192.0.2.10, port: 82, realservers: [{address: 10.0.0.14}]}
  - {name: web, address: 192.0.2.10, port: 80, scheduler: rr, realservers: [{address: 10.0.0.12, weight: 0, drain: 60s}, {address: 10.0.0.13}]}
`)
	want := []string{
		"service old removed", "service new added", "service new: realserver 10.0.0.14 added", "service web: scheduler wlc -> rr",
		"service web: realserver 10.0.0.12: weight 1 -> 0", "service web: realserver 10.0.0.12: drain 0s -> 1m0s",
		"service web: realserver 10.0.0.13 added", "service web: realserver 10.0.0.11 removed",
	}
	var got []string
	for _, d := range Diff(a, b) {
		got = append(got, d.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	name := api.Difference{Kind: api.Added, Service: "a\x1b[2Jb"}
	if got := name.String(); got != `service "a\x1b[2Jb" added` {
		t.Error(got)
	}
}
