package convert

import (
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"shunt/internal/ipvsadm"
)

// A recorder is a director that only remembers what ipvsadm makes of it. So lines are understood as
// `shunt ipvsadm` does, and refused with its words.
type recorder struct {
	r  *result
	at place // of the line that is carried out
}

var _ ipvsadm.Director = (*recorder)(nil)

// The numbers by which the kernel refuses.
const (
	exists   = ipvsadm.Errno(syscall.EEXIST)
	noSuch   = ipvsadm.Errno(syscall.ESRCH)
	outRange = ipvsadm.Errno(syscall.ERANGE)
)

// line carries out one command line of ipvsadm.
func (c *recorder) line(at place, words []string) {
	var said strings.Builder
	c.at = at
	hosts := &portNames{Names: c.r.names}
	if ipvsadm.RunWith(words, strings.NewReader(""), io.Discard, &said, c, hosts) == 0 {
		return
	}
	why := strings.TrimSpace(said.String())
	if hosts.asked != "" {
		why += ": " + hosts.asked + " is no address, and names of hosts are not looked up"
	}
	c.r.lose(at, "%.300s: %s", strings.Join(words, " "), why)
}

// Info, like all that only asks, is for `ipvsadm -L` and -S, of which nothing is made.
func (c *recorder) Info() (ipvsadm.Info, error) { return ipvsadm.Info{}, nil }

// Services lists none.
func (c *recorder) Services() ([]ipvsadm.ServiceEntry, error) { return nil, nil }

// Connections lists none.
func (c *recorder) Connections(func(ipvsadm.Connection) bool) error { return nil }

// Timeouts are those that were set.
func (c *recorder) Timeouts() (ipvsadm.Timeouts, error) { return c.r.timeouts, nil }

// Totals are none.
func (c *recorder) Totals() (counts, rates ipvsadm.Counts, err error) { return }

// Apply remembers the changes.
func (c *recorder) Apply(changes []ipvsadm.Change) error {
	for i := range changes {
		if err := c.apply(&changes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *recorder) apply(ch *ipvsadm.Change) error {
	key := keyOf(&ch.Service)
	s := c.r.known[key]
	switch ch.Op {
	case ipvsadm.SetTimeouts:
		setTimeouts(&c.r.timeouts, ch.Timeouts)
		return nil
	case ipvsadm.Flush:
		c.r.services = nil
		clear(c.r.known)
		return nil
	case ipvsadm.ZeroAll, ipvsadm.ZeroService:
		return nil
	case ipvsadm.AddService:
		if s != nil {
			return exists
		}
		c.r.known[key] = &service{place: c.at, Service: ch.Service}
		c.r.services = append(c.r.services, c.r.known[key])
		return nil
	}
	if s == nil {
		return noSuch
	}
	switch ch.Op {
	case ipvsadm.EditService:
		s.place, s.Service = c.at, ch.Service
	case ipvsadm.DeleteService:
		delete(c.r.known, key)
		c.r.services = slices.DeleteFunc(c.r.services, func(o *service) bool { return o == s })
	default:
		return s.change(c.at, ch)
	}
	return nil
}

// setTimeouts changes those that are not 0, as the kernel does.
func setTimeouts(t *ipvsadm.Timeouts, to ipvsadm.Timeouts) {
	for _, p := range []struct{ to, from *time.Duration }{{&t.TCP, &to.TCP}, {&t.TCPFin, &to.TCPFin}, {&t.UDP, &to.UDP}} {
		if *p.from != 0 {
			*p.to = *p.from
		}
	}
}

// change carries out what concerns one destination.
func (s *service) change(at place, ch *ipvsadm.Change) error {
	d := &ch.Destination
	i := slices.IndexFunc(s.reals, func(x real) bool { return x.Addr == d.Addr && x.Port == d.Port })
	x := real{place: at, Destination: *d, method: direct}
	switch {
	case ch.Op != ipvsadm.DeleteDestination && d.Lower > d.Upper:
		return outRange
	case ch.Op == ipvsadm.AddDestination && i >= 0:
		return exists
	case ch.Op == ipvsadm.AddDestination:
		s.reals = append(s.reals, x)
	case i < 0:
		return ipvsadm.Errno(syscall.ENOENT)
	case ch.Op == ipvsadm.EditDestination:
		s.reals[i] = x
	case ch.Op == ipvsadm.DeleteDestination:
		s.reals = slices.Delete(s.reals, i, i+1)
	}
	return nil
}

// portNames knows names of ports, but not of hosts: what a file becomes must not depend on who
// answers at the moment.
type portNames struct {
	ipvsadm.Names
	asked string
}

// Host remembers that a name was asked for.
func (n *portNames) Host(name string) (netip.Addr, bool) {
	n.asked = name
	return netip.Addr{}, false
}

// HostOf knows none.
func (n *portNames) HostOf(netip.Addr) (string, bool) { return "", false }
