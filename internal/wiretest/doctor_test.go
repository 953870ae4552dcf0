package wiretest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shunt/internal/doctor"
	"shunt/internal/lab"
)

// doctor runs `shunt doctor` on the director's host, and returns what it says and its exit status.
func (w *world) doctor(args ...string) (doctor.Report, int) {
	w.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(program, append([]string{"doctor", "--json", "--socket", w.socket}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	w.must(w.Director.Start(cmd))
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	var r doctor.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		w.t.Fatalf("doctor %q: %v\n%s%s", args, err, out.String(), errs.String())
	}
	return r, cmd.ProcessState.ExitCode()
}

// ids lists the findings, as severity and kind.
func ids(r doctor.Report) (out []string) {
	for _, f := range r.Findings {
		if f.What == "" || f.Evidence == "" || f.Remedy == "" {
			out = append(out, "incomplete finding "+f.ID)
		}
		out = append(out, string(f.Severity)+" "+f.ID)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// A healthy laboratory gives no finding, in either topology and family, and the doctor leaves
// nothing behind: no half-open connection on a realserver, no warning in the director's log.
func TestDoctorHealthy(t *testing.T) {
	for _, topology := range lab.Topologies {
		t.Run(topology, func(t *testing.T) {
			w := build(t, topology, 2)
			w.must(w.EnableIPv6())
			w.must(w.Director.IPv6("eth0"))
			six := service{proto: "tcp", port: 80, scheduler: "rr", vip: lab.VIP6, reals: []realserver{{address: lab.RIP6(1), weight: 1}, {address: lab.RIP6(2), weight: 1}}}
			// Without a state, of which the director rightly complains where it is on a disk.
			w.start(w.config("state_dir: off", w.http("rr"), six, on("udp", 53, w.all())))
			r, status := w.doctor()
			if len(r.Findings) != 0 || status != 0 {
				t.Errorf("status %d, findings: %+v", status, r.Findings)
			}
			text := strings.Join(r.Well, "\n")
			for _, want := range []string{"4 pairs of realserver and VIP: each has the VIP and answered a frame to it (ping; SYN: 4 servers)",
				"4 realservers: the MAC of each is known", "no realserver or other host answers ARP for 2 VIPs", "no frame was lost"} {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
			if !strings.Contains(text, "the return path through the gateway: 4 answers arrived") || r.Result != "well" || len(r.Unknown) != 0 {
				t.Errorf("%s; not looked at: %+v; well:\n%s", r.Result, r.Unknown, text)
			}
			for i, web := range w.Webs {
				w.eventually("no connection of the doctor is half open", func() bool { return !strings.Contains(tcp(w, i), " 03 ") })
				_ = web
			}
			if log := w.director.Log(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
				t.Errorf("the director complains:\n%s", log)
			}
			w.pages(2, 1)
		})
	}
}

// tcp is /proc/net/tcp of a realserver; state 03 is SYN_RECV.
func tcp(w *world, i int) (text string) {
	w.t.Helper()
	w.must(w.Webs[i].Do(func() error {
		for _, name := range []string{"tcp", "tcp6"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			text += string(b)
		}
		return nil
	}))
	return text
}

// What is broken is found, by its name, with nothing beside it.
func TestDoctorFinds(t *testing.T) {
	one := func(more string) func(*world) string {
		return func(w *world) string { return w.config(more, w.http("rr")) }
	}
	for _, c := range []struct {
		name     string
		topology string
		config   func(*world) string
		damage   func(*world)
		want     []string
		evidence string
		status   int
	}{
		{"IPv6: a realserver answers for the VIP", "one-arm", one("arp: {announce: 0}"), func(w *world) {
			w.must(w.Webs[1].Addr("eth0", lab.VIP6+"/128"))
		}, []string{"error arp-problem"}, "02:00:00:00:01:02 answered", 4},
		{"IPv6: the VIP is missing on a realserver", "one-arm", one(""), func(w *world) {
			w.remove(1, lab.VIP6+"/128")
		}, []string{"error vip-missing"}, "sent to 02:00:00:00:01:02: neither the ping nor a SYN was answered", 4},
		{"IPv6: it is missing and the realserver routes", "two-arm", one(""), func(w *world) {
			w.remove(0, lab.VIP6+"/128")
			w.must(w.Webs[0].Sysctl("net.ipv6.conf.all.forwarding", "1"))
		}, []string{"error vip-missing"}, "answered instead: the realserver forwards", 4},
		{"IPv6: no server on the port", "one-arm", func(w *world) string { return w.config("", w.http("rr"), on("tcp", 81, w.all()[:1])) }, nil,
			[]string{"error no-server"}, "answered by a RST", 4},
		{"IPv6: a realserver is gone", "one-arm", one(""), func(w *world) {
			w.must(w.Webs[0].Down("eth0"))
		}, []string{"error unresolved"}, "no answer", 4},
		{"IPv6: a fixed MAC is wrong", "one-arm", func(w *world) string {
			return w.config("", w.http("rr", realserver{address: lab.RIP6(1), weight: 1, mac: lab.MAC(1)}, realserver{address: lab.RIP6(2), weight: 1, mac: "02:00:00:00:77:77"}))
		}, nil, []string{"error static-mac", "error vip-missing"}, "but 02:00:00:00:01:02 answers", 4},
		{"IPv6: the director's kernel has the VIP", "one-arm", one(""), func(w *world) {
			w.must(w.Director.IPv6("lo"))
			w.must(w.Director.Addr("lo", lab.VIP6+"/128"))
		}, []string{"error kernel-has-vip"}, "it is on lo", 4},
		{"IPv6: the kernel routes and there is no guard", "one-arm", one("guard: off"), func(w *world) {
			w.must(w.Director.Sysctl("net.ipv6.conf.all.forwarding", "1"))
		}, []string{"error forwarding"}, "net.ipv6.conf.all.forwarding=1", 4},
		{"IPv6: another director", "one-arm", one("arp: {announce: 0}"), func(w *world) {
			w.must(w.Client.Addr("eth0", lab.VIP6+"/128"))
		}, []string{"error two-directors"}, "asked on eth0 who has " + lab.VIP6, 4},
		{"a realserver answers ARP for the VIP", "one-arm", one("arp: {announce: 0}"), func(w *world) {
			w.must(w.Webs[1].Sysctl("net.ipv4.conf.all.arp_ignore", "0"))
		}, []string{"error arp-problem"}, "02:00:00:00:01:02 answered", 4},
		{"the same on the private leg", "two-arm", one(""), func(w *world) {
			w.must(w.Webs[0].Sysctl("net.ipv4.conf.all.arp_ignore", "0"))
		}, []string{"warning arp-problem"}, "asked on eth1", 3},
		{"the VIP is missing on a realserver", "one-arm", one(""), func(w *world) {
			w.remove(1, lab.VIP+"/32")
		}, []string{"error vip-missing"}, "sent to 02:00:00:00:01:02: neither the ping nor a SYN was answered", 4},
		{"it is missing and the realserver routes", "two-arm", one(""), func(w *world) {
			w.remove(0, lab.VIP+"/32")
			w.must(w.Webs[0].Sysctl("net.ipv4.ip_forward", "1"))
		}, []string{"error vip-missing"}, "answered instead: the realserver forwards", 4},
		{"no server on the port", "one-arm", func(w *world) string { return w.config("", w.http("rr"), on("tcp", 81, w.all()[:1])) }, nil,
			[]string{"error no-server"}, "answered by a RST", 4},
		{"a realserver is gone", "one-arm", one(""), func(w *world) {
			w.must(w.Webs[0].Down("eth0"))
		}, []string{"error unresolved"}, "no answer", 4},
		{"a drained realserver is gone", "one-arm", func(w *world) string {
			return w.config("", w.http("rr", realserver{address: lab.RIP(1), weight: 0}, realserver{address: lab.RIP(2), weight: 1}))
		}, func(w *world) { w.must(w.Webs[0].Down("eth0")) }, []string{"warning unresolved"}, "no answer", 3},
		{"the gateway filters the way back", "two-arm", one(""), func(w *world) {
			w.must(w.Hosts["router"].Sysctl("net.ipv4.conf.all.rp_filter", "1"))
		}, []string{"error way-back"}, "got no reply to " + lab.PublicDIP, 4},
		{"a fixed MAC is wrong", "one-arm", func(w *world) string {
			return w.config("", w.http("rr", realserver{address: lab.RIP(1), weight: 1, mac: lab.MAC(1)}, realserver{address: lab.RIP(2), weight: 1, mac: "02:00:00:00:77:77"}))
		}, nil, []string{"error static-mac", "error vip-missing"}, "but 02:00:00:00:01:02 answers", 4},
		{"the director's kernel has the VIP", "one-arm", one(""), func(w *world) {
			w.must(w.Director.Addr("lo", lab.VIP+"/32"))
		}, []string{"error kernel-has-vip"}, "it is on lo", 4},
		{"the kernel routes and there is no guard", "one-arm", one("guard: off"), func(w *world) {
			w.must(w.Director.Sysctl("net.ipv4.ip_forward", "1"))
		}, []string{"error forwarding"}, "net.ipv4.ip_forward=1", 4},
		{"the source MAC poisons the switch", "one-arm", one("source_mac: preserve"), nil, []string{"error source-mac"}, "which is public", 4},
		{"legs of different MTUs", "two-arm", one(""), func(w *world) {
			w.mtu("eth1", 1400)
		}, []string{"warning mtu"}, "eth0 1500, eth1 1400", 3},
		{"another director", "one-arm", one("arp: {announce: 0}"), func(w *world) {
			w.must(w.Client.Addr("eth0", lab.VIP+"/24"))
		}, []string{"error two-directors"}, "asked on eth0 who has " + lab.VIP, 4},
		{"a leg is down", "two-arm", one(""), func(w *world) { w.must(w.Director.Down("eth1")) }, []string{"error leg-down"}, "eth1", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := families[0]
			if strings.HasPrefix(c.name, "IPv6: ") {
				f = families[1]
			}
			w := buildFor(t, f, c.topology, 2)
			w.start(c.config(w))
			if c.damage != nil {
				c.damage(w)
			}
			r, status := w.doctor()
			got := ids(r)
			// What the director has counted of the damage meanwhile is beside the point.
			got = slices.DeleteFunc(got, func(s string) bool { return s == "warning conflicts" || s == "warning loop" })
			if !slices.Equal(got, c.want) || status != c.status {
				t.Errorf("status %d, findings %+v\nwant status %d, %q", status, r.Findings, c.status, c.want)
			}
			if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return strings.Contains(f.Evidence, c.evidence) }) {
				t.Errorf("no evidence has %q: %+v", c.evidence, r.Findings)
			}
		})
	}
}

func (w *world) remove(i int, prefix string) {
	w.t.Helper()
	lo, err := w.Webs[i].Netlink().LinkByName("lo")
	w.must(err)
	addrs, err := w.Webs[i].Netlink().AddrList(lo, w.family.number())
	w.must(err)
	for _, a := range addrs {
		if a.IPNet.String() == prefix {
			w.must(w.Webs[i].Netlink().AddrDel(lo, &a))
			return
		}
	}
	w.t.Fatalf("%s is not on lo", prefix)
}

func (w *world) mtu(name string, mtu int) {
	w.t.Helper()
	l, err := w.Director.Netlink().LinkByName(name)
	w.must(err)
	w.must(w.Director.Netlink().LinkSetMTU(l, mtu))
}

// Without a running director the doctor goes by the file alone: a host that has the VIPs is then a
// director at work.
func TestDoctorWithoutDirector(t *testing.T) {
	eachFamily(t, 2, doctorWithoutDirector, "one-arm")
}

func doctorWithoutDirector(t *testing.T, w *world) {
	path := filepath.Join(w.dir, "shunt.yaml")
	w.must(os.WriteFile(path, []byte(w.config("", w.http("rr"))), 0o644))
	if r, status := w.doctor("-c", path); status != 0 || len(r.Findings) != 0 {
		t.Errorf("status %d, %+v", status, r.Findings)
	}
	w.must(w.Client.Addr("eth0", w.family.vip+w.family.network))
	if r, status := w.doctor("-c", path); status != 3 || !slices.Equal(ids(r), []string{"warning other-director"}) {
		t.Errorf("status %d, %+v", status, r.Findings)
	}
}

// A guard that a killed director left is found: nobody has the VIP, and frames to it are dropped.
func TestDoctorStaleGuard(t *testing.T) {
	eachFamily(t, 2, doctorStaleGuard, "one-arm")
}

func doctorStaleGuard(t *testing.T, w *world) {
	w.start(w.config("", w.http("rr")))
	d := w.director
	w.director = nil
	d.Kill()
	if r, status := w.doctor("-c", d.ConfigPath); status != 3 || !slices.Equal(ids(r), []string{"warning stale-guard"}) {
		t.Errorf("status %d, %+v", status, r.Findings)
	}
}

// route gives a realserver another default route, by a gateway of the private network, or takes it
// away.
func (w *world) route(i int, gateway string) {
	w.t.Helper()
	nl := w.Webs[i].Netlink()
	all, err := nl.RouteList(nil, w.family.number())
	w.must(err)
	for _, r := range all {
		if r.Gw != nil {
			w.must(nl.RouteDel(&r))
		}
	}
	if gateway != "" {
		w.must(w.Webs[i].DefaultRoute(gateway))
	}
}

// A wrong way back of one realserver, or of all, is found in either topology and family, whatever
// the wrong is; nothing else is.
func TestDoctorWayBack(t *testing.T) {
	dips := map[string]string{"IPv4": lab.DIP, "IPv6": lab.DIP6}
	gone := map[string]string{"IPv4": "10.10.0.99", "IPv6": "fd00:10::99"}
	for _, topology := range lab.Topologies {
		for _, f := range families {
			for _, c := range []struct {
				name     string
				gateway  string
				all      bool
				want     string
				evidence string
			}{
				{"by the director", dips[f.name], false, "error way-back-director", "the reply came here directly from 02:00:00:00:01:02"},
				{"by a dead gateway", gone[f.name], false, "error way-back-gateway", "sent ARP requests for " + gone[f.name]},
				{"missing", "", false, "error way-back", "replies of other realservers came through the gateway"},
				{"by the director, all", dips[f.name], true, "error way-back-director", "the reply came here directly from 02:00:00:00:01:01"},
				{"by a dead gateway, all", gone[f.name], true, "error way-back-gateway", "sent ARP requests for " + gone[f.name]},
				{"missing, all", "", true, "", "got no reply to"},
			} {
				t.Run(topology+" "+f.name+" "+c.name, func(t *testing.T) {
					t.Parallel()
					w := buildFor(t, f, topology, 2)
					w.start(w.config("", w.http("rr")))
					w.route(1, c.gateway)
					if c.all {
						w.route(0, c.gateway)
					}
					want := c.want
					if want == "" { // without any answer it is certain only from an address of the host
						want = "warning way-back"
						if topology == "two-arm" && f.name == "IPv4" {
							want = "error way-back"
						}
					}
					r, _ := w.doctor()
					if got := ids(r); !slices.Equal(got, []string{want}) {
						t.Fatalf("findings %+v\nwant %s", r.Findings, want)
					}
					if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return strings.Contains(f.Evidence, c.evidence) }) {
						t.Errorf("no evidence has %q: %+v", c.evidence, r.Findings)
					}
				})
			}
		}
	}
}

// On the only leg the director may have an address of the VIP's network beside that of the
// realservers', and before it: the realservers are pinged from either as it is right.
func TestDoctorSecondAddress(t *testing.T) {
	eachFamily(t, 2, func(t *testing.T, w *world) {
		second := map[string]string{"IPv4": lab.PublicDIP, "IPv6": "2001:db8:10::2"}[w.family.name]
		eth0, err := w.Director.Netlink().LinkByName("eth0")
		w.must(err)
		first, err := netlink.ParseAddr(w.family.dip + w.family.network)
		w.must(err)
		w.must(w.Director.Netlink().AddrDel(eth0, first))
		w.must(w.Director.Addr("eth0", second+w.family.network, w.family.dip+w.family.network))
		w.start(w.config("state_dir: off", w.http("rr")))
		if r, status := w.doctor(); status != 0 || len(r.Well) == 0 {
			t.Errorf("status %d, %+v, not looked at: %+v", status, r.Findings, r.Unknown)
		}
		w.route(1, "")
		r, _ := w.doctor()
		if !slices.Equal(ids(r), []string{"error way-back"}) || !strings.Contains(r.Findings[0].Evidence, "a ping from "+second) {
			t.Errorf("findings %+v", r.Findings)
		}
	}, "one-arm")
}

// Where the VIP is in the realservers' own network no gateway brings an answer to the doctor. A
// default route by the director or by a dead gateway is found nevertheless, and all else is neither
// wrong nor well.
func TestDoctorFlat(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := buildFor(t, f, "one-arm", 2)
			web := w.http("rr")
			web.vip = map[string]string{"IPv4": "10.10.0.100", "IPv6": "fd00:10::100"}[f.name]
			for _, h := range w.Webs {
				w.must(h.Addr("lo", web.vip+f.alone))
			}
			w.start(w.config("state_dir: off", web))
			for _, c := range []struct {
				gateway string
				want    []string
				unknown int
				status  int
			}{
				{f.gateway, nil, 2, 5},
				{f.dip, []string{"error way-back-director"}, 1, 4},
				{"", nil, 2, 5},
				{map[string]string{"IPv4": "10.10.0.99", "IPv6": "fd00:10::99"}[f.name], []string{"error way-back-gateway"}, 1, 4},
			} {
				w.route(1, c.gateway)
				if r, status := w.doctor(); !slices.Equal(ids(r), c.want) || len(r.Unknown) != c.unknown || status != c.status {
					t.Errorf("default route by %q: status %d, %+v, not looked at: %+v", c.gateway, status, r.Findings, r.Unknown)
				}
			}
		})
	}
}

// What the director's table tells is found too: clients of one realserver repeat their SYNs.
// Without an address from which to ping, the other one is well by what the table tells of it.
func TestDoctorHalfOpen(t *testing.T) {
	eachFamily(t, 2, func(t *testing.T, w *world) {
		w.start(w.config("", w.http("rr")))
		w.route(1, "")
		w.must(w.Client.Do(func() error {
			for range 12 {
				if err := w.connect(t); err != nil {
					return err
				}
			}
			return nil
		}))
		var r doctor.Report
		w.eventually("the doctor finds half-open connections", func() bool {
			r, _ = w.doctor("--from", "none", "--wait", "30ms")
			return slices.Contains(ids(r), "error half-open")
		})
		if len(r.Unknown) != 0 || !strings.Contains(strings.Join(r.Well, "\n"), "the return path from "+w.family.rip(1)+": the director's table has connections") {
			t.Errorf("of the way back it says %+v, %q", r.Unknown, r.Well)
		}
		if got := ids(r); !slices.Equal(got, []string{"error half-open"}) || !strings.Contains(r.Findings[0].What, w.family.rip(2)) {
			t.Errorf("findings %+v", r.Findings)
		}
	}, "one-arm")
}

// connect begins a connection to the VIP from the thread's host, which the kernel goes on with
// until the test ends.
func (w *world) connect(t *testing.T) error {
	fd, err := unix.Socket(w.family.number(), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	vip := netip.MustParseAddr(w.family.vip)
	to := unix.Sockaddr(&unix.SockaddrInet6{Port: 80, Addr: vip.As16()})
	if vip.Is4() {
		to = &unix.SockaddrInet4{Port: 80, Addr: vip.As4()}
	}
	if err := unix.Connect(fd, to); !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	return nil
}

// What could not be looked at is not well: the result and the exit status tell.
func TestDoctorUnknown(t *testing.T) {
	eachFamily(t, 2, func(t *testing.T, w *world) {
		w.start(w.config("state_dir: off", w.http("rr")))
		for _, c := range []struct {
			from, result string
			status       int
		}{{"none", "unknown", 5}, {map[string]string{"IPv4": "192.168.10.251", "IPv6": "2001:db8:10::fb"}[w.family.name], "well", 0}} {
			r, status := w.doctor("--from", c.from)
			if r.Result != c.result || status != c.status || len(r.Findings) != 0 || len(r.Unknown) != 2*(status/5) {
				t.Errorf("--from %s: status %d, %+v", c.from, status, r)
			}
		}
	}, lab.Topologies...)
}
