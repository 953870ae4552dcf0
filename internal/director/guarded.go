package director

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"shunt/api"
	"shunt/internal/config"
	"shunt/internal/guard"
)

// This file has the guard follow the director: what keeps the host's kernel from the frames to the VIPs.

// guardIdentity is what the guard's tables are named by: it stays the same over restarts, and two directors that run at a time
// have not the same control socket.
func guardIdentity(cfg *config.Config) string {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		path = cfg.Path
	}
	return cmp.Or(cfg.Control.Socket, cfg.StateDir, path)
}

// installGuard keeps the kernel out where it can, and says so where it cannot.
func (d *Director) installGuard(ctx context.Context, vips []netip.Addr) {
	if !d.cfg.Guard {
		return
	}
	names := d.interfaces()
	g, err := guard.Install(guardIdentity(d.cfg), names, vips, slices.Collect(maps.Keys(ownAddresses())))
	if err != nil {
		d.noGuard = err.Error()
		d.log.Warn("no guard: this host's kernel also sees the frames to the VIPs; see that it neither has these addresses nor routes "+
			"(net.ipv4.ip_forward=0), or write guard: off", "error", err)
		return
	}
	d.guard = g
	d.log.Info("guard installed: this host's kernel does not see the frames to the VIPs", "interfaces", names, "tables", g.State().Tables)
	d.wg.Go(func() { g.Watch(ctx, d.guardLogger()) })
}

// guardLogger logs what becomes of the guard.
func (d *Director) guardLogger() func(api.Guard, error) {
	var last api.Guard
	return func(s api.Guard, err error) {
		switch {
		case err != nil:
			d.log.Error("guard", "error", err)
		case s.Restored > last.Restored:
			d.log.Error("guard removed by another process and restored: meanwhile this host's kernel saw the frames to the VIPs; make that process leave "+
				"alone the tables of family netdev whose names begin with shunt_", "by", s.By, "times", s.Restored)
		case s.Missing != "" && last.Missing == "":
			d.log.Error("guard removed repeatedly by another process: it is restored after increasing pauses, during which this host's kernel sees the "+
				"frames to the VIPs", "missing", s.Missing, "times", s.Restored)
		}
		last = s
	}
}

// guardState is what a screen shows of the guard; nil with guard: off.
func (d *Director) guardState() *api.Guard {
	if d.guard == nil {
		if d.noGuard == "" {
			return nil
		}
		return &api.Guard{Error: d.noGuard}
	}
	s := d.guard.State()
	return &s
}

// moveGuard has the guard follow the names of the interfaces.
func (d *Director) moveGuard() {
	if d.guard == nil {
		return
	}
	if err := d.guard.SetInterfaces(d.interfaces(), d.inForce().vips); err != nil {
		d.log.Error("the guard could not be updated for the interfaces", "error", err)
	}
}

// followOwn follows the addresses of the host, of all its interfaces.
func (d *Director) followOwn() {
	own := ownAddresses()
	if own == nil {
		return // which is no reason to drop what is for them
	}
	if d.guard != nil {
		if err := d.guard.SetOwn(slices.Collect(maps.Keys(own))); err != nil {
			d.log.Error("the guard could not be updated for the addresses of this host", "error", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.warnOwnVIPs(d.engine.VIPs(), own)
}

// ownAddresses are all addresses of this host; nil if they cannot be read.
func ownAddresses() map[netip.Addr]bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	own := map[netip.Addr]bool{}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr()] = true
		}
	}
	return own
}

// warnOwnVIPs says when a VIP is an address of this host, as it is on a director of the kernel's IPVS; not of the same one again
// within a minute. d.mu is held once the director has started.
func (d *Director) warnOwnVIPs(vips []netip.Addr, own map[netip.Addr]bool) {
	now := time.Now()
	for _, v := range vips {
		if !own[v] || now.Sub(d.warned[v]) < warnAgain {
			continue
		}
		if d.warned == nil {
			d.warned = map[netip.Addr]time.Time{}
		}
		d.warned[v] = now
		d.log.Error("the VIP is an address of this host: this host's kernel answers for it too, and refuses connections; the guard skips it to avoid "+
			"cutting off this host; remove the address (`ip addr del`) or the service", "vip", v)
	}
	maps.DeleteFunc(d.warned, func(v netip.Addr, _ time.Time) bool { return !own[v] })
}
