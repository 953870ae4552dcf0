package ipvsadm

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"os"
	"path/filepath"

	"shunt/api"
)

// ProcFiles are the names of the files of WriteProc.
var ProcFiles = []string{"ip_vs", "ip_vs_stats", "ip_vs_conn"}

// Connections calls a function for each connection until it returns false.
type Connections func(func(api.Connection) bool)

// WriteProc writes files below dir/net, as the kernel shows them below /proc/net, for programs that
// read those and can be told of another /proc, such as node_exporter with --path.procfs: ip_vs and
// ip_vs_stats of a table, ip_vs_conn of connections. Files of what is nil are left as they are. A
// reader finds each file as it was or as it is, never half of it. If there is an error no file is
// changed, except when a rename fails.
func WriteProc(dir string, t *api.Table, conns Connections) (err error) {
	writers := map[string]func(io.Writer) error{}
	if t != nil {
		total, rate := totals(t.Services)
		writers["ip_vs"] = func(w io.Writer) error { return writeServices(w, t) }
		writers["ip_vs_stats"] = func(w io.Writer) error { return writeStats(w, total, rate) }
	}
	if conns != nil {
		writers["ip_vs_conn"] = func(w io.Writer) error { return writeConnections(w, conns) }
	}
	if err := MakeProc(dir); err != nil {
		return err
	}
	dir = filepath.Join(dir, "net")
	ready := map[string]string{} // names of temporary files
	defer func() {
		for _, name := range ready {
			err = errors.Join(err, os.Remove(name))
		}
	}()
	for f, write := range writers {
		name, err := temporary(dir, f, write)
		if name != "" {
			ready[f] = name
		}
		if err != nil {
			return err
		}
	}
	for f, name := range ready {
		if err := os.Rename(name, filepath.Join(dir, f)); err != nil {
			return err
		}
		delete(ready, f)
	}
	return nil
}

// MakeProc makes the directories for them.
func MakeProc(dir string) error {
	for _, dir := range []string{dir, filepath.Join(dir, "net")} {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			err = os.Chmod(dir, 0o755) // others are to read it, whatever the umask is
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// RemoveProc removes such files: those that are named, or all.
func RemoveProc(dir string, files ...string) (err error) {
	if len(files) == 0 {
		files = ProcFiles
	}
	for _, f := range files {
		if e := os.Remove(filepath.Join(dir, "net", f)); !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// temporary makes a file for name beside it.
func temporary(dir, name string, write func(io.Writer) error) (string, error) {
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return "", err
	}
	w := bufio.NewWriter(f)
	err = errors.Join(write(w), w.Flush(), f.Chmod(0o644), f.Close())
	return f.Name(), err
}

// hz is how many jiffies, in which the kernel shows the timeout of persistence, a second has. 250
// is Debian's.
const hz = 250

// writeServices is ip_vs_info_seq_show in ip_vs_ctl.c.
func writeServices(w io.Writer, t *api.Table) error {
	fmt.Fprintf(w, versionLine, t.Capacity)
	fmt.Fprint(w, "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n")
	for i := range t.Services {
		s := &t.Services[i]
		ops := ""
		if s.OnePacket {
			ops = "ops "
		}
		switch {
		case s.Mark != 0:
			fmt.Fprintf(w, "FWM  %08X %s %s", s.Mark, s.Scheduler, ops)
		case s.Is6(): // without "ops"
			fmt.Fprintf(w, "%s  %s %s ", s.Protocol, hexAddrPort(s.Address, s.Port), s.Scheduler)
		default:
			fmt.Fprintf(w, "%s  %s %s %s ", s.Protocol, hexAddrPort(s.Address, s.Port), s.Scheduler, ops)
		}
		if s.Persistence > 0 {
			// The kernel takes the length of a prefix of IPv6 for a mask in network order.
			mask := bits.ReverseBytes32(uint32(cmp.Or(s.MaskBits, 128)))
			if !s.Is6() {
				mask = number4(netmask(&s.VirtualService))
			}
			fmt.Fprintf(w, "persistent %d %08X", int64(s.Persistence*hz), mask)
		}
		fmt.Fprintln(w)
		for j := range s.Servers {
			e := &s.Servers[j]
			fmt.Fprintf(w, "  -> %s      %-7s %-6d %-10d %-10d\n", hexAddrPort(e.Address, e.Port), "Route", e.Weight, e.Active, e.Inactive)
		}
	}
	return nil
}

// hexAddr writes an address as the kernel's %08X and %pI6 do.
func hexAddr(a netip.Addr) string {
	if a.Is6() {
		return a.StringExpanded()
	}
	return fmt.Sprintf("%08X", number4(a))
}

func hexAddrPort(a netip.Addr, port uint16) string {
	if a.Is6() {
		return fmt.Sprintf("[%s]:%04X", hexAddr(a), port)
	}
	return fmt.Sprintf("%s:%04X", hexAddr(a), port)
}

// totals adds up the services that there are; what was counted for removed ones is not known any
// more.
func totals(services []api.TableService) (total api.Counts, rate api.Rates) {
	for i := range services {
		c, r := &services[i].Counts, &services[i].Rates
		total.Flows, total.Packets, total.Bytes = total.Flows+c.Flows, total.Packets+c.Packets, total.Bytes+c.Bytes
		rate.Flows, rate.Packets, rate.Bytes = rate.Flows+r.Flows, rate.Packets+r.Packets, rate.Bytes+r.Bytes
	}
	return total, rate
}

// writeStats is ip_vs_stats_show.
func writeStats(w io.Writer, total api.Counts, rate api.Rates) error {
	row := func(c api.Counts) {
		fmt.Fprintf(w, "%8X %8X %8X %16X %16X\n", c.Flows, c.Packets, 0, c.Bytes, 0)
	}
	fmt.Fprint(w, "   Total Incoming Outgoing         Incoming         Outgoing\n",
		"   Conns  Packets  Packets            Bytes            Bytes\n")
	row(total)
	fmt.Fprint(w, "\n Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n")
	row(api.Counts(rate))
	return nil
}

// writeConnections is ip_vs_conn_seq_show in ip_vs_conn.c.
func writeConnections(w io.Writer, conns Connections) (err error) {
	fmt.Fprint(w, "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n")
	conns(func(c api.Connection) bool {
		_, err = fmt.Fprintf(w, "%-3s %s %04X %s %04X %s %04X %-11s %7d\n", c.Protocol,
			hexAddr(c.Client.Addr()), c.Client.Port(), hexAddr(c.Virtual.Addr()), c.Virtual.Port(),
			hexAddr(c.Realserver.Addr()), c.Realserver.Port(), c.State, expires(&c))
		return err == nil // a full disk need not be found out for each of a million
	})
	return err
}
