package director

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"shunt/arpd"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
)

// leg is a leg and its interface, which is followed: see follow.
type leg struct {
	id    frame.Leg
	name  string
	iface string // the interface's name in the configuration
	vlan  uint16
	tpid  uint16
	isPub bool
	// shared says that other legs have the interface too. Its addresses are those of the leg
	// without a VLAN.
	shared bool
	slot   *arpd.Slot
	link   *arpd.Link

	// Guarded by the director's mu, once it has started.
	ifi     *net.Interface // the present one, or the last
	mac     frame.MAC
	present bool // it was not deleted
	up      bool
	refused string // why the interface that has the name cannot be used, as it was logged last
	addresses
}

// addresses are what an interface has of them.
type addresses struct {
	addr  netip.Addr // the first of IPv4: the DIP; may be invalid
	addr6 netip.Addr // the first of IPv6, a link-local one if there is no other
	nets  []netip.Prefix
}

func (a *addresses) equal(b *addresses) bool {
	return a.addr == b.addr && a.addr6 == b.addr6 && slices.Equal(a.nets, b.nets)
}

// readAddresses reads those of the leg's interface.
func (l *leg) readAddresses() error {
	addrs, err := l.ifi.Addrs()
	if err != nil {
		return err
	}
	l.addresses = addresses{}
	if l.shared && l.vlan != 0 {
		return nil
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
	return nil
}

// engineLeg is the leg as the engine knows it.
func (l *leg) engineLeg() forwarder.Leg {
	return forwarder.Leg{Name: l.name, MAC: l.mac, VLAN: l.vlan, TPID: l.tpid, MTU: uint32(max(l.ifi.MTU, 0))}
}

// findLegs looks up the interfaces of the configuration.
func (d *Director) findLegs() error {
	for i, c := range d.cfg.Legs {
		ifi, err := net.InterfaceByName(c.Interface)
		if err != nil {
			return d.cfg.LegError(i, "interface", "leg %s: no interface %s on this host; the interfaces are %s", c.Name, c.Interface, interfaceNames())
		}
		if len(ifi.HardwareAddr) != 6 {
			return d.cfg.LegError(i, "interface", "leg %s: interface %s has no Ethernet address: the director forwards by MAC", c.Name, c.Interface)
		}
		l := &leg{id: frame.Leg(i), name: c.Name, iface: c.Interface, vlan: c.VLAN, tpid: c.TPID, shared: c.Shared, isPub: c.Public,
			ifi: ifi, mac: frame.MAC(ifi.HardwareAddr), present: true, up: ifi.Flags&net.FlagRunning != 0}
		if err := l.readAddresses(); err != nil {
			return d.cfg.LegError(i, "interface", "leg %s: the interface's addresses cannot be read: %v", c.Name, err)
		}
		d.legs = append(d.legs, l)
		d.log.Info("interface", "leg", c.Name, "interface", ifi.Name, "mac", l.mac.String(), "networks", l.nets, "public", c.Public, "vlan", c.VLAN)
		if ifi.Flags&net.FlagUp == 0 {
			d.log.Warn("interface down: it forwards nothing until it is up", "interface", ifi.Name)
		}
	}
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

// errLocal says why a realserver cannot be this host itself, what IPVS calls Local: the frame would
// have to be given to the host's own kernel, which does not have the VIP, and from which the guard
// keeps it.
const errLocal = "realserver %s is this host: a director cannot be its own realserver, because its kernel does not have the VIP; run the " +
	"server on another host, or in a network namespace with its own address and MAC (see docs/running.md)"

// refuseLocal refuses realservers that are this host itself.
func refuseLocal(cfg *config.Config) error {
	own := ownAddresses()
	var errs []error
	for i := range cfg.Services {
		for j := range cfg.Services[i].Realservers {
			if r := &cfg.Services[i].Realservers[j]; own[r.Address] {
				errs = append(errs, cfg.RealserverError(r, errLocal, r.Address))
			}
		}
	}
	return errors.Join(errs...)
}

// networks lists what is known of each leg's networks.
func (d *Director) networks() [][]netip.Prefix {
	out := make([][]netip.Prefix, len(d.legs))
	for i, l := range d.legs {
		out[i] = l.nets
	}
	return out
}

// noteMACs notes the MACs of all legs, after one has changed: one leg may hear another, and is not
// to take it for a stranger.
func (d *Director) noteMACs() {
	macs := map[frame.MAC]bool{}
	for _, l := range d.legs {
		macs[l.mac] = true
	}
	d.macs.Store(&macs)
}

// isOurs reports whether a MAC is that of a leg.
func (d *Director) isOurs(mac frame.MAC) bool { return (*d.macs.Load())[mac] }

// openLinks opens ARP on every leg and starts it.
func (d *Director) openLinks(ctx context.Context) error {
	d.noteMACs()
	for _, l := range d.legs {
		conn, err := arpd.DialSplit(l.ifi, l.vlan, l.tpid)
		if err != nil {
			return err
		}
		l.slot = arpd.NewSlot(conn)
	}
	d.neighbours = &neighbours{log: d.log, engine: d.engine, known: map[forwarder.Hop]arpd.Neighbour{}}
	for _, l := range d.legs {
		l.link = arpd.NewLink(l.slot, arpd.LinkConfig{
			MAC: l.mac, Addr: l.addr, Addr6: l.addr6, VLAN: l.vlan, TPID: l.tpid, Announce: d.cfg.ARP.Announce, Refresh: d.cfg.ARP.Refresh,
			Watch: d.cfg.ARP.Watch, Private: !l.isPub, LearnGratuitous: d.cfg.ARP.Learn, Ours: d.isOurs,
			Changed:  func(list []arpd.Neighbour) { d.neighbours.learn(l.id, list) },
			Disputed: func(n arpd.Neighbour) { d.disputed(l, n) },
			Conflict: func(vip netip.Addr, mac frame.MAC) { d.conflict(l, vip, mac) },
		})
		d.neighbours.names, d.neighbours.links = append(d.neighbours.names, l.name), append(d.neighbours.links, l.link)
	}
	for _, l := range d.legs {
		d.wg.Go(func() { l.link.Run(ctx) })
	}
	return nil
}
