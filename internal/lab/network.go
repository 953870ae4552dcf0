package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"shunt/internal/netlab"
)

// Addresses of the laboratory.
const (
	VIP        = "192.168.10.100"
	ClientIP   = "192.168.10.1"
	GatewayIP  = "10.10.0.1"
	DIP        = "10.10.0.2"
	PublicDIP  = "192.168.10.2"   // of the director's public leg, with two arms
	RouterIP   = "192.168.10.254" // of the router's public side, with two arms
	clientMAC  = "02:00:00:00:00:10"
	privateMAC = "02:00:00:00:00:03"

	// DirectorMAC is that of the leg which has the VIP.
	DirectorMAC = "02:00:00:00:00:02"
)

// Addresses of the laboratory in IPv6.
const (
	VIP6       = "2001:db8:10::100"
	ClientIP6  = "2001:db8:10::1"
	RouterIP6  = "2001:db8:10::fe"
	GatewayIP6 = "fd00:10::1"
	DIP6       = "fd00:10::2"
)

// RIP6 returns the IPv6 address of realserver i, counted from 1.
func RIP6(i int) string { return fmt.Sprintf("fd00:10::%d", 10+i) }

// Topologies lists the topologies of Build.
var Topologies = []string{"one-arm", "two-arm"}

// RIP returns the IPv4 address of realserver i, counted from 1.
func RIP(i int) string { return fmt.Sprintf("10.10.0.%d", 10+i) }

// MAC returns the MAC of realserver i, counted from 1.
func MAC(i int) string { return fmt.Sprintf("02:00:00:00:01:%02x", i) }

// A Network is the set of hosts of a lab, before anything runs on them.
type Network struct {
	*netlab.Net
	Topology string
	Client   *netlab.Host
	Director *netlab.Host
	Webs     []*netlab.Host
	Hosts    map[string]*netlab.Host // all but the switches, by name
	V6       bool                    // EnableIPv6 was called

	ports []port
}

// port is where a cable meets a switch.
type port struct {
	sw   *netlab.Host
	name string
	file string // of its capture, without .pcap
}

// Build creates a network with the given number of realservers.
func Build(topology string, realservers int) (*Network, error) {
	n := &Network{Net: netlab.New(), Topology: topology, Hosts: map[string]*netlab.Host{}}
	var err error
	switch topology {
	case "one-arm":
		err = n.oneArm(realservers)
	case "two-arm":
		err = n.twoArm(realservers)
	default:
		err = fmt.Errorf("unknown topology %q: the topologies are %s", topology, strings.Join(Topologies, " and "))
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// steps runs them until one fails.
func steps(fs ...func() error) error {
	for _, f := range fs {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// host adds a host; its errors end Build.
func (n *Network) host(name string, h **netlab.Host) func() error {
	return func() (err error) {
		*h, err = n.Host(name)
		n.Hosts[name] = *h
		return err
	}
}

func (n *Network) swtch(name string, h **netlab.Host) func() error {
	return func() (err error) { *h, err = n.Switch(name); return err }
}

// cable connects a host to a switch and gives it addresses.
func (n *Network) cable(h **netlab.Host, ifname, mac string, sw **netlab.Host, file string, addrs ...string) func() error {
	return func() error {
		name := (*h).Name
		if ifname != "eth0" {
			name += "-" + ifname
		}
		if err := (*h).Cable(ifname, mac, *sw, name); err != nil {
			return err
		}
		n.ports = append(n.ports, port{*sw, name, file})
		return (*h).Addr(ifname, addrs...)
	}
}

// Switches lists the switches.
func (n *Network) Switches() (out []*netlab.Host) {
	for _, p := range n.ports {
		if !slices.Contains(out, p.sw) {
			out = append(out, p.sw)
		}
	}
	return out
}

// Cable connects another interface of a host to the switch of the director's interface beside, even
// if that interface was deleted. So a deleted interface of the director can be created again. The
// interface has IPv6 if the network has.
func (n *Network) Cable(h *netlab.Host, ifname, mac, beside string, addrs ...string) error {
	name := n.Director.Name
	if beside != "eth0" {
		name += "-" + beside
	}
	for _, p := range n.ports {
		if p.name != name {
			continue
		}
		end := h.Name
		if ifname != "eth0" {
			end += "-" + ifname
		}
		if err := h.Cable(ifname, mac, p.sw, end); err != nil {
			return err
		}
		if n.V6 {
			if err := h.IPv6(ifname); err != nil {
				return err
			}
		}
		return h.Addr(ifname, addrs...)
	}
	return fmt.Errorf("the director has no interface %s", beside)
}

// oneArm is one switch with everybody on it. The client is also the gateway of the realservers.
func (n *Network) oneArm(realservers int) error {
	var sw *netlab.Host
	err := steps(
		n.swtch("switch", &sw),
		n.host("client", &n.Client),
		n.cable(&n.Client, "eth0", clientMAC, &sw, "client", ClientIP+"/24", GatewayIP+"/24"),
		func() error { return n.Client.Sysctl("net.ipv4.ip_forward", "1") },
		// It routes between two networks of one wire: nobody is to be told of a shorter way.
		func() error { return n.Client.Sysctl("net.ipv4.conf.all.send_redirects", "0") },
		func() error { return n.Client.Sysctl("net.ipv4.conf.eth0.send_redirects", "0") },
		n.host("director", &n.Director),
		n.cable(&n.Director, "eth0", DirectorMAC, &sw, "director", DIP+"/24"),
	)
	if err != nil {
		return err
	}
	return n.webs(realservers, &sw)
}

// twoArm has a public and a private switch, a director with a leg in each, and a router that is the
// realservers' way back.
func (n *Network) twoArm(realservers int) error {
	var public, private, router *netlab.Host
	err := steps(
		n.swtch("public", &public),
		n.swtch("private", &private),
		n.host("client", &n.Client),
		n.cable(&n.Client, "eth0", clientMAC, &public, "client", ClientIP+"/24"),
		n.host("router", &router),
		n.cable(&router, "eth0", "02:00:00:00:00:20", &public, "router-public", RouterIP+"/24"),
		n.cable(&router, "eth1", "02:00:00:00:00:21", &private, "router-private", GatewayIP+"/24"),
		func() error { return router.Sysctl("net.ipv4.ip_forward", "1") },
		n.host("director", &n.Director),
		n.cable(&n.Director, "eth0", DirectorMAC, &public, "director-public", PublicDIP+"/24"),
		n.cable(&n.Director, "eth1", privateMAC, &private, "director-private", DIP+"/24"),
	)
	if err != nil {
		return err
	}
	// The router takes what comes from the VIP by the private side: it is not to check the way
	// back.
	for _, key := range []string{"all", "eth0", "eth1"} {
		if err := router.Sysctl("net.ipv4.conf."+key+".rp_filter", "0"); err != nil {
			return err
		}
	}
	return n.webs(realservers, &private)
}

// EnableIPv6 adds IPv6 addresses to all hosts. Call it once, before anything runs.
func (n *Network) EnableIPv6() error {
	add := func(h *netlab.Host, ifname string, addrs ...string) error {
		return steps(
			func() error { return h.IPv6(ifname) },
			func() error { return h.Addr(ifname, addrs...) },
		)
	}
	var err error
	if n.Topology == "one-arm" {
		err = steps(
			func() error { return add(n.Client, "eth0", ClientIP6+"/64", GatewayIP6+"/64") },
			func() error { return n.Client.Sysctl("net.ipv6.conf.all.forwarding", "1") },
			func() error { return add(n.Director, "eth0", DIP6+"/64") },
		)
	} else {
		router := n.Hosts["router"]
		err = steps(
			func() error { return add(n.Client, "eth0", ClientIP6+"/64") },
			func() error { return add(router, "eth0", RouterIP6+"/64") },
			func() error { return add(router, "eth1", GatewayIP6+"/64") },
			func() error { return router.Sysctl("net.ipv6.conf.all.forwarding", "1") },
			func() error { return n.Director.IPv6("eth0") },
			func() error { return add(n.Director, "eth1", DIP6+"/64") },
		)
	}
	if err != nil {
		return err
	}
	for i, w := range n.Webs {
		err := steps(
			func() error { return add(w, "eth0", RIP6(i+1)+"/64") },
			func() error { return add(w, "lo", VIP6+"/128") },
			func() error { return w.DefaultRoute(GatewayIP6) },
		)
		if err != nil {
			return err
		}
	}
	n.V6 = true
	return nil
}

func (n *Network) webs(realservers int, sw **netlab.Host) error {
	for i := 1; i <= realservers; i++ {
		var w *netlab.Host
		name := fmt.Sprintf("web%d", i)
		err := steps(
			n.host(name, &w),
			n.cable(&w, "eth0", MAC(i), sw, name, RIP(i)+"/24"),
			func() error { return w.Realserver(VIP) },
			func() error { return w.DefaultRoute(GatewayIP) },
		)
		if err != nil {
			return err
		}
		n.Webs = append(n.Webs, w)
	}
	return nil
}

// SetMTU sets the MTU of all interfaces, on both ends of each cable.
func (n *Network) SetMTU(mtu int) error {
	for _, p := range n.ports {
		if err := p.sw.SetMTU(p.name, mtu); err != nil {
			return err
		}
	}
	for _, h := range n.Hosts {
		links, err := h.Netlink().LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Type() != "veth" {
				continue
			}
			if err := h.SetMTU(l.Attrs().Name, mtu); err != nil {
				return err
			}
		}
	}
	return nil
}

// Capture records all ports, into files in dir unless dir is empty. The captures end with the
// network.
func (n *Network) Capture(dir string) (map[string]*netlab.Capture, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	out := map[string]*netlab.Capture{}
	for _, p := range n.ports {
		path := ""
		if dir != "" {
			path = filepath.Join(dir, p.file+".pcap")
		}
		c, err := p.sw.Capture(p.name, path)
		if err != nil {
			return nil, err
		}
		out[p.file] = c
	}
	return out, nil
}

// Config returns a configuration of the director. It has a service for each of services, such as
// tcp/80, and each address family of the hosts, with all realservers. more are further top-level
// keys. socket is the control socket.
func (n *Network) Config(scheduler, socket, more string, services ...string) string {
	var b strings.Builder
	b.WriteString("legs:\n")
	b.WriteString("  - interface: eth0\n")
	if n.Topology == "two-arm" {
		b.WriteString("  - interface: eth1\n")
	}
	fmt.Fprintf(&b, "control: {socket: %s}\n", socket)
	b.WriteString(more)
	b.WriteString("services:\n")
	for i, s := range services {
		proto, port, _ := strings.Cut(s, "/")
		write := func(name, vip string, rip func(int) string) {
			fmt.Fprintf(&b, "  - {name: %s%d, address: %q, protocol: %s, port: %s, scheduler: %s, realservers: [", name, i+1, vip, proto, port, scheduler)
			for j := range n.Webs {
				if j > 0 {
					b.WriteString(", ")
				}
				fmt.Fprintf(&b, "{address: %q}", rip(j+1))
			}
			b.WriteString("]}\n")
		}
		write("service", VIP, RIP)
		if n.V6 {
			write("service6-", VIP6, RIP6)
		}
	}
	return b.String()
}
