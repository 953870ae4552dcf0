package wiretest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"shunt/api"
	"shunt/internal/lab"
	"shunt/internal/netlab"
)

// A leg may be any kind of Ethernet interface; all other tests have veth. (This kernel has no
// bonds.) It is guarded, it forwards large frames, and it is followed: deleted and made anew like
// the others.
func TestKindsOfLegs(t *testing.T) {
	const own = "02:00:00:00:00:d0"
	for _, kind := range []struct {
		name string
		make func(w *world) error
	}{
		{"br0", func(w *world) error { return w.Director.Bridge("br0", own, "eth0") }},
		{"mv0", func(w *world) error {
			return w.Director.Macvlan("eth0", "mv0", own, nil, w.family.in(10, 3)+w.family.network)
		}},
	} {
		test := func(t *testing.T, w *world) {
			w.serveTalks()
			w.must(kind.make(w))
			w.start(w.config("legs: [{interface: "+kind.name+"}]\narp: {announce: 0}", on("tcp", 7, w.all()), w.http("rr")))
			talks := []*talk{w.talk(), w.talk()}
			if got := w.believes(w.Client, w.family.vip); got != own {
				t.Errorf("the client has the VIP at %s", got)
			}
			before := w.guarded(kind.name)
			if got := w.pages(8, 2); got["web1"] != 4 || got["web2"] != 4 {
				t.Errorf("rr spread 8 connections as %v", got)
			}
			if n := w.guarded(kind.name); n <= before {
				t.Errorf("the guard has dropped %d frames, and %d before", n, before)
			}
			w.must(w.Director.Delete(kind.name))
			w.logged("interface deleted", kind.name)
			if kind.name == "br0" { // its addresses went with it
				w.must(w.Director.Addr("eth0", w.family.dip+w.family.network))
			}
			w.must(kind.make(w))
			w.logged("interface present again", kind.name)
			for _, k := range talks {
				w.must(k.say("again"))
			}
			w.pages(4, 1)
		}
		t.Run(kind.name, func(t *testing.T) { eachFamily(t, 2, test, "one-arm") })
	}
}

// realserver makes another one, not yet connected, with VIPs of its own.
func (w *world) addRealserver(name string, vips ...string) *netlab.Host {
	w.t.Helper()
	h, err := w.Host(name)
	w.must(err)
	w.must(h.Realserver(vips...))
	stop, err := lab.Serve(h, nil)
	w.must(err)
	w.t.Cleanup(stop)
	return h
}

// join connects an interface of a host to a switch, and gives it addresses of both families.
func (w *world) join(h *netlab.Host, ifname, mac string, sw *netlab.Host, addrs ...string) {
	w.t.Helper()
	w.must(h.Cable(ifname, mac, sw, h.Name))
	w.must(h.IPv6(ifname))
	w.must(h.Addr(ifname, addrs...))
}

// ways gives a host its default routes.
func (w *world) ways(h *netlab.Host, gateways ...string) {
	w.t.Helper()
	for _, g := range gateways {
		w.must(h.DefaultRoute(g))
	}
}

// Two public legs with a VIP of each family each, two private ones, and realservers behind both of
// these and behind the leg that the clients are at: all serve all VIPs.
func TestSeveralPublicAndPrivateLegs(t *testing.T) {
	w := buildFor(t, ipv6Family, "two-arm", 2)
	second := map[string]string{"IPv4": "192.168.20.100", "IPv6": "2001:db8:20::100"}
	from := map[string]string{"IPv4": "192.168.20.1", "IPv6": "2001:db8:20::1"}
	for _, h := range w.Webs {
		w.must(h.Realserver(second["IPv4"], second["IPv6"]))
	}
	router := w.Hosts["router"]
	public2, err := w.Switch("public2")
	w.must(err)
	private2, err := w.Switch("private2")
	w.must(err)
	w.join(w.Client, "eth1", "02:00:00:00:00:11", public2, from["IPv4"]+"/24", from["IPv6"]+"/64")
	w.must(w.Director.Addr("eth0", "2001:db8:10::2/64"))
	w.join(w.Director, "eth2", "02:00:00:00:00:04", public2, "192.168.20.2/24", "2001:db8:20::2/64")
	w.join(w.Director, "eth3", "02:00:00:00:00:05", private2, "10.30.0.2/24", "fd00:30::2/64")
	w.join(router, "eth2", "02:00:00:00:00:22", private2, "10.30.0.1/24", "fd00:30::1/64")
	w.must(router.Sysctl("net.ipv4.conf.eth2.rp_filter", "0"))
	for _, key := range []string{"all", "eth0", "eth1"} { // answers about the second VIP come by the first network
		w.must(w.Client.Sysctl("net.ipv4.conf."+key+".rp_filter", "0"))
	}
	for network, gateway := range map[string]string{"192.168.20.0/24": lab.ClientIP, "2001:db8:20::/64": lab.ClientIP6} {
		_, dst, err := net.ParseCIDR(network)
		w.must(err)
		w.must(router.Netlink().RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(gateway)}))
	}
	all := []string{lab.VIP, lab.VIP6, second["IPv4"], second["IPv6"]}
	web3 := w.addRealserver("web3", all...)
	w.join(web3, "eth0", "02:00:00:00:01:03", private2, "10.30.0.13/24", "fd00:30::13/64")
	w.ways(web3, "10.30.0.1", "fd00:30::1")
	web4 := w.addRealserver("web4", all...)
	w.must(w.Cable(web4, "eth0", "02:00:00:00:01:04", "eth0", "192.168.10.14/24", "2001:db8:10::14/64"))
	w.ways(web4, lab.ClientIP, lab.ClientIP6)

	var services []service
	for _, f := range families {
		w.family = f
		reals := append(w.all(), realserver{address: f.in(30, 13), weight: 1},
			realserver{address: map[string]string{"IPv4": "192.168.10.14", "IPv6": "2001:db8:10::14"}[f.name], weight: 1})
		for _, vip := range []string{f.vip, second[f.name]} {
			s := w.http("rr", reals...)
			s.vip = vip
			services = append(services, s)
		}
	}
	w.start(w.config(`legs:
  - {name: public, interface: eth0}
  - {name: private, interface: eth1}
  - {name: public2, interface: eth2, public: true}
  - {name: private2, interface: eth3}
arp: {watch: 1s}`, services...))
	for _, f := range families {
		for vip, client := range map[string]string{f.vip: f.client, second[f.name]: from[f.name]} {
			w.url, w.browser = "http://"+f.at(vip, "80")+"/", w.browse(client)
			got := w.pages(16, 3)
			for _, name := range []string{"web1", "web2", "web3", "web4"} {
				if got[name] != 4 {
					t.Errorf("rr spread 16 connections to %s as %v", vip, got)
					break
				}
			}
		}
	}
	s := w.status()
	for _, leg := range []string{"public", "private", "public2", "private2"} {
		if legOf(&s, leg).ARP.Conflicts != 0 {
			t.Errorf("%d conflicts on %s", legOf(&s, leg).ARP.Conflicts, leg)
		}
		if leg != "public2" && legOf(&s, leg).Sent == 0 {
			t.Errorf("nothing was sent by %s", leg)
		}
		if strings.HasPrefix(leg, "public") && legOf(&s, leg).Received == 0 {
			t.Errorf("nothing came by %s", leg)
		}
	}
}

// both are the services of the pages of both families.
func (w *world) both() (out []service) {
	for _, f := range families {
		w.family = f
		s := w.http("rr")
		s.vip = f.vip
		out = append(out, s)
	}
	return out
}

// Two legs in one layer-2 network are no conflict, though each hears what the other says of the
// VIPs.
func TestTwoLegsInOneNetwork(t *testing.T) {
	w := buildFor(t, ipv6Family, "one-arm", 2)
	w.must(w.Cable(w.Director, "eth1", privateMAC, "eth0", "10.10.0.3/32", "fd00:10::3/128"))
	w.start(w.config("legs: [{interface: eth0, networks: [192.168.10.0/24, '2001:db8:10::/64']}, {interface: eth1, networks: [10.10.0.0/24, 'fd00:10::/64']}]\n"+
		"source_mac: own\narp: {watch: 1s}", w.both()...))
	for _, f := range families {
		w.speak(f)
		if got := w.pages(4, 1); got["web1"] != 2 || got["web2"] != 2 {
			t.Errorf("%s: rr spread 4 connections as %v", f.name, got)
		}
	}
	w.eventually("the private leg is asked, more than once", func() bool { return w.leg("eth1").ARP.Probed >= 6 })
	if s := w.status(); legOf(&s, "eth0").ARP.Conflicts+legOf(&s, "eth1").ARP.Conflicts != 0 {
		t.Errorf("%d and %d conflicts", legOf(&s, "eth0").ARP.Conflicts, legOf(&s, "eth1").ARP.Conflicts)
	}
}

// The director's host runs a realserver too, in a namespace with an address and a MAC of its own:
// behind a bridge that is the leg, or on a macvlan beside the macvlan that is the leg. It needs
// nothing that another realserver does not.
func TestRealserverOnDirectorsHost(t *testing.T) {
	for _, how := range []string{"bridge", "macvlan"} {
		t.Run(how, func(t *testing.T) {
			w := buildFor(t, ipv6Family, "two-arm", 1)
			local := w.addRealserver("local", lab.VIP, lab.VIP6)
			leg := "br0"
			if how == "bridge" {
				w.must(w.Director.Bridge("br0", "02:00:00:00:00:d0", "eth1"))
				w.must(local.Cable("eth0", lab.MAC(2), w.Director, "local"))
			} else {
				leg = "mv0"
				w.must(w.Director.Macvlan("eth1", "mv0", "02:00:00:00:00:d0", nil, "10.10.0.3/24", "fd00:10::3/64"))
				w.must(w.Director.Macvlan("eth1", "eth0", lab.MAC(2), local))
			}
			w.must(local.IPv6("eth0"))
			w.must(local.Addr("eth0", lab.RIP(2)+"/24", lab.RIP6(2)+"/64"))
			w.ways(local, lab.GatewayIP, lab.GatewayIP6)
			services := w.both()
			for i, f := range families {
				services[i].reals = append(services[i].reals, realserver{address: f.rip(2), weight: 1})
			}
			w.start(w.config("legs: [{interface: eth0}, {interface: "+leg+"}]", services...))
			for _, f := range families {
				w.speak(f)
				if got := w.pages(8, 2); got["web1"] != 4 || got["local"] != 4 {
					t.Errorf("%s: rr spread 8 connections as %v", f.name, got)
				}
			}
		})
	}
}

// A realserver that is the director itself is refused wherever it may come from, with the reason.
func TestLocalRealserverIsRefused(t *testing.T) {
	eachFamily(t, 1, localRealserverIsRefused, "two-arm")
}

func localRealserverIsRefused(t *testing.T, w *world) {
	dip := w.family.dip
	with := w.config("", w.http("rr", w.all()[0], realserver{address: dip, weight: 1}))
	says := []string{"is this host", "does not have the VIP", "network namespace", "shunt.yaml:"}
	_, err := w.Start(program, w.dir, with, w.socket, nil)
	if err == nil {
		t.Fatal("a director with itself as realserver has started")
	}
	w.start(w.config("", w.http("rr")))
	text := w.refused(with, w.services())
	for _, word := range says {
		if !strings.Contains(err.Error(), word) || !strings.Contains(text, word) {
			t.Errorf("%q is not said at the start:\n%v\nor not by a reload:\n%s", word, err, text)
		}
	}
	cmd := exec.Command(program, "ipvsadm", "-a", "-t", w.family.at(w.family.vip, "80"), "-r", w.family.at(dip, "80"), "-g")
	cmd.Env = append(os.Environ(), "SHUNT_SOCKET="+w.socket)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("ipvsadm -a took it: %q", out)
	}
	if first, second, _ := strings.Cut(string(out), "\n"); !strings.HasPrefix(first, "Invalid operation.  Possibly wrong") || !strings.Contains(second, "is this host") {
		t.Errorf("ipvsadm -a says %q", out)
	}
	w.logged("level=WARN", "change by the control socket rejected", dip+" is this host") // ipvsadm has the kernel's words only
	// Nor can it be a VIP, unless that is forced.
	if out := w.shunt(255, "ipvsadm", "-A", "-t", w.family.at(dip, "81")); !strings.Contains(out, "the VIP "+dip+" is an address of this host") {
		t.Errorf("ipvsadm -A of the director's address says %q", out)
	}
	client := api.NewClient(w.socket)
	add := []api.Change{{Op: api.OpAddService, Service: &api.VirtualService{Protocol: "TCP", Address: netip.MustParseAddr(dip), Port: 81, Scheduler: "rr"}}}
	var refused *api.Error
	if err := client.Apply(w.ctx, add); !errors.As(err, &refused) || refused.Code != api.CodeOwnAddress {
		t.Errorf("the director's address as VIP: %v", err)
	}
	add[0].Force = true
	w.must(client.Apply(w.ctx, add))
	add[0].Op = api.OpDeleteService
	w.must(client.Apply(w.ctx, add))
	w.pages(2, 1)
}
