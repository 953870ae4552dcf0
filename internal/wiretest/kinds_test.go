package wiretest

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"shunt/internal/lab"
	"shunt/internal/netlab"
)

// A leg may be any kind of Ethernet interface; all other tests have veth. (This kernel has no bonds.) It is guarded, it
// forwards large frames, and it is followed: deleted and made anew like the others.
func TestKindsOfLegs(t *testing.T) {
	const own = "02:00:00:00:00:d0"
	for _, kind := range []struct {
		name string
		make func(w *world) error
	}{
		{"br0", func(w *world) error { return w.Director.Bridge("br0", own, "eth0") }},
		{"mv0", func(w *world) error { return w.Director.Macvlan("eth0", "mv0", own, nil, "10.10.0.3/24") }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			w := build(t, "one-arm", 2)
			w.serveTalks()
			w.must(kind.make(w))
			w.start(w.config("legs: [{interface: "+kind.name+"}]\narp: {announce: 0}", on("tcp", 7, w.all()), w.http("rr")))
			talks := []*talk{w.talk(), w.talk()}
			if got := w.believes(w.Client, lab.VIP); got != own {
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
			w.logged("the interface was deleted", kind.name)
			if kind.name == "br0" { // its addresses went with it
				w.must(w.Director.Addr("eth0", lab.DIP+"/24"))
			}
			w.must(kind.make(w))
			w.logged("the interface is there again", kind.name)
			for _, k := range talks {
				w.must(k.say("again"))
			}
			w.pages(4, 1)
		})
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

// Two public legs with a VIP each, two private ones, and realservers behind both of these and behind the leg that the clients
// are at: all serve both VIPs.
func TestSeveralPublicAndPrivateLegs(t *testing.T) {
	const vip2 = "192.168.20.100"
	w := build(t, "two-arm", 2)
	for _, h := range w.Webs {
		w.must(h.Addr("lo", vip2+"/32"))
	}
	router := w.Hosts["router"]
	public2, err := w.Switch("public2")
	w.must(err)
	private2, err := w.Switch("private2")
	w.must(err)
	w.must(w.Client.Cable("eth1", "02:00:00:00:00:11", public2, "client"))
	w.must(w.Client.Addr("eth1", "192.168.20.1/24"))
	w.must(w.Director.Cable("eth2", "02:00:00:00:00:04", public2, "director"))
	w.must(w.Director.Addr("eth2", "192.168.20.2/24"))
	w.must(w.Director.Cable("eth3", "02:00:00:00:00:05", private2, "director"))
	w.must(w.Director.Addr("eth3", "10.30.0.2/24"))
	w.must(router.Cable("eth2", "02:00:00:00:00:22", private2, "router"))
	w.must(router.Addr("eth2", "10.30.0.1/24"))
	w.must(router.Sysctl("net.ipv4.conf.eth2.rp_filter", "0"))
	for _, key := range []string{"all", "eth0", "eth1"} { // answers about the second VIP come by the first network
		w.must(w.Client.Sysctl("net.ipv4.conf."+key+".rp_filter", "0"))
	}
	_, second, err := net.ParseCIDR("192.168.20.0/24")
	w.must(err)
	w.must(router.Netlink().RouteAdd(&netlink.Route{Dst: second, Gw: net.ParseIP(lab.ClientIP)}))

	web3 := w.addRealserver("web3", lab.VIP, vip2)
	w.must(web3.Cable("eth0", "02:00:00:00:01:03", private2, "web3"))
	w.must(web3.Addr("eth0", "10.30.0.13/24"))
	w.must(web3.DefaultRoute("10.30.0.1"))
	web4 := w.addRealserver("web4", lab.VIP, vip2)
	w.must(w.Cable(web4, "eth0", "02:00:00:00:01:04", "eth0", "192.168.10.14/24"))
	w.must(web4.DefaultRoute(lab.ClientIP))

	reals := append(w.all(), realserver{address: "10.30.0.13", weight: 1}, realserver{address: "192.168.10.14", weight: 1})
	both := []service{w.http("rr", reals...), w.http("rr", reals...)}
	both[1].vip = vip2
	w.start(w.config(`legs:
  - {name: public, interface: eth0}
  - {name: private, interface: eth1}
  - {name: public2, interface: eth2, public: true}
  - {name: private2, interface: eth3}
arp: {watch: 1s}`, both...))
	for _, vip := range []string{lab.VIP, vip2} {
		w.url = "http://" + vip + "/"
		if vip == vip2 {
			w.browser = w.browse("192.168.20.1")
		}
		got := w.pages(16, 3)
		for _, name := range []string{"web1", "web2", "web3", "web4"} {
			if got[name] != 4 {
				t.Errorf("rr spread 16 connections to %s as %v", vip, got)
				break
			}
		}
	}
	c := w.status().Counters
	for _, leg := range []string{"public", "private", "public2", "private2"} {
		if c["arp."+leg+".conflicts"] != 0 {
			t.Errorf("%d conflicts on %s", c["arp."+leg+".conflicts"], leg)
		}
		if leg != "public2" && c["leg."+leg+".sent"] == 0 {
			t.Errorf("nothing was sent by %s", leg)
		}
		if strings.HasPrefix(leg, "public") && c["leg."+leg+".received"] == 0 {
			t.Errorf("nothing came by %s", leg)
		}
	}
}

// Two legs in one layer-2 network are no conflict, though each hears what the other says of the VIP.
func TestTwoLegsInOneNetwork(t *testing.T) {
	w := build(t, "one-arm", 2)
	w.must(w.Cable(w.Director, "eth1", privateMAC, "eth0", "10.10.0.3/32"))
	w.start(w.config("legs: [{interface: eth0, networks: [192.168.10.0/24]}, {interface: eth1, networks: [10.10.0.0/24]}]\n"+
		"source_mac: own\narp: {watch: 1s}", w.http("rr")))
	if got := w.pages(4, 1); got["web1"] != 2 || got["web2"] != 2 {
		t.Errorf("rr spread 4 connections as %v", got)
	}
	w.eventually("the private leg is asked, more than once", func() bool { return w.status().Counters["arp.eth1.probed"] >= 3 })
	if c := w.status().Counters; c["arp.eth0.conflicts"] != 0 || c["arp.eth1.conflicts"] != 0 {
		t.Errorf("%d and %d conflicts", c["arp.eth0.conflicts"], c["arp.eth1.conflicts"])
	}
}

// The director's host runs a realserver too, in a namespace with an address and a MAC of its own: behind a bridge that is the
// leg, or on a macvlan beside the macvlan that is the leg. It needs nothing that another realserver does not.
func TestRealserverOnDirectorsHost(t *testing.T) {
	for _, how := range []string{"bridge", "macvlan"} {
		t.Run(how, func(t *testing.T) {
			w := build(t, "two-arm", 1)
			local := w.addRealserver("local", lab.VIP)
			leg := "br0"
			if how == "bridge" {
				w.must(w.Director.Bridge("br0", "02:00:00:00:00:d0", "eth1"))
				w.must(local.Cable("eth0", lab.MAC(2), w.Director, "local"))
			} else {
				leg = "mv0"
				w.must(w.Director.Macvlan("eth1", "mv0", "02:00:00:00:00:d0", nil, "10.10.0.3/24"))
				w.must(w.Director.Macvlan("eth1", "eth0", lab.MAC(2), local))
			}
			w.must(local.Addr("eth0", lab.RIP(2)+"/24"))
			w.must(local.DefaultRoute(lab.GatewayIP))
			w.start(w.config("legs: [{interface: eth0}, {interface: "+leg+"}]", w.http("rr", w.all()[0], realserver{address: lab.RIP(2), weight: 1})))
			if got := w.pages(8, 2); got["web1"] != 4 || got["local"] != 4 {
				t.Errorf("rr spread 8 connections as %v", got)
			}
		})
	}
}

// A realserver that is the director itself is refused wherever it may come from, with the reason.
func TestLocalRealserverIsRefused(t *testing.T) {
	w := build(t, "two-arm", 1)
	with := w.config("", w.http("rr", w.all()[0], realserver{address: lab.DIP, weight: 1}))
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
	cmd := exec.Command(program, "ipvsadm", "-a", "-t", lab.VIP+":80", "-r", lab.DIP, "-g")
	cmd.Env = append(os.Environ(), "SHUNT_SOCKET="+w.socket)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("ipvsadm -a took it: %q", out)
	}
	w.logged("level=WARN", "a change by the control socket is refused", lab.DIP+" is this host") // ipvsadm has the kernel's words only
	w.pages(2, 1)
}
