// Package wire compares forwarders over the wire: shunt, the bare loop and every peer that is
// installed, in one laboratory of network namespaces, in turns.
package wire

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shunt/internal/netlab"
)

// Names and addresses of the laboratory: a client, a director with two arms, a realserver, and a
// way home that avoids the director.
//
//	client c0 --- eth0 director eth1 --- r0 realserver
//	       c1 -------------------------- r1
const (
	vip       = "192.0.2.100"
	clientIP  = "198.51.100.1"
	rip       = "10.0.0.11"
	clientMAC = "02:00:00:00:00:01"
	inMAC     = "02:00:00:00:00:02"
	outMAC    = "02:00:00:00:00:03"
	realMAC   = "02:00:00:00:00:11"
	homeMAC   = "02:00:00:00:00:21"
	homeMAC2  = "02:00:00:00:00:22"
)

// Processors: the sender and the receiving softirq on one, the forwarder on the other.
const (
	senderCPU    = 0
	forwarderCPU = 1
)

type lab struct {
	net                        *netlab.Net
	client, director, realHost *netlab.Host
}

func newLab() (*lab, error) {
	l := &lab{net: netlab.New()}
	if err := l.build(); err != nil {
		l.net.Close()
		return nil, fmt.Errorf("laboratory: %w", err)
	}
	return l, nil
}

func (l *lab) build() (err error) {
	for _, h := range []struct {
		name string
		host **netlab.Host
	}{{"client", &l.client}, {"director", &l.director}, {"realserver", &l.realHost}} {
		if *h.host, err = l.net.Host(h.name); err != nil {
			return err
		}
	}
	steps := []func() error{
		func() error { return l.client.Cable("c0", clientMAC, l.director, "eth0") },
		func() error { return l.director.SetMAC("eth0", inMAC) },
		func() error { return l.director.Cable("eth1", outMAC, l.realHost, "r0") },
		func() error { return l.realHost.SetMAC("r0", realMAC) },
		func() error { return l.client.Cable("c1", homeMAC, l.realHost, "r1") },
		func() error { return l.realHost.SetMAC("r1", homeMAC2) },
		func() error { return l.client.Addr("c0", clientIP+"/24") },
		func() error { return l.director.Addr("eth0", "198.51.100.2/24") },
		func() error { return l.director.Addr("eth1", "10.0.0.2/24") },
		func() error { return l.realHost.Addr("r0", rip+"/24") },
		func() error { return l.realHost.Realserver(vip) },
		// The client reaches the VIP by the director, and hears the answers from elsewhere.
		func() error { return route(l.client, vip+"/32", "c0") },
		func() error { return neighbour(l.client, "c0", vip, inMAC) },
		func() error { return route(l.realHost, "198.51.100.0/24", "r1") },
		func() error { return neighbour(l.realHost, "r1", clientIP, homeMAC) },
		func() error { return l.client.Sysctl("net.ipv4.ip_local_port_range", "1024 65535") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	for _, h := range []*netlab.Host{l.client, l.director, l.realHost} {
		for _, i := range []string{"all", "default", "c0", "c1", "eth0", "eth1", "r0", "r1"} {
			_ = h.Sysctl("net.ipv4.conf."+i+".rp_filter", "0")
		}
	}
	return nil
}

func route(h *netlab.Host, prefix, dev string) error {
	_, dst, err := net.ParseCIDR(prefix)
	if err != nil {
		return err
	}
	link, err := h.Netlink().LinkByName(dev)
	if err != nil {
		return err
	}
	return h.Netlink().RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK})
}

func neighbour(h *netlab.Host, dev, addr, mac string) error {
	link, err := h.Netlink().LinkByName(dev)
	if err != nil {
		return err
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	return h.Netlink().NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: net.ParseIP(addr), HardwareAddr: hw, State: netlink.NUD_PERMANENT})
}

// sink has the realserver drop all that comes in by r0, before its stack sees it, or take it again.
func (l *lab) sink(on bool) error {
	return l.realHost.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "sink"})
		if !on {
			c.DelTable(t)
			return c.Flush()
		}
		chain := c.AddChain(&nftables.Chain{Name: "in", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
			Priority: nftables.ChainPriorityFirst, Device: "r0"})
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}})
		return c.Flush()
	})
}

// packets reads how many frames an interface has sent and received.
func packets(h *netlab.Host, dev string) (tx, rx uint64, err error) {
	link, err := h.Netlink().LinkByName(dev)
	if err != nil {
		return 0, 0, err
	}
	s := link.Attrs().Statistics
	return s.TxPackets, s.RxPackets, nil
}

// start starts a command on a host, on one processor only if cpu is not negative.
func start(h *netlab.Host, cpu int, cmd *exec.Cmd) error {
	if cpu < 0 {
		return h.Start(cmd)
	}
	var before unix.CPUSet
	err := h.Do(func() error {
		if err := unix.SchedGetaffinity(0, &before); err != nil {
			return err
		}
		var one unix.CPUSet
		one.Set(cpu)
		return unix.SchedSetaffinity(0, &one)
	})
	if err != nil {
		return fmt.Errorf("processor %d: %w", cpu, err)
	}
	err = h.Start(cmd) // a child has the processors of the thread that makes it
	_ = h.Do(func() error { return unix.SchedSetaffinity(0, &before) })
	return err
}

// onCPU runs fn on a thread of its own that keeps to one processor.
func onCPU(cpu int, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// cpuTime is what a process has used so far, in seconds of user and system time. The kernel scales
// the two such that their sum is what the scheduler measured, which is exact to the nanosecond, but
// for the ticks of 10 ms it is told in.
func cpuTime(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(b))
}

func parseStat(s string) (float64, error) {
	at := strings.LastIndexByte(s, ')')
	var user, system float64
	fields := strings.Fields(s[at+1:])
	if at < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat: %d fields", len(fields))
	}
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, fmt.Errorf("/proc/PID/stat: %w", err)
	}
	return (user + system) / 100, nil
}
