package director

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"shunt/arpd"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
)

// setTargets tells the legs whom to resolve.
func (d *Director) setTargets(neighbours []config.Neighbour) {
	for i, l := range d.legs {
		targets := make(map[netip.Addr]frame.MAC, len(neighbours)/len(d.legs))
		for _, n := range neighbours {
			if n.Leg == frame.Leg(i) {
				targets[n.Address] = n.MAC
			}
		}
		l.link.SetTargets(targets)
		d.neighbours.Lock()
		maps.DeleteFunc(d.known, func(p place, _ arpd.Neighbour) bool {
			_, stays := targets[p.addr]
			return p.leg == frame.Leg(i) && !stays
		})
		d.neighbours.Unlock()
	}
}

// awaitNeighbours waits until the MACs of all are known, or for as long as it may. It counts its turns instead of looking at a
// clock: on a machine that is so busy, or stood still for so long, that nobody had a turn, the answers get theirs.
func (d *Director) awaitNeighbours(neighbours []config.Neighbour, patience time.Duration) {
	const turn = 5 * time.Millisecond
	for left := patience / turn; left > 0; left-- {
		d.neighbours.Lock()
		for len(neighbours) > 0 && !d.known[place{neighbours[0].Leg, neighbours[0].Address}].MAC.IsZero() {
			neighbours = neighbours[1:] // of a hundred thousand, none is looked at twice
		}
		d.neighbours.Unlock()
		if len(neighbours) == 0 {
			return
		}
		time.Sleep(turn)
	}
}

// manyNeighbours is how many changes at once are told one by one; of more only the bad ones are.
const manyNeighbours = 100

// neighboursChanged passes on what a leg's resolver found: all at once, as each change of the engine is a transaction.
func (d *Director) neighboursChanged(leg frame.Leg, list []arpd.Neighbour) {
	old, news := make([]arpd.Neighbour, len(list)), make([]forwarder.Neighbour, len(list))
	d.neighbours.Lock()
	for i, n := range list {
		p := place{leg, n.Addr}
		old[i], news[i] = d.known[p], forwarder.Neighbour{Leg: leg, Addr: n.Addr, MAC: n.MAC, Asked: n.State == arpd.Incomplete}
		d.known[p] = n
	}
	d.neighbours.Unlock()
	if err := d.engine.SetNeighbours(news); err != nil {
		d.log.Error("the engine rejected the neighbours", "leg", d.legs[leg].name, "error", err)
	}
	good := slog.LevelInfo
	if len(list) > manyNeighbours {
		good = slog.LevelDebug
		d.log.Info("realservers", "leg", d.legs[leg].name, "changed", len(list))
	}
	for i, n := range list {
		d.logNeighbour(leg, old[i], n, good)
		if n.MAC != old[i].MAC && !n.MAC.IsZero() && d.engine.FromClients(n.MAC) {
			d.log.Error("the realserver's MAC is also the source MAC of client frames, like that of a router: the loop guard ignores it; "+
				"check whether a router answers ARP for the realserver, or whether ARP was forged", "realserver", n.Addr, "mac", n.MAC, "leg", d.legs[leg].name)
		}
	}
}

// logNeighbour tells what became of a neighbour; good is the level of what needs nobody's attention.
func (d *Director) logNeighbour(leg frame.Leg, old, n arpd.Neighbour, good slog.Level) {
	if n.State != arpd.Failed && !d.log.Enabled(context.Background(), good) && (old.MAC.IsZero() || old.MAC == n.MAC) {
		return
	}
	log := d.log.With("realserver", n.Addr, "leg", d.legs[leg].name)
	switch {
	case n.State == arpd.Failed:
		log.Warn("realserver does not answer ARP: it gets no new connections until it answers", "was", old.MAC)
	case n.MAC.IsZero() || n.State == arpd.Stale:
		log.Debug("neighbour", "state", n.State)
	case !old.MAC.IsZero() && old.MAC != n.MAC:
		log.Warn("realserver MAC changed", "mac", n.MAC, "was", old.MAC)
	case old.MAC != n.MAC:
		log.Log(context.Background(), good, "realserver", "mac", n.MAC, "state", n.State)
	}
}

// realserverAt is the address of the realserver that has a MAC; of several, the least of the family that is wanted, if there is
// one of it. It is not valid if there is none. d.neighbours is held.
func (d *Director) realserverAt(mac frame.MAC, six bool) (who netip.Addr) {
	for p, n := range d.known {
		if n.MAC != mac {
			continue
		}
		better := p.addr.Is6() == six
		if !who.IsValid() || better && who.Is6() != six || better == (who.Is6() == six) && p.addr.Less(who) {
			who = p.addr
		}
	}
	return who
}

// conflict warns of somebody else who claims a VIP.
func (d *Director) conflict(l *leg, vip netip.Addr, mac frame.MAC) {
	now := time.Now()
	d.neighbours.Lock()
	tell, untold := d.claims.tell(claim{vip, mac}, now)
	who := d.realserverAt(mac, vip.Is6())
	d.neighbours.Unlock()
	d.outcomes.claimed(vip, mac, l.name, who, now)
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

// askSuspects asks for realservers that clients had to repeat a SYN to: their cable may have been pulled.
func (d *Director) askSuspects() {
	of := map[frame.Leg][]netip.Addr{}
	for _, h := range d.engine.Suspects() {
		of[h.Leg] = append(of[h.Leg], h.Addr)
	}
	for leg, addrs := range of {
		d.legs[leg].link.Suspect(addrs)
	}
}

// disputed warns of somebody else who answers for a realserver.
func (d *Director) disputed(l *leg, n arpd.Neighbour) {
	d.neighbours.Lock()
	tell, _ := d.rivals.tell(claim{n.Addr, n.Rival}, n.Disputed)
	d.neighbours.Unlock()
	if tell {
		d.log.Error("two hosts answer ARP for the realserver: the known MAC is kept; find the other host by its MAC, or set the realserver's MAC in the "+
			"configuration (mac:)", "realserver", n.Addr, "mac", n.MAC, "other", n.Rival, "leg", l.name)
	}
}

// logPlan tells what is served by whom.
func (d *Director) logPlan(plan forwarder.Plan) {
	level := slog.LevelInfo
	if len(plan.Services) > 100 {
		level = slog.LevelDebug // thousands of lines tell nobody anything
	}
	if !d.log.Enabled(context.Background(), level) {
		return
	}
	for i := range plan.Services {
		s := &plan.Services[i]
		d.log.Log(context.Background(), level, "service", "name", s.Name, "vip", s.Matches[0].Addr, "key", s.Key().String(), "scheduler", s.Scheduler, "realservers", len(s.Destinations))
		for _, r := range s.Destinations {
			d.neighbours.Lock()
			n := d.known[place{r.Leg, r.Addr}]
			d.neighbours.Unlock()
			mac := n.MAC.String()
			if n.MAC.IsZero() {
				mac = "unresolved"
			}
			d.log.Debug("destination", "service", s.Name, "realserver", r.Addr, "weight", r.Weight, "leg", d.legs[r.Leg].name, "mac", mac)
		}
	}
}
