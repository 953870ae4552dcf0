package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shunt/forwarder/frame"
)

// pair is a realserver and a VIP that it serves.
type pair struct {
	rip, vip netip.Addr
	leg      frame.Leg
	mac      frame.MAC
	ports    []uint16 // TCP
	drained  bool     // weight 0 in all services
}

// pairs lists what is to be proved: each VIP of each realserver whose MAC is known, once.
func (f *facts) pairs(macs map[netip.Addr]frame.MAC) (out []*pair) {
	legs := map[netip.Addr]frame.Leg{}
	for _, n := range f.neighbours {
		legs[n.Address] = n.Leg
	}
	known := map[[2]netip.Addr]*pair{}
	for i := range f.cfg.Services {
		s := &f.cfg.Services[i]
		for _, x := range s.Realservers {
			mac, resolved := macs[x.Address]
			_, own := f.own[x.Address]
			if leg, placed := legs[x.Address]; !resolved || own || !placed || !f.legs[leg].usable() {
				continue
			}
			for _, m := range s.Matches {
				key := [2]netip.Addr{x.Address, m.Addr}
				p := known[key]
				if p == nil {
					p = &pair{rip: x.Address, vip: m.Addr, leg: legs[x.Address], mac: mac, drained: f.drained(x.Address)}
					known[key] = p
					out = append(out, p)
				}
				if m.Proto == frame.TCP && m.First == m.Last && !slices.Contains(p.ports, m.First) {
					p.ports = append(p.ports, m.First)
				}
			}
		}
	}
	return out
}

// sources returns the address from which a pair is probed directly, and one of another network whose answer has to take the
// client's way, by the gateway; either may be missing.
func (f *facts) sources(p *pair) (direct, far netip.Addr, farLeg frame.Leg) {
	direct = f.legs[p.leg].addr(p.vip.Is6())
	for _, i := range f.public() {
		l := &f.legs[i]
		if a := l.addr(p.vip.Is6()); frame.Leg(i) != p.leg && l.usable() && a.IsValid() && !near(f.legs[p.leg].nets, a) {
			return direct, a, frame.Leg(i)
		}
	}
	return direct, far, 0
}

func near(nets []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// result is what the probes of a pair brought.
type result struct {
	*pair
	ping, far *probe
	syns      []*probe
}

// probe sends frames to the VIPs to each realserver, as the director does.
func (f *facts) probe(ctx context.Context, r *Report, macs map[netip.Addr]frame.MAC, wait time.Duration) error {
	x := newProber()
	var results []*result
	var noAddress []string
	for _, p := range f.pairs(macs) {
		direct, far, farLeg := f.sources(p)
		if !direct.IsValid() && !far.IsValid() {
			noAddress = append(noAddress, p.rip.String())
			continue
		}
		res := &result{pair: p}
		add := func(k kind, port uint16, src netip.Addr, in frame.Leg) (*probe, error) {
			q := &probe{kind: k, rip: p.rip, vip: p.vip, port: port, src: src, mac: p.mac, out: p.leg, in: in, direct: src == direct}
			if k == syn {
				var err error
				if q.srcPort, err = x.port(src); err != nil {
					return nil, err
				}
			}
			x.add(q)
			return q, nil
		}
		src, in := direct, p.leg
		if !direct.IsValid() {
			src, in = far, farLeg
		}
		var err error
		if res.ping, err = add(echo, 0, src, in); err != nil {
			return err
		}
		for _, port := range p.ports {
			q, err := add(syn, port, src, in)
			if err != nil {
				return err
			}
			res.syns = append(res.syns, q)
		}
		if direct.IsValid() && far.IsValid() {
			if res.far, err = add(echo, 0, far, farLeg); err != nil {
				return err
			}
		}
		results = append(results, res)
	}
	if err := x.run(ctx, f, wait); err != nil {
		return err
	}
	f.judge(r, results, noAddress)
	return nil
}

func (f *facts) judge(r *Report, results []*result, noAddress []string) {
	before := len(r.Findings)
	far, answered := 0, 0
	for _, res := range results {
		res.judge(r)
		if res.far != nil && res.far.got != 0 {
			far++
		}
		for _, s := range res.syns {
			if s.got == syn {
				answered++
			}
		}
	}
	if len(noAddress) > 0 {
		r.find(Warning, "not-probed", "whether these realservers have the VIP was not looked at: "+strings.Join(noAddress, ", "),
			"the director's host has no address, of the VIP's family, to which they could answer", "give a leg an address, for the doctor alone")
	}
	if len(results) > 0 && len(r.Findings) == before {
		r.well("%s: each has the VIP and answered a frame to it (ping; SYN: %s)", plural(len(results), "pair")+" of realserver and VIP", plural(answered, "server"))
		if far > 0 {
			r.well("the way back by the gateway: %s arrived", plural(far, "answer"))
		} else {
			r.well(notLooked + "the way back by the gateway, as this host has no address outside of the realservers' networks")
		}
	}
}

// judge says what the answers, or their absence, tell about a pair.
func (res *result) judge(r *Report) {
	who := fmt.Sprintf("realserver %s", res.rip)
	frames := fmt.Sprintf("frames from %s to %s, sent to %s", res.ping.src, res.vip, res.mac)
	var open, refused, silent []string
	for _, s := range res.syns {
		port := fmt.Sprint(s.port)
		switch s.got {
		case syn:
			open = append(open, port)
		case rst:
			refused = append(refused, port)
		default:
			silent = append(silent, port)
		}
	}
	severity := Error
	if res.drained {
		severity = Warning
	}
	alive := res.ping.got != 0 || len(open)+len(refused) > 0
	if !alive {
		evidence := frames + ": neither the ping nor a SYN was answered, but it answers ARP for its own address"
		if res.ping.text != "" {
			evidence += "; " + res.ping.text
		}
		r.find(severity, "vip-missing", fmt.Sprintf("%s does not take what is sent to the VIP %s", who, res.vip), evidence,
			fmt.Sprintf("on %s: shunt realserver check --vip %s; the VIP on lo is missing, or a firewall or rp_filter=1 drops it there", res.rip, res.vip))
		return
	}
	if len(refused) > 0 {
		r.find(severity, "no-server", fmt.Sprintf("%s refuses connections to %s port %s: no server listens there on the VIP", who, res.vip, strings.Join(refused, ", ")),
			frames+": the SYN was answered by a RST", fmt.Sprintf("start the server on it, listening on %s or on all addresses, and on that port", res.vip))
	}
	if len(silent) > 0 {
		r.find(severity, "no-answer", fmt.Sprintf("%s does not answer connections to %s port %s", who, res.vip, strings.Join(silent, ", ")),
			frames+": the SYN was not answered, though the VIP is there", "a firewall on the realserver, or a server whose queue is full")
	}
	if res.far != nil && res.far.got == 0 {
		evidence := fmt.Sprintf("a ping from %s to %s, sent to %s, was not answered to %s; one from %s was", res.far.src, res.vip, res.mac, res.far.src, res.ping.src)
		if res.far.text != "" {
			evidence += "; " + res.far.text
		}
		r.find(severity, "way-back", fmt.Sprintf("what %s answers from %s does not come back by the gateway", who, res.vip), evidence,
			"the realserver's default route, rp_filter=1 there, or on the gateway rp_filter=1 or a firewall that wants to see both halves (docs/running.md, \"Realservers\")")
	}
}
