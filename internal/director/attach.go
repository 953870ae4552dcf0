package director

import (
	"errors"
	"net"
	"net/netip"
	"slices"

	"shunt/arpd"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/forwarder/ring"
	"shunt/internal/delta"
)

// detach takes a leg's sockets away after its interface was deleted: they would stay without one
// for good. d.mu is held.
func (d *Director) detach(l *leg) {
	l.present, l.up = false, false
	d.log.Error("interface deleted: the leg waits for a new interface of this name", "leg", l.name, "interface", l.iface)
	d.exchange(l, nil)
	if err := l.slot.Put(nil); err != nil {
		d.log.Debug("the ARP socket could not be closed", "error", err)
	}
}

// exchange has all rings use other sockets for a leg, nil for none, and closes those that they had.
func (d *Director) exchange(l *leg, fresh []*ring.Sockets) {
	for i, r := range d.rings {
		var s, old *ring.Sockets
		if fresh != nil {
			s = fresh[i]
		}
		var err error
		d.engine.Worker(i).Do(func() { old, err = r.Exchange(l.id, s) })
		if old != nil {
			old.Close()
		}
		if err != nil && s != nil {
			s.Close()
		}
		if err != nil && !errors.Is(err, ring.ErrClosed) {
			d.log.Error("the ring of the leg could not be replaced", "leg", l.name, "error", err)
		}
	}
}

// attach gives a leg the interface that has its name, if there is one. d.mu is held.
func (d *Director) attach(l *leg) {
	ifi, err := net.InterfaceByName(l.iface)
	if err != nil {
		return
	}
	if err := d.take(l, ifi); err != nil {
		if text := err.Error(); text != l.refused {
			l.refused = text
			d.log.Error("interface not usable yet: the director retries every second", "leg", l.name, "interface", l.iface, "error", err)
		}
		return
	}
	l.refused = ""
}

// take gives a leg an interface, in the order of the start: the guard and the VIPs come last.
func (d *Director) take(l *leg, ifi *net.Interface) error {
	if len(ifi.HardwareAddr) != 6 {
		return errors.New("no Ethernet address: the director forwards by MAC")
	}
	was := *l
	l.ifi, l.mac = ifi, frame.MAC(ifi.HardwareAddr)
	l.up = ifi.Flags&(net.FlagUp|net.FlagRunning) == net.FlagUp|net.FlagRunning
	err := l.readAddresses()
	var conn arpd.Conn
	if err == nil {
		conn, err = arpd.DialSplit(ifi, l.vlan, l.tpid)
	}
	var fresh []*ring.Sockets
	if err == nil {
		fresh, err = d.openSockets(l)
	}
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		l.ifi, l.mac, l.up, l.addresses = was.ifi, was.mac, was.up, was.addresses
		return err
	}
	d.exchange(l, fresh)
	l.present = true
	d.noteMACs()
	if err := d.engine.SetLeg(l.id, l.engineLeg()); err != nil {
		d.log.Error("the engine rejected the leg", "error", err)
	}
	// The guard was on the interface that went. Until it is there again, nobody is to be told where
	// the VIPs are.
	if err := d.teller.Change(delta.Change{Interfaces: d.interfaces()}, nil); err != nil {
		d.log.Error("the filters of the interface could not be set", "interface", ifi.Name, "error", err)
	}
	if err := l.slot.Put(conn); err != nil {
		d.log.Warn("some ARP requests and neighbour solicitations for the VIPs may not be received", "interface", ifi.Name, "error", err)
	}
	l.link.SetAddrs(l.addr, l.addr6)
	l.link.SetMAC(l.mac)
	l.link.Again()
	d.log.Warn("interface present again", "leg", l.name, "interface", ifi.Name, "mac", l.mac, "was", was.mac, "networks", l.nets, "up", l.up)
	d.placeAnew()
	return nil
}

// openSockets opens a leg's sockets for all rings, in their order: the shards of a fanout group go
// by it.
func (d *Director) openSockets(l *leg) ([]*ring.Sockets, error) {
	var out []*ring.Sockets
	for _, r := range d.rings {
		s, err := r.OpenSockets(ring.LegConfig{Leg: l.id, Index: l.ifi.Index, Name: l.ifi.Name})
		if err != nil {
			for _, s := range out {
				s.Close()
			}
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// interfaces lists the names of the legs' interfaces, each once.
func (d *Director) interfaces() []string {
	var names []string
	for _, l := range d.legs {
		if !slices.Contains(names, l.ifi.Name) {
			names = append(names, l.ifi.Name)
		}
	}
	return names
}

// placeAnew moves realservers to the legs in whose networks they are now. d.mu is held.
func (d *Director) placeAnew() {
	nets := d.networks()
	type move struct {
		key  forwarder.ServiceKey
		dest forwarder.Destination
	}
	var moves []move
	var change delta.Change // which does not wait: the realservers are not reached on their legs
	told := map[netip.Addr]bool{}
	for _, s := range d.engine.Services() {
		for _, r := range s.Destinations {
			leg, err := d.cfg.Place(r.Addr, nets)
			log := d.log.With("realserver", r.Addr, "leg", d.legs[r.Leg].name)
			switch {
			case err != nil && !told[r.Addr]:
				log.Warn("realserver no longer on the network of any leg: it stays on its leg")
			case err == nil && leg != r.Leg:
				if !told[r.Addr] {
					log.Info("realserver moved to another leg", "now", d.legs[leg].name)
				}
				m := move{s.Key(), r.Destination}
				m.dest.Leg = leg
				moves = append(moves, m)
				mac := d.cfg.StaticMAC(r.Addr)
				change.Realservers = append(change.Realservers, forwarder.Neighbour{Hop: forwarder.Hop{Leg: r.Leg, Addr: r.Addr}, MAC: mac},
					forwarder.Neighbour{Hop: forwarder.Hop{Leg: leg, Addr: r.Addr}, MAC: mac})
			}
			told[r.Addr] = true
		}
	}
	if len(moves) == 0 {
		return
	}
	err := d.teller.Change(change, func() error {
		return d.engine.Update(func(tx *forwarder.Tx) error {
			for _, m := range moves {
				if err := tx.EditDestination(m.key, m.dest); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		d.log.Error("the realservers could not be assigned to legs again", "error", err)
	}
}
