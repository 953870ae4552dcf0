package doctor

import (
	"fmt"
	"net/netip"

	"shunt/forwarder/frame"
	"shunt/internal/config"
)

// checkAnswers judges who answered, and returns the realservers' MACs.
func (f *facts) checkAnswers(r *Report, e *ear) map[netip.Addr]frame.MAC {
	macs := f.macs()
	before := len(r.Findings)
	asked := 0
	for _, n := range f.neighbours {
		if _, own := f.own[n.Address]; own || !f.legs[n.Leg].usable() {
			continue
		}
		asked++
		f.checkNeighbour(r, n, e.who(question{n.Leg, n.Address}), macs)
	}
	if len(r.Findings) == before && asked > 0 {
		r.well("%s: the MAC of each is known", plural(asked, "realserver"))
	}
	before = len(r.Findings)
	for i := range f.legs {
		for _, v := range f.cfg.VIPs() {
			for _, mac := range e.who(question{frame.Leg(i), v}) {
				f.checkClaim(r, &f.legs[i], v, mac, macs)
			}
		}
	}
	if len(r.Findings) == before {
		r.well("no realserver, and nobody else, answers for %s", plural(len(f.cfg.VIPs()), "VIP"))
	}
	return macs
}

// checkNeighbour looks at the answers for a realserver's address.
func (f *facts) checkNeighbour(r *Report, n config.Neighbour, who []frame.MAC, macs map[netip.Addr]frame.MAC) {
	leg := f.legs[n.Leg].cfg.Name
	switch {
	case len(who) == 0 && n.MAC.IsZero():
		severity := Error
		if f.drained(n.Address) {
			severity = Warning
		}
		r.find(severity, "unresolved", fmt.Sprintf("realserver %s does not answer on leg %s: its MAC is not known, and it gets no connections", n.Address, leg),
			fmt.Sprintf("asked for %d times, no answer", rounds), "is it up, and in this layer-2 network? Is leg:, networks: or vlan: wrong? If it does not speak ARP, write its mac:")
	case len(who) > 1:
		r.find(Error, "duplicate-rip", fmt.Sprintf("several hosts have the address of realserver %s", n.Address), fmt.Sprintf("on leg %s %v answered", leg, who),
			"give each its own address")
	case !n.MAC.IsZero() && len(who) == 1 && who[0] != n.MAC:
		r.find(Error, "static-mac", fmt.Sprintf("realserver %s has another MAC than the configuration says", n.Address),
			fmt.Sprintf("mac: %s, but %s answers", n.MAC, who[0]), "correct mac:, or leave it out")
	}
	if len(who) > 0 && n.MAC.IsZero() {
		macs[n.Address] = who[0]
	}
}

// drained reports whether a realserver has weight 0 wherever it is one, on purpose therefore: in
// the running director, which may have been told so since it read its file, or else in the file.
func (f *facts) drained(addr netip.Addr) bool {
	if f.working == nil {
		f.working = map[netip.Addr]bool{}
		if f.status != nil {
			for i := range f.status.Services {
				for _, x := range f.status.Services[i].Realservers {
					if at, err := netip.ParseAddrPort(x.Address); err == nil && x.Weight > 0 {
						f.working[at.Addr()] = true
					}
				}
			}
		} else {
			for i := range f.cfg.Services {
				for _, x := range f.cfg.Services[i].Realservers {
					if x.Weight > 0 {
						f.working[x.Address] = true
					}
				}
			}
		}
	}
	return !f.working[addr]
}

// checkClaim: somebody else than this host answered for a VIP.
func (f *facts) checkClaim(r *Report, l *legFacts, vip netip.Addr, mac frame.MAC, macs map[netip.Addr]frame.MAC) {
	evidence := fmt.Sprintf("asked on %s who has %s, %s answered", l.cfg.Name, vip, mac)
	for i := range f.legs {
		if f.legs[i].mac == mac {
			return // another leg of ours, in the same network
		}
	}
	if rip, ok := realserverOf(macs, mac); ok {
		severity, what := Error, fmt.Sprintf("realserver %s answers ARP for the VIP %s: clients go to it past the director", rip, vip)
		if !l.cfg.Public {
			severity, what = Warning, fmt.Sprintf("realserver %s answers ARP for the VIP %s on leg %s, where no client should ask", rip, vip, l.cfg.Name)
		}
		remedy := fmt.Sprintf("on it: shunt realserver apply --vip %s, or: sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2, and the VIP on lo only", vip)
		if vip.Is6() {
			remedy = fmt.Sprintf("on it: have %s on lo only, not on an interface that faces the network", vip)
		}
		r.find(severity, "arp-problem", what, evidence, remedy)
		return
	}
	if f.status == nil {
		r.find(Warning, "other-director", fmt.Sprintf("another host has the VIP %s", vip), evidence,
			"if it is the director at work, this one must not be started beside it; else find it by its MAC")
		return
	}
	r.find(Error, "two-directors", fmt.Sprintf("another host answers for the VIP %s while this director has it", vip), evidence,
		"let one director run at a time: end the other one, or find the host by its MAC")
}
