package director

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"shunt/arpd"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
)

// leg is an interface as it was found at the start.
type leg struct {
	id    frame.Leg
	name  string
	vlan  uint16
	ifi   *net.Interface
	mac   frame.MAC
	addr  netip.Addr // the first of IPv4: the DIP; may be invalid
	addr6 netip.Addr // the first of IPv6, a link-local one if there is no other
	nets  []netip.Prefix
	conn  arpd.Conn
	link  *arpd.Link
	isPub bool
}

// engineLeg is the leg as the engine knows it.
func (l *leg) engineLeg() forwarder.Leg {
	return forwarder.Leg{Name: l.name, MAC: l.mac, VLAN: l.vlan, MTU: uint32(max(l.ifi.MTU, 0))}
}

// findLegs looks up the interfaces of the configuration.
func (d *Director) findLegs() error {
	for i, c := range d.cfg.Legs {
		ifi, err := net.InterfaceByName(c.Interface)
		if err != nil {
			return fmt.Errorf("%s: leg %s: there is no interface %s here; there are %s", d.cfg.Path, c.Name, c.Interface, interfaceNames())
		}
		if len(ifi.HardwareAddr) != 6 {
			return fmt.Errorf("%s: leg %s: interface %s has no Ethernet address: the director forwards by MAC", d.cfg.Path, c.Name, c.Interface)
		}
		l := &leg{id: frame.Leg(i), name: c.Name, vlan: c.VLAN, ifi: ifi, mac: frame.MAC(ifi.HardwareAddr), isPub: c.Public}
		addrs, err := ifi.Addrs()
		if err != nil {
			return fmt.Errorf("%s: leg %s: %w", d.cfg.Path, c.Name, err)
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			if p.Addr().Is6() && (!l.addr6.IsValid() || l.addr6.IsLinkLocalUnicast()) {
				l.addr6 = p.Addr()
			}
			if p.Addr().IsLinkLocalUnicast() {
				continue
			}
			l.nets = append(l.nets, p)
			if p.Addr().Is4() && !l.addr.IsValid() {
				l.addr = p.Addr()
			}
		}
		d.legs = append(d.legs, l)
		d.log.Info("interface", "leg", c.Name, "interface", ifi.Name, "mac", l.mac.String(), "networks", fmt.Sprint(l.nets), "public", c.Public, "vlan", c.VLAN)
		if ifi.Flags&net.FlagUp == 0 {
			d.log.Warn("the interface is down: nothing is forwarded by it until it is up", "interface", ifi.Name)
		}
	}
	d.warnOwnVIPs()
	return nil
}

func interfaceNames() string {
	ifs, err := net.Interfaces()
	if err != nil || len(ifs) == 0 {
		return "none"
	}
	names := make([]string, len(ifs))
	for i := range ifs {
		names[i] = ifs[i].Name
	}
	return strings.Join(names, ", ")
}

// refuseLocal refuses realservers that are this host itself: what IPVS calls Local. The frame would have to be given to the
// host's own kernel, which does not have the VIP.
func refuseLocal(cfg *config.Config) error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		for i := range cfg.Services {
			for _, r := range cfg.Services[i].Realservers {
				if r.Address == p.Addr() {
					return fmt.Errorf("%s: service %s: realserver %s is this host: a director cannot be its own realserver, as its kernel "+
						"does not have the VIP; run the server on another host, or in a network namespace with an address and a MAC of its own",
						cfg.Path, cfg.Services[i].Name, r.Address)
				}
			}
		}
	}
	return nil
}

// warnOwnVIPs says when a VIP is an address of this host, as it is on a director of the kernel's IPVS.
func (d *Director) warnOwnVIPs() {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return
	}
	own := map[netip.Addr]bool{}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr()] = true
		}
	}
	for _, v := range d.cfg.VIPs() {
		if own[v] {
			d.log.Warn("the VIP is an address of this host: its kernel answers for it too; remove it (`ip addr del`)", "vip", v)
		}
	}
}

// networks lists what is known of each leg's networks.
func (d *Director) networks() [][]netip.Prefix {
	out := make([][]netip.Prefix, len(d.legs))
	for i, l := range d.legs {
		out[i] = l.nets
	}
	return out
}

// openLinks opens ARP on every leg and starts it.
func (d *Director) openLinks(ctx context.Context) error {
	for _, l := range d.legs {
		conn, err := arpd.Dial(l.ifi, l.vlan)
		if err != nil {
			return err
		}
		l.conn = conn
	}
	for _, l := range d.legs {
		l.link = arpd.NewLink(l.conn, arpd.LinkConfig{
			MAC: l.mac, Addr: l.addr, Addr6: l.addr6, VLAN: l.vlan, Announce: d.cfg.ARP.Announce, Refresh: d.cfg.ARP.Refresh,
			LearnGratuitous: d.cfg.ARP.Learn,
			Changed:         func(n arpd.Neighbour) { d.neighbourChanged(l.id, n) },
			Conflict:        func(vip netip.Addr, mac frame.MAC) { d.conflict(l, vip, mac) },
		})
		d.wg.Go(func() { l.link.Run(ctx) })
	}
	return nil
}

// setVIPs has the public legs answer for the VIPs and announce them.
func (d *Director) setVIPs(vips []netip.Addr) {
	for _, l := range d.legs {
		if l.isPub {
			l.link.SetVIPs(vips)
		}
	}
}
