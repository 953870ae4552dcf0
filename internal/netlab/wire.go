package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bridgeName is what a switch's bridge is called.
const bridgeName = "br0"

// Switch adds a host that is a learning switch: a Linux bridge.
func (n *Net) Switch(name string) (*Host, error) {
	h, err := n.Host(name)
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	off := false
	br := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
	if err := h.nl.LinkAdd(br); err != nil {
		return nil, fmt.Errorf("switch %s: %w", name, err)
	}
	if err := h.nl.LinkSetUp(br); err != nil {
		return nil, fmt.Errorf("switch %s: %w", name, err)
	}
	return h, nil
}

// Cable connects interface name of host h, with the given MAC, to a switch. port is the name of the
// switch's end. Both ends have the default offloads of veth.
func (h *Host) Cable(name, mac string, sw *Host, port string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.HardwareAddr = hw
	attrs.Namespace = netlink.NsFd(h.ns)
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: port, PeerNamespace: netlink.NsFd(sw.ns)}
	if err := h.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("cable %s of %s to %s: %w", name, h.Name, sw.Name, err)
	}
	end, err := sw.nl.LinkByName(port)
	if err != nil {
		return err
	}
	if br, err := sw.nl.LinkByName(bridgeName); err == nil {
		if err := sw.nl.LinkSetMaster(end, br); err != nil {
			return fmt.Errorf("port %s of %s: %w", port, sw.Name, err)
		}
	}
	if err := sw.nl.LinkSetUp(end); err != nil {
		return err
	}
	return h.Up(name)
}

// Up sets an interface up.
func (h *Host) Up(name string) error {
	l, err := h.nl.LinkByName(name)
	if err != nil {
		return err
	}
	return h.nl.LinkSetUp(l)
}

// Down sets an interface down.
func (h *Host) Down(name string) error {
	l, err := h.nl.LinkByName(name)
	if err != nil {
		return err
	}
	return h.nl.LinkSetDown(l)
}

// SetMTU changes the MTU of an interface.
func (h *Host) SetMTU(name string, mtu int) error {
	l, err := h.nl.LinkByName(name)
	if err != nil {
		return err
	}
	return h.nl.LinkSetMTU(l, mtu)
}

// SetMAC changes the MAC of an interface.
func (h *Host) SetMAC(name, mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	l, err := h.nl.LinkByName(name)
	if err != nil {
		return err
	}
	return h.nl.LinkSetHardwareAddr(l, hw)
}

// patience is how long the kernel may take for what it does by itself, on a machine with more to do
// than it can.
const patience = 20 * time.Second

// IPv6 enables IPv6 addresses on an interface, without duplicate address detection. If the
// interface is up, it has its link-local address when IPv6 returns; neighbour discovery needs it.
func (h *Host) IPv6(name string) error {
	for _, kv := range [][2]string{{"accept_dad", "0"}, {"accept_ra", "0"}, {"router_solicitations", "0"}, {"disable_ipv6", "0"}} {
		if err := h.Sysctl("net.ipv6.conf."+name+"."+kv[0], kv[1]); err != nil {
			return err
		}
	}
	l, err := h.nl.LinkByName(name)
	if err != nil {
		return err
	}
	if l.Attrs().Flags&net.FlagUp == 0 || l.Attrs().Flags&net.FlagLoopback != 0 {
		return nil
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		addrs, err := h.nl.AddrList(l, netlink.FAMILY_V6)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // which it may be by what is waited for
			return err
		}
		at := slices.IndexFunc(addrs, func(a netlink.Addr) bool { return a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 })
		if at >= 0 {
			return h.awaitLocal(addrs[at].IP)
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s of %s has no link-local address after %s: is its other end down?", name, h.Name, patience)
		}
	}
}

// awaitLocal waits until an IPv6 address of the host is one for the way in too. The kernel enters
// it into the table of local addresses later, by a work queue (addrconf_dad_work in
// net/ipv6/addrconf.c), also without duplicate address detection: a socket can be bound to it
// before, but what comes for it is dropped (Ip6InAddrErrors).
func (h *Host) awaitLocal(ip net.IP) error {
	local := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Dst: &net.IPNet{IP: ip, Mask: net.CIDRMask(128, 128)}}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		found, err := h.nl.RouteListFiltered(netlink.FAMILY_V6, local, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_DST)
		if len(found) > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not take what is sent to its address %s, after %s", h.Name, ip, patience)
		}
	}
}

// Addr adds addresses such as 10.0.0.1/24 to an interface. If the interface is up, they are usable
// at once.
func (h *Host) Addr(name string, prefixes ...string) error {
	l, err := h.nl.LinkByName(name)
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		a, err := netlink.ParseAddr(p)
		if err != nil {
			return err
		}
		a.Flags |= unix.IFA_F_NODAD // one of IPv6 is usable at once
		if err := h.nl.AddrAdd(l, a); err != nil {
			return fmt.Errorf("address %s on %s of %s: %w", p, name, h.Name, err)
		}
		if a.IP.To4() == nil && l.Attrs().Flags&net.FlagUp != 0 {
			if err := h.awaitLocal(a.IP); err != nil {
				return err
			}
		}
	}
	return nil
}

// DefaultRoute sets the default route.
func (h *Host) DefaultRoute(gateway string) error {
	gw, err := netip.ParseAddr(gateway)
	if err != nil {
		return err
	}
	route := &netlink.Route{Gw: gw.AsSlice()}
	if gw.Is6() {
		route.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	if err := h.nl.RouteAdd(route); err != nil {
		return fmt.Errorf("default route of %s by %s: %w", h.Name, gateway, err)
	}
	return nil
}

// Realserver configures h as a realserver of direct routing: VIPs of either family on its loopback,
// and no ARP for them.
func (h *Host) Realserver(vips ...string) error {
	for _, key := range []string{"all", "default"} {
		if err := h.Sysctl("net.ipv4.conf."+key+".arp_ignore", "1"); err != nil {
			return err
		}
		if err := h.Sysctl("net.ipv4.conf."+key+".arp_announce", "2"); err != nil {
			return err
		}
	}
	for _, v := range vips {
		bits := "/32"
		if strings.Contains(v, ":") {
			bits = "/128"
			if err := h.IPv6("lo"); err != nil {
				return err
			}
		}
		if err := h.Addr("lo", v+bits); err != nil {
			return err
		}
	}
	return nil
}

// Delete deletes an interface and the other end of its cable.
func (h *Host) Delete(name string) error {
	l, err := h.nl.LinkByName(name)
	if err != nil {
		return err
	}
	return h.nl.LinkDel(l)
}

// Macvlan adds a macvlan interface, with its own MAC and addresses, to an interface of the host.
// The new interface belongs to the host to, or to h if to is nil. Containers often have such
// interfaces. Frames between macvlans of one interface pass directly (mode bridge).
func (h *Host) Macvlan(parent, name, mac string, to *Host, addrs ...string) error {
	p, err := h.nl.LinkByName(parent)
	if err != nil {
		return err
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	if to == nil {
		to = h
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr, attrs.Namespace = name, p.Attrs().Index, hw, netlink.NsFd(to.ns)
	if err := h.nl.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		return fmt.Errorf("macvlan %s on %s of %s: %w", name, parent, h.Name, err)
	}
	if err := to.Up(name); err != nil {
		return err
	}
	if slices.ContainsFunc(addrs, func(a string) bool { return strings.Contains(a, ":") }) {
		if err := to.IPv6(name); err != nil {
			return err
		}
	}
	return to.Addr(name, addrs...)
}

// Bridge adds a bridge with the given MAC and ports. The ports' addresses of both families move to
// it.
func (h *Host) Bridge(name, mac string, ports ...string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, hw
	off := false
	br := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
	if err := h.nl.LinkAdd(br); err != nil {
		return fmt.Errorf("bridge %s of %s: %w", name, h.Name, err)
	}
	if err := h.nl.LinkSetUp(br); err != nil {
		return err
	}
	for _, port := range ports {
		l, err := h.nl.LinkByName(port)
		if err != nil {
			return err
		}
		if err := h.nl.LinkSetMaster(l, br); err != nil {
			return err
		}
		if err := h.moveAddrs(l, name); err != nil {
			return err
		}
	}
	return nil
}

// moveAddrs moves an interface's addresses to another one, which speaks IPv6 if the first does; a
// link-local address is not moved: each has its own.
func (h *Host) moveAddrs(from netlink.Link, to string) error {
	addrs, err := h.nl.AddrList(from, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IP.To4() == nil }) {
		if err := h.IPv6(to); err != nil {
			return err
		}
	}
	for _, a := range addrs {
		if a.IP.IsLinkLocalUnicast() {
			continue
		}
		if err := h.nl.AddrDel(from, &a); err != nil {
			return err
		}
		if err := h.Addr(to, a.IPNet.String()); err != nil {
			return err
		}
	}
	return nil
}

// BigTCP makes every interface of the network send and receive TCP packets of up to size bytes,
// above the 64 KiB of an IP packet (Linux 6.3).
func (n *Net) BigTCP(size int) error {
	for _, h := range n.hosts {
		links, err := h.nl.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			for _, set := range []func(netlink.Link, int) error{
				h.nl.LinkSetGSOMaxSize, h.nl.LinkSetGROMaxSize, h.nl.LinkSetGSOIPv4MaxSize, h.nl.LinkSetGROIPv4MaxSize,
			} {
				if err := set(l, size); err != nil {
					return fmt.Errorf("%s: %w", l.Attrs().Name, err)
				}
			}
		}
	}
	return nil
}
