package ipvsadm

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"shunt/api"
)

// A format says how to list services.
type format struct {
	numeric, rules, stats, rate, thresholds, persistent, unsorted, exact, tunnels bool
}

func (q *request) format() format {
	has := func(o set) bool { return q.given&o != 0 }
	return format{
		numeric: has(optNumeric), stats: has(optStats), rate: has(optRate), thresholds: has(optThresholds),
		persistent: has(optPersistentConn), unsorted: has(optNoSort), exact: has(optExact), tunnels: has(optTunInfo),
	}
}

// list is -L.
func (r *runner) list(q *request) error {
	f := q.format()
	switch {
	case q.given&optConnection != 0:
		return r.listConnections(f)
	case q.given&optService != 0:
		return r.listService(&q.service, f)
	case q.given&optTimeout != 0:
		return r.listTimeouts("Timeout (tcp tcpfin udp):")
	case q.given&optDaemon != 0:
		return r.listDaemons()
	}
	return r.listAll(f)
}

// listFailure ends the program, with another status than the failure of a change.
func listFailure(op api.Op, err error) error { return &exit{1, message(op, err)} }

// versionLine is of the IPVS whose behaviour the director has.
const versionLine = "IP Virtual Server version 1.2.1 (size=%d)\n"

func (r *runner) listAll(f format) error {
	t, err := r.director.Table(r.ctx)
	if err != nil {
		return listFailure(getServices, err)
	}
	if !f.rules {
		fmt.Fprintf(r.out, versionLine, t.Capacity)
	}
	services := t.Services
	if !f.unsorted {
		services = slices.Clone(services)
		sortAs(services, compareServices)
	}
	r.title(f)
	for i := range services {
		r.service(&services[i], f)
	}
	return nil
}

// listService lists one, without the line of the version.
func (r *runner) listService(s *api.VirtualService, f format) error {
	t, err := r.director.Table(r.ctx)
	if err != nil {
		return listFailure(getService, err)
	}
	i := slices.IndexFunc(t.Services, func(e api.TableService) bool { return same(&e.VirtualService, s) })
	if i < 0 {
		return listFailure(getService, errno(syscall.ESRCH))
	}
	r.title(f)
	r.service(&t.Services[i], f)
	return nil
}

func (r *runner) title(f format) {
	const service, server = "Prot LocalAddress:Port", "  -> RemoteAddress:Port\n"
	counters := func(columns ...any) {
		fmt.Fprintf(r.out, "%-33s %8s %8s %8s %8s %8s\n"+server, append([]any{service}, columns...)...)
	}
	switch {
	case f.stats:
		counters("Conns", "InPkts", "OutPkts", "InBytes", "OutBytes")
	case f.rate:
		counters("CPS", "InPPS", "OutPPS", "InBPS", "OutBPS")
	case f.thresholds:
		fmt.Fprintf(r.out, "%-33s %-10s %-10s %-10s %-10s\n"+server, service, "Uthreshold", "Lthreshold", "ActiveConn", "InActConn")
	case f.persistent:
		fmt.Fprintf(r.out, "%-33s %-9s %-11s %-10s %-10s\n"+server, service, "Weight", "PersistConn", "ActiveConn", "InActConn")
	case f.tunnels:
		fmt.Fprint(r.out, "Prot LocalAddress:Port Scheduler Flags\n",
			"  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n")
	case !f.rules:
		fmt.Fprint(r.out, "Prot LocalAddress:Port Scheduler Flags\n",
			"  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n")
	}
}

// serviceName is a service as -S writes it, an option, or as listings do.
func (r *runner) serviceName(s *api.VirtualService, f format) string {
	if s.Mark != 0 {
		// ipvsadm prints marks with %d: those from 2^31 on as negative numbers.
		name, v6 := "FWM  ", " IPv6"
		if f.rules {
			name, v6 = "-f ", " -6"
		}
		name += strconv.Itoa(int(int32(s.Mark)))
		if s.V6 {
			name += v6
		}
		return name
	}
	addr := r.addrPort(s.Address, s.Port, s.Protocol, f)
	if f.rules {
		return map[string]string{TCP: "-t", UDP: "-u", SCTP: "--sctp-service"}[s.Protocol] + " " + addr
	}
	name := fmt.Sprintf("%-4s %s", s.Protocol, addr)
	if !s.Is6() {
		name = cut(name, 33)
	}
	return name
}

// service lists a service and its destinations (print_service_entry in ipvsadm.c).
func (r *runner) service(s *api.TableService, f format) {
	name := r.serviceName(&s.VirtualService, f)
	switch {
	case f.rules:
		fmt.Fprintf(r.out, "-A %s -s %s%s", name, s.Scheduler, rule(&s.VirtualService))
	case f.stats:
		fmt.Fprintf(r.out, "%-33s", name)
		r.counts(s.Counts, f)
	case f.rate:
		fmt.Fprintf(r.out, "%-33s", name)
		r.counts(api.Counts(s.Rates), f)
	default:
		fmt.Fprintf(r.out, "%s %s%s", name, s.Scheduler, description(&s.VirtualService))
	}
	r.out.WriteByte('\n')
	servers := s.Servers
	if !f.unsorted {
		servers = slices.Clone(servers)
		sortAs(servers, compareServers)
	}
	proto := s.Protocol
	if s.Mark != 0 {
		proto = "" // so that ports of its destinations have no names
	}
	for i := range servers {
		d := &servers[i]
		server := r.addrPort(d.Address, d.Port, proto, f)
		if !f.rules && !d.Address.Is6() {
			server = cut(server, 28)
		}
		r.server(name, server, d, f)
	}
}

func (r *runner) server(service, name string, d *api.TableServer, f format) {
	switch {
	case f.rules:
		fmt.Fprintf(r.out, "-a %s -r %s -g -w %d", service, name, d.Weight)
		if r.full && d.Upper != 0 {
			fmt.Fprintf(r.out, " -x %d", d.Upper)
		}
		if r.full && d.Lower != 0 {
			fmt.Fprintf(r.out, " -y %d", d.Lower)
		}
		r.out.WriteByte('\n')
		return
	case f.stats:
		fmt.Fprintf(r.out, "  -> %-28s", name)
		r.counts(d.Counts, f)
		r.out.WriteByte('\n')
		return
	case f.rate:
		// Here, unlike in the line of the service, the first three are never shortened.
		fmt.Fprintf(r.out, "  -> %-28s %8d %8d %8d", name, d.Rates.Flows, d.Rates.Packets, 0)
		r.large(d.Rates.Bytes, f)
		r.large(0, f)
		r.out.WriteByte('\n')
		return
	case f.thresholds:
		fmt.Fprintf(r.out, "  -> %-28s %-10d %-10d", name, d.Upper, d.Lower)
	case f.persistent:
		fmt.Fprintf(r.out, "  -> %-28s %-9d %-11d", name, uint32(d.Weight), d.Persistent)
	case f.tunnels:
		fmt.Fprintf(r.out, "  -> %-28s %-7s %-13s %-6d", name, "Route", "n/a", d.Weight)
	default:
		fmt.Fprintf(r.out, "  -> %-28s %-7s %-6d", name, "Route", d.Weight)
	}
	fmt.Fprintf(r.out, " %-10d %-10d\n", d.Active, d.Inactive)
}

// rule are the settings of a service as options.
func rule(s *api.VirtualService) (out string) {
	if s.Persistence > 0 {
		out += fmt.Sprintf(" -p %d", int64(s.Persistence))
		if mask := netmaskText(s); mask != "" {
			out += " -M " + mask
		}
	}
	if s.Engine != "" {
		out += " --pe " + s.Engine
	}
	if s.OnePacket {
		out += " -o"
	}
	if s.Flags != 0 {
		out += " -b " + flagNames(s.Scheduler, s.Flags)
	}
	return out
}

// description are the settings of a service as listings show them: the persistence engine only if
// there is persistence.
func description(s *api.VirtualService) (out string) {
	if s.Flags != 0 {
		out += " (" + flagNames(s.Scheduler, s.Flags) + ")"
	}
	if s.Persistence > 0 {
		out += fmt.Sprintf(" persistent %d", int64(s.Persistence))
		if mask := netmaskText(s); mask != "" {
			out += " mask " + mask
		}
		if s.Engine != "" {
			out += " pe " + s.Engine
		}
	}
	if s.OnePacket {
		out += " ops"
	}
	return out
}

// counts writes counters. Nothing comes out by a director of direct routing.
func (r *runner) counts(c api.Counts, f format) {
	for _, n := range []uint64{c.Flows, c.Packets, 0, c.Bytes, 0} {
		r.large(n, f)
	}
}

// large prints a number in nine columns (print_largenum).
func (r *runner) large(n uint64, f format) {
	switch {
	case f.exact:
		digits := strconv.FormatUint(n, 10)
		fmt.Fprintf(r.out, "%*s", max(9, len(digits)+1), digits)
	case n < 1e8:
		fmt.Fprintf(r.out, "%9d", n)
	case n < 1e9:
		fmt.Fprintf(r.out, "%8dK", n/1e3)
	case n < 1e11:
		fmt.Fprintf(r.out, "%8dM", n/1e6)
	case n < 1e14:
		fmt.Fprintf(r.out, "%8dG", n/1e9)
	default:
		fmt.Fprintf(r.out, "%8dT", n/1e12)
	}
}

// addrPort writes an address and a port, in numbers or by name. ipvsadm has 59 bytes for both.
func (r *runner) addrPort(a netip.Addr, port uint16, proto string, f format) string {
	host, service := inetNtop(a), strconv.Itoa(int(port))
	if !f.numeric {
		if name, ok := r.names.HostOf(a); ok {
			host = name
		}
		if name, ok := r.names.PortName(port, proto); ok {
			service = name
		}
	}
	if a.Is6() {
		host = "[" + host + "]"
	}
	return cut(host+":"+service, 59)
}

// inetNtop writes an address as inet_ntop(3) does, which differs from netip for ::192.0.2.1 and its
// like.
func inetNtop(a netip.Addr) string {
	if !a.IsValid() {
		return addr4(0).String()
	}
	if a.Is6() {
		if w := words6(a); w[0] == 0 && w[1] == 0 && w[2] == 0 && w[3]>>16 != 0 {
			return "::" + addr4(w[3]).String()
		}
	}
	return a.String()
}

// listTimeouts writes the timeouts after a title.
func (r *runner) listTimeouts(title string) error {
	table, err := r.director.Table(r.ctx)
	if err != nil {
		return listFailure("", err)
	}
	t := &table.Timeouts
	fmt.Fprintf(r.out, "%s %d %d %d\n", title, int64(t.TCP), int64(t.TCPFin), int64(t.UDP))
	return nil
}
