package ipvsadm

import (
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// kernel is a Director that behaves like the kernel's ip_vs_ctl.c, without traffic.
type kernel struct {
	services   []ServiceEntry
	schedulers []string
	timeouts   Timeouts
	daemons    []Daemon
	denied     bool // the caller is not root
	conns      []Connection

	totals, rates Counts
}

var _ Syncer = (*kernel)(nil)

func newKernel() *kernel {
	return &kernel{
		schedulers: []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"},
		timeouts:   Timeouts{900 * time.Second, 120 * time.Second, 300 * time.Second},
	}
}

func (k *kernel) Info() (Info, error) {
	if k.denied {
		return Info{}, Errno(syscall.EPERM)
	}
	return Info{Version: [3]int{1, 2, 1}, Size: 4096}, nil
}

func (k *kernel) Services() ([]ServiceEntry, error) { return k.services, nil }

func (k *kernel) Connections(fn func(Connection) bool) error {
	for _, c := range k.conns {
		if !fn(c) {
			break
		}
	}
	return nil
}

func (k *kernel) Timeouts() (Timeouts, error) { return k.timeouts, nil }

func (k *kernel) Totals() (counts, rates Counts, err error) { return k.totals, k.rates, nil }

func (k *kernel) Apply(changes []Change) error {
	saved, timeouts := slices.Clone(k.services), k.timeouts
	for i := range saved {
		saved[i].Destinations = slices.Clone(saved[i].Destinations)
	}
	for _, c := range changes {
		if err := k.apply(&c); err != 0 {
			k.services, k.timeouts = saved, timeouts
			return Errno(err)
		}
	}
	return nil
}

func (k *kernel) apply(c *Change) syscall.Errno {
	at := slices.IndexFunc(k.services, func(s ServiceEntry) bool { return s.SameAs(&c.Service) })
	switch c.Op {
	case AddService:
		if at >= 0 {
			return syscall.EEXIST
		}
		if err := k.check(&c.Service); err != 0 {
			return err
		}
		k.services = append(k.services, ServiceEntry{Service: c.Service})
		return 0
	case Flush:
		k.services = nil
		return 0
	case ZeroAll:
		for i := range k.services {
			k.services[i].zero()
		}
		return 0
	case SetTimeouts:
		for _, t := range [][2]*time.Duration{
			{&k.timeouts.TCP, &c.Timeouts.TCP}, {&k.timeouts.TCPFin, &c.Timeouts.TCPFin}, {&k.timeouts.UDP, &c.Timeouts.UDP},
		} {
			if *t[1] != 0 {
				*t[0] = *t[1]
			}
		}
		return 0
	}
	if at < 0 {
		return syscall.ESRCH
	}
	s := &k.services[at]
	switch c.Op {
	case EditService:
		if err := k.check(&c.Service); err != 0 {
			return err
		}
		s.Service = c.Service
	case DeleteService:
		k.services = slices.Delete(k.services, at, at+1)
	case ZeroService:
		s.zero()
	default:
		return s.apply(c)
	}
	return 0
}

func (k *kernel) check(s *Service) syscall.Errno {
	switch {
	case !slices.Contains(k.schedulers, s.Scheduler), s.Engine != "" && s.Engine != "sip":
		return syscall.ENOENT
	case s.is6() && (s.Netmask < 1 || s.Netmask > 128):
		return syscall.EINVAL
	}
	return 0
}

func (s *ServiceEntry) zero() {
	s.Counts = Counts{}
	for i := range s.Destinations {
		s.Destinations[i].Counts = Counts{}
	}
}

func (s *ServiceEntry) apply(c *Change) syscall.Errno {
	d := c.Destination
	at := slices.IndexFunc(s.Destinations, func(e DestinationEntry) bool { return e.Addr == d.Addr && e.Port == d.Port })
	switch {
	case c.Op == DeleteDestination:
		if at < 0 {
			return syscall.ENOENT
		}
		s.Destinations = slices.Delete(s.Destinations, at, at+1)
		return 0
	case d.Addr.Is6() != s.is6():
		return syscall.EINVAL
	case d.Lower > d.Upper, d.Weight < 0:
		return syscall.ERANGE
	case c.Op == EditDestination:
		if at < 0 {
			return syscall.ENOENT
		}
		s.Destinations[at].Destination = d
		return 0
	case at >= 0:
		return syscall.EEXIST
	case d.Addr.IsMulticast() || d.Addr.IsUnspecified() || d.Addr == netip.MustParseAddr("255.255.255.255"):
		return syscall.EINVAL
	}
	s.Destinations = slices.Insert(s.Destinations, 0, DestinationEntry{Destination: d})
	return 0
}

func (k *kernel) Daemons() ([]Daemon, error) { return k.daemons, nil }

func (k *kernel) StartDaemon(d Daemon) error {
	switch {
	case slices.ContainsFunc(k.daemons, func(e Daemon) bool { return e.Backup == d.Backup }):
		return Errno(syscall.EEXIST)
	case d.Interface != "eth0":
		return Errno(syscall.ENODEV)
	}
	if d.MaxLen == 0 {
		d.MaxLen = 1472
	}
	if !d.Group.IsValid() {
		d.Group = netip.MustParseAddr("224.0.0.81")
	}
	if d.Port == 0 {
		d.Port = 8848
	}
	if d.TTL == 0 {
		d.TTL = 1
	}
	k.daemons = append(k.daemons, d)
	return nil
}

func (k *kernel) StopDaemon(d Daemon) error {
	n := len(k.daemons)
	k.daemons = slices.DeleteFunc(k.daemons, func(e Daemon) bool { return e.Backup == d.Backup })
	if len(k.daemons) == n {
		return Errno(syscall.ESRCH)
	}
	return nil
}

// knownNames are the names of services that the traces show; hosts have none there.
type knownNames struct{}

var portNames = map[uint16]string{53: "domain", 80: "http", 88: "kerberos", 5060: "sip"}

func (knownNames) Host(name string) (netip.Addr, bool) {
	if name == "www.example" {
		return netip.MustParseAddr("192.0.2.80"), true
	}
	return netip.Addr{}, false
}

func (knownNames) HostOf(a netip.Addr) (string, bool) {
	if a == netip.MustParseAddr("192.0.2.80") {
		return "www.example", true
	}
	return "", false
}

func (knownNames) Port(service string, proto Protocol) (uint16, bool) {
	for port, name := range portNames {
		if name == service && (proto == TCP || proto == UDP) {
			return port, true
		}
	}
	return 0, false
}

func (knownNames) PortName(port uint16, proto Protocol) (string, bool) {
	name, ok := portNames[port]
	return name, ok && (proto == TCP || proto == UDP)
}
