package director

import (
	"net/netip"
	"slices"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/forwarder/ring"
	"shunt/internal/control"
	"shunt/internal/explain"
)

var _ control.Director = (*Director)(nil)

// Status is the director at a glance.
func (d *Director) Status() api.Status { return d.status(d.ringStats()) }

// ringStats reads what each worker's rings have counted. An answer reads it once, so that no
// figure has two values.
func (d *Director) ringStats() []ring.Stats {
	out := make([]ring.Stats, len(d.rings))
	for i, r := range d.rings {
		out[i] = r.Stats()
	}
	return out
}

func (d *Director) status(rings []ring.Stats) api.Status {
	s := d.engine.Stats()
	out := api.Status{
		Version: d.opt.Version, Started: d.started, Config: d.read.Load().Path, Reloads: d.reloads.Load(), Changes: d.kept.Changes(),
		Flows: s.Flows, Capacity: s.Capacity, Verdicts: map[string]uint64{},
		Answers: api.AnswerCounters{Sent: s.Answered, Limited: s.Limited},
		Table: api.TableCounters{
			Created: s.Table.Created, Expired: s.Table.Expired, Evicted: s.Table.Evicted, Refused: s.Table.Refused,
			Cut: s.Cut, Bytes: uint64(s.Memory),
		},
		Legs: slices.Clone(d.legsSeen()), Unkept: d.lost(), Confinement: d.confinement.Load(),
	}
	for v := range forwarder.NumVerdicts {
		out.Verdicts[v.String()] = s.Verdicts[v]
	}
	for i, l := range d.legs {
		out.Legs[i].ARP = api.ARPCounters(l.link.Counters())
	}
	out.Rings = ringCounters(out.Legs, rings)
	return out
}

// Services lists the virtual services and their realservers.
func (d *Director) Services() []api.Service {
	var out []api.Service
	for _, s := range d.engine.Services() {
		m := s.Matches[0]
		service := api.Service{
			Name: s.Name, Protocol: m.Proto.String(), Address: netip.AddrPortFrom(m.Addr, m.First), Mark: s.Mark, Scheduler: s.Scheduler,
			Counts: counts(s.Counts), Rates: rates(s.Rates),
		}
		for _, r := range s.Destinations {
			mac := ""
			if !r.MAC.IsZero() {
				mac = r.MAC.String()
			}
			service.Realservers = append(service.Realservers, api.Realserver{
				Address: netip.AddrPortFrom(r.Addr, r.Port), MAC: mac, Leg: d.legs[r.Leg].name, Weight: r.Weight, Upper: r.Upper, Lower: r.Lower,
				Active: r.Active, Inactive: r.Inactive, Available: !r.Overloaded && !r.Unreachable, Drained: r.Drained,
				Counts: counts(r.Counts), Rates: rates(r.Rates),
			})
		}
		out = append(out, service)
	}
	return out
}

func counts(c forwarder.Counts) api.Counts {
	return api.Counts(c)
}

func rates(r forwarder.Rates) api.Rates {
	return api.Rates{Flows: r.FlowsPerSecond, Packets: r.PacketsPerSecond, Bytes: r.BytesPerSecond}
}

// Explain tells where a packet would go.
func (d *Director) Explain(packet string) (api.Explanation, error) {
	t, err := frame.ParseTuple(packet)
	if err != nil {
		return api.Explanation{}, err
	}
	x := d.engine.Explain(ring.Shard(t.Src, len(d.rings)), t)
	return explain.Of(&x), nil
}

// Neighbours lists the realservers' addresses and what is known of their MACs.
func (d *Director) Neighbours() []api.Neighbour {
	var out []api.Neighbour
	for i, l := range d.legs {
		for _, n := range l.link.Neighbours() {
			a := api.Neighbour{Address: n.Addr, Leg: d.legs[i].name, State: api.NeighbourState(n.State.String()), Since: n.Since}
			if !n.MAC.IsZero() {
				a.MAC = n.MAC.String()
			}
			if n.Disputes > 0 {
				a.Disputes, a.Disputed, a.Rival = n.Disputes, n.Disputed, n.Rival.String()
			}
			out = append(out, a)
		}
	}
	return out
}

// Connections calls fn for each entry of the connection table until fn returns false.
func (d *Director) Connections(fn func(api.Connection) bool) {
	d.engine.Connections(func(c forwarder.ConnectionInfo) bool { return fn(connection(&c)) })
}

func connection(c *forwarder.ConnectionInfo) api.Connection {
	return api.Connection{
		Protocol: c.Proto, State: c.State, Client: c.Client, Virtual: c.Virtual, Realserver: c.Destination,
		Expires: c.Expires.Seconds(), Packets: c.Packets, Template: c.Template,
	}
}

// Kill ends the connections that are chosen, and returns how many.
func (d *Director) Kill(chosen func(*api.Connection) bool) int {
	n := d.engine.EndConnections(func(c forwarder.ConnectionInfo) bool {
		x := connection(&c)
		return chosen(&x)
	})
	d.log.Info("connections ended by the control socket", "connections", n)
	return n
}

// Move has the connections that are chosen go to another realserver of their service, and returns
// how many.
func (d *Director) Move(chosen func(*api.Connection) bool, to netip.Addr) (int, error) {
	n, err := d.engine.MoveConnections(func(c forwarder.ConnectionInfo) bool {
		x := connection(&c)
		return chosen(&x)
	}, to)
	if err != nil {
		return 0, refusal(0, err)
	}
	d.log.Info("connections moved by the control socket", "connections", n, "to", to)
	return n, nil
}

// lost tells what will not be there after a restart. While a change is under way it is what was
// known before.
func (d *Director) lost() api.Unkept {
	var out api.Unkept
	if seen := d.seenLoss.Load(); seen == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
	} else if out = *seen; d.mu.TryLock() {
		defer d.mu.Unlock()
	} else {
		return out
	}
	out = api.Unkept{Connections: d.unkeptWhy}
	if err := d.kept.Failed(); err != nil {
		out.Changes = err.Error()
	}
	if err := d.engine.StateError(); err != nil {
		out.Connections = err.Error()
	}
	d.seenLoss.Store(&out)
	return out
}
