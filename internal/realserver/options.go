package realserver

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// stateBefore is where the previous values were noted before each network namespace had a file of
// its own.
const stateBefore = "/run/shunt-realserver.json"

// DefaultState returns the path of the file with the previous values of this network namespace.
// Namespaces of one host share /run, so the name has the namespace's inode (namespaces(7)). The
// file is not in /run/shunt, because systemd removes this directory when a director on the same
// host stops.
func DefaultState() string {
	ns, err := namespace("thread-self")
	if err != nil {
		return stateBefore
	}
	path := fmt.Sprintf("/run/shunt-realserver-%d.json", ns)
	if _, err := os.Stat(path); err != nil && !foreignNamespace() {
		if _, err := os.Stat(stateBefore); err == nil {
			return stateBefore // of an earlier version
		}
	}
	return path
}

// namespace is the inode of the network namespace of a process.
func namespace(process string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat("/proc/"+process+"/ns/net", &st)
	return st.Ino, err
}

// foreignNamespace reports whether this network namespace is another one than that in which the
// host started.
func foreignNamespace() bool {
	own, err1 := namespace("thread-self")
	init, err2 := namespace("1")
	return err1 == nil && err2 == nil && own != init
}

// Options describe the realserver to configure.
type Options struct {
	VIPs     []netip.Addr
	Gateways []netip.Addr // at most one of each family; without one the default route of the family is not touched
	// Interfaces receive the director's frames; empty selects all interfaces that can: see
	// mayReceive.
	Interfaces []string
	State      string // file of the previous values; "" : DefaultState()
	// Persist is the method that makes the settings permanent, one of Methods; "" is none.
	Persist string
	Root    string // where the files of Persist are, for images; "" : this host
	Out     io.Writer

	arp     []string              // interfaces on which somebody may ask for the VIPs
	towards map[netip.Addr]string // interface by which a gateway is reached
}

// Parse parses the addresses of the command line.
func (o *Options) Parse(vips, gateways []string) error {
	var err error
	if o.VIPs, err = addresses("--vip", vips); err != nil {
		return err
	}
	if o.Gateways, err = addresses("--gateway", gateways); err != nil {
		return err
	}
	if len(o.VIPs) == 0 {
		return errors.New("--vip: name at least one VIP")
	}
	for i, g := range o.Gateways {
		for _, other := range o.Gateways[:i] {
			if other.Is4() == g.Is4() {
				return fmt.Errorf("--gateway: %s and %s have the same address family: each family has one default route", other, g)
			}
		}
		for _, v := range o.VIPs {
			if v == g {
				return fmt.Errorf("%s is both --vip and --gateway", g)
			}
		}
	}
	if o.State == "" {
		o.State = DefaultState()
	}
	switch {
	case o.Persist != "" && !slices.Contains(Methods, o.Persist):
		return fmt.Errorf("--persist=%s: write %s", o.Persist, strings.Join(Methods, ", "))
	case o.Root != "" && o.Persist == "":
		return errors.New("--root is only for the files of --persist: add --persist")
	}
	return nil
}

func addresses(flag string, texts []string) (out []netip.Addr, err error) {
	seen := map[netip.Addr]bool{}
	for _, s := range texts {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s %q: write an IP address, such as 192.168.10.100 or 2001:db8::100", flag, s)
		case a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6():
			return nil, fmt.Errorf("%s %s: not the address of a host", flag, s)
		}
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out, nil
}

// has4 and has6 tell which families the VIPs are of.
func (o *Options) has4() bool { return o.has(netip.Addr.Is4) }
func (o *Options) has6() bool { return o.has(netip.Addr.Is6) }

func (o *Options) has(family func(netip.Addr) bool) bool {
	for _, v := range o.VIPs {
		if family(v) {
			return true
		}
	}
	return false
}

// findInterfaces finds which interface has which role. Requests come by those that were named, or
// else may come by any that can receive; the questions for the VIPs may come by any; answers leave
// by the one towards the gateway.
func (o *Options) findInterfaces() error {
	for _, name := range o.Interfaces {
		if _, err := netlink.LinkByName(name); err != nil {
			return fmt.Errorf("--interface %s: %w", name, err)
		}
	}
	links, err := whole(netlink.LinkList)
	if err != nil {
		return err
	}
	o.arp = slices.Clone(o.Interfaces)
	for _, l := range links {
		if name := l.Attrs().Name; !slices.Contains(o.arp, name) && mayReceive(l) {
			o.arp = append(o.arp, name)
		}
	}
	if len(o.Interfaces) == 0 {
		o.Interfaces = slices.Clone(o.arp)
	}
	if len(o.Interfaces) == 0 {
		return errors.New("no interface of this host is up and has an address: name the interface that receives the director's frames by --interface")
	}
	o.towards = map[netip.Addr]string{}
	for _, g := range o.Gateways {
		if o.towards[g], err = o.interfaceTo(g); err != nil {
			return err
		}
	}
	return nil
}

// mayReceive reports whether frames of a director may come by an interface: it is up, speaks ARP
// and has an address of a network.
func mayReceive(l netlink.Link) bool {
	attrs := l.Attrs()
	if attrs.Name == loopback || attrs.RawFlags&unix.IFF_UP == 0 || attrs.RawFlags&unix.IFF_NOARP != 0 || len(attrs.HardwareAddr) != 6 || l.Type() == "dummy" {
		return false
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
	return err == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.Scope == unix.RT_SCOPE_UNIVERSE })
}

// interfaceTo is that by which a gateway is reached, which must be a neighbour.
func (o *Options) interfaceTo(g netip.Addr) (string, error) {
	if g.IsLinkLocalUnicast() {
		if len(o.Interfaces) != 1 {
			return "", fmt.Errorf("--gateway %s is a link-local address: name the interface by --interface", g)
		}
		return o.Interfaces[0], nil
	}
	routes, err := netlink.RouteGet(g.AsSlice())
	if err != nil || len(routes) == 0 {
		return "", fmt.Errorf("--gateway %s is on no network of this host (%v): first give an interface an address in its network", g, err)
	}
	if routes[0].Gw != nil {
		return "", fmt.Errorf("--gateway %s is reachable only through %s: the gateway must be on a network of this host", g, routes[0].Gw)
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", err
	}
	if link.Attrs().Name == loopback {
		return "", fmt.Errorf("--gateway %s is an address of this host", g)
	}
	return link.Attrs().Name, nil
}
