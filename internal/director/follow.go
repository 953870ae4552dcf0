package director

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"shunt/forwarder/frame"
	"shunt/internal/delta"
	"shunt/internal/ifwatch"
)

// follow follows what becomes of the legs' interfaces, and of the addresses of this host.
func (d *Director) follow(ctx context.Context) {
	ifwatch.Watch(ctx, d.log, ifwatch.Follower{
		All: func() {
			for _, l := range d.legs {
				d.lookAt(l, ifwatch.Event{Addresses: true})
			}
			d.followOwn()
		},
		Event: func(e ifwatch.Event) {
			for _, l := range d.legs {
				if l.concerned(&e) {
					d.lookAt(l, e)
				}
			}
			if e.Addresses {
				d.followOwn()
			}
		},
		Look: func() {
			for _, l := range d.legs {
				d.lookAt(l, ifwatch.Event{})
			}
		},
	})
}

// concerned reports whether an event is about a leg's interface, or one that may become it.
func (l *leg) concerned(e *ifwatch.Event) bool {
	if l.present {
		return l.ifi.Index == e.Index
	}
	return e.Name == l.iface
}

// lookAt compares a leg with its interface, and follows what has changed.
func (d *Director) lookAt(l *leg, e ifwatch.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !l.present {
		d.attach(l)
		return
	}
	link, err := netlink.LinkByIndex(l.ifi.Index)
	var none netlink.LinkNotFoundError
	if e.Deleted || errors.As(err, &none) {
		d.detach(l)
		d.attach(l) // another may be there already
		return
	}
	if err != nil {
		return // looked at again in a second
	}
	attrs := link.Attrs()
	if attrs.Name != l.ifi.Name {
		d.log.Warn("interface renamed: the leg keeps this interface until the next start", "leg", l.name, "interface", attrs.Name, "was", l.ifi.Name)
		l.ifi.Name = attrs.Name
		d.renamed()
	}
	d.followLink(l, attrs)
	up := attrs.RawFlags&ifwatch.Running == ifwatch.Running
	if l.up && (!up || e.Down) {
		d.log.Warn("interface down", "interface", l.ifi.Name)
		l.up = false
	}
	if up && !l.up {
		d.log.Info("interface up", "interface", l.ifi.Name)
		l.up = true
		l.link.Again()
		e.Addresses = true // of IPv6, they go with the interface
	}
	if e.Addresses {
		d.followAddresses(l)
	}
}

// renamed has the guard follow the names of the interfaces. d.mu is held.
func (d *Director) renamed() {
	if err := d.teller.Change(delta.Change{Interfaces: d.interfaces()}, nil); err != nil {
		d.log.Error("the guard could not be updated for the interfaces", "error", err)
	}
}

// followOwn follows the addresses of the host, of all its interfaces.
func (d *Director) followOwn() {
	own := ownAddresses()
	if own == nil {
		return // which is no reason to drop what is for them
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.teller.Change(delta.Change{Own: slices.AppendSeq([]netip.Addr{}, maps.Keys(own))}, nil); err != nil {
		d.log.Error("the guard could not be updated for the addresses of this host", "error", err)
	}
}

// followLink follows MTU and MAC.
func (d *Director) followLink(l *leg, attrs *netlink.LinkAttrs) {
	changed := false
	if attrs.MTU > 0 && attrs.MTU != l.ifi.MTU {
		d.log.Info("interface MTU changed", "interface", l.ifi.Name, "mtu", attrs.MTU, "was", l.ifi.MTU)
		l.ifi.MTU = attrs.MTU
		changed = true
	}
	if len(attrs.HardwareAddr) == 6 && frame.MAC(attrs.HardwareAddr) != l.mac {
		mac := frame.MAC(attrs.HardwareAddr)
		d.log.Warn("interface MAC changed", "interface", l.ifi.Name, "mac", mac, "was", l.mac)
		l.mac = mac
		d.noteMACs()
		changed = true
		defer l.link.SetMAC(mac) // when the engine takes frames to it
	}
	if !changed {
		return
	}
	if err := d.engine.SetLeg(l.id, l.engineLeg()); err != nil {
		d.log.Error("the engine rejected the leg", "error", err)
	}
}

// followAddresses follows the addresses of a leg's interface.
func (d *Director) followAddresses(l *leg) {
	old := l.addresses
	if err := l.readAddresses(); err != nil {
		d.log.Warn("the interface's addresses cannot be read", "interface", l.ifi.Name, "error", err)
		return
	}
	if l.addresses.equal(&old) {
		return
	}
	d.log.Info("interface addresses changed", "interface", l.ifi.Name, "networks", l.nets, "was", old.nets)
	l.link.SetAddrs(l.addr, l.addr6)
	d.placeAnew()
}
