package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shunt/forwarder/frame"
	"shunt/internal/figures"
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
		legs[n.Addr] = n.Leg
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

// result is what the probes of a pair brought.
type result struct {
	*pair
	ping *probe
	syns []*probe
	far  *probe // from the stranger; nil: there is none
	from stranger
}

// prepare makes the probes of a pair; nil if this host has no address to which the realserver could
// answer.
func (f *facts) prepare(x *prober, p *pair, far stranger) (*result, error) {
	res := &result{pair: p, from: far}
	src, direct := f.legs[p.leg].addrFor(p.rip)
	if !src.IsValid() && far.kind == own {
		src = far.addr
	}
	if !src.IsValid() {
		return nil, nil
	}
	add := func(k kind, port uint16, src netip.Addr, direct bool) (*probe, error) {
		q := &probe{kind: k, rip: p.rip, vip: p.vip, port: port, src: src, mac: p.mac, out: p.leg, direct: direct}
		if k == syn {
			var err error
			if q.srcPort, err = x.port(src); err != nil {
				return nil, err
			}
		}
		x.add(q)
		return q, nil
	}
	var err error
	if res.ping, err = add(echo, 0, src, direct); err != nil {
		return nil, err
	}
	for _, port := range p.ports {
		q, err := add(syn, port, src, direct)
		if err != nil {
			return nil, err
		}
		res.syns = append(res.syns, q)
	}
	if far.kind != noStranger {
		res.far, err = add(echo, 0, far.addr, false)
	}
	return res, err
}

// probe sends frames to the VIPs to each realserver, as the director does.
func (f *facts) probe(ctx context.Context, r *Report, e *ear, macs map[netip.Addr]frame.MAC, wait time.Duration) error {
	x := newProber()
	free := e.free()
	strangers := map[bool]stranger{false: f.stranger(false, free), true: f.stranger(true, free)}
	for _, s := range strangers {
		if s.lent() {
			e.lend([]netip.Addr{s.addr}, macs)
		}
	}
	var results []*result
	var noAddress []string
	for _, p := range f.pairs(macs) {
		res, err := f.prepare(x, p, strangers[p.vip.Is6()])
		if err != nil {
			return err
		}
		if res == nil {
			noAddress = append(noAddress, p.rip.String())
			continue
		}
		results = append(results, res)
	}
	if err := x.run(ctx, f, wait); err != nil {
		return err
	}
	gateways, err := e.deadGateways(ctx, results, wait)
	if err != nil {
		return err
	}
	f.judge(r, results, noAddress)
	f.judgeWaysBack(r, e, results, gateways)
	return nil
}

func (f *facts) judge(r *Report, results []*result, noAddress []string) {
	before := len(r.Findings)
	answered := 0
	for _, res := range results {
		res.judge(r)
		for _, s := range res.syns {
			if s.got == syn {
				answered++
			}
		}
	}
	if len(noAddress) > 0 {
		r.find(Warning, "not-probed", "realservers not checked for the VIP: "+strings.Join(noAddress, ", "),
			"the director's host has no address of the VIP's family to which they could reply", "give a leg an address (only the doctor uses it)")
	}
	if len(results) > 0 && len(r.Findings) == before {
		r.well("%s: each has the VIP and answered a frame to it (ping; SYN: %s)", figures.Plural(len(results), "pair")+" of realserver and VIP", figures.Plural(answered, "server"))
	}
}

// alive reports whether a realserver answered anything that was sent to the VIP.
func (res *result) alive() bool {
	return res.ping.got != 0 || slices.ContainsFunc(res.syns, func(p *probe) bool { return p.got != 0 })
}

// judge says what the answers, or their absence, tell about a pair.
func (res *result) judge(r *Report) {
	who := fmt.Sprintf("realserver %s", res.rip)
	frames := fmt.Sprintf("frames from %s to %s, sent to %s", res.ping.src, res.vip, res.mac)
	var refused, silent []string
	for _, s := range res.syns {
		port := fmt.Sprint(s.port)
		switch s.got {
		case syn:
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
	if !res.alive() {
		evidence := frames + ": neither the ping nor a SYN was answered, but the realserver answers ARP for its own address"
		if res.ping.text != "" {
			evidence += "; " + res.ping.text
		}
		r.find(severity, "vip-missing", fmt.Sprintf("%s does not accept packets to the VIP %s", who, res.vip), evidence,
			fmt.Sprintf("on %s: shunt realserver check --vip %s; the VIP is missing on lo, or a firewall or rp_filter=1 on the realserver drops the packets", res.rip, res.vip))
		return
	}
	if len(refused) > 0 {
		r.find(severity, "no-server", fmt.Sprintf("%s refuses connections to %s port %s: no server listens there on the VIP", who, res.vip, strings.Join(refused, ", ")),
			frames+": the SYN was answered by a RST", fmt.Sprintf("start the server on the realserver; it must listen on that port, on %s or on all addresses", res.vip))
	}
	if len(silent) > 0 {
		r.find(severity, "no-answer", fmt.Sprintf("%s does not answer connections to %s port %s", who, res.vip, strings.Join(silent, ", ")),
			frames+": the SYN was not answered, although the VIP is configured", "check for a firewall on the realserver, or a server whose accept queue is full")
	}
}
