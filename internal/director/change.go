package director

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
	"shunt/internal/control"
	"shunt/internal/delta"
	"shunt/scheduler"
)

// Apply makes changes to the running director, all or none of them. They last until the
// configuration is read again. A refusal is an *api.Error.
func (d *Director) Apply(by control.Peer, changes []api.Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.apply(by, changes)
}

// apply is Apply when d.mu is held.
func (d *Director) apply(by control.Peer, changes []api.Change) error {
	t, err := d.translate(changes)
	if err != nil {
		if e := refusal(0, err); e.Code == api.CodeInvalid { // of which ipvsadm has no words but the kernel's
			d.log.Warn("change by the control socket rejected", "error", e.Message, "by", by)
		}
		return err
	}
	at := 0
	err = d.teller.Change(t.change, func() (err error) {
		at, err = t.make(changes)
		return err
	})
	if err != nil {
		return refusal(at, err)
	}
	d.tell(by, t)
	return nil
}

// translate has all changes translated. A refusal is an *api.Error.
func (d *Director) translate(changes []api.Change) (*translator, error) {
	t := &translator{d: d, networks: d.networks(), change: delta.Change{Wait: reloadWait}}
	for i := range changes {
		if err := t.add(&changes[i]); err != nil {
			return nil, refusal(i, err)
		}
	}
	return t, nil
}

// make makes the changes, keeps them, and tells which was refused.
func (t *translator) make(changes []api.Change) (at int, err error) {
	if at, err = t.commit(); err != nil {
		return at, err
	}
	if slices.ContainsFunc(changes, func(c api.Change) bool { return c.Op != api.OpZero }) {
		t.d.kept.Keep(changes)
	}
	for i := range t.steps {
		if err := t.steps[i].zero(t.d.engine); err != nil {
			return i, err
		}
	}
	return 0, nil
}

// commit makes the changes that are a transaction of the engine, and tells which was refused.
func (t *translator) commit() (at int, err error) {
	err = t.d.engine.Update(func(tx *forwarder.Tx) error {
		for i := range t.steps {
			at = i
			if err := t.steps[i].make(tx); err != nil {
				return err
			}
		}
		return nil
	})
	return at, err
}

// translator makes of changes what the engine understands.
type translator struct {
	d     *Director
	steps []step   // one for each change
	told  []string // the first steps in words

	own      map[netip.Addr]bool // this host's addresses; nil until they are needed
	networks [][]netip.Prefix    // the legs'

	change delta.Change // VIPs and realservers that may come or go
}

// A step is a change, and the service and the realserver that it is about as the engine has them.
type step struct {
	*api.Change
	service forwarder.Service
	dest    forwarder.Destination
}

// make makes the change, unless it is one of counters.
func (s *step) make(tx *forwarder.Tx) error {
	key := s.service.Key()
	switch s.Op {
	case api.OpAddService:
		return tx.AddService(s.service)
	case api.OpEditService:
		return tx.EditService(s.service)
	case api.OpDeleteService:
		return tx.DeleteService(key)
	case api.OpFlush:
		return tx.Flush()
	case api.OpAddServer:
		return tx.AddDestination(key, s.dest)
	case api.OpEditServer:
		return tx.EditDestination(key, s.dest)
	case api.OpDeleteServer:
		return tx.DeleteDestination(key, s.dest)
	case api.OpSetTimeouts:
		now := tx.Settings()
		now.TCPTimeout = cmp.Or(forwarder.Seconds(s.Timeouts.TCP), now.TCPTimeout)
		now.TCPFinTimeout = cmp.Or(forwarder.Seconds(s.Timeouts.TCPFin), now.TCPFinTimeout)
		now.UDPTimeout = cmp.Or(forwarder.Seconds(s.Timeouts.UDP), now.UDPTimeout)
		return tx.SetSettings(now)
	}
	return nil
}

// zero sets counters to zero, if that is the change.
func (s *step) zero(e *forwarder.Engine) error {
	switch {
	case s.Op != api.OpZero:
		return nil
	case s.Service == nil:
		return e.Zero(nil)
	}
	key := s.service.Key()
	return e.Zero(&key)
}

// errUnknownMark is about a group that the configuration does not define.
var errUnknownMark = errors.New("is not defined in the director's configuration")

// errEngine is about a persistence engine. The kernel has one, for SIP.
var errEngine = errors.New("this director has no persistence engines (--pe)")

// add translates a change that control.CheckChange has looked at.
func (t *translator) add(c *api.Change) (err error) {
	s := step{Change: c}
	if c.Service != nil {
		if s.service, err = t.service(c.Service); err != nil {
			return err
		}
	}
	if c.Server != nil {
		if s.dest, err = t.server(s.service.Key(), c.Server); err != nil {
			return err
		}
	}
	if c.Op == api.OpAddService && !c.Force {
		if err := t.ownVIPs(&s.service); err != nil {
			return err
		}
	}
	t.steps = append(t.steps, s)
	t.note(&s)
	t.touches(&s)
	return nil
}

// touches notes which VIPs and realservers may come or go by a step.
func (t *translator) touches(s *step) {
	switch s.Op {
	case api.OpAddService:
		t.vips(&s.service)
	case api.OpDeleteService:
		key := s.service.Key()
		if old, ok := t.d.engine.Lookup(key); ok {
			t.vips(&old)
		}
		for _, h := range t.d.engine.HopsOf(key) {
			t.touch(h)
		}
	case api.OpFlush:
		t.change.All = true
	case api.OpAddServer, api.OpDeleteServer:
		t.touch(forwarder.Hop{Leg: s.dest.Leg, Addr: s.dest.Addr})
	}
}

// vips notes the VIPs of a service that comes or goes.
func (t *translator) vips(s *forwarder.Service) {
	for _, m := range s.Matches {
		t.change.VIPs = append(t.change.VIPs, m.Addr)
	}
}

// touch notes a hop where realservers come or go.
func (t *translator) touch(h forwarder.Hop) {
	t.change.Realservers = append(t.change.Realservers, forwarder.Neighbour{Hop: h, MAC: t.d.cfg.StaticMAC(h.Addr)})
}

// protocols are the engine's for those of the API.
var protocols = map[string]frame.Proto{"TCP": frame.TCP, "UDP": frame.UDP, "SCTP": frame.SCTP}

// service makes the engine's service of one of the API. What ipvsadm cannot say stays as it is, or
// as the configuration has it.
func (t *translator) service(v *api.VirtualService) (forwarder.Service, error) {
	s := forwarder.Service{
		Mark: v.Mark, V6: v.V6, Scheduler: v.Scheduler, Options: scheduler.Options{Flags: scheduler.Flags(v.Flags)},
		Persistence: forwarder.Seconds(v.Persistence), MaskBits: v.MaskBits, OnePacket: v.OnePacket,
	}
	switch {
	case v.Engine != "":
		return s, errEngine
	case v.Netmask.IsValid():
		return s, fmt.Errorf("the netmask of persistence (-M) is not that of a prefix: %w", forwarder.ErrInvalid)
	}
	if v.Name != "" {
		named, err := t.named(v.Name)
		if err != nil {
			return s, err
		}
		s.Mark, s.V6, s.Matches, s.Name = named.Mark, named.V6, named.Matches, named.Name
	} else if v.Mark != 0 {
		defined := t.d.cfg.Group(v.Mark, v.V6)
		if defined == nil {
			return s, fmt.Errorf("firewall mark %d %w", v.Mark, errUnknownMark)
		}
		s.Matches, s.Name = defined.Matches, defined.Name
	} else {
		m := forwarder.Match{Addr: v.Address, Proto: protocols[strings.ToUpper(v.Protocol)], First: v.Port, Last: v.Port}
		if v.Port == 0 {
			m.Last = 65535
		}
		s.Matches = []forwarder.Match{m}
		s.Name = s.Key().String()
	}
	s.Options.Expiration = t.d.cfg.Expiration(s.Scheduler)
	if old, ok := t.d.engine.Lookup(s.Key()); ok {
		s.Name, s.SlowStart = old.Name, old.SlowStart
		if old.Scheduler == s.Scheduler {
			s.Options.TableSize, s.Options.Seed, s.Options.Expiration = old.Options.TableSize, old.Options.Seed, old.Options.Expiration
		}
	}
	return s, nil
}

// named finds a service by its name: a running one, or one that the configuration defines and that
// was deleted.
func (t *translator) named(name string) (forwarder.Service, error) {
	switch running := t.d.engine.Named(name); len(running) {
	case 1:
		return running[0], nil
	case 0:
	default:
		return forwarder.Service{}, fmt.Errorf("%d services are named %q: name it by protocol, address and port: %w", len(running), name, forwarder.ErrInvalid)
	}
	if defined := t.d.cfg.Named(name); defined != nil {
		return defined.Service, nil
	}
	return forwarder.Service{}, fmt.Errorf("%q: %w", name, forwarder.ErrNoService)
}

// server makes the engine's destination of one of the API, on the leg where it is or would be.
func (t *translator) server(key forwarder.ServiceKey, v *api.VirtualServer) (forwarder.Destination, error) {
	dest := forwarder.Destination{Addr: v.Address, Port: v.Port, Weight: v.Weight, Upper: v.Upper, Lower: v.Lower}
	if old, ok := t.d.engine.LookupDestination(key, dest.Addr, dest.Port); ok {
		dest.Leg, dest.Drain = old.Leg, old.Drain
		if dest.Weight == 0 {
			dest.Restore = cmp.Or(old.Weight, old.Restore)
		}
		return dest, nil
	}
	if err := forwarder.CheckAddress(v.Address); err != nil {
		return dest, fmt.Errorf("realserver %w", err)
	}
	if t.isOwn(v.Address) {
		return dest, fmt.Errorf(errLocal+": %w", v.Address, forwarder.ErrInvalid)
	}
	var err error
	dest.Leg, err = t.d.cfg.Place(v.Address, t.networks)
	if err != nil {
		return dest, fmt.Errorf("%s: %w", config.Errors(err)[0].Message, forwarder.ErrInvalid) // it is of no place in the file
	}
	return dest, nil
}

// isOwn reports whether an address is this host's.
func (t *translator) isOwn(a netip.Addr) bool {
	if t.own == nil {
		t.own = ownAddresses()
	}
	return t.own[a]
}

// errOwnVIP is about a VIP that is an address of this host: its kernel answers for it, and what
// else comes for this host would be taken for the service's.
var errOwnVIP = errors.New("is an address of this host, whose kernel answers for it: remove it (`ip addr del`), or force the change")

// ownVIPs refuses a service with a VIP that is an address of this host.
func (t *translator) ownVIPs(s *forwarder.Service) error {
	for _, m := range s.Matches {
		if t.isOwn(m.Addr) {
			return fmt.Errorf("%s: the VIP %s %w", s.Key(), m.Addr, errOwnVIP)
		}
	}
	return nil
}

// refusal gives an error its code.
func refusal(at int, err error) *api.Error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	e := &api.Error{Code: api.CodeInvalid, Message: control.Excerpt(err.Error(), 1000), Change: at}
	for _, c := range []struct {
		is   error
		code api.Code
	}{
		{forwarder.ErrServiceExists, api.CodeExists}, {forwarder.ErrNoService, api.CodeNoService},
		{forwarder.ErrDestExists, api.CodeServerExists}, {forwarder.ErrNoDest, api.CodeNoServer},
		{scheduler.ErrUnknown, api.CodeUnknownScheduler}, {errUnknownMark, api.CodeUnknownMark}, {errEngine, api.CodeUnknownEngine},
		{forwarder.ErrThresholds, api.CodeRange}, {errOwnVIP, api.CodeOwnAddress},
	} {
		if errors.Is(err, c.is) {
			e.Code = c.code
			break
		}
	}
	return e
}

// Table is all that ipvsadm lists.
func (d *Director) Table() api.Table {
	out := api.Table{Capacity: d.engine.Stats().Capacity, Services: []api.TableService{}, Timeouts: timeoutsOf(d.engine.Settings())}
	for _, s := range d.engine.Services() {
		v := api.TableService{Counts: counts(s.Counts), Rates: rates(s.Rates), Servers: []api.TableServer{}}
		v.VirtualService = identity(&s.Service)
		v.Scheduler, v.Flags, v.Persistence = s.Scheduler, uint8(s.Options.Flags), s.Persistence.Seconds()
		v.MaskBits, v.OnePacket = s.MaskBits, s.OnePacket
		for _, r := range s.Destinations {
			v.Servers = append(v.Servers, api.TableServer{
				VirtualServer: api.VirtualServer{Address: r.Addr, Port: r.Port, Weight: r.Weight, Upper: r.Upper, Lower: r.Lower},
				Active:        r.Active, Inactive: r.Inactive, Persistent: r.Persistent, Counts: counts(r.Counts), Rates: rates(r.Rates),
			})
		}
		out.Services = append(out.Services, v)
	}
	return out
}

// timeoutsOf are the timeouts in force, in seconds.
func timeoutsOf(s forwarder.Settings) api.Timeouts {
	or := func(t, otherwise time.Duration) float64 { return cmp.Or(t, otherwise).Seconds() }
	return api.Timeouts{TCP: or(s.TCPTimeout, 900*time.Second), TCPFin: or(s.TCPFinTimeout, 120*time.Second), UDP: or(s.UDPTimeout, 300*time.Second)}
}
