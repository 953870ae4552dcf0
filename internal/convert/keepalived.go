package convert

import (
	"math"
	"net/netip"
	"strings"

	"shunt/api"
)

// keepalived reads keepalived.conf from its statements. What they mean is what keepalived 2.2.7
// makes of them.
func (r *result) keepalived(tree []*node) {
	groups := map[string]*group{}
	for _, n := range tree {
		if n.word(0) == "global_defs" {
			r.globalDefs(n)
		}
		if n.word(0) != "virtual_server_group" {
			continue
		}
		if groups[n.word(1)] != nil {
			r.lose(n.place, "%s: duplicate group name: keepalived uses the first group", n)
			continue
		}
		groups[n.word(1)] = r.group(n)
	}
	for _, n := range tree {
		switch n.word(0) {
		case "virtual_server":
			r.virtualServer(n, groups)
		case "virtual_server_group", "global_defs", "":
		case "vrrp_instance":
			r.vrrpInstance(n)
		default:
			r.lose(n.place, "%s: no counterpart", n)
		}
	}
	r.noteChecks(`have what checks set the weight to 0 (docs/from-keepalived.md, "Health checks")`)
}

// vrrpInstance tells on which interface VIPs are; all else is what shunt has not.
func (r *result) vrrpInstance(n *node) {
	r.lose(n.place, "vrrp_instance %s: shunt does not implement VRRP: keep keepalived for VRRP, and start and stop shunt from its notify scripts (docs/running.md, \"Two directors\")",
		n.word(1))
	iface := ""
	for _, c := range n.children {
		if c.word(0) == "interface" {
			iface = c.word(1)
		}
	}
	for _, c := range n.children {
		if c.word(0) != "virtual_ipaddress" {
			continue
		}
		for _, a := range c.children {
			text, _, _ := strings.Cut(a.word(0), "/")
			dev := iface
			for i := 1; i+1 < len(a.words); i++ {
				if a.words[i] == "dev" {
					dev = a.words[i+1]
				}
			}
			if addr, err := netip.ParseAddr(text); err == nil {
				r.ifaces[addr] = dev
			}
		}
		r.remark(c.place, "virtual_ipaddress: take the VIPs that shunt is to have out of here: they must not be on the director's host")
	}
}

// lostGlobals are statements of global_defs that have to do with IPVS and have no counterpart.
var lostGlobals = map[string]string{
	"lvs_sync_daemon":        "connections are not synchronised between directors",
	"net_namespace":          "start shunt in that network namespace",
	"net_namespace_ipvs":     "start shunt in that network namespace",
	"lvs_notify_fifo":        "no counterpart",
	"lvs_notify_fifo_script": "no counterpart",
	"lvs_flush_on_stop":      "shunt takes no frames when it has ended, and its connections are there again when it starts",
}

func (r *result) globalDefs(n *node) {
	for _, c := range n.children {
		why, lost := lostGlobals[c.word(0)]
		switch key := c.word(0); {
		case lost:
			r.lose(c.place, "%s: %s", c, why)
		case key == "lvs_timeouts":
			r.lvsTimeouts(c)
		case key == "nftables_ipvs":
			r.nextMark = firstMark
		case key == "nftables_ipvs_start_fwmark":
			r.startMark(c)
		}
	}
}

// firstMark is the mark of the first group with nftables_ipvs.
const firstMark = 1000

// startMark reads another one, which counts after nftables_ipvs only.
func (r *result) startMark(n *node) {
	mark, ok := kaNumber(n.word(1), 1, math.MaxUint32, false)
	switch {
	case !ok:
		r.remark(n.place, "%s: it is no mark: keepalived ignores the line", n)
	case r.nextMark != 0:
		r.nextMark = uint32(mark)
	}
}

// lvsTimeouts reads pairs of a name and a number of seconds, of which 0 changes nothing.
func (r *result) lvsTimeouts(n *node) {
	t := &api.Timeouts{}
	fields := map[string]*float64{"tcp": &t.TCP, "tcpfin": &t.TCPFin, "udp": &t.UDP}
	for i := 1; i < len(n.words); i++ {
		to := fields[n.words[i]]
		if to == nil {
			r.remark(n.place, "lvs_timeouts: %s is no timeout: keepalived ignores it", n.words[i])
			continue
		}
		i++
		seconds, ok := kaNumber(n.word(i), 0, maxSeconds, false)
		if !ok {
			r.remark(n.place, "lvs_timeouts: %s %q is no number of seconds up to %d: keepalived ignores it", n.words[i-1], n.word(i), maxSeconds)
			continue
		}
		*to = float64(seconds)
	}
	setTimeouts(&r.timeouts, t)
}

// maxSeconds is 31 days, the longest timeout.
const maxSeconds = 86400 * 31

// kaNumber reads a number as keepalived does: digits after blanks, in a range. Of a lenient one the
// digits at its beginning count, or 0 if there are none.
func kaNumber(s string, low, high uint64, lenient bool) (uint64, bool) {
	s = strings.TrimPrefix(strings.TrimLeft(s, blanks), "+")
	var n uint64
	i := 0
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9' && n <= 1<<40; i++ {
		n = n*10 + uint64(s[i]-'0')
	}
	whole := i > 0 && i == len(s)
	return n, (whole || lenient && !strings.HasPrefix(s, "-")) && n >= low && n <= high
}

// oddNumber notes a number of which keepalived takes the digits at the beginning.
func (r *result) oddNumber(p place, s string) {
	if strings.Trim(s, blanks+"+0123456789") != "" {
		r.remark(p, "%q is no number: keepalived takes the digits at its beginning", s)
	}
}
