package convert

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"shunt/internal/ipvsadm"
)

// maxReals bounds a range of realservers.
const maxReals = 4096

// addReals makes the command lines of a real=, which may be a range.
func (l *ldReader) addReals(v *virtual, x *ldReal, selector []string, proto string) {
	first, err := netip.ParseAddr(x.first)
	if x.last == "" {
		l.addReal(v, x, selector, x.first, proto)
		return
	}
	last, err2 := netip.ParseAddr(x.last)
	if err != nil || err2 != nil || !first.Is4() || !last.Is4() || last.Less(first) {
		l.refused(x.place, "real=%s->%s: it is no range of addresses of IPv4 upwards", x.first, x.last)
		return
	}
	for n := 1; ; n++ {
		l.addReal(v, x, selector, first.String(), proto)
		if first == last {
			return
		}
		if first = first.Next(); n == maxReals {
			l.r.lose(x.place, "real=%s->%s: the range has more than %d addresses: the others are ignored", x.first, x.last, maxReals)
			return
		}
	}
}

// addReal makes the command line of one realserver.
func (l *ldReader) addReal(v *virtual, x *ldReal, selector []string, address string, proto string) {
	port := x.port
	if strings.Trim(port, "0123456789") != "" {
		n := cmp.Or(l.r.port(port, ipvsadm.TCP), l.r.port(port, ipvsadm.UDP))
		if n == 0 {
			l.refused(x.place, "real=%s:%s: there is no port of that name", address, port)
			return
		}
		port = strconv.Itoa(int(n))
	}
	method := map[string]string{"gate": "-g", "masq": "-m", "ipip": "-i"}[x.method]
	words := append([]string{"-a"}, selector...)
	if l.has(v.place, address+":"+port) {
		l.r.remark(x.place, "real=%s:%s: it is there already: ldirectord gives it these settings", address, port)
		words[0] = "-e"
	}
	words = append(words, "-x", x.upper, "-y", x.lower, "-r", address+":"+port, method, "-w", x.weight)
	if v.protocol != "fwm" && x.method != "masq" {
		own, other := l.r.port(portOf(v.address), proto), l.r.port(port, proto)
		if other != 0 && other != own {
			l.r.remark(x.place, "real=%s:%s: only masq could change the port: it is the service's, %d", address, port, own)
		}
	}
	l.commands.line(x.place, words)
}

// has reports whether the service that was added last has a realserver by this address and port, so
// that ldirectord edits it.
func (l *ldReader) has(virtual place, endpoint string) bool {
	at, err := netip.ParseAddrPort(endpoint)
	last := len(l.r.services) - 1
	return err == nil && last >= 0 && l.r.services[last].place == virtual &&
		slices.ContainsFunc(l.r.services[last].reals, func(x real) bool { return x.Address == at.Addr() && x.Port == at.Port() })
}

// checkedOff is what checktype=off makes of realservers: they count as failed, for ever.
func (l *ldReader) checkedOff(v *virtual, selector []string, proto string) {
	quiescent := cmp.Or(v.quiescent, l.quiescent) == "yes"
	l.r.remark(v.place, "virtual=%s: with checktype=off its realservers are down for ldirectord", v.text)
	for i := range v.reals {
		if quiescent {
			v.reals[i].weight = "0"
			l.addReals(v, &v.reals[i], selector, proto)
		}
	}
}
