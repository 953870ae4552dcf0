package doctor

import (
	"fmt"
	"net/netip"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/figures"
)

// checkAnswers judges who answered, and returns the realservers' MACs.
func (f *facts) checkAnswers(r *Report, e *ear) map[netip.Addr]frame.MAC {
	macs := f.macs()
	before := len(r.Findings)
	asked := 0
	for _, n := range f.neighbours {
		if _, own := f.own[n.Addr]; own || !f.legs[n.Leg].usable() {
			continue
		}
		asked++
		f.checkNeighbour(r, n, e.who(question{n.Leg, n.Addr}), macs)
	}
	if len(r.Findings) == before && asked > 0 {
		r.well("%s: the MAC of each is known", figures.Plural(asked, "realserver"))
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
		r.well("no realserver or other host answers ARP for %s", figures.Plural(len(f.cfg.VIPs()), "VIP"))
	}
	return macs
}

// checkNeighbour looks at the answers for a realserver's address.
func (f *facts) checkNeighbour(r *Report, n forwarder.Neighbour, who []frame.MAC, macs map[netip.Addr]frame.MAC) {
	leg := f.legs[n.Leg].cfg.Name
	switch {
	case len(who) == 0 && n.MAC.IsZero():
		severity := Error
		if f.drained(n.Addr) {
			severity = Warning
		}
		r.find(severity, "unresolved", fmt.Sprintf("realserver %s does not answer on leg %s: its MAC is unknown, and it gets no connections", n.Addr, leg),
			fmt.Sprintf("%d requests, no answer", rounds), "check that it is up and in this layer-2 network, and check leg:, networks: and vlan:; if it does not speak ARP, write its mac:")
	case len(who) > 1:
		r.find(Error, "duplicate-rip", fmt.Sprintf("several hosts answer for the address of realserver %s", n.Addr), fmt.Sprintf("on leg %s %v answered", leg, who),
			"give each host its own address")
	case !n.MAC.IsZero() && len(who) == 1 && who[0] != n.MAC:
		r.find(Error, "static-mac", fmt.Sprintf("realserver %s: its MAC differs from the configuration", n.Addr),
			fmt.Sprintf("mac: %s, but %s answers", n.MAC, who[0]), "correct mac:, or remove it")
	}
	if len(who) > 0 && n.MAC.IsZero() {
		macs[n.Addr] = who[0]
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
					if x.Weight > 0 {
						f.working[x.Address.Addr()] = true
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
		severity, what := Error, fmt.Sprintf("realserver %s answers ARP for the VIP %s: its clients bypass the director", rip, vip)
		if !l.cfg.Public {
			severity, what = Warning, fmt.Sprintf("realserver %s answers ARP for the VIP %s on leg %s, which should have no clients", rip, vip, l.cfg.Name)
		}
		remedy := fmt.Sprintf("on the realserver: shunt realserver apply --vip %s, or: sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2, and configure the VIP on lo only", vip)
		if vip.Is6() {
			remedy = fmt.Sprintf("on the realserver: configure %s on lo only, not on a network interface", vip)
		}
		r.find(severity, "arp-problem", what, evidence, remedy)
		return
	}
	if f.status == nil {
		r.find(Warning, "other-director", fmt.Sprintf("another host has the VIP %s", vip), evidence,
			"if it is the active director, do not start this one; otherwise find the host by its MAC")
		return
	}
	r.find(Error, "two-directors", fmt.Sprintf("another host answers for the VIP %s while this director has it", vip), evidence,
		"run one director at a time: stop the other one, or find the host by its MAC")
}
