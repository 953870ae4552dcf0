package realserver

import (
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// DefaultState is where the previous values are noted. It is not in /run/shunt, which systemd removes when a director on
// the same host ends.
const DefaultState = "/run/shunt-realserver.json"

// Options say what kind of realserver the host is to be.
type Options struct {
	VIPs      []netip.Addr
	Gateways  []netip.Addr // at most one of each family; without one the default route of the family is not touched
	Interface string       // by which the director's frames come; "" : the one towards the gateway
	State     string       // file of the previous values; "" : DefaultState
	Out       io.Writer
}

// Parse reads the addresses as they are written on the command line.
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
				return fmt.Errorf("--gateway: %s and %s are of one family: there is one default route of each", other, g)
			}
		}
		for _, v := range o.VIPs {
			if v == g {
				return fmt.Errorf("%s is both --vip and --gateway", g)
			}
		}
	}
	if o.State == "" {
		o.State = DefaultState
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
			return nil, fmt.Errorf("%s %s: this is no address of a host in a network", flag, s)
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

// findInterface fills in the interface if it is not given: the one towards a gateway, else that of the default route.
func (o *Options) findInterface() error {
	if o.Interface != "" {
		if _, err := netlink.LinkByName(o.Interface); err != nil {
			return fmt.Errorf("--interface %s: %w", o.Interface, err)
		}
		return nil
	}
	if len(o.Gateways) > 0 {
		g := o.Gateways[0]
		routes, err := netlink.RouteGet(g.AsSlice())
		if err != nil || len(routes) == 0 {
			return fmt.Errorf("--gateway %s is in no network of this host (%v): give an interface an address in its network first", g, err)
		}
		if routes[0].Gw != nil {
			return fmt.Errorf("--gateway %s is in no network of this host, only behind %s: the gateway must be a neighbour", g, routes[0].Gw)
		}
		link, err := netlink.LinkByIndex(routes[0].LinkIndex)
		if err != nil {
			return err
		}
		if link.Attrs().Name == loopback {
			return fmt.Errorf("--gateway %s is an address of this host", g)
		}
		o.Interface = link.Attrs().Name
		return nil
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if r, err := defaultRoute(family); err == nil && r != nil && r.Interface != "" {
			o.Interface = r.Interface
			return nil
		}
	}
	return errors.New("which interface do the director's frames come by? Name it by --interface, or a --gateway")
}
