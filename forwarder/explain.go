package forwarder

import (
	"net/netip"
	"time"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// Decider says what decides about a packet.
type Decider string

// The deciders.
const (
	ByNobody    Decider = ""          // the packet is not for a service: see Explanation.Verdict
	ByFlow      Decider = "flow"      // the connection table knows its flow
	ByTemplate  Decider = "template"  // the client's persistence
	ByScheduler Decider = "scheduler" // it would begin a flow
)

// An Explanation tells what an engine would do with the first packet of a tuple, and why.
type Explanation struct {
	Tuple     frame.Tuple
	Verdict   Verdict
	Decider   Decider
	Service   ServiceKey // zero if none matches
	Name      string     // of the service
	Scheduler string
	// Chosen is where it would go; invalid if nowhere.
	Chosen netip.AddrPort
	MAC    frame.MAC
	// State and Expires are those of the flow or the template that decides.
	State      string
	Expires    time.Duration
	Candidates []Candidate // as the scheduler walks them: last added first
}

// A Candidate is a destination of the service, and why it is chosen or not.
type Candidate struct {
	Addr             netip.AddrPort
	Weight           int32
	Active, Inactive int32
	Reason           string
	Chosen           bool
}

// Explain tells what worker would do with a packet of tuple t that begins a connection (a TCP SYN, a datagram), without
// doing it: no flow is made, no cursor moves. Workers are numbered from 0; see ring.Shard for which has a client.
func (e *Engine) Explain(worker int, t frame.Tuple) Explanation {
	c := e.Control
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.workers[worker]
	x := Explanation{Tuple: t}
	w.Do(func() { w.explain(c, &x) })
	return x
}

// explain goes the way of Process for a packet of x.Tuple.
func (w *Worker) explain(c *Control, x *Explanation) {
	s, t := w.snap, &x.Tuple
	vip, ok := s.vips.find(t.Dst)
	if !ok {
		x.Verdict = NotOurs
		return
	}
	kind := flow.KindOf(t.Proto)
	if kind == 0 {
		x.Verdict = OtherProto
		return
	}
	k := flow.Key{Client: t.Src, VIP: vip, ClientPort: t.SrcPort, VirtualPort: t.DstPort, Kind: kind}
	p := frame.Packet{Tuple: *t, TCPFlags: frame.SYN, Chunk: flow.ChunkInit}
	sid, served := s.ports.find(vip, kind, t.DstPort)
	if served {
		svc := c.byID[sid]
		x.Service, x.Name, x.Scheduler = svc.spec.Key(), svc.spec.Name, svc.spec.Scheduler
		for i, id := range s.services[sid].list {
			d := c.dests[id]
			active, inactive := d.load.Conns()
			x.Candidates = append(x.Candidates, Candidate{
				Addr: netip.AddrPortFrom(d.spec.Addr, t.DstPort), Weight: d.spec.Weight, Active: active, Inactive: inactive,
				Reason: scheduler.Reason(w.scheduler(&s.services[sid]), i),
			})
		}
	}
	h := w.table.Hash(&k)
	if id := w.table.Lookup(&k, h, flow.None); id != flow.None {
		if e := w.table.Entry(id); !w.reuse(s, e) {
			x.Decider = ByFlow
			w.explainEntry(c, x, id)
			return
		}
	}
	if !served {
		x.Verdict = NoService
		return
	}
	w.explainNew(c, x, sid, &k, &p)
}

// explainEntry tells of the flow or template id, which decides.
func (w *Worker) explainEntry(c *Control, x *Explanation, id flow.ID) {
	e := w.table.Entry(id)
	x.State, x.Expires = e.StateName(), w.table.Remaining(id)
	x.choose(c, w.snap, e.Dest)
}

// choose says that destination id gets it.
func (x *Explanation) choose(c *Control, s *snapshot, id uint32) {
	d := c.dests[id]
	if d == nil {
		x.Verdict = DestGone
		return
	}
	x.Chosen = netip.AddrPortFrom(d.spec.Addr, x.Tuple.DstPort)
	x.MAC = s.dests[id].mac
	for i := range x.Candidates {
		x.Candidates[i].Chosen = x.Candidates[i].Addr == x.Chosen
	}
	switch {
	case !s.dests[id].available:
		x.Verdict = DestGone
	case !s.dests[id].resolved:
		x.Verdict = Unresolved
	default:
		x.Verdict = Forwarded
	}
}

// explainNew tells who would get a new flow.
func (w *Worker) explainNew(c *Control, x *Explanation, sid uint16, k *flow.Key, p *frame.Packet) {
	s := w.snap
	svc := &s.services[sid]
	if k.ClientPort == 20 && k.Kind == flow.TCP {
		x.Verdict = NoFlow
		return
	}
	if svc.persistent {
		tk := svc.templateKey(k)
		if id := w.table.Lookup(&tk, w.table.Hash(&tk), flow.None); id != flow.None {
			e := w.table.Entry(id)
			if d := &s.dests[e.Dest]; d.available && !(s.settings.ExpireQuiescentTemplate && d.weight == 0) {
				x.Decider = ByTemplate
				w.explainEntry(c, x, id)
				return
			}
		}
	} else if !svc.group && k.VirtualPort != svc.port {
		x.Verdict = NoDestination
		return
	}
	x.Decider = ByScheduler
	r := scheduler.Request{Client: p.Src.Netip(), Virtual: p.Dst.Netip(), ClientPort: k.ClientPort, Now: w.answers.last}
	n := scheduler.Peek(w.scheduler(svc), &r)
	if n == scheduler.None {
		x.Verdict = NoDestination
		if s.awaited(sid) {
			x.Verdict = Unresolved
		}
		return
	}
	x.choose(c, s, svc.list[n])
}
