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

// deadGateways asks for those whom realservers asked for that did not answer the stranger, and
// returns by MAC of a realserver those for whom nobody answers: its default route leads to one of
// them.
func (e *ear) deadGateways(ctx context.Context, results []*result, wait time.Duration) (map[frame.MAC][]netip.Addr, error) {
	suspects := map[frame.Leg][]netip.Addr{}
	for _, res := range results {
		if res.silent() {
			for _, a := range e.suspects(res) {
				suspects[res.leg] = appendNew(suspects[res.leg], a)
			}
		}
	}
	if len(suspects) == 0 {
		return nil, nil
	}
	if err := e.ask(ctx, wait, func(l frame.Leg) []netip.Addr { return suspects[l] }); err != nil {
		return nil, err
	}
	out := map[frame.MAC][]netip.Addr{}
	for _, res := range results {
		if !res.silent() {
			continue
		}
		for _, a := range e.suspects(res) {
			if len(e.who(question{res.leg, a})) == 0 {
				out[res.mac] = appendNew(out[res.mac], a)
			}
		}
	}
	return out, nil
}

// suspects are the addresses of the stranger's family that a realserver asked for, without those of
// this host.
func (e *ear) suspects(res *result) []netip.Addr {
	return slices.DeleteFunc(e.questions(res.mac), func(a netip.Addr) bool {
		_, mine := e.f.own[a]
		return mine || a == res.from.addr || a.Is6() != res.vip.Is6() || slices.Contains(e.f.cfg.VIPs(), a)
	})
}

// silent reports whether a realserver that answers its neighbour did not answer the stranger.
func (res *result) silent() bool { return res.far != nil && res.far.got == 0 && res.alive() }

// A route is how the answer to the stranger came.
type route int

const (
	byGateway  route = iota // from another MAC than the realserver's
	byDirector              // from the realserver itself, to this host
	byDead                  // not at all: it asks for a gateway that does not answer
	byItself                // it has a route of its own to the stranger's network, so that nothing is known
	byNobody                // not at all
)

func (e *ear) route(res *result, dead []netip.Addr) route {
	switch {
	case res.far.got != 0 && res.far.by != res.mac:
		return byGateway
	case slices.Contains(e.questions(res.mac), res.from.addr):
		return byItself
	case res.far.got != 0:
		return byDirector
	case len(dead) > 0:
		return byDead
	}
	return byNobody
}

// judgeWaysBack says of each realserver and family how its answers go back to clients.
func (f *facts) judgeWaysBack(r *Report, e *ear, results []*result, dead map[frame.MAC][]netip.Addr) {
	proven := map[bool]int{} // by family: a gateway brings answers to the stranger here
	for _, res := range results {
		if res.far != nil && e.route(res, nil) == byGateway {
			proven[res.vip.Is6()]++
		}
	}
	seen := map[netip.Addr]bool{}
	for _, res := range results {
		if seen[res.rip] || !res.alive() {
			continue
		}
		seen[res.rip] = true
		if res.far == nil {
			f.backUnknown(r, res, "no source address for the ping: "+f.noStranger(), "name an address by --from")
			continue
		}
		f.judgeWayBack(r, res, e.route(res, dead[res.mac]), dead[res.mac], proven[res.vip.Is6()] > 0)
	}
	if n := proven[false] + proven[true]; n > 0 {
		r.well("the return path through the gateway: %s arrived", figures.Plural(n, "answer"))
	}
}

func (f *facts) noStranger() string {
	if f.fromNobody {
		return "--from none"
	}
	return "a host answered for every address tried"
}

// backUnknown notes that nothing is known of the way back, unless the director's table has
// connections whose clients were answered.
func (f *facts) backUnknown(r *Report, res *result, why, remedy string) {
	switch h := f.table[res.rip]; {
	case h.stuck(): // which was told already
	case h.established():
		r.well("the return path from %s: the director's table has connections whose clients received replies", res.rip)
	default:
		r.unknown("way-back", "the return path from realserver "+res.rip.String()+" through the gateway", why, remedy)
	}
}

const wayBackHelp = "; docs/running.md, \"The way back\""

// judgeWayBack says what one route means.
func (f *facts) judgeWayBack(r *Report, res *result, way route, dead []netip.Addr, proven bool) {
	who := fmt.Sprintf("realserver %s", res.rip)
	ping := fmt.Sprintf("a ping from %s to %s, sent to %s", res.from.addr, res.vip, res.mac)
	apply := fmt.Sprintf("on the realserver: shunt realserver apply --vip %s --gateway GATEWAY", res.vip)
	severity := Error
	if res.drained {
		severity = Warning
	}
	switch way {
	case byDirector:
		what, forwards := " sends its replies to this host instead of the gateway, and this host drops them", f.forward4
		if res.vip.Is6() {
			forwards = f.forward6
		}
		if forwards {
			what, severity = " sends its replies through this host instead of the gateway", Warning
		}
		r.find(severity, "way-back-director", who+what, ping+": the reply came here directly from "+res.mac.String()+", not through the gateway",
			apply+"; its default route must not be an address of the director"+wayBackHelp)
	case byDead:
		r.find(severity, "way-back-gateway", fmt.Sprintf("%s sends its replies to a gateway that does not answer ARP: %s", who, joinAddrs(dead)),
			fmt.Sprintf("%s, got no reply to %s; meanwhile the realserver sent ARP requests for %s, which no host on %s answers", ping, res.from.addr, joinAddrs(dead), f.legs[res.leg].cfg.Name),
			apply+", or repair that gateway"+wayBackHelp)
	case byItself:
		f.backUnknown(r, res, fmt.Sprintf("the realserver sends ARP requests for %s: it reaches this address without the gateway", res.from.addr), "name an address of another network by --from")
	case byNobody:
		f.judgeSilence(r, res, who, ping, apply, severity, proven)
	}
}

// judgeSilence: no answer came, and nothing tells why.
func (f *facts) judgeSilence(r *Report, res *result, who, ping, apply string, severity Severity, proven bool) {
	evidence := fmt.Sprintf("%s, got no reply to %s; a ping from %s did", ping, res.from.addr, res.ping.src)
	if res.far.text != "" {
		evidence += "; " + res.far.text
	}
	certain := proven || res.from.kind == own || f.table[res.rip].stuck() || f.fromAddr.IsValid()
	switch {
	case !certain && res.from.kind == abroad:
		f.backUnknown(r, res, "this host has no address outside the realservers' network to which the gateway routes, and found none near the VIP",
			"name an address by --from ADDRESS that the gateway routes to this host")
		return
	case !certain && f.table[res.rip].established():
		f.backUnknown(r, res, "", "")
		return
	case !certain && (r.has("two-directors") || r.has("other-director")):
		f.backUnknown(r, res, "another host has the VIP: if it is the gateway, it drops the replies", "correct that first")
		return
	case !certain:
		severity = Warning
		evidence += fmt.Sprintf("; %s was chosen as an unused address near the VIP, and received nothing", res.from.addr)
	case proven:
		evidence += "; replies of other realservers came through the gateway"
	}
	remedy := apply + ": its default route is missing or wrong, it has rp_filter=1, or the gateway has rp_filter=1 or a stateful firewall that must see both directions"
	if !certain {
		remedy += "; if the gateway does not route " + res.from.addr.String() + " to this host: --from ADDRESS, or --from none"
	}
	r.find(severity, "way-back", fmt.Sprintf("the replies of %s from %s do not come back through the gateway", who, res.vip), evidence, remedy+wayBackHelp)
}

func joinAddrs(list []netip.Addr) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return strings.Join(out, " and ")
}
