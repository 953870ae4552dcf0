package director

import (
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"shunt/forwarder"
	"shunt/internal/delta"
)

// subscribe makes the list of all that follow the engine. The order is that in which a VIP becomes
// reachable:
//
//   - The realservers are resolved first, as frames to a VIP are of no use before.
//   - The guard keeps the host's kernel from the frames before anybody is told where the VIP is.
//   - The filters let the frames in.
//   - Then the engine serves the VIP.
//   - The responder answers for it, and the announcer tells where it is.
//
// A VIP that goes takes the same way back: see [delta.Teller].
func (d *Director) subscribe() {
	rings, links := make([]vipFilter, len(d.rings)), make([]vipLink, len(d.legs))
	for i, r := range d.rings {
		rings[i] = r
	}
	for i, l := range d.legs {
		links[i] = l.link
	}
	list := []delta.Subscriber{d.neighbours}
	if d.guarded != nil {
		list = append(list, d.guarded)
	}
	list = append(list, filters(rings), answers(links), &ownVIPs{log: d.log, read: ownAddresses, now: time.Now})
	d.teller = delta.NewTeller(d.engine, d.log, list...)
}

// inForce lists all that the engine serves.
func (d *Director) inForce() delta.Change {
	c := delta.Change{VIPs: d.engine.VIPs()}
	for _, h := range d.engine.Hops() {
		c.Realservers = append(c.Realservers, forwarder.Neighbour{Hop: h, MAC: d.cfg.StaticMAC(h.Addr)})
	}
	return c
}

// vipFilter is a ring.
type vipFilter interface {
	SetVIPs(vips []netip.Addr) error
}

// filters let the frames to the VIPs into the rings, and no others.
type filters []vipFilter

// Prepare lets frames to old and new VIPs in.
func (f filters) Prepare(d *delta.Delta) error {
	if len(d.Come) == 0 && d.Interfaces == nil {
		return nil
	}
	return f.set(d.VIPs)
}

// Settle keeps frames out that are to VIPs of before.
func (f filters) Settle(d *delta.Delta) error {
	if len(d.Gone) == 0 {
		return nil
	}
	return f.set(d.VIPs)
}

func (f filters) set(vips []netip.Addr) error {
	for _, r := range f {
		if err := r.SetVIPs(vips); err != nil {
			return err
		}
	}
	return nil
}

// vipLink is ARP and neighbour discovery on a leg.
type vipLink interface {
	ChangeVIPs(add, remove []netip.Addr)
}

// answers have the public legs answer for the VIPs and announce them, and all legs look for others
// that do.
type answers []vipLink

// Prepare does nothing: nobody is told where a VIP is before it is served.
func (a answers) Prepare(*delta.Delta) error { return nil }

// Settle passes on the VIPs that came and went.
func (a answers) Settle(d *delta.Delta) error {
	if len(d.Come)+len(d.Gone) > 0 {
		for _, l := range a {
			l.ChangeVIPs(d.Come, d.Gone)
		}
	}
	return nil
}

// ownVIPs says when a VIP is an address of this host, as it is on a director of the kernel's IPVS;
// not of the same one again within a minute.
type ownVIPs struct {
	log    *slog.Logger
	read   func() map[netip.Addr]bool // the addresses of this host
	now    func() time.Time
	warned map[netip.Addr]time.Time
}

// Prepare does nothing: such a VIP is served all the same.
func (o *ownVIPs) Prepare(*delta.Delta) error { return nil }

// Settle looks at VIPs that came, or at all when the host has other addresses.
func (o *ownVIPs) Settle(d *delta.Delta) error {
	switch {
	case d.Own != nil:
		o.warn(d.VIPs, setOf(d.Own))
	case len(d.Come) > 0:
		o.warn(d.Come, o.read())
	}
	return nil
}

func (o *ownVIPs) warn(vips []netip.Addr, own map[netip.Addr]bool) {
	now := o.now()
	for _, v := range vips {
		if !own[v] || now.Sub(o.warned[v]) < warnAgain {
			continue
		}
		if o.warned == nil {
			o.warned = map[netip.Addr]time.Time{}
		}
		o.warned[v] = now
		o.log.Error("the VIP is an address of this host: this host's kernel answers for it too, and refuses connections; the guard skips it to avoid "+
			"cutting off this host; remove the address (`ip addr del`) or the service", "vip", v)
	}
	maps.DeleteFunc(o.warned, func(v netip.Addr, _ time.Time) bool { return !own[v] })
}

func setOf(addrs []netip.Addr) map[netip.Addr]bool {
	set := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		set[a] = true
	}
	return set
}
