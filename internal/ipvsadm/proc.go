package ipvsadm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// ProcFiles are the names of the files of WriteProc.
var ProcFiles = []string{"ip_vs", "ip_vs_stats", "ip_vs_conn"}

var procWriters = map[string]func(io.Writer, Director) error{
	"ip_vs": writeServices, "ip_vs_stats": writeStats, "ip_vs_conn": writeConnections,
}

// WriteProc writes files below dir/net, as the kernel shows them below /proc/net, for programs that read those and can be
// told of another /proc, such as node_exporter with --path.procfs: those of ProcFiles that are named, or all. A reader finds
// each file as it was or as it is, never half of it. If there is an error no file is changed, except when a rename fails.
func WriteProc(dir string, d Director, files ...string) (err error) {
	if len(files) == 0 {
		files = ProcFiles
	}
	if err := MakeProc(dir); err != nil {
		return err
	}
	dir = filepath.Join(dir, "net")
	var ready []string // names of temporary files
	defer func() {
		for _, name := range ready {
			err = errors.Join(err, os.Remove(name))
		}
	}()
	for _, f := range files {
		name, err := temporary(dir, f, func(w io.Writer) error { return procWriters[f](w, d) })
		if name != "" {
			ready = append(ready, name)
		}
		if err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := os.Rename(ready[0], filepath.Join(dir, f)); err != nil {
			return err
		}
		ready = ready[1:]
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

// hz is how many jiffies, in which the kernel shows the timeout of persistence, a second has. 250 is Debian's.
const hz = 250

// writeServices is ip_vs_info_seq_show in ip_vs_ctl.c.
func writeServices(w io.Writer, d Director) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	services, err := d.Services()
	if err != nil {
		return err
	}
	v := info.Version
	fmt.Fprintf(w, "IP Virtual Server version %d.%d.%d (size=%d)\n", v[0], v[1], v[2], info.Size)
	fmt.Fprint(w, "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n")
	for i := range services {
		s := &services[i]
		ops := ""
		if s.OnePacket {
			ops = "ops "
		}
		switch {
		case s.Mark != 0:
			fmt.Fprintf(w, "FWM  %08X %s %s", s.Mark, s.Scheduler, ops)
		case s.is6(): // without "ops"
			fmt.Fprintf(w, "%s  %s %s ", s.Protocol, hexAddrPort(s.Addr, s.Port), s.Scheduler)
		default:
			fmt.Fprintf(w, "%s  %s %s %s ", s.Protocol, hexAddrPort(s.Addr, s.Port), s.Scheduler, ops)
		}
		if s.Persistent {
			mask := s.Netmask
			if s.is6() {
				mask = bits.ReverseBytes32(mask) // the kernel takes the length of a prefix for a mask in network order
			}
			fmt.Fprintf(w, "persistent %d %08X", s.Timeout/(time.Second/hz), mask)
		}
		fmt.Fprintln(w)
		for j := range s.Destinations {
			e := &s.Destinations[j]
			fmt.Fprintf(w, "  -> %s      %-7s %-6d %-10d %-10d\n", hexAddrPort(e.Addr, e.Port), "Route", e.Weight, e.Active, e.Inactive)
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

// writeStats is ip_vs_stats_show.
func writeStats(w io.Writer, d Director) error {
	counts, rates, err := d.Totals()
	if err != nil {
		return err
	}
	row := func(c Counts) {
		fmt.Fprintf(w, "%8X %8X %8X %16X %16X\n", c.Conns, c.InPackets, c.OutPackets, c.InBytes, c.OutBytes)
	}
	fmt.Fprint(w, "   Total Incoming Outgoing         Incoming         Outgoing\n",
		"   Conns  Packets  Packets            Bytes            Bytes\n")
	row(counts)
	fmt.Fprint(w, "\n Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n")
	row(rates)
	return nil
}

// writeConnections is ip_vs_conn_seq_show in ip_vs_conn.c.
func writeConnections(w io.Writer, d Director) error {
	fmt.Fprint(w, "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n")
	var failed error
	err := d.Connections(func(c Connection) bool {
		engine := ""
		if c.Engine != "" {
			engine = " " + c.Engine + " " + c.EngineData
		}
		_, failed = fmt.Fprintf(w, "%-3s %s %04X %s %04X %s %04X %-11s %7d%s\n", c.Protocol,
			hexAddr(c.Client.Addr()), c.Client.Port(), hexAddr(c.Virtual.Addr()), c.Virtual.Port(),
			hexAddr(c.Destination.Addr()), c.Destination.Port(), c.State, expires(&c), engine)
		return failed == nil // a full disk need not be found out for each of a million
	})
	return errors.Join(err, failed)
}
