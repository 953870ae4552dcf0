package director

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
	"shunt/internal/delta"
)

// lookEvery is how often the interfaces are looked at without being told to: for one that could not be taken when it came,
// and for what was missed.
const lookEvery = time.Second

// follow follows what becomes of the legs' interfaces by the kernel's notifications (rtnetlink(7)). They only say
// where to look: what is, is read anew, so that a lost one does no harm.
func (d *Director) follow(ctx context.Context) {
	for again := false; ctx.Err() == nil; again = true {
		s, err := subscribe()
		if err != nil {
			d.log.Warn("no kernel notifications about interfaces: the director polls the interfaces every second", "error", err)
			s = &subscription{} // of which nothing comes
		}
		if again {
			d.log.Warn("kernel notifications about interfaces were lost: reading all interfaces again", "interfaces", len(d.legs))
		}
		for _, l := range d.legs {
			d.lookAt(l, seen{addresses: true})
		}
		d.followOwn()
		err = d.followed(ctx, s)
		s.end()
		if err != nil {
			d.log.Warn("kernel notifications about interfaces stopped", "error", err)
		}
	}
}

// subscription is the stream of notifications about links and addresses.
type subscription struct {
	links     chan netlink.LinkUpdate
	addrs     chan netlink.AddrUpdate
	done      chan struct{}
	lastError atomic.Pointer[error]
}

func subscribe() (*subscription, error) {
	s := &subscription{links: make(chan netlink.LinkUpdate, 64), addrs: make(chan netlink.AddrUpdate, 64), done: make(chan struct{})}
	note := func(err error) { s.lastError.Store(&err) }
	if err := netlink.LinkSubscribeWithOptions(s.links, s.done, netlink.LinkSubscribeOptions{ErrorCallback: note}); err != nil {
		return nil, fmt.Errorf("subscribe to interface changes: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(s.addrs, s.done, netlink.AddrSubscribeOptions{ErrorCallback: note}); err != nil {
		close(s.done)
		return nil, fmt.Errorf("subscribe to address changes: %w", err)
	}
	return s, nil
}

// end ends it; what still comes is not looked at.
func (s *subscription) end() {
	if s.done == nil {
		return
	}
	close(s.done)
	go func() {
		for range s.links { // the library's goroutine may be about to write
		}
	}()
	go func() {
		for range s.addrs {
		}
	}()
}

// lost is the error of a subscription that ended by itself, as when its socket's buffer was full (ENOBUFS).
func (s *subscription) lost() error {
	if err := s.lastError.Load(); err != nil {
		return *err
	}
	return errors.New("the subscription ended")
}

// followed looks at the legs of which the notifications speak, until ctx is done, or until there come no more; the error says
// why not.
func (d *Director) followed(ctx context.Context, s *subscription) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-s.links:
			if !ok {
				return s.lost()
			}
			for _, l := range d.legs {
				if d.concerns(l, &u) {
					d.lookAt(l, seen{
						down: u.Attrs().RawFlags&running != running,
						// Leaving a bridge is told as a deletion too, of another family.
						deleted: u.Header.Type == unix.RTM_DELLINK && u.IfInfomsg.Family == unix.AF_UNSPEC,
					})
				}
			}
		case u, ok := <-s.addrs:
			if !ok {
				return s.lost()
			}
			for _, l := range d.legs {
				if l.present && l.ifi.Index == u.LinkIndex {
					d.lookAt(l, seen{addresses: true})
				}
			}
			d.followOwn()
		case <-tick.C:
			for _, l := range d.legs {
				d.lookAt(l, seen{})
			}
		}
	}
}

// concerns reports whether a notification is about a leg's interface, or one that may become it.
func (d *Director) concerns(l *leg, u *netlink.LinkUpdate) bool {
	if l.present {
		return l.ifi.Index == int(u.Index)
	}
	return u.Attrs().Name == l.iface
}

// running are the flags of an interface that frames come and go by.
const running = unix.IFF_UP | unix.IFF_RUNNING

// seen is what a notification said, which may be over by the time that the interface is looked at.
type seen struct{ down, deleted, addresses bool }

// lookAt compares a leg with its interface, and follows what has changed.
func (d *Director) lookAt(l *leg, s seen) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !l.present {
		d.attach(l)
		return
	}
	link, err := netlink.LinkByIndex(l.ifi.Index)
	var none netlink.LinkNotFoundError
	if s.deleted || errors.As(err, &none) {
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
	up := attrs.RawFlags&running == running
	if l.up && (!up || s.down) {
		d.log.Warn("interface down", "interface", l.ifi.Name)
		l.up = false
	}
	if up && !l.up {
		d.log.Info("interface up", "interface", l.ifi.Name)
		l.up = true
		l.link.Again()
		s.addresses = true // of IPv6, they go with the interface
	}
	if s.addresses {
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
