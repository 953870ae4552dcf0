package director

import (
	"errors"
	"net/netip"
	"slices"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
)

// This file keeps filters, guard, resolver and responder at what the engine serves. What a change does not concern is left
// alone: with ten thousand VIPs, setting all of it anew would take longer than the change.

// inForce is what the engine serves at present.
type inForce struct {
	vips       []netip.Addr
	neighbours []config.Neighbour
}

func (d *Director) inForce() inForce {
	f := inForce{vips: d.engine.VIPs()}
	for _, h := range d.engine.Hops() {
		f.neighbours = append(f.neighbours, config.Neighbour{Leg: h.Leg, Address: h.Addr, MAC: d.cfg.StaticMAC(h.Addr)})
	}
	return f
}

// prepare lets in frames to VIPs that are to come, and finds the realservers that are. It returns the VIPs that there were
// before, if services come or go.
func (d *Director) prepare(t *translator) (vips []netip.Addr, err error) {
	if t.services {
		vips = d.engine.VIPs()
		if all := union(vips, t.vips); len(all) > len(vips) {
			if err := d.letInToo(all); err != nil {
				return nil, errors.Join(err, d.letInToo(vips))
			}
		}
	}
	var news []config.Neighbour
	for h, before := range t.hops {
		if !before {
			news = append(news, config.Neighbour{Leg: h.Leg, Address: h.Addr, MAC: d.cfg.StaticMAC(h.Addr)})
		}
	}
	if len(news) > 0 {
		d.changeTargets(news, nil)
		d.awaitNeighbours(news, reloadWait)
	}
	return vips, nil
}

// settle does what is left to do after a change, whether it was made or not. vips are those before it.
func (d *Director) settle(t *translator, vips []netip.Addr) {
	if t.whole {
		d.setTargets(d.inForce().neighbours)
	} else {
		var gone []forwarder.Hop
		for h := range t.hops {
			if !d.engine.InUse(h) {
				gone = append(gone, h)
			}
		}
		d.changeTargets(nil, gone)
	}
	if !t.services {
		return
	}
	now := d.engine.VIPs()
	if !same(now, vips) {
		d.setVIPs(now)
	}
	if same(now, union(vips, t.vips)) {
		return // as prepare left it
	}
	if err := d.letInToo(now); err != nil {
		d.log.Error("the filters do not follow the services", "error", err)
	}
}

// follow has filters, guard, resolver and responder set anew for what the engine serves.
func (d *Director) follow() {
	f := d.inForce()
	d.setTargets(f.neighbours)
	d.setVIPs(f.vips)
	if err := d.letIn(f.vips); err != nil {
		d.log.Error("the filters do not follow the services", "error", err)
	}
}

// changeTargets tells the legs whom else to resolve, and whom no more.
func (d *Director) changeTargets(add []config.Neighbour, remove []forwarder.Hop) {
	for i, l := range d.legs {
		more := map[netip.Addr]frame.MAC{}
		for _, n := range add {
			if n.Leg == frame.Leg(i) {
				more[n.Address] = n.MAC
			}
		}
		var less []netip.Addr
		for _, h := range remove {
			if h.Leg == frame.Leg(i) {
				less = append(less, h.Addr)
			}
		}
		if len(more)+len(less) > 0 {
			l.link.ChangeTargets(more, less)
		}
	}
}

func union(a, b []netip.Addr) []netip.Addr {
	seen := make(map[netip.Addr]bool, len(a)+len(b))
	var out []netip.Addr
	for _, v := range slices.Concat(a, b) {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

// same reports whether two lists without duplicates have the same addresses.
func same(a, b []netip.Addr) bool { return len(a) == len(b) && len(union(a, b)) == len(a) }

// fewer returns those of a whose places are not among b's.
func fewer(a, b []config.Neighbour) []config.Neighbour {
	known := make(map[place]bool, len(b))
	for _, n := range b {
		known[place{n.Leg, n.Address}] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(n config.Neighbour) bool { return known[place{n.Leg, n.Address}] })
}
