package forwarder

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// ConnectionInfo is one entry of a connection table, as ipvsadm -Lnc shows it.
type ConnectionInfo struct {
	Proto       string // TCP, UDP, SCTP; IP for the template of a group
	State       string
	Client      netip.AddrPort // masked, and of port 0, in a template
	Virtual     netip.AddrPort // 0.0.0.N is group N in a template of a group
	Destination netip.AddrPort
	Expires     time.Duration
	Packets     uint32
	Template    bool
	Service     ServiceKey
}

// ServiceInfo is a service with its counters and destinations.
type ServiceInfo struct {
	Service
	Counts       Counts
	Rates        Rates             // as Maintain measured them
	Destinations []DestinationInfo // as the schedulers walk them: last added first
}

// DestinationInfo is a destination with its counters.
type DestinationInfo struct {
	Destination
	MAC              frame.MAC
	Active, Inactive int32
	Persistent       int32 // templates
	Overloaded       bool
	Unreachable      bool
	Drained          bool // its time to drain is over
	Counts           Counts
	Rates            Rates
}

// Stats are the engine's counters since it was made, of all workers.
type Stats struct {
	Verdicts [NumVerdicts]uint64
	Answered uint64 // packets made by the director: echo replies not included
	Limited  uint64 // answers not made because of their rate
	Held     int    // fragments that wait for the first of their datagram: among Verdicts[Fragment] until it comes
	Flows    int    // entries in use
	Capacity int
	Memory   int // bytes of the tables
	Table    flow.Counters
	Cut      uint64 // times that a worker began a table or its counters anew because the file was cut under it
}

// Stats adds up the counters of all workers.
func (e *Engine) Stats() Stats {
	var s Stats
	for _, w := range e.workers {
		var own Stats
		w.Do(func() { own = w.stats() })
		for v, n := range own.Verdicts {
			s.Verdicts[v] += n
		}
		s.Answered += own.Answered
		s.Limited += own.Limited
		s.Held += own.Held
		s.Flows += own.Flows
		s.Capacity += own.Capacity
		s.Memory += own.Memory
		s.Table.Created += own.Table.Created
		s.Table.Expired += own.Table.Expired
		s.Table.Evicted += own.Table.Evicted
		s.Table.Refused += own.Table.Refused
		s.Cut += own.Cut
	}
	return s
}

// stats are the worker's counters.
func (w *Worker) stats() Stats {
	held := w.fragments.len()
	s := Stats{
		Verdicts: *w.verdicts, Answered: w.answered, Limited: w.answers.limited, Held: held, Flows: w.table.Len(), Capacity: w.table.Capacity(),
		Memory: w.table.MemorySize(), Table: w.table.Counters(), Cut: uint64(w.cut.Load()),
	}
	s.Verdicts[Fragment] += uint64(held)
	return s
}

// probeBuckets is how many buckets of each table Probes looks at: some 50 us of the worker's time
// at most.
const probeBuckets = 64

// Probes looks at some buckets of each worker's table, others each time.
func (e *Engine) Probes() flow.Probes {
	var sum flow.Probes
	for _, w := range e.workers {
		w.Do(func() {
			p := w.table.Probes(rand.Uint64(), probeBuckets)
			sum.First += p.First
			sum.Second += p.Second
			sum.Buckets += p.Buckets
			sum.Full += p.Full
		})
	}
	return sum
}

// Services lists all services in the order in which they were added, as far as ids were not used
// again.
func (e *Engine) Services() []ServiceInfo {
	c := e.Control
	c.mu.Lock()
	defer c.mu.Unlock()
	services, dests := c.totals()
	var out []ServiceInfo
	for id, svc := range c.byID {
		if svc == nil {
			continue
		}
		info := ServiceInfo{Service: svc.spec, Counts: services[id].minus(svc.zero), Rates: svc.rates.rates()}
		info.Matches = slices.Clone(svc.spec.Matches)
		for _, d := range svc.dests {
			active, inactive := d.load.Conns()
			info.Destinations = append(info.Destinations, DestinationInfo{
				Destination: d.spec, MAC: d.hop.mac, Active: active, Inactive: inactive,
				Persistent: d.templates.Load(), Overloaded: d.load.Overloaded(), Unreachable: d.load.Unreachable(),
				Drained: d.drained, Counts: dests[d.id].minus(d.zero), Rates: d.rates.rates(),
			})
		}
		out = append(out, info)
	}
	return out
}

func at(c []Counts, i int) Counts {
	if i < len(c) {
		return c[i]
	}
	return Counts{}
}

// listStep is how many slots a worker is kept from its frames for at a time while connections are
// listed.
const listStep = 4096

// Connections calls fn for every flow and template until fn returns false, in the order of the
// tables. A table is read in short steps between batches, so that traffic goes on; flows that begin
// or end meanwhile may or may not be seen.
func (e *Engine) Connections(fn func(ConnectionInfo) bool) {
	names := e.names()
	var page []ConnectionInfo
	for _, w := range e.workers {
		for start, slots := 0, w.table.Slots(); start < slots; start += listStep {
			page = page[:0]
			w.Do(func() {
				for id := flow.ID(start); int(id) < min(start+listStep, slots); id++ {
					if !w.table.InUse(id) {
						continue
					}
					// The destination of a flow that began meanwhile may have come meanwhile, too.
					if c := w.describe(id, names); c.Destination.Addr().IsValid() {
						page = append(page, c)
					}
				}
			})
			for i := range page {
				if !fn(page[i]) {
					return
				}
			}
		}
	}
}

// names tells of each destination, by id, what the snapshot does not hold.
func (e *Engine) names() []destKey {
	c := e.Control
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]destKey, len(c.dests))
	for id, d := range c.dests {
		if d != nil {
			out[id] = d.key()
		}
	}
	return out
}

func (w *Worker) describe(id flow.ID, names []destKey) ConnectionInfo {
	e, k := w.table.Entry(id), w.table.Key(id)
	info := ConnectionInfo{
		Proto: k.Kind.String(), State: e.StateName(), Expires: w.table.Remaining(id), Packets: e.Packets,
		Client: netip.AddrPortFrom(k.Client.Netip(), k.ClientPort), Template: k.Kind.IsTemplate(),
	}
	if info.Template {
		info.Packets = 0 // the entry has its timeout there
	}
	virtual := netip.Addr{}
	if int(k.VIP) < len(w.snap.vipAddrs) {
		virtual = w.snap.vipAddrs[k.VIP].Netip()
	}
	if int(e.Dest) < len(names) {
		n := names[e.Dest]
		info.Service = n.service
		if !virtual.IsValid() { // a group's number, which IPVS shows as 0.0.0.mark
			m := n.service.Mark
			virtual = netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)})
		}
		port := n.port
		switch {
		case e.Flags&flow.Invalid != 0:
			port = 65535
		case k.Kind.IsTemplate():
			port = k.VirtualPort
		case port == 0:
			port = k.VirtualPort
		}
		info.Destination = netip.AddrPortFrom(n.addr, port)
	}
	info.Virtual = netip.AddrPortFrom(virtual, k.VirtualPort)
	return info
}
