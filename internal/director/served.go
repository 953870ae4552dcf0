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

// prepare lets in frames to VIPs that are to come, and finds the realservers that are.
func (d *Director) prepare(t *translator) error {
	seen := map[netip.Addr]bool{}
	t.vips = slices.DeleteFunc(t.vips, func(v netip.Addr) bool {
		known := seen[v] || d.engine.Serves(v)
		seen[v] = true
		return known
	})
	if len(t.vips) > 0 {
		before := d.engine.VIPs()
		if err := d.letInToo(slices.Concat(before, t.vips), t.vips, nil); err != nil {
			return errors.Join(err, d.letInToo(before, nil, t.vips))
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
	return nil
}

// settle does what is left to do after a change, whether it was made or not.
func (d *Director) settle(t *translator) {
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
	var come, gone, out []netip.Addr // out: those that prepare let in, and that are not to be, too
	for _, v := range t.vips {
		if d.engine.Serves(v) {
			come = append(come, v)
		} else {
			out = append(out, v)
		}
	}
	seen := map[netip.Addr]bool{}
	for _, v := range t.leaving {
		if !seen[v] && !d.engine.Serves(v) {
			gone = append(gone, v)
		}
		seen[v] = true
	}
	if len(come) > 0 {
		d.warnOwnVIPs(come, ownAddresses())
	}
	if len(come)+len(gone) > 0 {
		for _, l := range d.legs {
			l.link.ChangeVIPs(come, gone)
		}
	}
	if out = append(out, gone...); len(out) == 0 {
		return // as prepare left it
	}
	if err := d.letInToo(d.engine.VIPs(), nil, out); err != nil {
		d.log.Error("the filters could not be updated for the services", "error", err)
	}
}

// follow has filters, guard, resolver and responder set anew for what the engine serves.
func (d *Director) follow() {
	f := d.inForce()
	d.warnOwnVIPs(f.vips, ownAddresses())
	d.setTargets(f.neighbours)
	d.setVIPs(f.vips)
	if err := d.letIn(f.vips); err != nil {
		d.log.Error("the filters could not be updated for the services", "error", err)
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
	d.neighbours.Lock()
	for _, h := range remove {
		delete(d.known, place{h.Leg, h.Addr})
	}
	d.neighbours.Unlock()
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

// fewer returns those of a whose places are not among b's.
func fewer(a, b []config.Neighbour) []config.Neighbour {
	known := make(map[place]bool, len(b))
	for _, n := range b {
		known[place{n.Leg, n.Address}] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(n config.Neighbour) bool { return known[place{n.Leg, n.Address}] })
}
