package director

import (
	"context"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// watchEvery is how often the losses are looked at, to warn of them.
const watchEvery = 10 * time.Second

// watch has the engine do what is to be done every second, and warns of losses that an operator can do something about, as
// long as they grow.
func (d *Director) watch(ctx context.Context) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	dropped := make([]uint64, len(d.legs))
	var last forwarder.Stats
	for {
		select {
		case <-ctx.Done():
			return
		case <-second.C:
			if err := d.engine.Maintain(); err != nil {
				d.log.Error("the engine could not be maintained", "error", err)
			}
			continue
		case <-tick.C:
		}
		now := make([]uint64, len(d.legs))
		for _, r := range d.rings {
			for _, l := range r.Stats().Legs {
				now[l.Leg] += l.Dropped
			}
		}
		for i := range now {
			if n := now[i] - dropped[i]; n > 0 {
				d.log.Warn("the ring was full and the kernel dropped frames: raise ring.slots, or workers", "leg", d.legs[i].name, "frames", n)
			}
		}
		dropped = now
		s := d.engine.Stats()
		if n := s.Table.Refused + s.Table.Evicted - last.Table.Refused - last.Table.Evicted; n > 0 {
			d.log.Warn("the connection table is full: raise flows", "refused", s.Table.Refused-last.Table.Refused,
				"evicted", s.Table.Evicted-last.Table.Evicted, "capacity", s.Capacity)
		}
		for _, v := range []forwarder.Verdict{forwarder.SendFull, forwarder.SendTooBig, forwarder.SendDown, forwarder.SendFailed,
			forwarder.AboveMTU, forwarder.LoopGuard} {
			if n := s.Verdicts[v] - last.Verdicts[v]; n > 0 {
				d.log.Warn("frames were lost", "reason", v, "frames", n, "meaning", v.Meaning())
			}
		}
		last = s
	}
}

// watchInterfaces follows the state and the MAC of the legs' interfaces.
func (d *Director) watchInterfaces(ctx context.Context) {
	updates := make(chan netlink.LinkUpdate, 64)
	done := make(chan struct{})
	defer close(done)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ErrorCallback: func(err error) {
			if ctx.Err() == nil {
				d.log.Warn("changes of the interfaces go unnoticed from now on", "error", err)
			}
		},
	})
	if err != nil {
		d.log.Warn("changes of the interfaces go unnoticed", "error", err)
		return
	}
	up := map[int]bool{}
	for _, l := range d.legs {
		up[l.ifi.Index] = true
	}
	for {
		select {
		case <-ctx.Done():
			return
		case u, ok := <-updates:
			if !ok {
				return
			}
			for _, l := range d.legs {
				if l.ifi.Index == int(u.Index) {
					up[l.ifi.Index] = d.interfaceChanged(l, &u, up[l.ifi.Index])
				}
			}
		}
	}
}

// interfaceChanged reports whether the interface is up.
func (d *Director) interfaceChanged(l *leg, u *netlink.LinkUpdate, was bool) bool {
	attrs := u.Attrs()
	if u.Header.Type == unix.RTM_DELLINK {
		d.log.Error("the interface was deleted: restart the director when there is one again", "interface", l.ifi.Name)
		return false
	}
	if attrs.MTU > 0 && attrs.MTU != l.ifi.MTU {
		d.log.Info("the interface has another MTU", "interface", l.ifi.Name, "mtu", attrs.MTU, "was", l.ifi.MTU)
		l.ifi.MTU = attrs.MTU
		if err := d.engine.SetLeg(l.id, l.engineLeg()); err != nil {
			d.log.Error("the engine refused the MTU", "error", err)
		}
	}
	if len(attrs.HardwareAddr) == 6 {
		if mac := frame.MAC(attrs.HardwareAddr); mac != l.mac {
			d.log.Warn("the interface has another MAC", "interface", l.ifi.Name, "mac", mac, "was", l.mac)
			l.mac = mac
			err := d.engine.SetLeg(l.id, l.engineLeg())
			if err != nil {
				d.log.Error("the engine refused the MAC", "error", err)
			}
			l.link.SetMAC(mac)
		}
	}
	const running = unix.IFF_UP | unix.IFF_RUNNING
	up := attrs.RawFlags&running == running
	if up && !was {
		d.log.Info("the interface is up", "interface", l.ifi.Name)
		l.link.Announce()
	} else if !up && was {
		d.log.Warn("the interface is down", "interface", l.ifi.Name)
	}
	return up
}
