package realserver

// A step is one setting of a realserver.
type step interface {
	// look reads how it is at present.
	look() (state, error)
	// set makes it as it is wanted, after look has said that it is not, and returns how to take
	// that back.
	set() (change, error)
	// command does the same in sh.
	command() string
}

// state is what look found.
type state struct {
	ok   bool
	what string // the setting and how it is, as "net.ipv4.conf.all.arp_ignore is 0"
	want string // how it is to be, as "1"; only if not ok
	why  string // what goes wrong otherwise; only if not ok
	// byHand is what to do first if set cannot help, since it might destroy what somebody wants.
	byHand string
}

// steps lists them, each for the interfaces whose role it concerns: silence where somebody may ask
// for the VIPs, the filter where requests come in, the route where answers leave. They are in the
// order in which they are safe: silence before there is something to be silent about, and the route
// last, since whoever is logged in by the old one should see the rest.
func (o *Options) steps() []step {
	var out []step
	if o.has4() {
		for _, name := range o.arp {
			out = append(out,
				&sysctl{scope: "ipv4", iface: name, key: "arp_ignore", want: "1", ok: []string{"1", "2"},
					why: "the host would answer ARP for the VIPs, and clients would bypass the director"},
				&sysctl{scope: "ipv4", iface: name, key: "arp_announce", want: "2", ok: []string{"2"},
					why: "the host would send ARP requests with a VIP as the sender address, and neighbours would learn its MAC for the VIP"})
		}
		for _, name := range o.Interfaces {
			out = append(out, &sysctl{scope: "ipv4", iface: name, key: "rp_filter", want: "2", ok: []string{"0", "2"}, ownOnly: true,
				why: "strict reverse path filtering drops requests whose replies leave by another interface"})
		}
	}
	if o.has6() {
		out = append(out, &sysctl{scope: "ipv6", iface: loopback, key: "disable_ipv6", want: "0", ok: []string{"0"}, ownOnly: true, alone: true,
			why: "lo cannot have an IPv6 address"})
	}
	for _, v := range o.VIPs {
		out = append(out, &address{vip: v})
	}
	for _, g := range o.Gateways {
		out = append(out, &route{gateway: g, iface: o.towards[g]})
	}
	return out
}
