package ipvsadm

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"shunt/api"
)

// inject has the kernel know the traffic that an output tells of: counters, rates and connections,
// and in which order the services are in the kernel's hash table, which depends on an address in
// its memory. All else stays as commands made it.
func inject(k *kernel, cmd, out string) {
	if strings.HasPrefix(out, "IPVS connection entries") {
		k.conns = listedConns(out)
		return
	}
	q, err := parse(strings.Fields(cmd), knownNames{})
	if err != nil || q.command != cmdList {
		return
	}
	r := &runner{names: knownNames{}}
	f := q.format()
	var now *api.TableService
	var order []api.TableService
	for _, line := range strings.Split(out, "\n") {
		if server, ok := strings.CutPrefix(line, "  -> "); ok {
			if now != nil {
				injectServer(r, now, server, f)
			}
			continue
		}
		for i := range k.services {
			s := &k.services[i]
			rest, ok := strings.CutPrefix(line, r.serviceName(&s.VirtualService, f)+" ")
			if !ok || strings.HasPrefix(rest, "IPv6") {
				continue
			}
			now = s
			order = append(order, *s)
			switch now = &order[len(order)-1]; {
			case f.stats:
				now.Counts = parseCounts(strings.Fields(rest))
			case f.rate:
				now.Rates = api.Rates(parseCounts(strings.Fields(rest)))
			}
		}
	}
	if f.unsorted && len(order) == len(k.services) {
		k.services = order
		return
	}
	for i := range order {
		for j := range k.services {
			if same(&k.services[j].VirtualService, &order[i].VirtualService) {
				k.services[j] = order[i]
			}
		}
	}
}

func injectServer(r *runner, s *api.TableService, line string, f format) {
	columns := strings.Fields(line)
	proto := s.Protocol
	if s.Mark != 0 {
		proto = ""
	}
	for i := range s.Servers {
		d := &s.Servers[i]
		if r.addrPort(d.Address, d.Port, proto, f) != columns[0] {
			continue
		}
		last := len(columns) - 1
		switch {
		case f.stats:
			d.Counts = parseCounts(columns[1:])
			return
		case f.rate:
			d.Rates = api.Rates(parseCounts(columns[1:]))
			return
		case f.persistent:
			d.Persistent = int32(count(columns[2]))
		}
		d.Active, d.Inactive = int32(count(columns[last-1])), int32(count(columns[last]))
	}
}

func parseCounts(columns []string) (c api.Counts) {
	var out uint64
	for i, to := range []*uint64{&c.Flows, &c.Packets, &out, &c.Bytes, &out} {
		*to = count(columns[i])
	}
	return c
}

// count reads a number that may be shortened.
func count(s string) uint64 {
	unit := uint64(1)
	for i, letter := range "KMGT" {
		if rest, ok := strings.CutSuffix(s, string(letter)); ok {
			s = rest
			for range i + 1 {
				unit *= 1000
			}
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n * unit
}

// listedConns reads the output of -Lc.
func listedConns(out string) (conns []api.Connection) {
	for _, line := range strings.Split(out, "\n")[2:] {
		w := strings.Fields(line)
		if len(w) < 6 {
			continue
		}
		var minutes, seconds int
		if _, err := fmt.Sscanf(w[1], "%d:%d", &minutes, &seconds); err != nil {
			panic(err)
		}
		at := func(s string) netip.AddrPort {
			addr, port, ok := parseService(s, w[0], knownNames{})
			if !ok {
				panic(s)
			}
			return netip.AddrPortFrom(addr, uint16(port))
		}
		conns = append(conns, api.Connection{Protocol: w[0], State: w[2], Client: at(w[3]), Virtual: at(w[4]), Realserver: at(w[5]),
			Expires: float64(minutes*60 + seconds)})
	}
	return conns
}

// procConns reads /proc/net/ip_vs_conn.
func procConns(text string) (conns []api.Connection) {
	for _, line := range strings.Split(text, "\n")[1:] {
		w := strings.Fields(line)
		if len(w) < 9 {
			continue
		}
		at := func(i int) netip.AddrPort {
			addr, err := netip.ParseAddr(w[i])
			if err != nil {
				n, err := strconv.ParseUint(w[i], 16, 32)
				if err != nil {
					panic(err)
				}
				addr = addr4(uint32(n))
			}
			port, err := strconv.ParseUint(w[i+1], 16, 16)
			if err != nil {
				panic(err)
			}
			return netip.AddrPortFrom(addr, uint16(port))
		}
		seconds := float64(count(w[8]))
		conns = append(conns, api.Connection{Protocol: w[0], Client: at(1), Virtual: at(3), Realserver: at(5), State: w[7],
			Expires: seconds})
	}
	return conns
}
