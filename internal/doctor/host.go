package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/figures"
)

// checkHost looks at what can be known without sending anything.
func (f *facts) checkHost(r *Report) {
	before := len(r.Findings)
	for _, check := range []func(*Report){f.checkCapabilities, f.checkLegs, f.checkPlan, f.checkVIPs, f.checkRouting, f.checkSourceMAC} {
		check(r)
	}
	if len(r.Findings) == before {
		r.well("this host: capabilities, %s, no VIP in the kernel, guard, source MAC, MTU, offloads", figures.Plural(len(f.legs), "leg"))
	}
}

func (f *facts) checkCapabilities(r *Report) {
	var missing []string
	if !f.capRaw {
		missing = append(missing, "CAP_NET_RAW")
	}
	if !f.capAdmin && f.cfg.Guard {
		missing = append(missing, "CAP_NET_ADMIN")
	}
	if len(missing) == 0 {
		return
	}
	severity, what := Error, "this user cannot run `shunt run`, and no probes were sent"
	if f.capRaw {
		severity, what = Warning, "`shunt run` as this user would have no guard"
	}
	if f.status != nil {
		severity, what = Warning, "the doctor may not send probes: realservers were not checked"
		if f.capRaw {
			severity, what = Warning, "the doctor may not see everything"
		}
	}
	r.find(severity, "capabilities", what, "this process lacks "+strings.Join(missing, " and "),
		"run it as root, or: setcap cap_net_raw,cap_net_admin+ep /path/to/shunt")
}

func (f *facts) checkLegs(r *Report) {
	mtus := map[int][]string{}
	for i := range f.legs {
		l := &f.legs[i]
		name := l.cfg.Interface
		switch {
		case l.err != nil:
			r.find(Error, "leg", "leg "+l.cfg.Name+" cannot be used", fmt.Sprintf("interface %s: %v", name, l.err), "name another interface under legs:, or create this one")
			continue
		case l.ifi.Flags&net.FlagUp == 0:
			r.find(Error, "leg-down", "interface "+name+" is down", "ip link show "+name, "ip link set "+name+" up")
		case l.ifi.Flags&net.FlagRunning == 0:
			r.find(Error, "leg-down", "interface "+name+" has no carrier", "ip link show "+name, "check the cable and the switch port")
		}
		if l.lro {
			r.find(Error, "lro", "interface "+name+" merges received frames by LRO; merged frames cannot be forwarded", "large-receive-offload is on",
				"ethtool -K "+name+" lro off")
		}
		mtus[l.ifi.MTU] = append(mtus[l.ifi.MTU], fmt.Sprintf("%s %d", name, l.ifi.MTU))
	}
	if len(mtus) > 1 {
		var all []string
		for _, names := range mtus {
			all = append(all, names...)
		}
		slices.Sort(all)
		r.find(Warning, "mtu", "the legs have different MTUs: frames longer than the MTU of the outgoing leg are lost",
			"MTU of "+strings.Join(all, ", "), "give all legs and realservers the same MTU")
	}
}

func (f *facts) checkPlan(r *Report) {
	if f.planErr != nil {
		r.find(Error, "no-leg", "realservers are on no leg", f.planErr.Error(), "give the leg's interface an address in the network, or write networks: or leg:")
	}
	for _, n := range f.neighbours {
		if name, own := f.own[n.Addr]; own {
			r.find(Warning, "own-realserver", fmt.Sprintf("realserver %s is this host", n.Addr), "it is an address of "+name,
				"run the realserver on another host or in its own network namespace")
		}
	}
}

// checkVIPs: the kernel of the director must not have the VIPs.
func (f *facts) checkVIPs(r *Report) {
	for _, v := range f.cfg.VIPs() {
		if name, own := f.own[v]; own {
			r.find(Error, "kernel-has-vip", fmt.Sprintf("the VIP %s is an address of this host: its kernel answers for it too", v),
				"it is on "+name, fmt.Sprintf("ip addr del %s/%d dev %s", v, f.bits(name, v), name))
		}
	}
}

func (f *facts) bits(name string, addr netip.Addr) int {
	if ifi, err := net.InterfaceByName(name); err == nil {
		for _, p := range prefixes(ifi) {
			if p.Addr() == addr {
				return p.Bits()
			}
		}
	}
	return addr.BitLen()
}

// checkRouting: without a guard the kernel handles each frame once more.
func (f *facts) checkRouting(r *Report) {
	if f.guardErr != nil && f.capAdmin {
		r.find(Warning, "guard", "the guard could not be checked", f.guardErr.Error(), "see `nft list tables netdev`")
	}
	v6 := slices.ContainsFunc(f.cfg.VIPs(), netip.Addr.Is6)
	v4 := slices.ContainsFunc(f.cfg.VIPs(), netip.Addr.Is4)
	routes := f.forward4 && v4 || f.forward6 && v6
	setting := "net.ipv4.ip_forward"
	if !f.forward4 || !v4 {
		setting = "net.ipv6.conf.all.forwarding"
	}
	var bare []string // interfaces without
	for i := range f.legs {
		name := f.legs[i].cfg.Interface
		switch {
		case f.legs[i].err != nil || f.guardErr != nil:
		case f.status == nil && f.guards[name] != "":
			r.find(Warning, "stale-guard", "a guard drops frames to the VIPs on "+name+", but its director is not running", "table netdev "+f.guards[name],
				"start the director; if another director has the VIPs now, leave the guard; nft delete table netdev "+f.guards[name]+" removes it")
		case f.guards[name] == "" && (f.status != nil || !f.cfg.Guard):
			bare = append(bare, name)
		}
	}
	missing := "no guard of this director on " + strings.Join(bare, ", ")
	switch {
	case len(bare) == 0:
	case routes:
		r.find(Error, "forwarding", "this host's kernel routes, and no guard hides the frames to the VIPs from it: each frame is sent twice",
			setting+"=1, and "+missing, "sysctl -w "+setting+"=0 takes effect at once; "+f.guardRemedy())
	case f.cfg.Guard:
		r.find(Warning, "guard", "guard: auto, but some legs have no guard", missing,
			f.guardRemedy()+"; keep "+setting+"=0 and the VIPs off this host, or write guard: off")
	}
}

// guardRemedy says how a guard that is missing is had.
func (f *facts) guardRemedy() string {
	switch {
	case !f.cfg.Guard:
		return "or write guard: auto and restart the director"
	case f.status != nil && f.status.Guard != nil && f.status.Guard.Missing != "":
		return "find the program that deletes the tables of family netdev (named in the log), for example by `nft flush ruleset`, and make it keep them"
	case f.status != nil && f.status.Guard != nil && f.status.Guard.Error == "":
		return "the director restores a removed guard within a second: run the doctor again, and see the log for \"guard\""
	}
	return "see the log for \"no guard\", correct the cause, and restart the director"
}

// checkSourceMAC: a frame that leaves by the leg it came in by must not keep its source MAC.
func (f *facts) checkSourceMAC(r *Report) {
	const poison = "a switch learns the MAC of the clients' gateway on the director's port, and the realservers' replies arrive here"
	if f.cfg.Settings.Source == forwarder.SourcePreserve {
		for _, n := range f.neighbours {
			if l := &f.legs[n.Leg]; l.cfg.Public {
				r.find(Error, "source-mac", "source_mac: preserve on a leg with both clients and realservers: "+poison,
					fmt.Sprintf("realserver %s is on %s, which is public", n.Addr, l.cfg.Name), "source_mac: auto")
				return
			}
		}
	}
	if f.cfg.Settings.Source == forwarder.SourceOwn {
		return
	}
	for i := range f.legs {
		for j := range f.legs[:i] {
			a, b, shared := overlap(f.legs[i].nets, f.legs[j].nets)
			if shared && f.legs[i].cfg.VLAN == f.legs[j].cfg.VLAN {
				r.find(Warning, "source-mac", "two legs appear to be in one layer-2 network: "+poison,
					fmt.Sprintf("%s has %s, %s has %s", f.legs[i].cfg.Name, a, f.legs[j].cfg.Name, b), "source_mac: own")
			}
		}
	}
}

func overlap(a, b []netip.Prefix) (x, y netip.Prefix, ok bool) {
	for _, x := range routable(a) {
		for _, y := range routable(b) {
			if x.Overlaps(y) && x.Bits() < x.Addr().BitLen() && y.Bits() < y.Addr().BitLen() {
				return x, y, true
			}
		}
	}
	return x, y, false
}

// macs are those that the configuration gives.
func (f *facts) macs() map[netip.Addr]frame.MAC {
	out := map[netip.Addr]frame.MAC{}
	for _, n := range f.neighbours {
		if !n.MAC.IsZero() {
			out[n.Addr] = n.MAC
		}
	}
	return out
}
