package convert

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shunt/internal/ipvsadm"
	"shunt/scheduler"
)

// A virtualServer is a virtual_server block while it is read. What its statements mean depends on
// their order.
type virtualServer struct {
	*result
	n      *node
	s      service // what all services of the block have
	named  *entry  // the address or mark of the block; nil for a group
	group  *group
	family int    // 4, 6, or 0 if it is not known
	method method // "": not said
	masked bool   // a granularity was said
	weight int32
	reals  []*realServer
}

// A realServer is a real_server block while it is read.
type realServer struct {
	real
	n        *node
	weighted bool // its weight was said
}

// defaultPersistence is that of IPVS where no time is given.
const defaultPersistence = 360 * time.Second

// virtualServer reads one block, into as many services as it stands for.
func (r *result) virtualServer(n *node, groups map[string]*group) {
	v := &virtualServer{result: r, n: n, s: service{place: n.place}, weight: 1}
	switch n.word(1) {
	case "group":
		g, known := groups[n.word(2)]
		if g == nil {
			if !known {
				r.lose(n.place, "%s: there is no such virtual_server_group", n)
			}
			return
		}
		v.group = g
	case "fwmark":
		if v.named = r.groupMark(&node{place: n.place, words: n.words[1:min(3, len(n.words))]}); v.named == nil {
			return
		}
	default:
		addr, port, ok := kaEndpoint(n.word(1), n.word(2))
		if !ok {
			r.lose(n.place, "%s: it is no address and port, names are not resolved: keepalived ignores it", n)
			return
		}
		r.oddNumber(n.place, n.word(2))
		if strings.ContainsAny(n.word(1), "-/") {
			r.remark(n.place, "%s: keepalived takes the first address only: ranges are for groups", n)
		}
		v.named = &entry{place: n.place, first: addr, last: addr, port: port, family: family(addr)}
		v.family = family(addr)
	}
	for _, c := range n.children {
		v.statement(c)
	}
	v.finish()
}

// serverKeywords are the statements of a virtual_server that matter to IPVS.
var serverKeywords = map[string]func(*virtualServer, *node){
	"lb_algo":                 (*virtualServer).scheduler,
	"lvs_sched":               (*virtualServer).scheduler,
	"lb_kind":                 func(v *virtualServer, c *node) { v.setMethod(&v.method, c) },
	"lvs_method":              func(v *virtualServer, c *node) { v.setMethod(&v.method, c) },
	"protocol":                (*virtualServer).protocol,
	"ip_family":               (*virtualServer).ipFamily,
	"persistence_timeout":     (*virtualServer).persistence,
	"persistence_granularity": (*virtualServer).granularity,
	"persistence_engine":      func(v *virtualServer, c *node) { v.s.Engine = c.word(1) },
	"ops":                     func(v *virtualServer, c *node) { v.s.OnePacket = true },
	"flag-1":                  func(v *virtualServer, c *node) { v.s.Flags |= uint8(scheduler.Fallback) },
	"flag-2":                  func(v *virtualServer, c *node) { v.s.Flags |= uint8(scheduler.Port) },
	"flag-3":                  func(v *virtualServer, c *node) { v.s.Flags |= uint8(scheduler.Flag3) },
	"hashed":                  (*virtualServer).namedFlag,
	"sh-port":                 (*virtualServer).namedFlag,
	"sh-fallback":             (*virtualServer).namedFlag,
	"mh-port":                 (*virtualServer).namedFlag,
	"mh-fallback":             (*virtualServer).namedFlag,
	"weight":                  (*virtualServer).setWeight,
	"real_server":             (*virtualServer).realServer,
}

// checkers are the health checks of keepalived.
const checkers = " HTTP_GET SSL_GET TCP_CHECK SMTP_CHECK MISC_CHECK DNS_CHECK BFD_CHECK UDP_CHECK PING_CHECK FILE_CHECK "

// ofChecks are statements that say how to check, or what becomes of a realserver that fails. They
// are lost with the checks.
const ofChecks = " delay_loop retry delay_before_retry connect_timeout warmup inhibit_on_failure virtualhost ha_suspend alpha omega " +
	"smtp_alert snmp_name hysteresis "

// withValue are statements that need one, else keepalived does not start.
const withValue = " lb_algo lvs_sched lb_kind lvs_method protocol ip_family persistence_granularity persistence_engine weight real_server" +
	" uthreshold lthreshold quorum hysteresis delay_loop retry delay_before_retry connect_timeout warmup sorry_server "

func (v *virtualServer) lacksValue(c *node) bool {
	lacks := len(c.words) == 1 && strings.Contains(withValue, " "+c.word(0)+" ")
	if lacks {
		v.lose(c.place, "%s: %s: it lacks its value: keepalived would not start", v.n, c)
	}
	return lacks
}

func (v *virtualServer) statement(c *node) {
	key := c.word(0)
	switch handle := serverKeywords[key]; {
	case v.lacksValue(c):
	case handle != nil:
		handle(v, c)
	case strings.Contains(ofChecks, " "+key+" "):
	case key == "quorum" && c.word(1) == "1":
	default:
		v.lose(c.place, "%s: %s: no counterpart", v.n, c)
	}
}

func (v *virtualServer) scheduler(c *node) {
	if !slices.Contains(scheduler.Names(), c.word(1)) {
		v.remark(c.place, "%s: keepalived knows no such scheduler, and ignores the line", c)
		return
	}
	v.s.Scheduler = c.word(1)
}

func (v *virtualServer) setMethod(to *method, c *node) {
	switch m := method(c.word(1)); m {
	case direct, masquerade, tunnel:
		*to = m
	default:
		v.remark(c.place, "%s: there are NAT, DR and TUN: keepalived ignores the line", c)
	}
}

func (v *virtualServer) protocol(c *node) {
	switch strings.ToUpper(c.word(1)) {
	case "TCP":
		v.s.Protocol = ipvsadm.TCP
	case "UDP":
		v.s.Protocol = ipvsadm.UDP
	case "SCTP":
		v.s.Protocol = ipvsadm.SCTP
	default:
		v.remark(c.place, "%s: there are TCP, UDP and SCTP: keepalived ignores the line", c)
	}
}

func (v *virtualServer) ipFamily(c *node) {
	f := map[string]int{"inet": 4, "inet6": 6}[c.word(1)]
	if f == 0 || v.family != 0 && v.family != f {
		v.remark(c.place, "%s: it is not the family of the virtual_server: keepalived ignores the line", c)
		return
	}
	v.family = f
}

func (v *virtualServer) persist(d time.Duration) { v.s.Persistence = d.Seconds() }

func (v *virtualServer) persistence(c *node) {
	if len(c.words) < 2 {
		v.persist(defaultPersistence)
		return
	}
	n, ok := kaNumber(c.word(1), 1, maxSeconds, false)
	if !ok {
		v.remark(c.place, "%s: it is no number of seconds from 1 to %d: keepalived ignores the line", c, maxSeconds)
		return
	}
	v.persist(time.Duration(n) * time.Second)
}

// granularity reads a netmask of IPv4 or the length of a prefix of IPv6. It means persistence.
func (v *virtualServer) granularity(c *node) {
	f := v.family
	if f == 0 {
		if f = 6; strings.Contains(c.word(1), ".") {
			f = 4
		}
	}
	s := &v.s.VirtualService
	if bits, ok := kaNumber(c.word(1), 1, 128, false); ok && f == 6 {
		ipvsadm.SetPrefix(s, int(bits))
	} else if mask, ok := dotted(c.word(1)); ok && f != 6 {
		ipvsadm.SetNetmask(s, mask)
	} else {
		v.remark(c.place, "%s: it is no netmask of IPv4 or length of a prefix of IPv6: keepalived ignores the line", c)
		return
	}
	v.masked, v.family = true, f
	if v.s.Persistence == 0 {
		v.persist(defaultPersistence)
	}
}

// dotted reads an IPv4 address as inet_aton(3) does: up to four decimal numbers, of which the last
// fills what is left.
func dotted(s string) (mask netip.Addr, ok bool) {
	parts := strings.Split(s, ".")
	var m uint32
	for i, p := range parts {
		high := uint64(255)
		if i == len(parts)-1 {
			high = math.MaxUint32 >> (8 * i)
		}
		n, ok := kaNumber(p, 0, high, false)
		if !ok || len(parts) > 4 {
			return mask, false
		}
		if i < len(parts)-1 {
			n <<= 24 - 8*i
		}
		m |= uint32(n)
	}
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}), true
}

// namedFlag reads a flag that counts only after the scheduler that it is named after.
func (v *virtualServer) namedFlag(c *node) {
	name := c.word(0)
	kind, what, _ := strings.Cut(name, "-")
	switch {
	case kind != v.s.Scheduler:
		v.remark(c.place, "%s: %s counts only after lvs_sched %s: keepalived ignores the line", v.n, name, kind)
	case what == "port":
		v.s.Flags |= uint8(scheduler.Port)
	case what == "fallback":
		v.s.Flags |= uint8(scheduler.Fallback)
	}
}

func (v *virtualServer) setWeight(c *node) {
	n, ok := kaNumber(c.word(1), 1, math.MaxInt32, true)
	if !ok {
		v.remark(c.place, "%s: it is no weight from 1 on: keepalived ignores the line", c)
		return
	}
	v.oddNumber(c.place, c.word(1))
	v.weight = int32(n)
}

// realServer reads a real_server block. The method is the one that was said up to there.
func (v *virtualServer) realServer(n *node) {
	addr, port, ok := kaEndpoint(n.word(1), n.word(2))
	if !ok {
		v.lose(n.place, "%s: %s: it is no address and port, names are not resolved: keepalived ignores it", v.n, n)
		return
	}
	v.oddNumber(n.place, n.word(2))
	x := &realServer{n: n, real: real{place: n.place, method: v.method}}
	x.Address, x.Port = addr, port
	for _, c := range n.children {
		v.realStatement(x, c)
	}
	if x.method != tunnel {
		if v.family == 0 {
			v.family = family(addr)
		}
		if v.family != family(addr) {
			v.lose(n.place, "%s: %s: it is of another family: keepalived ignores it", v.n, n)
			return
		}
	}
	v.reals = append(v.reals, x)
}

func (v *virtualServer) realStatement(x *realServer, c *node) {
	number := func(to *int32, high uint64) bool {
		n, ok := kaNumber(c.word(1), 0, high, true)
		if !ok {
			v.remark(c.place, "%s: it is no number from 0 to %d: keepalived ignores the line", c, high)
			return false
		}
		v.oddNumber(c.place, c.word(1))
		*to = int32(min(n, math.MaxInt32))
		return true
	}
	switch key := c.word(0); {
	case v.lacksValue(c):
	case key == "weight":
		x.weighted = number(&x.Weight, math.MaxInt32) || x.weighted
	case key == "uthreshold":
		number(&x.Upper, math.MaxUint32)
	case key == "lthreshold":
		number(&x.Lower, math.MaxUint32)
	case key == "lvs_method":
		v.setMethod(&x.method, c)
	case strings.Contains(checkers, " "+key+" "):
		v.checked(key, c.place)
	case strings.Contains(ofChecks, " "+key+" "):
	default:
		v.lose(c.place, "%s: %s: %s: no counterpart", v.n, x.n, c)
	}
}
