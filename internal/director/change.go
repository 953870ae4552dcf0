package director

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
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

// Apply makes changes to the running director, all or none of them. They last until the configuration is read again. A
// refusal is an *api.Error.
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
	if at, err = t.commit(); err == nil && len(t.zero) < len(changes) {
		t.d.kept.Keep(changes)
	}
	for i := range t.zero {
		if err == nil {
			at = t.zero[i].at
			err = t.d.engine.Zero(t.zero[i].key)
		}
	}
	return at, err
}

// commit makes the changes that are the engine's, and tells which was refused.
func (t *translator) commit() (at int, err error) {
	err = t.d.engine.Update(func(tx *forwarder.Tx) error {
		for i, step := range t.steps {
			at = i
			if step == nil {
				continue
			}
			if err := step(tx); err != nil {
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
	steps []func(*forwarder.Tx) error // one for each change; nil if it is not the engine's
	zero  []zeroing
	told  []string // the first steps in words

	own      map[netip.Addr]bool // this host's addresses; nil until they are needed
	networks [][]netip.Prefix    // the legs'

	change delta.Change // VIPs and realservers that may come or go
}

type zeroing struct {
	at  int
	key *forwarder.ServiceKey
}

// errUnknownMark is about a group that the configuration does not define.
var errUnknownMark = errors.New("is not defined in the director's configuration")

// errEngine is about a persistence engine. The kernel has one, for SIP.
var errEngine = errors.New("this director has no persistence engines (--pe)")

func (t *translator) add(c *api.Change) error {
	var s forwarder.Service
	var dest forwarder.Destination
	var err error
	if c.Service != nil {
		if s, err = t.service(c.Service); err != nil {
			return err
		}
	}
	if c.Server != nil && c.Service != nil {
		if dest, err = t.server(&s, c.Server); err != nil {
			return err
		}
	}
	key := s.Key()
	var step func(*forwarder.Tx) error
	switch c.Op {
	case api.OpAddService:
		if !c.Force {
			if err := t.ownVIPs(&s); err != nil {
				return err
			}
		}
		step = func(tx *forwarder.Tx) error { return tx.AddService(s) }
		for _, m := range s.Matches {
			t.change.VIPs = append(t.change.VIPs, m.Addr)
		}
	case api.OpEditService:
		step = func(tx *forwarder.Tx) error { return tx.EditService(s) }
	case api.OpDeleteService:
		step = func(tx *forwarder.Tx) error { return tx.DeleteService(key) }
	case api.OpFlush:
		step = func(tx *forwarder.Tx) error { return tx.Flush() }
	case api.OpAddServer:
		step = func(tx *forwarder.Tx) error { return tx.AddDestination(key, dest) }
	case api.OpEditServer:
		step = func(tx *forwarder.Tx) error { return tx.EditDestination(key, dest) }
	case api.OpDeleteServer:
		step = func(tx *forwarder.Tx) error { return tx.DeleteDestination(key, dest) }
	case api.OpSetTimeouts:
		if c.Timeouts == nil {
			return fmt.Errorf("%s: there are no timeouts: %w", c.Op, forwarder.ErrInvalid)
		}
		if step, err = t.timeouts(c.Timeouts); err != nil {
			return err
		}
	case api.OpZero:
		z := zeroing{at: len(t.steps)}
		if c.Service != nil {
			z.key = &key
		}
		t.zero = append(t.zero, z)
	default:
		return fmt.Errorf("op %q is not known: %w", c.Op, forwarder.ErrInvalid)
	}
	needsService := c.Op != api.OpFlush && c.Op != api.OpSetTimeouts && c.Op != api.OpZero
	if needsService && c.Service == nil || strings.HasSuffix(string(c.Op), "-server") && c.Server == nil {
		return fmt.Errorf("%s: service or server is missing: %w", c.Op, forwarder.ErrInvalid)
	}
	t.steps = append(t.steps, step)
	t.note(c, &s, &dest)
	switch c.Op {
	case api.OpDeleteService:
		if old, ok := t.d.engine.Lookup(key); ok {
			for _, m := range old.Matches {
				t.change.VIPs = append(t.change.VIPs, m.Addr)
			}
		}
		for _, h := range t.d.engine.HopsOf(key) {
			t.touch(h)
		}
	case api.OpFlush:
		t.change.All = true
	case api.OpAddServer, api.OpDeleteServer:
		t.touch(forwarder.Hop{Leg: dest.Leg, Addr: dest.Addr})
	}
	return nil
}

// touch notes a hop where realservers come or go.
func (t *translator) touch(h forwarder.Hop) {
	t.change.Realservers = append(t.change.Realservers, forwarder.Neighbour{Hop: h, MAC: t.d.cfg.StaticMAC(h.Addr)})
}

// service makes the engine's service of one of the API. What ipvsadm cannot say stays as it is, or as the configuration has
// it.
func (t *translator) service(v *api.VirtualService) (forwarder.Service, error) {
	s := forwarder.Service{
		Mark: v.Mark, V6: v.V6, Scheduler: v.Scheduler, Options: scheduler.Options{Flags: scheduler.Flags(v.Flags)},
		MaskBits: v.MaskBits, OnePacket: v.OnePacket,
	}
	switch {
	case v.Engine != "":
		return s, errEngine
	case v.Netmask.IsValid():
		return s, fmt.Errorf("the netmask of persistence (-M) is not that of a prefix: %w", forwarder.ErrInvalid)
	}
	if v.Persistence != 0 {
		var err error
		if s.Persistence, err = forwarder.Persistences.Seconds("persistence", v.Persistence); err != nil {
			return s, err
		}
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
		m := forwarder.Match{Addr: v.Address, First: v.Port, Last: v.Port}
		switch strings.ToUpper(v.Protocol) {
		case "TCP":
			m.Proto = frame.TCP
		case "UDP":
			m.Proto = frame.UDP
		case "SCTP":
			m.Proto = frame.SCTP
		default:
			return s, fmt.Errorf("protocol %q: write TCP, UDP or SCTP: %w", v.Protocol, forwarder.ErrInvalid)
		}
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

// named finds a service by its name: a running one, or one that the configuration defines and that was deleted.
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
func (t *translator) server(s *forwarder.Service, v *api.VirtualServer) (forwarder.Destination, error) {
	dest := forwarder.Destination{Addr: v.Address, Port: v.Port, Upper: v.Upper, Lower: v.Lower}
	if err := forwarder.Weights.Check("weight", v.Weight); err != nil {
		return dest, fmt.Errorf("realserver %s: %w", v.Address, err)
	}
	dest.Weight = int32(v.Weight)
	if old, ok := t.d.engine.LookupDestination(s.Key(), dest.Addr, dest.Port); ok {
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

// errOwnVIP is about a VIP that is an address of this host: its kernel answers for it, and what else comes for this host would be
// taken for the service's.
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

// timeouts makes a step of timeouts, of which 0 leaves one as it is.
func (t *translator) timeouts(v *api.Timeouts) (func(*forwarder.Tx) error, error) {
	var s forwarder.Settings
	for _, one := range []struct {
		name    string
		seconds float64
		to      *time.Duration
	}{{"timeouts.tcp", v.TCP, &s.TCPTimeout}, {"timeouts.tcpfin", v.TCPFin, &s.TCPFinTimeout}, {"timeouts.udp", v.UDP, &s.UDPTimeout}} {
		if one.seconds == 0 {
			continue
		}
		var err error
		if *one.to, err = forwarder.Timeouts.Seconds(one.name, one.seconds); err != nil {
			return nil, err
		}
	}
	return func(tx *forwarder.Tx) error {
		now := tx.Settings()
		now.TCPTimeout = cmp.Or(s.TCPTimeout, now.TCPTimeout)
		now.TCPFinTimeout = cmp.Or(s.TCPFinTimeout, now.TCPFinTimeout)
		now.UDPTimeout = cmp.Or(s.UDPTimeout, now.UDPTimeout)
		return tx.SetSettings(now)
	}, nil
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
				VirtualServer: api.VirtualServer{Address: r.Addr, Port: r.Port, Weight: int64(r.Weight), Upper: r.Upper, Lower: r.Lower},
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
