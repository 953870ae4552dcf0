// Package remote is a running director, reached by its control socket, as ipvsadm sees one.
package remote

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"syscall"
	"time"

	"shunt/api"
	"shunt/internal/ipvsadm"
)

// Director implements ipvsadm.Director over a control socket.
type Director struct {
	ctx    context.Context
	client *api.Client
}

var _ ipvsadm.Beyond = (*Director)(nil)

// New returns the director at a socket. Nothing is opened yet.
func New(ctx context.Context, socket string) *Director {
	return &Director{ctx, api.NewClient(socket)}
}

func (d *Director) table() (api.Table, error) { return d.client.Table(d.ctx) }

// Info tells that the director is there. The version is that of the IPVS whose behaviour it has. The table, which may be of a hundred
// thousand lines, is not asked for: all commands begin with this.
func (d *Director) Info() (ipvsadm.Info, error) {
	s, err := d.client.Status(d.ctx)
	return info(s.Capacity), err
}

func info(capacity int) ipvsadm.Info {
	return ipvsadm.Info{Version: [3]int{1, 2, 1}, Size: capacity}
}

// Timeouts are those of --set.
func (d *Director) Timeouts() (ipvsadm.Timeouts, error) {
	t, err := d.table()
	return timeouts(&t), err
}

func timeouts(t *api.Table) ipvsadm.Timeouts {
	return ipvsadm.Timeouts{TCP: seconds(t.Timeouts.TCP), TCPFin: seconds(t.Timeouts.TCPFin), UDP: seconds(t.Timeouts.UDP)}
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

// Services lists all services, as the kernel would in its order.
func (d *Director) Services() ([]ipvsadm.ServiceEntry, error) {
	t, err := d.table()
	if err != nil {
		return nil, err
	}
	return entries(&t), nil
}

func entries(t *api.Table) []ipvsadm.ServiceEntry {
	out := make([]ipvsadm.ServiceEntry, len(t.Services))
	for i := range t.Services {
		out[i] = entry(&t.Services[i])
	}
	return out
}

var protocols = map[string]ipvsadm.Protocol{"TCP": ipvsadm.TCP, "UDP": ipvsadm.UDP, "SCTP": ipvsadm.SCTP}

func entry(s *api.TableService) ipvsadm.ServiceEntry {
	e := ipvsadm.ServiceEntry{
		Service: ipvsadm.Service{
			Mark: s.Mark, V6: s.V6, Protocol: protocols[s.Protocol], Addr: s.Address, Port: s.Port, Scheduler: s.Scheduler,
			Flags: ipvsadm.Flags(s.Flags), Persistent: s.Persistence > 0, Timeout: seconds(s.Persistence), OnePacket: s.OnePacket,
		},
		Counts: counts(s.Counts), Rates: rates(s.Rates),
	}
	v6 := s.V6 || s.Address.Is6()
	switch {
	case v6 && s.MaskBits == 0:
		e.Netmask = 128
	case v6:
		e.Netmask = uint32(s.MaskBits)
	case s.MaskBits == 0:
		e.Netmask = ^uint32(0)
	default:
		e.Netmask = ^uint32(0) << (32 - s.MaskBits)
	}
	for _, r := range s.Servers {
		e.Destinations = append(e.Destinations, ipvsadm.DestinationEntry{
			Destination: ipvsadm.Destination{Addr: r.Address, Port: r.Port, Weight: int32(r.Weight), Upper: r.Upper, Lower: r.Lower},
			Active:      uint32(r.Active), Inactive: uint32(r.Inactive), Persistent: uint32(r.Persistent),
			Counts: counts(r.Counts), Rates: rates(r.Rates),
		})
	}
	return e
}

func counts(c api.Counts) ipvsadm.Counts {
	return ipvsadm.Counts{Conns: c.Flows, InPackets: c.Packets, InBytes: c.Bytes}
}

func rates(r api.Rates) ipvsadm.Counts {
	return ipvsadm.Counts{Conns: r.Flows, InPackets: r.Packets, InBytes: r.Bytes}
}

// Totals adds up the services that there are; what was counted for removed ones is not known any more.
func (d *Director) Totals() (total, rate ipvsadm.Counts, err error) {
	services, err := d.Services()
	total, rate = totals(services)
	return total, rate, err
}

func totals(services []ipvsadm.ServiceEntry) (total, rate ipvsadm.Counts) {
	for i := range services {
		add(&total, &services[i].Counts)
		add(&rate, &services[i].Rates)
	}
	return total, rate
}

func add(a, b *ipvsadm.Counts) {
	a.Conns += b.Conns
	a.InPackets += b.InPackets
	a.InBytes += b.InBytes
}

// Connections calls fn for each entry of the connection table until fn returns false.
func (d *Director) Connections(fn func(ipvsadm.Connection) bool) error {
	return d.Chosen(ipvsadm.Choice{}, fn)
}

// Chosen is Connections for those that are chosen.
func (d *Director) Chosen(choice ipvsadm.Choice, fn func(ipvsadm.Connection) bool) error {
	s := &api.Selection{Client: choice.Client, Service: choice.Service, Realserver: choice.Realserver, State: choice.State}
	return d.client.Connections(d.ctx, s, func(c api.Connection) bool {
		return fn(connection(&c))
	})
}

func connection(c *api.Connection) ipvsadm.Connection {
	return ipvsadm.Connection{Protocol: c.Protocol, State: c.State, Client: c.Client, Virtual: c.Virtual, Destination: c.Realserver, Expires: seconds(c.Expires)}
}

// errnos are the kernel's numbers for the director's refusals (ip_vs_ctl.c).
var errnos = map[api.Code]syscall.Errno{
	api.CodeExists: syscall.EEXIST, api.CodeNoService: syscall.ESRCH, api.CodeServerExists: syscall.EEXIST, api.CodeNoServer: syscall.ENOENT,
	api.CodeUnknownScheduler: syscall.ENOENT, api.CodeRange: syscall.ERANGE, api.CodeInvalid: syscall.EINVAL, api.CodeOwnAddress: syscall.EINVAL,
}

// Apply makes the changes, all or none.
func (d *Director) Apply(changes []ipvsadm.Change) error {
	list := make([]api.Change, len(changes))
	for i := range changes {
		c, err := change(&changes[i])
		if err != nil {
			return &ipvsadm.ChangeError{Index: i, Err: err}
		}
		list[i] = c
	}
	return refusal(changes, d.client.Apply(d.ctx, list))
}

// refusal is the director's answer to changes as the kernel's: a number, with the reason where ipvsadm has general words only.
func refusal(changes []ipvsadm.Change, err error) error {
	var refused *api.Error
	var field *api.FieldError
	switch {
	case errors.As(err, &field):
		at, name := 0, field.Field
		if n, err := fmt.Sscanf(field.Field, "changes[%d].%s", &at, &name); err != nil || n != 2 || at >= len(changes) {
			return err // it is not about one change
		}
		reason := name + ": " + field.Message
		return &ipvsadm.ChangeError{Index: at, Err: &ipvsadm.Refusal{Errno: ipvsadm.Errno(syscall.EINVAL), Reason: oneLine(reason)}}
	case !errors.As(err, &refused):
		return err
	}
	at := refused.Change
	if refused.Code == api.CodeUnknownMark && at < len(changes) {
		return &ipvsadm.ChangeError{Index: at, Err: ipvsadm.UnknownMark(changes[at].Service.Mark)}
	}
	n, ok := errnos[refused.Code]
	if !ok {
		return &ipvsadm.ChangeError{Index: at, Err: err}
	}
	e := &ipvsadm.Refusal{Errno: ipvsadm.Errno(n)}
	switch refused.Code {
	case api.CodeInvalid, api.CodeRange, api.CodeOwnAddress, api.CodeUnknownScheduler:
		e.Reason = oneLine(refused.Message)
	}
	return &ipvsadm.ChangeError{Index: at, Err: e}
}

// oneLine is a reason on one line that a terminal can show.
func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return api.Printable(s)
}

var ops = map[ipvsadm.Op]api.Op{
	ipvsadm.AddService: api.OpAddService, ipvsadm.EditService: api.OpEditService, ipvsadm.DeleteService: api.OpDeleteService,
	ipvsadm.Flush: api.OpFlush, ipvsadm.ZeroService: api.OpZero, ipvsadm.ZeroAll: api.OpZero, ipvsadm.AddDestination: api.OpAddServer,
	ipvsadm.EditDestination: api.OpEditServer, ipvsadm.DeleteDestination: api.OpDeleteServer, ipvsadm.SetTimeouts: api.OpSetTimeouts,
}

// change translates one change, or refuses what a director of direct routing does not have.
func change(c *ipvsadm.Change) (api.Change, error) {
	out := api.Change{Op: ops[c.Op]}
	switch c.Op {
	case ipvsadm.Flush, ipvsadm.ZeroAll:
		return out, nil
	case ipvsadm.SetTimeouts:
		out.Timeouts = &api.Timeouts{TCP: c.Timeouts.TCP.Seconds(), TCPFin: c.Timeouts.TCPFin.Seconds(), UDP: c.Timeouts.UDP.Seconds()}
		return out, nil
	}
	s := &c.Service
	v := &api.VirtualService{
		Mark: s.Mark, V6: s.V6, Address: s.Addr, Port: s.Port, Scheduler: s.Scheduler, Flags: uint8(s.Flags), OnePacket: s.OnePacket,
	}
	if s.Mark == 0 {
		v.Protocol = s.Protocol.String()
	}
	if s.Engine != "" {
		return out, &ipvsadm.Refusal{Errno: ipvsadm.Errno(syscall.ENOENT), Reason: "this director has no persistence engines (--pe)"}
	}
	if s.Persistent {
		v.Persistence = s.Timeout.Seconds()
		if s.V6 || s.Addr.Is6() {
			v.MaskBits = int(s.Netmask)
		} else if v.MaskBits = bits.OnesCount32(s.Netmask); s.Netmask != ^uint32(0)<<(32-v.MaskBits) || s.Netmask == 0 {
			return out, &ipvsadm.Refusal{Errno: ipvsadm.Errno(syscall.EINVAL), Reason: "the netmask of persistence (-M) is not that of a prefix"}
		}
		if full := map[bool]int{true: 128, false: 32}[s.V6 || s.Addr.Is6()]; v.MaskBits == full {
			v.MaskBits = 0
		}
	}
	out.Service = v
	if strings.HasSuffix(string(out.Op), "-server") {
		r := &c.Destination
		out.Server = &api.VirtualServer{Address: r.Addr, Port: r.Port, Weight: int64(r.Weight), Upper: r.Upper, Lower: r.Lower}
	}
	return out, nil
}
