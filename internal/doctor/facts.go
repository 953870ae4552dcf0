package doctor

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
	"shunt/internal/guard"
)

// facts is what is known before anything is sent.
type facts struct {
	cfg    *config.Config
	status *api.Overview // nil: no director runs
	legs   []legFacts    // as in cfg.Legs
	own    map[netip.Addr]string
	// forward tells whether the kernel routes: of IPv4, of IPv6.
	forward4, forward6 bool
	guards             map[string]string // the guard's tables by their interfaces
	guardErr           error             // that there are guards could not be found out
	capRaw, capAdmin   bool              // of this process
	neighbours         []forwarder.Neighbour
	working            map[netip.Addr]bool // see drained; nil until it is asked for
	planErr            error

	fromAddr   netip.Addr              // from which realservers are pinged as by a client, if it was named
	fromNobody bool                    // they are not
	maybe      []netip.Addr            // addresses that may be lent, if nobody answers for them
	table      map[netip.Addr]halfOpen // what the director's table tells of each realserver; nil: not asked
}

// legFacts is an interface as it is.
type legFacts struct {
	cfg  config.Leg
	ifi  *net.Interface
	err  error
	mac  frame.MAC
	nets []netip.Prefix
	lro  bool
}

// addr is the first address of a family that may be answered from afar; invalid if there is none.
func (l *legFacts) addr(v6 bool) netip.Addr {
	for _, p := range l.nets {
		if p.Addr().Is6() == v6 && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// addrFor is an address to which a realserver answers, and whether it does so without a router:
// that in its network, if there is one.
func (l *legFacts) addrFor(rip netip.Addr) (a netip.Addr, direct bool) {
	for _, p := range l.nets {
		if p.Contains(rip) {
			return p.Addr(), true
		}
	}
	return l.addr(rip.Is6()), false
}

func (l *legFacts) usable() bool {
	return l.err == nil && l.ifi.Flags&net.FlagUp != 0 && l.ifi.Flags&net.FlagRunning != 0
}

func gather(cfg *config.Config, status *api.Overview) (*facts, error) {
	f := &facts{cfg: cfg, status: status, own: map[netip.Addr]string{}, guards: map[string]string{}}
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for i := range ifs {
		for _, p := range prefixes(&ifs[i]) {
			f.own[p.Addr()] = ifs[i].Name
		}
	}
	var networks [][]netip.Prefix
	for _, c := range cfg.Legs {
		l := legFacts{cfg: c}
		if l.ifi, l.err = net.InterfaceByName(c.Interface); l.err == nil {
			l.nets = prefixes(l.ifi)
			l.lro, _ = hasLRO(c.Interface) // who cannot tell has none
			if len(l.ifi.HardwareAddr) == 6 {
				l.mac = frame.MAC(l.ifi.HardwareAddr)
			} else {
				l.err = errors.New("no Ethernet address")
			}
		}
		f.legs = append(f.legs, l)
		networks = append(networks, routable(l.nets))
	}
	_, f.neighbours, f.planErr = cfg.Plan(networks)
	f.forward4 = sysctl("net/ipv4/ip_forward") == "1"
	f.forward6 = sysctl("net/ipv6/conf/all/forwarding") == "1"
	f.capRaw, f.capAdmin = capabilities()
	f.findGuards()
	return f, nil
}

func prefixes(ifi *net.Interface) (out []netip.Prefix) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// routable is what the director goes by: networks without those of link-local addresses.
func routable(in []netip.Prefix) (out []netip.Prefix) {
	for _, p := range in {
		if !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p)
		}
	}
	return out
}

func sysctl(path string) string {
	b, _ := os.ReadFile("/proc/sys/" + path)
	return strings.TrimSpace(string(b))
}

// findGuards looks for the tables of package guard: those of the director that runs, or else those
// that a killed one left.
func (f *facts) findGuards() {
	var all []guard.Table
	if all, f.guardErr = guard.Find(); f.guardErr != nil {
		return
	}
	for _, t := range all {
		mine := f.status != nil && f.status.Guard != nil && slices.Contains(f.status.Guard.Tables, t.Name)
		if mine || f.status == nil && !t.Alive {
			f.guards[t.Interface] = t.Name
		}
	}
}

// capabilities of this process, as capget(2) tells.
func capabilities() (raw, admin bool) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false, false
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	return has(unix.CAP_NET_RAW), has(unix.CAP_NET_ADMIN)
}

// public lists the legs on which clients ask for the VIPs.
func (f *facts) public() (out []int) {
	for i := range f.legs {
		if f.legs[i].cfg.Public {
			out = append(out, i)
		}
	}
	return out
}

// realserver names the realserver that has a MAC.
func realserverOf(macs map[netip.Addr]frame.MAC, mac frame.MAC) (netip.Addr, bool) {
	var best netip.Addr
	for a, m := range macs {
		if m == mac && (!best.IsValid() || a.Less(best)) {
			best = a
		}
	}
	return best, best.IsValid()
}
