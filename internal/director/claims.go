package director

import (
	"net/netip"
	"time"

	"shunt/arpd"
	"shunt/forwarder/frame"
)

// claim is a VIP that a MAC claims.
type claim struct {
	vip netip.Addr
	mac frame.MAC
}

// Bounds of what is told of claims: a MAC is easily forged, and a flood of them is neither to fill
// the memory nor the log.
const (
	warnAgain  = time.Minute // a claim is not spoken of again for so long
	mostClaims = 64          // nor are more than so many
)

// claims remembers which claims were told. It is not safe for several goroutines.
type claims struct {
	told   map[claim]time.Time
	untold int       // since the last time that this was told
	last   time.Time // when it was
}

// tell reports whether a claim is to be told, and how many others were not told because there are
// too many; 0 if that need not be told now.
func (c *claims) tell(what claim, now time.Time) (tell bool, untold int) {
	if at, ok := c.told[what]; ok && now.Sub(at) < warnAgain {
		return false, 0
	}
	if len(c.told) >= mostClaims {
		for k, at := range c.told {
			if now.Sub(at) >= warnAgain {
				delete(c.told, k)
			}
		}
	}
	if len(c.told) >= mostClaims {
		if c.untold++; now.Sub(c.last) < warnAgain {
			return false, 0
		}
		untold, c.untold, c.last = c.untold, 0, now
		return false, untold
	}
	if c.told == nil {
		c.told = map[claim]time.Time{}
	}
	c.told[what] = now
	return true, 0
}

// conflict warns of somebody else who claims a VIP.
func (d *Director) conflict(l *leg, vip netip.Addr, mac frame.MAC) {
	now := time.Now()
	who := d.neighbours.realserverAt(mac, vip.Is6())
	tell, untold := d.outcomes.claimed(vip, mac, l.name, who, now)
	if untold > 0 {
		d.log.Error("too many hosts claim VIPs to log each one: possibly a flood of forged ARP", "claims", untold, "interface", l.iface)
	}
	if !tell {
		return
	}
	log := d.log.With("vip", vip, "mac", mac, "interface", l.iface)
	if who.IsValid() && vip.Is6() {
		log.Error("a realserver answers neighbour solicitations for the VIP: its clients bypass the director; on the realserver, "+
			"configure the VIP on lo and on no other interface", "realserver", who)
		return
	}
	if who.IsValid() {
		log.Error("a realserver answers ARP for the VIP: its clients bypass the director; on the realserver, set net.ipv4.conf.all.arp_ignore=1 "+
			"and net.ipv4.conf.all.arp_announce=2, and configure the VIP on lo", "realserver", who)
		return
	}
	log.Error("another host claims the VIP by ARP: each client reaches either that host or the director; find the host by its MAC")
}

// disputed warns of somebody else who answers for a realserver.
func (d *Director) disputed(l *leg, n arpd.Neighbour) {
	if d.outcomes.disputed(claim{n.Addr, n.Rival}, n.Disputed) {
		d.log.Error("two hosts answer ARP for the realserver: the known MAC is kept; find the other host by its MAC, or set the realserver's MAC in the "+
			"configuration (mac:)", "realserver", n.Addr, "mac", n.MAC, "other", n.Rival, "leg", l.name)
	}
}
