package director

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"shunt/arpd"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/delta"
)

// targets is ARP and neighbour discovery on a leg, as far as it resolves.
type targets interface {
	ChangeTargets(add map[netip.Addr]frame.MAC, remove []netip.Addr)
	Suspect(addrs []netip.Addr)
}

// resolved is an engine, as far as it is told MACs.
type resolved interface {
	SetNeighbours(list []forwarder.Neighbour) error
	FromClients(mac frame.MAC) bool
}

// neighbours has the realservers resolved, and knows what was found. Its methods may be called from
// any goroutine.
type neighbours struct {
	log    *slog.Logger
	engine resolved
	names  []string  // of the legs
	links  []targets // of the legs

	mu    sync.Mutex
	known map[forwarder.Hop]arpd.Neighbour
}

// Prepare has the realservers resolved that come, and waits for them.
func (n *neighbours) Prepare(d *delta.Delta) error {
	n.change(d.Resolve, nil)
	n.await(d.Resolve, d.Wait)
	return nil
}

// Settle forgets the realservers that went.
func (n *neighbours) Settle(d *delta.Delta) error {
	n.change(d.Resolve, d.Forget)
	return nil
}

// change tells the legs whom else to resolve, and whom no more.
func (n *neighbours) change(add []forwarder.Neighbour, remove []forwarder.Hop) {
	more, less := make([]map[netip.Addr]frame.MAC, len(n.links)), make([][]netip.Addr, len(n.links))
	for _, a := range add {
		if more[a.Leg] == nil {
			more[a.Leg] = map[netip.Addr]frame.MAC{}
		}
		more[a.Leg][a.Addr] = a.MAC
	}
	for _, h := range remove {
		less[h.Leg] = append(less[h.Leg], h.Addr)
	}
	for i, l := range n.links {
		if len(more[i])+len(less[i]) > 0 {
			l.ChangeTargets(more[i], less[i])
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range remove {
		delete(n.known, h)
	}
}

// at returns what is known of a realserver.
func (n *neighbours) at(h forwarder.Hop) arpd.Neighbour {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.known[h]
}

// await waits until the MACs of all are known, or for as long as it may. It counts its turns
// instead of looking at a clock: on a machine that is so busy, or stood still for so long, that
// nobody had a turn, the answers get theirs.
func (n *neighbours) await(list []forwarder.Neighbour, patience time.Duration) {
	const turn = 5 * time.Millisecond
	for left := patience / turn; left > 0; left-- {
		n.mu.Lock()
		for len(list) > 0 && !n.known[list[0].Hop].MAC.IsZero() {
			list = list[1:] // of a hundred thousand, none is looked at twice
		}
		n.mu.Unlock()
		if len(list) == 0 {
			return
		}
		time.Sleep(turn)
	}
}

// manyNeighbours is how many changes at once are told one by one; of more only the bad ones are.
const manyNeighbours = 100

// learn passes on what a leg's resolver found: all at once, as each change of the engine is a
// transaction.
func (n *neighbours) learn(leg frame.Leg, list []arpd.Neighbour) {
	old, news := make([]arpd.Neighbour, len(list)), make([]forwarder.Neighbour, len(list))
	n.mu.Lock()
	for i, now := range list {
		h := forwarder.Hop{Leg: leg, Addr: now.Addr}
		old[i], news[i] = n.known[h], forwarder.Neighbour{Hop: h, MAC: now.MAC, Asked: now.State == arpd.Incomplete}
		n.known[h] = now
	}
	n.mu.Unlock()
	name := n.names[leg]
	if err := n.engine.SetNeighbours(news); err != nil {
		n.log.Error("the engine rejected the neighbours", "leg", name, "error", err)
	}
	good := slog.LevelInfo
	if len(list) > manyNeighbours {
		good = slog.LevelDebug
		n.log.Info("realservers", "leg", name, "changed", len(list))
	}
	for i, now := range list {
		n.tell(name, old[i], now, good)
		if now.MAC != old[i].MAC && !now.MAC.IsZero() && n.engine.FromClients(now.MAC) {
			n.log.Error("the realserver's MAC is also the source MAC of client frames, like that of a router: the loop guard ignores it; "+
				"check whether a router answers ARP for the realserver, or whether ARP was forged", "realserver", now.Addr, "mac", now.MAC, "leg", name)
		}
	}
}

// tell logs what became of a neighbour; good is the level of what needs nobody's attention.
func (n *neighbours) tell(leg string, old, now arpd.Neighbour, good slog.Level) {
	if now.State != arpd.Failed && !n.log.Enabled(context.Background(), good) && (old.MAC.IsZero() || old.MAC == now.MAC) {
		return
	}
	log := n.log.With("realserver", now.Addr, "leg", leg)
	switch {
	case now.State == arpd.Failed:
		log.Warn("realserver does not answer ARP: it gets no new connections until it answers", "was", old.MAC)
	case now.MAC.IsZero() || now.State == arpd.Stale:
		log.Debug("neighbour", "state", now.State)
	case !old.MAC.IsZero() && old.MAC != now.MAC:
		log.Warn("realserver MAC changed", "mac", now.MAC, "was", old.MAC)
	case old.MAC != now.MAC:
		log.Log(context.Background(), good, "realserver", "mac", now.MAC, "state", now.State)
	}
}

// realserverAt is the address of the realserver that has a MAC; of several, the least of the family
// that is wanted, if there is one of it. It is not valid if there is none.
func (n *neighbours) realserverAt(mac frame.MAC, six bool) (who netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for h, known := range n.known {
		if known.MAC != mac {
			continue
		}
		better := h.Addr.Is6() == six
		if !who.IsValid() || better && who.Is6() != six || better == (who.Is6() == six) && h.Addr.Less(who) {
			who = h.Addr
		}
	}
	return who
}

// suspect asks for realservers that clients had to repeat a SYN to: their cable may have been
// pulled.
func (n *neighbours) suspect(hops []forwarder.Hop) {
	of := map[frame.Leg][]netip.Addr{}
	for _, h := range hops {
		of[h.Leg] = append(of[h.Leg], h.Addr)
	}
	for leg, addrs := range of {
		n.links[leg].Suspect(addrs)
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
			n := d.neighbours.at(forwarder.Hop{Leg: r.Leg, Addr: r.Addr})
			mac := n.MAC.String()
			if n.MAC.IsZero() {
				mac = "unresolved"
			}
			d.log.Debug("destination", "service", s.Name, "realserver", r.Addr, "weight", r.Weight, "leg", d.legs[r.Leg].name, "mac", mac)
		}
	}
}
