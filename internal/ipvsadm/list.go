package ipvsadm

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"
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
		t, err := r.director.Timeouts()
		if err != nil {
			return listFailure(0, err)
		}
		fmt.Fprintf(r.out, "Timeout (tcp tcpfin udp): %d %d %d\n", t.TCP/time.Second, t.TCPFin/time.Second, t.UDP/time.Second)
		return nil
	case q.given&optDaemon != 0:
		return r.listDaemons()
	}
	return r.listAll(f)
}

// listFailure ends the program, with another status than the failure of a change.
func listFailure(op Op, err error) error { return &exit{1, message(op, err)} }

func (r *runner) listAll(f format) error {
	if !f.rules {
		v := r.info.Version
		fmt.Fprintf(r.out, "IP Virtual Server version %d.%d.%d (size=%d)\n", v[0], v[1], v[2], r.info.Size)
	}
	services, err := r.director.Services()
	if err != nil {
		return listFailure(getServices, err)
	}
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
func (r *runner) listService(s *Service, f format) error {
	services, err := r.director.Services()
	if err != nil {
		return listFailure(getService, err)
	}
	i := slices.IndexFunc(services, func(e ServiceEntry) bool { return e.SameAs(s) })
	if i < 0 {
		return listFailure(getService, Errno(syscall.ESRCH))
	}
	r.title(f)
	r.service(&services[i], f)
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
func (r *runner) serviceName(s *Service, f format) string {
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
	addr := r.addrPort(s.Addr, s.Port, s.Protocol, f)
	if f.rules {
		option := map[Protocol]string{TCP: "-t", UDP: "-u", SCTP: "--sctp-service"}[s.Protocol]
		if option == "" {
			option = "--xxx-service"
		}
		return option + " " + addr
	}
	name := fmt.Sprintf("%-4s %s", s.Protocol, addr)
	if !s.is6() {
		name = cut(name, 33)
	}
	return name
}

// service lists a service and its destinations (print_service_entry in ipvsadm.c).
func (r *runner) service(s *ServiceEntry, f format) {
	name := r.serviceName(&s.Service, f)
	switch {
	case f.rules:
		fmt.Fprintf(r.out, "-A %s -s %s%s", name, s.Scheduler, s.rule())
	case f.stats:
		fmt.Fprintf(r.out, "%-33s", name)
		r.counts(&s.Counts, f)
	case f.rate:
		fmt.Fprintf(r.out, "%-33s", name)
		r.counts(&s.Rates, f)
	default:
		fmt.Fprintf(r.out, "%s %s%s", name, s.Scheduler, s.description())
	}
	r.out.WriteByte('\n')
	servers := s.Destinations
	if !f.unsorted {
		servers = slices.Clone(servers)
		sortAs(servers, compareDestinations)
	}
	proto := s.Protocol
	if s.Mark != 0 {
		proto = 0 // so that ports of its destinations have no names
	}
	for i := range servers {
		d := &servers[i]
		server := r.addrPort(d.Addr, d.Port, proto, f)
		if !f.rules && !d.Addr.Is6() {
			server = cut(server, 28)
		}
		r.server(name, server, d, f)
	}
}

func (r *runner) server(service, name string, d *DestinationEntry, f format) {
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
		r.counts(&d.Counts, f)
		r.out.WriteByte('\n')
		return
	case f.rate:
		// Here, unlike in the line of the service, the first three are never shortened.
		fmt.Fprintf(r.out, "  -> %-28s %8d %8d %8d", name, d.Rates.Conns, d.Rates.InPackets, d.Rates.OutPackets)
		r.large(d.Rates.InBytes, f)
		r.large(d.Rates.OutBytes, f)
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

// mask is the netmask of a service as it is written, or nothing if it is that of a whole address.
func (s *Service) mask() string {
	switch {
	case s.is6() && s.Netmask != 128:
		return strconv.Itoa(int(s.Netmask))
	case !s.is6() && s.Netmask != 0xffffffff:
		return addr4(s.Netmask).String()
	}
	return ""
}

// rule are the settings of a service as options.
func (s *Service) rule() (out string) {
	if s.Persistent {
		out += fmt.Sprintf(" -p %d", s.Timeout/time.Second)
		if mask := s.mask(); mask != "" {
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

// description are the settings of a service as listings show them: the persistence engine only if there is persistence.
func (s *Service) description() (out string) {
	if s.Flags != 0 {
		out += " (" + flagNames(s.Scheduler, s.Flags) + ")"
	}
	if s.Persistent {
		out += fmt.Sprintf(" persistent %d", s.Timeout/time.Second)
		if mask := s.mask(); mask != "" {
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

func (r *runner) counts(c *Counts, f format) {
	for _, n := range []uint64{c.Conns, c.InPackets, c.OutPackets, c.InBytes, c.OutBytes} {
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
func (r *runner) addrPort(a netip.Addr, port uint16, proto Protocol, f format) string {
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

// inetNtop writes an address as inet_ntop(3) does, which differs from netip for ::192.0.2.1 and its like.
func inetNtop(a netip.Addr) string {
	if a.Is6() {
		if w := words6(a); w[0] == 0 && w[1] == 0 && w[2] == 0 && w[3]>>16 != 0 {
			return "::" + addr4(w[3]).String()
		}
	}
	return a.String()
}

// saveTimeouts writes the timeouts as -R reads them.
func (r *runner) saveTimeouts() error {
	t, err := r.director.Timeouts()
	if err != nil {
		return listFailure(0, err)
	}
	fmt.Fprintf(r.out, "--set %d %d %d\n", t.TCP/time.Second, t.TCPFin/time.Second, t.UDP/time.Second)
	return nil
}
