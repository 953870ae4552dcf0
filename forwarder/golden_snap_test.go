package forwarder_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// isListing reports whether the output of a command line can be compared.
func isListing(cmd string) bool {
	switch strings.TrimPrefix(cmd, "ipvsadm ") {
	case "-Ln", "-Ln --nosort", "-Ln --thresholds", "-Ln --persistent-conn", "-Ln --stats --exact", "-Lnc", "-S -n":
		return true
	}
	return false
}

// snap compares the listings of an event.
func (d *director) snap(e *event) error {
	var errs []error
	slack := map[string]int{}
	if lnc, ok := e.Outputs["ipvsadm -Lnc"]; ok {
		errs = append(errs, compareConns(d.conns(), parseConns(lnc), slack))
	}
	for _, cmd := range slices.Sorted(maps.Keys(e.Outputs)) {
		if isListing(cmd) && cmd != "ipvsadm -Lnc" {
			errs = append(errs, d.listing(cmd, e.Outputs[cmd], slack))
		}
	}
	return errors.Join(errs...)
}

// listing compares the output of one command. slack says how many connections of a destination the
// kernel was about to end.
func (d *director) listing(cmd, out string, slack map[string]int) error {
	switch cmd {
	case "ipvsadm -Lnc":
		return compareConns(d.conns(), parseConns(out), slack)
	case "ipvsadm -S -n":
		want, got := strings.Split(strings.TrimSpace(out), "\n"), d.saved()
		slices.Sort(want)
		slices.Sort(got)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			return fmt.Errorf("%s:\n%s, the kernel's\n%s", cmd, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return nil
	}
	return d.compareListing(cmd, out, slack)
}

// saved lists the engine's services as ipvsadm -S does: as the commands that make them.
func (d *director) saved() (lines []string) {
	options := map[string]string{"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service", "FWM": "-f"}
	for _, s := range d.engine.Services() {
		proto, rest, _ := strings.Cut(s.Key().String(), " ")
		name := options[proto] + " " + strings.Replace(rest, "IPv6", "-6", 1)
		line := fmt.Sprintf("-A %s -s %s", name, s.Scheduler)
		if s.Persistence > 0 {
			line += fmt.Sprintf(" -p %d", s.Persistence/time.Second)
			if m := mask(&s); m != "" {
				line += " -M " + m
			}
		}
		if names := flagNames(&s); names != "" {
			line += " -b " + names
		}
		if s.OnePacket {
			line += " -o"
		}
		lines = append(lines, line)
		for _, dst := range s.Destinations {
			lines = append(lines, fmt.Sprintf("-a %s -r %s -g -w %d", name, netip.AddrPortFrom(dst.Addr, dst.Port), dst.Weight))
		}
	}
	return lines
}

// row is a line of a listing: "-> 10.77.0.11:80" and its columns, or a service and what follows.
type row struct {
	name    string
	columns string
}

// compareListing compares ipvsadm -Ln and its variants: services in any order, destinations in the
// kernel's where that is shown. slack says how many connections of a destination the kernel had not
// yet ended.
func (d *director) compareListing(cmd, out string, slack map[string]int) error {
	want, got := parseListing(out), d.render(cmd)
	sortRows := !strings.Contains(cmd, "--nosort")
	var errs []error
	for name := range want {
		if _, ok := got[name]; !ok {
			errs = append(errs, fmt.Errorf("%s: service %s is missing", cmd, name))
		}
	}
	for name, rows := range got {
		kernel, ok := want[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: service %s is not the kernel's", cmd, name))
			continue
		}
		if sortRows {
			slices.SortFunc(rows[1:], func(a, b row) int { return strings.Compare(a.name, b.name) })
			slices.SortFunc(kernel[1:], func(a, b row) int { return strings.Compare(a.name, b.name) })
		}
		if !slices.EqualFunc(rows, kernel, func(g, w row) bool { return g == w || late(g, w, slack) }) {
			errs = append(errs, fmt.Errorf("%s:\n%v, the kernel's\n%v", cmd, rows, kernel))
		}
	}
	return errors.Join(errs...)
}

// late reports whether two rows differ only by connections that the kernel was about to end. The
// last two columns are ActiveConn and InActConn.
func late(got, want row, slack map[string]int) bool {
	n := slack[got.name]
	g, w := strings.Fields(got.columns), strings.Fields(want.columns)
	if n == 0 || got.name != want.name || len(g) != len(w) || len(g) < 3 {
		return false
	}
	last := len(g) - 2
	total := func(c []string) (t int) {
		for _, s := range c[last:] {
			v, _ := strconv.Atoi(s)
			t += v
		}
		return t
	}
	return slices.Equal(g[:last], w[:last]) && total(w)-total(g) == n
}

// parseListing reads a listing into rows by service; the first row is the service's own.
func parseListing(out string) map[string][]row {
	stats := strings.Contains(out, "OutBytes")
	services := map[string][]row{}
	key := ""
	for _, line := range strings.Split(out, "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) > 2 && f[0] == "->" && f[1] != "RemoteAddress:Port":
			columns := f[2:]
			if method := columns[0]; method == "Route" || method == "Masq" || method == "Tunnel" {
				columns = columns[1:] // here it is always direct routing
			}
			if stats {
				columns = inbound(columns)
			}
			services[key] = append(services[key], row{f[1], strings.Join(columns, " ")})
		case len(f) > 1 && (f[0] == "TCP" || f[0] == "UDP" || f[0] == "SCTP" || f[0] == "FWM"):
			n := 2
			if len(f) > 2 && f[2] == "IPv6" {
				n = 3
			}
			key = strings.Join(f[:n], " ")
			columns := f[n:]
			if stats {
				columns = inbound(columns)
			}
			services[key] = []row{{"", strings.Join(columns, " ")}}
		}
	}
	return services
}

// render lists the engine's services as the command would.
func (d *director) render(cmd string) map[string][]row {
	out := map[string][]row{}
	for _, s := range d.engine.Services() {
		key := s.Key().String()
		if strings.Contains(cmd, "--stats") {
			out[key] = []row{{"", counts(s.Counts)}}
		} else {
			out[key] = []row{{"", serviceColumns(&s)}}
		}
		for _, dst := range s.Destinations {
			conns := fmt.Sprintf("%d %d", dst.Active, dst.Inactive)
			var columns string
			switch {
			case strings.Contains(cmd, "--stats"):
				columns = counts(dst.Counts)
			case strings.Contains(cmd, "--thresholds"):
				columns = fmt.Sprintf("%d %d %s", dst.Upper, dst.Lower, conns)
			case strings.Contains(cmd, "--persistent-conn"):
				columns = fmt.Sprintf("%d %d %s", dst.Weight, dst.Persistent, conns)
			default:
				columns = fmt.Sprintf("%d %s", dst.Weight, conns)
			}
			out[key] = append(out[key], row{netip.AddrPortFrom(dst.Addr, dst.Port).String(), columns})
		}
	}
	return out
}

func counts(c forwarder.Counts) string { return fmt.Sprintf("%d %d %d", c.Flows, c.Packets, c.Bytes) }

// inbound keeps of the columns of --stats those of connections and incoming packets and bytes. The
// kernel counts some of its own ICMP errors as outgoing; otherwise a director of direct routing
// sees nothing that goes out.
func inbound(columns []string) []string {
	if len(columns) == 5 {
		return []string{columns[0], columns[1], columns[3]}
	}
	return columns
}

// serviceColumns writes what follows the address of a service.
func serviceColumns(s *forwarder.ServiceInfo) string {
	out := s.Scheduler
	if names := flagNames(s); names != "" {
		out += " (" + names + ")"
	}
	if s.Persistence > 0 {
		out += fmt.Sprintf(" persistent %d", s.Persistence/time.Second)
		if m := mask(s); m != "" {
			out += " mask " + m
		}
	}
	if s.OnePacket {
		out += " ops"
	}
	return out
}

// flagNames names the flags of a service's scheduler.
func flagNames(s *forwarder.ServiceInfo) string {
	var names []string
	for bit, name := range []string{"fallback", "port", "3"} {
		switch {
		case s.Options.Flags&(1<<bit) == 0:
		case s.Scheduler == "sh" || s.Scheduler == "mh":
			names = append(names, s.Scheduler+"-"+name)
		default:
			names = append(names, fmt.Sprint("flag-", bit+1))
		}
	}
	return strings.Join(names, ",")
}

// mask writes the netmask of a persistent service, if it is not that of a whole address.
func mask(s *forwarder.ServiceInfo) string {
	switch v6 := s.Matches[0].Addr.Is6(); {
	case s.MaskBits == 0:
	case v6 && s.MaskBits < 128:
		return strconv.Itoa(s.MaskBits)
	case !v6 && s.MaskBits < 32:
		return frame.AddrFrom4(^uint32(0) << (32 - s.MaskBits)).String()
	}
	return ""
}

// conn is an entry of the connection table, and when it ends in seconds.
type conn struct {
	proto, state, source, virtual, dest string
	expires                             float64
}

func (c conn) String() string {
	return fmt.Sprintf("%s %5.1f %s %s %s %s", c.proto, c.expires, c.state, c.source, c.virtual, c.dest)
}

// conns lists the engine's connection table.
func (d *director) conns() (out []conn) {
	d.engine.Connections(func(c forwarder.ConnectionInfo) bool {
		out = append(out, conn{c.Proto, c.State, c.Client.String(), c.Virtual.String(), c.Destination.String(), c.Expires.Seconds()})
		return true
	})
	return out
}

// parseConns reads ipvsadm -Lnc.
func parseConns(out string) (conns []conn) {
	for _, line := range strings.Split(out, "\n") {
		f := strings.Fields(line)
		if len(f) != 6 || f[0] == "pro" {
			continue
		}
		seconds := 0
		for _, part := range strings.Split(f[1], ":") {
			n, _ := strconv.Atoi(part)
			seconds = seconds*60 + n
		}
		conns = append(conns, conn{f[0], f[2], f[3], f[4], f[5], float64(seconds)})
	}
	return conns
}

// tolerance is by how many seconds the ends of connections may differ: a trace has the time at
// which all listings of an event were made, and a timer of the kernel fires up to an eighth of its
// length late.
const tolerance = 2.0

// compareConns compares connection tables as sets. A connection that the kernel was about to end
// may have ended here; slack then counts it for its destination.
func compareConns(got, want []conn, slack map[string]int) error {
	unmatched := slices.Clone(got)
	var errs []error
	for _, w := range want {
		i := slices.IndexFunc(unmatched, func(g conn) bool {
			diff := g.expires - w.expires
			g.expires = w.expires
			return g == w && diff > -tolerance && diff < tolerance
		})
		switch {
		case i >= 0:
			unmatched = slices.Delete(unmatched, i, i+1)
		case w.expires < tolerance:
			slack[w.dest]++
		default:
			errs = append(errs, fmt.Errorf("-Lnc: missing    %s", w))
		}
	}
	for _, g := range unmatched {
		errs = append(errs, fmt.Errorf("-Lnc: not theirs %s", g))
	}
	return errors.Join(errs...)
}
