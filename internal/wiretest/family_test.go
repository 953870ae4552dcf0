package wiretest

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shunt/internal/lab"
)

// A family is what differs between IPv4 and IPv6 in a test that is about both.
type family struct {
	name     string
	vip      string
	client   string
	router   string // its public side, with two arms
	rip      func(i int) string
	tcp, udp string // networks of package net
	head     int    // length of the IP header
	gateway  string // of the realservers
	network  string // length of the prefix of a network, and
	alone    string // of one address
	nowhere  string // a network that nobody is in
	wrong    string // no address of a realserver, but like one
	far      string // an address in no network of the laboratory
	dip      string // of the director
	half     string // length of the prefix of half a network
	private  string // pattern of the addresses of a private network and a host in it: see in

	forwarding string // the kernel setting by which a host routes
	ttl        int    // where it is in the IP header
}

var (
	ipv4Family = family{"IPv4", lab.VIP, lab.ClientIP, lab.RouterIP, lab.RIP, "tcp4", "udp4", 20, lab.GatewayIP, "/24", "/32", "192.0.2.0/24", "10.10.0.300", "172.31.0.1", lab.DIP, "/25", "10.%d.0.%d", "net.ipv4.ip_forward", 8}
	ipv6Family = family{"IPv6", lab.VIP6, lab.ClientIP6, lab.RouterIP6, lab.RIP6, "tcp6", "udp6", 40, lab.GatewayIP6, "/64", "/128", "2001:db8:ffff::/64", "fd00:10::12345", "fd00:77::1", lab.DIP6, "/65", "fd00:%d::%d", "net.ipv6.conf.all.forwarding", 7}

	families = []family{ipv4Family, ipv6Family}
)

// number is the family's in socket calls.
func (f family) number() int {
	if f.name == ipv6Family.name {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// in is the address of a host in a private network; that of the realservers is 10.
func (f family) in(network, host int) string { return fmt.Sprintf(f.private, network, host) }

// at is an address of the family with a port.
func (f family) at(addr, port string) string { return net.JoinHostPort(addr, port) }

// buildFor is build, with IPv6 beside IPv4 if the family is that, and with the world's browser and
// page of the family.
func buildFor(t *testing.T, f family, topology string, webs int) *world {
	t.Helper()
	w := build(t, topology, webs)
	w.speak(f)
	return w
}

// speak makes the world one of the family, before anything runs.
func (w *world) speak(f family) {
	w.t.Helper()
	w.family = f
	if f.name == ipv6Family.name && !w.V6 {
		w.must(w.EnableIPv6())
	}
	w.url = "http://" + f.at(f.vip, "80") + "/"
	w.browser = w.browse(f.client)
}

// cable connects an interface of the director anew, with its addresses of the families that the
// world speaks: see lab.Network.
func (w *world) cable(ifname, mac string, addrs ...string) {
	w.t.Helper()
	if !w.V6 {
		addrs = slices.DeleteFunc(slices.Clone(addrs), func(a string) bool { return strings.Contains(a, ":") })
	}
	w.must(w.Cable(w.Director, ifname, mac, ifname, addrs...))
}

// eachFamily runs a test for both families in the topologies named, in all without names.
func eachFamily(t *testing.T, webs int, test func(t *testing.T, w *world), topologies ...string) {
	if len(topologies) == 0 {
		topologies = lab.Topologies
	}
	for _, topology := range topologies {
		for _, f := range families {
			t.Run(topology+"/"+f.name, func(t *testing.T) { test(t, buildFor(t, f, topology, webs)) })
		}
	}
}
