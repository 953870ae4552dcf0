package realserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A gatewayRoute is a default route as the file of previous values has it.
type gatewayRoute struct {
	Gateway   string `json:"gateway,omitempty"`
	Interface string `json:"interface"`
	Metric    int    `json:"metric"`
	Source    string `json:"source,omitempty"`
	Protocol  int    `json:"protocol,omitempty"`
	OnLink    bool   `json:"onlink,omitempty"`
}

func (r *gatewayRoute) String() string {
	s := "on " + r.Interface
	if r.Gateway != "" {
		s = "by " + r.Gateway + " " + s
	}
	if r.Metric != 0 {
		s += fmt.Sprintf(" with metric %d", r.Metric)
	}
	return s
}

// route is the default route by the private gateway.
type route struct {
	gateway netip.Addr
	iface   string
}

func (r *route) family() int {
	if r.gateway.Is6() {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// metric is the best there is: 0; for IPv6 the kernel makes 1024 of it, and the best is 1.
func (r *route) metric() int {
	if r.gateway.Is6() {
		return 1
	}
	return 0
}

// defaultRoutes lists those of the main table.
func defaultRoutes(family int) ([]gatewayRoute, error) {
	list, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, err
	}
	var out []gatewayRoute
	for _, x := range list {
		if ones := 0; x.Dst != nil {
			if ones, _ = x.Dst.Mask.Size(); ones != 0 {
				continue
			}
		}
		g := gatewayRoute{Metric: x.Priority, Protocol: int(x.Protocol), OnLink: x.Flags&int(netlink.FLAG_ONLINK) != 0}
		if x.Gw != nil {
			g.Gateway = x.Gw.String()
		}
		if x.Src != nil {
			g.Source = x.Src.String()
		}
		if l, err := netlink.LinkByIndex(x.LinkIndex); err == nil {
			g.Interface = l.Attrs().Name
		}
		out = append(out, g)
	}
	return out, nil
}

// defaultRoute is the best one; nil if there is none.
func defaultRoute(family int) (*gatewayRoute, error) {
	all, err := defaultRoutes(family)
	var best *gatewayRoute
	for i := range all {
		if best == nil || all[i].Metric < best.Metric {
			best = &all[i]
		}
	}
	return best, err
}

func (r *route) look() (state, error) {
	best, err := defaultRoute(r.family())
	if err != nil {
		return state{}, err
	}
	family := "IPv4"
	if r.gateway.Is6() {
		family = "IPv6"
	}
	st := state{want: fmt.Sprintf("default route by %s on %s", r.gateway, r.iface), why: "replies take another path, or none"}
	switch {
	case best == nil:
		st.what = "there is no default route of " + family
	case best.Gateway == r.gateway.String() && (r.iface == "" || best.Interface == r.iface):
		return state{ok: true, what: "the default route of " + family + " is " + best.String()}, nil
	default:
		st.what = "the default route of " + family + " is " + best.String()
	}
	return st, nil
}

func (r *route) set() (change, error) {
	c := change{Kind: kindRoute, Key: "default", Route: &gatewayRoute{Gateway: r.gateway.String(), Interface: r.iface, Metric: r.metric()}}
	all, err := defaultRoutes(r.family())
	if err != nil {
		return c, err
	}
	for i := range all {
		if all[i].Metric == r.metric() { // this one is replaced; others stay behind it
			c.RouteWas = &all[i]
		}
	}
	return c, replaceRoute(c.Route)
}

// replaceRoute puts a default route in the place of one of the same metric.
func replaceRoute(g *gatewayRoute) error {
	x, err := g.netlink()
	if err != nil {
		return err
	}
	err = netlink.RouteReplace(x)
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return fmt.Errorf("default route %s: %w: the gateway is on no network of %s", g, err, g.Interface)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("default route %s: %w: root is needed, or CAP_NET_ADMIN over this network namespace", g, err)
	case err != nil:
		return fmt.Errorf("default route %s: %w", g, err)
	}
	return nil
}

// removeRoute deletes a default route; it is no error if it is gone already.
func removeRoute(g *gatewayRoute) error {
	x, err := g.netlink()
	if err != nil {
		return err
	}
	if err := netlink.RouteDel(x); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("default route %s: %w", g, err)
	}
	return nil
}

func (g *gatewayRoute) netlink() (*netlink.Route, error) {
	l, err := netlink.LinkByName(g.Interface)
	if err != nil {
		return nil, fmt.Errorf("default route %s: %w", g, err)
	}
	x := &netlink.Route{LinkIndex: l.Attrs().Index, Priority: g.Metric, Table: unix.RT_TABLE_MAIN, Src: net.ParseIP(g.Source), Protocol: netlink.RouteProtocol(g.Protocol)}
	if g.OnLink {
		x.Flags = int(netlink.FLAG_ONLINK)
	}
	x.Dst = &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if gw, err := netip.ParseAddr(g.Gateway); err == nil {
		x.Gw = gw.AsSlice()
		if gw.Is6() {
			x.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
	}
	return x, nil
}

func (r *route) command() string {
	dev := ""
	if r.iface != "" {
		dev = " dev " + r.iface
	}
	if r.gateway.Is6() {
		return fmt.Sprintf("ip -6 route replace default via %s%s metric 1", r.gateway, dev)
	}
	return fmt.Sprintf("ip route replace default via %s%s", r.gateway, dev)
}
