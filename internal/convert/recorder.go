package convert

import (
	"cmp"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"

	"shunt/api"
	"shunt/internal/ipvsadm"
)

// A recorder is a director that only remembers what ipvsadm makes of it. So lines are understood as
// `shunt ipvsadm` does, and refused with its words.
type recorder struct {
	r  *result
	at place // of the line that is carried out
}

var _ ipvsadm.Director = (*recorder)(nil)

// line carries out one command line of ipvsadm.
func (c *recorder) line(at place, words []string) {
	var said strings.Builder
	c.at = at
	hosts := &portNames{Names: c.r.names}
	if ipvsadm.RunPlain(words, strings.NewReader(""), io.Discard, &said, c, hosts) == 0 {
		return
	}
	why := strings.TrimSpace(said.String())
	if hosts.asked != "" {
		why += ": " + hosts.asked + " is no address, and names of hosts are not looked up"
	}
	c.r.lose(at, "%.300s: %s", strings.Join(words, " "), why)
}

// Status, like all that only asks, is for `ipvsadm -L` and -S, of which nothing is made.
func (c *recorder) Status(context.Context) (s api.Status, err error) { return s, nil }

// Table has the timeouts that were set.
func (c *recorder) Table(context.Context) (api.Table, error) {
	return api.Table{Timeouts: c.r.timeouts}, nil
}

// Connections lists none.
func (c *recorder) Connections(context.Context, *api.Selection, func(api.Connection) bool) error {
	return nil
}

// Apply remembers the changes.
func (c *recorder) Apply(_ context.Context, changes []api.Change) error {
	for i := range changes {
		if err := c.apply(&changes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *recorder) apply(ch *api.Change) error {
	switch ch.Op {
	case api.OpSetTimeouts:
		setTimeouts(&c.r.timeouts, ch.Timeouts)
		return nil
	case api.OpFlush:
		c.r.services = nil
		clear(c.r.known)
		return nil
	case api.OpZero:
		return nil
	}
	key := keyOf(ch.Service)
	s := c.r.known[key]
	switch {
	case ch.Op == api.OpAddService && s != nil:
		return &api.Error{Code: api.CodeExists}
	case ch.Op == api.OpAddService:
		c.r.known[key] = &service{place: c.at, VirtualService: *ch.Service}
		c.r.services = append(c.r.services, c.r.known[key])
	case s == nil:
		return &api.Error{Code: api.CodeNoService}
	case ch.Op == api.OpEditService:
		s.place, s.VirtualService = c.at, *ch.Service
	case ch.Op == api.OpDeleteService:
		delete(c.r.known, key)
		c.r.services = slices.DeleteFunc(c.r.services, func(o *service) bool { return o == s })
	default:
		return s.change(c.at, ch)
	}
	return nil
}

// setTimeouts changes those that are not 0, as the kernel does.
func setTimeouts(t, to *api.Timeouts) {
	t.TCP, t.TCPFin, t.UDP = cmp.Or(to.TCP, t.TCP), cmp.Or(to.TCPFin, t.TCPFin), cmp.Or(to.UDP, t.UDP)
}

// change carries out what concerns one destination.
func (s *service) change(at place, ch *api.Change) error {
	d := ch.Server
	i := slices.IndexFunc(s.reals, func(x real) bool { return x.Address == d.Address && x.Port == d.Port })
	x := real{place: at, VirtualServer: *d, method: direct}
	switch {
	case ch.Op != api.OpDeleteServer && d.Lower > d.Upper:
		return &api.Error{Code: api.CodeRange}
	case ch.Op == api.OpAddServer && i >= 0:
		return &api.Error{Code: api.CodeServerExists}
	case ch.Op == api.OpAddServer:
		s.reals = append(s.reals, x)
	case i < 0:
		return &api.Error{Code: api.CodeNoServer}
	case ch.Op == api.OpEditServer:
		s.reals[i] = x
	case ch.Op == api.OpDeleteServer:
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
