package ipvsadm

import (
	"context"
	"net/netip"
	"slices"
	"syscall"

	"shunt/api"
)

// kernel is a Director that behaves like the kernel's ip_vs_ctl.c, without traffic.
type kernel struct {
	services   []api.TableService
	schedulers []string
	timeouts   api.Timeouts
	daemons    []Daemon
	denied     bool // the caller is not root
	conns      []api.Connection
}

var _ Syncer = (*kernel)(nil)

func newKernel() *kernel {
	return &kernel{
		schedulers: []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"},
		timeouts:   api.Timeouts{TCP: 900, TCPFin: 120, UDP: 300},
	}
}

func (k *kernel) Status(context.Context) (s api.Status, err error) {
	if k.denied {
		err = errno(syscall.EPERM)
	}
	return s, err
}

func (k *kernel) Table(context.Context) (api.Table, error) {
	return api.Table{Capacity: 4096, Timeouts: k.timeouts, Services: k.services}, nil
}

func (k *kernel) Connections(_ context.Context, _ *api.Selection, fn func(api.Connection) bool) error {
	k.each(fn)
	return nil
}

func (k *kernel) each(fn func(api.Connection) bool) {
	for _, c := range k.conns {
		if !fn(c) {
			break
		}
	}
}

// writeProc writes the files of /proc.
func (k *kernel) writeProc(dir string) error {
	t, _ := k.Table(context.Background())
	return WriteProc(dir, &t, k.each)
}

func (k *kernel) Apply(_ context.Context, changes []api.Change) error {
	saved, timeouts := slices.Clone(k.services), k.timeouts
	for i := range saved {
		saved[i].Servers = slices.Clone(saved[i].Servers)
	}
	for _, c := range changes {
		if err := k.apply(&c); err != 0 {
			k.services, k.timeouts = saved, timeouts
			return errno(err)
		}
	}
	return nil
}

func (k *kernel) apply(c *api.Change) syscall.Errno {
	switch c.Op {
	case api.OpFlush:
		k.services = nil
		return 0
	case api.OpSetTimeouts:
		for _, t := range [][2]*float64{
			{&k.timeouts.TCP, &c.Timeouts.TCP}, {&k.timeouts.TCPFin, &c.Timeouts.TCPFin}, {&k.timeouts.UDP, &c.Timeouts.UDP},
		} {
			if *t[1] != 0 {
				*t[0] = *t[1]
			}
		}
		return 0
	}
	if c.Service == nil {
		for i := range k.services {
			zero(&k.services[i])
		}
		return 0
	}
	at := slices.IndexFunc(k.services, func(s api.TableService) bool { return same(&s.VirtualService, c.Service) })
	switch {
	case c.Op == api.OpAddService && at >= 0:
		return syscall.EEXIST
	case c.Op == api.OpAddService:
		if err := k.check(c.Service); err != 0 {
			return err
		}
		k.services = append(k.services, api.TableService{VirtualService: *c.Service})
		return 0
	case at < 0:
		return syscall.ESRCH
	}
	s := &k.services[at]
	switch c.Op {
	case api.OpEditService:
		if err := k.check(c.Service); err != 0 {
			return err
		}
		s.VirtualService = *c.Service
	case api.OpDeleteService:
		k.services = slices.Delete(k.services, at, at+1)
	case api.OpZero:
		zero(s)
	default:
		return applyServer(s, c)
	}
	return 0
}

func (k *kernel) check(s *api.VirtualService) syscall.Errno {
	switch {
	case !slices.Contains(k.schedulers, s.Scheduler), s.Engine != "" && s.Engine != "sip":
		return syscall.ENOENT
	}
	return 0
}

func zero(s *api.TableService) {
	s.Counts = api.Counts{}
	for i := range s.Servers {
		s.Servers[i].Counts = api.Counts{}
	}
}

func applyServer(s *api.TableService, c *api.Change) syscall.Errno {
	d := *c.Server
	at := slices.IndexFunc(s.Servers, func(e api.TableServer) bool { return e.Address == d.Address && e.Port == d.Port })
	switch {
	case c.Op == api.OpDeleteServer:
		if at < 0 {
			return syscall.ENOENT
		}
		s.Servers = slices.Delete(s.Servers, at, at+1)
		return 0
	case d.Address.Is6() != s.Is6():
		return syscall.EINVAL
	case d.Lower > d.Upper, d.Weight < 0:
		return syscall.ERANGE
	case c.Op == api.OpEditServer:
		if at < 0 {
			return syscall.ENOENT
		}
		s.Servers[at].VirtualServer = d
		return 0
	case at >= 0:
		return syscall.EEXIST
	case d.Address.IsMulticast() || d.Address.IsUnspecified() || d.Address == netip.MustParseAddr("255.255.255.255"):
		return syscall.EINVAL
	}
	s.Servers = slices.Insert(s.Servers, 0, api.TableServer{VirtualServer: d})
	return 0
}

func (k *kernel) Daemons() ([]Daemon, error) { return k.daemons, nil }

func (k *kernel) StartDaemon(d Daemon) error {
	switch {
	case slices.ContainsFunc(k.daemons, func(e Daemon) bool { return e.Backup == d.Backup }):
		return errno(syscall.EEXIST)
	case d.Interface != "eth0":
		return errno(syscall.ENODEV)
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
		return errno(syscall.ESRCH)
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

func (knownNames) Port(service string, proto string) (uint16, bool) {
	for port, name := range portNames {
		if name == service && (proto == TCP || proto == UDP) {
			return port, true
		}
	}
	return 0, false
}

func (knownNames) PortName(port uint16, proto string) (string, bool) {
	name, ok := portNames[port]
	return name, ok && (proto == TCP || proto == UDP)
}
