package realserver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"shunt/internal/netlab"
)

func TestMain(m *testing.M) {
	if err := netlab.Privileged(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const (
	vip4, vip6 = "192.168.10.100", "2001:db8:10::100"
	gw4, gw6   = "10.10.0.1", "fd00:10::1"
	old4, old6 = "10.10.0.9", "fd00:10::9"
)

// host is one with an interface in the private network of both families, and the kernel's own
// settings.
func host(t *testing.T) *netlab.Host {
	t.Helper()
	n := netlab.New()
	t.Cleanup(n.Close)
	sw, err := n.Switch("sw")
	check(t, err)
	h, err := n.Host("web")
	check(t, err)
	check(t, h.Cable("eth0", "02:00:00:00:01:01", sw, "web"))
	check(t, h.IPv6("eth0"))
	check(t, h.Addr("eth0", "10.10.0.11/24", "fd00:10::11/64"))
	return h
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// both are options for both families.
func both(t *testing.T, out *bytes.Buffer) Options {
	t.Helper()
	o := Options{Out: out, State: filepath.Join(t.TempDir(), "state.json")}
	check(t, o.Parse([]string{vip4, vip6}, []string{gw4, gw6}))
	return o
}

// snapshot is everything that apply may change.
func snapshot(t *testing.T, h *netlab.Host) map[string]string {
	t.Helper()
	out := map[string]string{}
	check(t, h.Do(func() error {
		for _, scope := range []string{"ipv4", "ipv6"} {
			for _, iface := range []string{"all", "default", "lo", "eth0"} {
				files, err := filepath.Glob("/proc/sys/net/" + scope + "/conf/" + iface + "/*")
				if err != nil {
					return err
				}
				for _, f := range files {
					if b, err := os.ReadFile(f); err == nil {
						out[f] = strings.TrimSpace(string(b))
					}
				}
			}
		}
		for name, family := range map[string]int{"routes 4": netlink.FAMILY_V4, "routes 6": netlink.FAMILY_V6} {
			all, err := defaultRoutes(family)
			if err != nil {
				return err
			}
			out[name] = fmt.Sprint(all)
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(lo, netlink.FAMILY_ALL) })
		for _, a := range addrs {
			out["lo "+a.IPNet.String()] = fmt.Sprintf("flags %#x", a.Flags)
		}
		return err
	}))
	return out
}

// Apply makes a realserver that check approves of, does nothing the second time, and undo leaves
// the host as it was.
func TestApplyAndUndo(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(*netlab.Host) error
	}{
		{"a fresh host", func(*netlab.Host) error { return nil }},
		{"with other default routes and a strict filter", func(h *netlab.Host) error {
			return errors.Join(h.DefaultRoute(old4), h.DefaultRoute(old6),
				h.Sysctl("net.ipv4.conf.all.rp_filter", "1"), h.Sysctl("net.ipv4.conf.eth0.arp_ignore", "8"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host(t)
			check(t, c.before(h))
			var out bytes.Buffer
			o := both(t, &out)
			// lo may have no IPv6 here at first; removing it again removes ::1 too, which is not
			// what is compared.
			check(t, h.Sysctl("net.ipv6.conf.lo.disable_ipv6", "0"))
			before := snapshot(t, h)
			if err := h.Do(func() error { return Check(o) }); !errors.Is(err, ErrWrong) {
				t.Fatalf("check before: %v\n%s", err, out.String())
			}
			out.Reset()
			check(t, h.Do(func() error { return Apply(o, true) }))
			if d := cmp.Diff(before, snapshot(t, h)); d != "" {
				t.Errorf("the dry run changed:\n%s", d)
			}
			for _, want := range []string{"\nip addr replace 192.168.10.100/32 dev lo\n", "\nip -6 addr replace 2001:db8:10::100/128 dev lo nodad\n",
				"\nsysctl -w net.ipv4.conf.all.arp_announce=2\n", "\nip route replace default via 10.10.0.1 dev eth0\n"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the dry run does not say %q:\n%s", want, out.String())
				}
			}
			out.Reset()
			if err := h.Do(func() error { return Apply(o, false) }); err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			if err := h.Do(func() error { return Check(o) }); err != nil {
				t.Errorf("check after: %v\n%s", err, out.String())
			}
			if s := snapshot(t, h); s["lo 2001:db8:10::100/128"] != "flags 0x82" { // permanent, nodad
				t.Errorf("the IPv6 VIP has %s", s["lo 2001:db8:10::100/128"])
			}
			out.Reset()
			check(t, h.Do(func() error { return Apply(o, false) }))
			if strings.Contains(out.String(), "[set]") || strings.Count(out.String(), "[ok]") != 8 {
				t.Errorf("applied again it says:\n%s", out.String())
			}
			out.Reset()
			check(t, h.Do(func() error { return Undo(o, nil) }))
			if d := cmp.Diff(before, snapshot(t, h)); d != "" {
				t.Errorf("undo left, or took too much (-before +after):\n%s\n%s", d, out.String())
			}
			if _, err := os.Stat(o.State); !os.IsNotExist(err) {
				t.Errorf("the state file is still there: %v", err)
			}
			out.Reset()
			check(t, h.Do(func() error { return Undo(o, nil) }))
			if !strings.Contains(out.String(), "nothing to undo") {
				t.Errorf("undone again it says %q", out.String())
			}
		})
	}
}

// Undo leaves alone what somebody else has changed since, and takes single VIPs.
func TestUndoOfPart(t *testing.T) {
	h := host(t)
	var out bytes.Buffer
	o := both(t, &out)
	check(t, h.Do(func() error { return Apply(o, false) }))
	check(t, h.Sysctl("net.ipv4.conf.all.arp_ignore", "2"))
	check(t, h.Do(func() error { return Undo(o, o.VIPs[:1]) }))
	s := snapshot(t, h)
	if _, there := s["lo 192.168.10.100/32"]; there || s["lo 2001:db8:10::100/128"] == "" {
		t.Errorf("only the first VIP was to go: %v", s)
	}
	out.Reset()
	check(t, h.Do(func() error { return Undo(o, nil) }))
	if s := snapshot(t, h); s["/proc/sys/net/ipv4/conf/all/arp_ignore"] != "2" {
		t.Errorf("arp_ignore was set back over what somebody else had set:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "[left] net.ipv4.conf.all.arp_ignore is now 2") {
		t.Errorf("undo says:\n%s", out.String())
	}
}

// Each thing that may be wrong is found, with its remedy; and carrying out the remedies cures it.
func TestCheckFinds(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(*netlab.Host) error
		what   string
		remedy string
	}{
		{"arp_ignore", func(h *netlab.Host) error { return h.Sysctl("net.ipv4.conf.all.arp_ignore", "0") },
			"arp_ignore of eth0 is 0", "sysctl -w net.ipv4.conf.all.arp_ignore=1"},
		{"arp_announce", func(h *netlab.Host) error { return h.Sysctl("net.ipv4.conf.all.arp_announce", "1") },
			"arp_announce of eth0 is 1", "sysctl -w net.ipv4.conf.all.arp_announce=2"},
		{"rp_filter", func(h *netlab.Host) error {
			return errors.Join(h.Sysctl("net.ipv4.conf.eth0.rp_filter", "0"), h.Sysctl("net.ipv4.conf.all.rp_filter", "1"))
		}, "rp_filter of eth0 is 1", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
		{"no VIP", func(h *netlab.Host) error {
			return h.Do(func() error { _, err := removeAddress(vip4+"/32", "lo"); return err })
		}, "the VIP 192.168.10.100 is not on lo", "ip addr replace 192.168.10.100/32 dev lo"},
		{"VIP of IPv6 on eth0", func(h *netlab.Host) error { return h.Addr("eth0", vip6+"/128") },
			"the VIP 2001:db8:10::100 is on eth0", "ip addr del 2001:db8:10::100/128 dev eth0"},
		{"VIP with a network", func(h *netlab.Host) error { return h.Addr("lo", vip4+"/24") },
			"the VIP is on lo as 192.168.10.100/24", "ip addr del 192.168.10.100/24 dev lo"},
		{"another gateway", func(h *netlab.Host) error {
			return h.Do(func() error { return replaceRoute(&gatewayRoute{Gateway: old4, Interface: "eth0"}) })
		}, "the default route of IPv4 is by 10.10.0.9 on eth0", "ip route replace default via 10.10.0.1 dev eth0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host(t)
			var out bytes.Buffer
			o := both(t, &out)
			check(t, h.Do(func() error { return Apply(o, false) }))
			check(t, c.damage(h))
			var found []Finding
			check(t, h.Do(func() (err error) { found, err = Look(o); return err }))
			wrong := 0
			for _, f := range found {
				if f.OK {
					continue
				}
				wrong++
				if !strings.HasPrefix(f.What, c.what) || f.Remedy != c.remedy || f.Why == "" {
					t.Errorf("found %+v\nwant %q, %q", f, c.what, c.remedy)
				}
			}
			if wrong != 1 {
				t.Errorf("%d findings, want one: %+v", wrong, found)
			}
			if strings.HasPrefix(c.remedy, "ip addr del") {
				s := snapshot(t, h)
				if err := h.Do(func() error { return Apply(o, false) }); err == nil || !strings.Contains(err.Error(), "nothing was changed; first: "+c.remedy) {
					t.Errorf("apply must refuse: %v", err)
				}
				if d := cmp.Diff(s, snapshot(t, h)); d != "" {
					t.Errorf("refusing, it changed:\n%s", d)
				}
				return
			}
			check(t, h.Do(func() error { return Apply(o, false) }))
			check(t, h.Do(func() error { return Check(o) }))
		})
	}
}

// A realserver with two interfaces, of which one has requests and the other the gateway: each is
// judged by its role, whether the first was named or not, and apply makes a realserver that gets
// requests by the one and answers by the other.
func TestTwoInterfaces(t *testing.T) {
	for _, named := range [][]string{nil, {"eth0"}} {
		for _, c := range []struct {
			name    string
			damage  func(*netlab.Host) error
			what    string
			remedy  string
			ignores bool // not of concern if eth0 was named
		}{
			{"nothing", func(*netlab.Host) error { return nil }, "", "", false},
			{"filter where requests come in", func(h *netlab.Host) error { return h.Sysctl("net.ipv4.conf.eth0.rp_filter", "1") },
				"rp_filter of eth0 is 1", "sysctl -w net.ipv4.conf.eth0.rp_filter=2", false},
			{"filter towards the gateway", func(h *netlab.Host) error { return h.Sysctl("net.ipv4.conf.eth1.rp_filter", "1") },
				"rp_filter of eth1 is 1", "sysctl -w net.ipv4.conf.eth1.rp_filter=2", true},
			{"a question by the other one", func(h *netlab.Host) error {
				return errors.Join(h.Sysctl("net.ipv4.conf.all.arp_ignore", "0"), h.Sysctl("net.ipv4.conf.eth0.arp_ignore", "1"))
			}, "arp_ignore of eth1 is 0", "sysctl -w net.ipv4.conf.all.arp_ignore=1", false},
			{"default route by the wrong one", func(h *netlab.Host) error {
				return h.Do(func() error { return replaceRoute(&gatewayRoute{Gateway: gw4, Interface: "eth0"}) })
			}, "the default route of IPv4 is by 10.10.0.1 on eth0", "ip route replace default via 10.20.0.1 dev eth1", false},
		} {
			t.Run(fmt.Sprint(c.name, named), func(t *testing.T) {
				h := host(t)
				n := netlab.New()
				t.Cleanup(n.Close)
				sw, err := n.Switch("sw2")
				check(t, err)
				check(t, h.Cable("eth1", "02:00:00:00:02:01", sw, "web-eth1"))
				check(t, h.Addr("eth1", "10.20.0.11/24"))
				var out bytes.Buffer
				o := Options{Out: &out, State: filepath.Join(t.TempDir(), "state.json"), Interfaces: named}
				check(t, o.Parse([]string{vip4}, []string{"10.20.0.1"}))
				check(t, h.Do(func() error { return Apply(o, false) }))
				check(t, h.Do(func() error { return Check(o) }))
				check(t, c.damage(h))
				var found []Finding
				check(t, h.Do(func() (err error) { found, err = Look(o); return err }))
				var wrong []Finding
				for _, f := range found {
					if !f.OK {
						wrong = append(wrong, f)
					}
				}
				switch {
				case c.what == "" || c.ignores && named != nil:
					if len(wrong) != 0 {
						t.Errorf("found %+v, want nothing", wrong)
					}
				case len(wrong) != 1 || !strings.HasPrefix(wrong[0].What, c.what) || wrong[0].Remedy != c.remedy:
					t.Errorf("found %+v, want %q, %q", wrong, c.what, c.remedy)
				}
			})
		}
	}
}

// The script makes of a host what apply makes of it, may be run again, and needs sh, ip and sysctl
// only.
func TestScript(t *testing.T) {
	for _, name := range []string{"ip", "sysctl"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("the script needs %s: apt-get install iproute2 procps", name)
		}
	}
	h := host(t)
	var out bytes.Buffer
	o := both(t, &out)
	if err := Script(o); err == nil || !strings.Contains(err.Error(), "--interface") {
		t.Errorf("without an interface: %v", err)
	}
	o.Interfaces = []string{"eth0"}
	check(t, Script(o))
	script := out.String()
	for range 2 {
		cmd := exec.Command("sh", "-s")
		cmd.Stdin = strings.NewReader(script)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		check(t, h.Start(cmd))
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s\n%s", err, said.String(), script)
		}
	}
	out.Reset()
	if err := h.Do(func() error { return Check(o) }); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		vips, gateways []string
		want           string
	}{
		{nil, nil, "--vip: name at least one VIP"},
		{[]string{"www"}, nil, `--vip "www": write an IP address`},
		{[]string{"192.168.10.0/24"}, nil, "write an IP address"},
		{[]string{"127.0.0.1"}, nil, "not the address of a host"},
		{[]string{"fe80::1%eth0"}, nil, "not the address of a host"},
		{[]string{vip4}, []string{gw4, "10.10.0.2"}, "10.10.0.1 and 10.10.0.2 have the same address family"},
		{[]string{vip4}, []string{vip4}, "is both --vip and --gateway"},
	} {
		var o Options
		if err := o.Parse(c.vips, c.gateways); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %v: %v, want %q", c.vips, c.gateways, err, c.want)
		}
	}
}

// What cannot be done says so before anything is changed.
func TestRefuses(t *testing.T) {
	h := host(t)
	var out bytes.Buffer
	for _, c := range []struct {
		gateway, iface, state, want string
	}{
		{"10.99.0.1", "", "", "on no network of this host"},
		{gw4, "eth7", "", "--interface eth7"},
		{"10.10.0.11", "", "", "is an address of this host"},
		{gw4, "", "/no/such/folder/state", "nothing was changed"},
	} {
		o := Options{Out: &out, State: c.state}
		if c.iface != "" {
			o.Interfaces = []string{c.iface}
		}
		if c.state == "" {
			o.State = filepath.Join(t.TempDir(), "state")
		}
		var gateways []string
		if c.gateway != "" {
			gateways = []string{c.gateway}
		}
		check(t, o.Parse([]string{vip4}, gateways))
		before := snapshot(t, h)
		if err := h.Do(func() error { return Apply(o, false) }); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
		if d := cmp.Diff(before, snapshot(t, h)); d != "" {
			t.Errorf("%+v changed:\n%s", c, d)
		}
	}
}
