package forwarder

import (
	"net/netip"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// An explainer goes the way of Process for one frame and changes nothing. Each question on that way
// is answered by the function that Process asks too: read, unscheduled, reuse, whenGone, excludes,
// leads, untaken, fits, quoted, echoes, firstOf. Only the order of the questions stands here once
// more, and a test compares both for every frame that it can think of.
type explainer struct {
	w *Worker
	c *Control
	s *snapshot
	f *frame.Frame
	p frame.Packet
	k flow.Key
	x *Explanation
}

func (x *explainer) explain() {
	w := x.w
	w.packets[0] = frame.Packet{} // the places of the next batch are free between two batches
	v := w.read(x.s, 0, x.f)
	x.p, x.k = w.packets[0], w.keys[0]
	x.x.Tuple = x.p.Tuple
	x.describe(&x.p)
	switch v {
	case Forwarded:
		v = x.flow()
	case isICMP:
		v = x.icmp()
	case isFragment:
		v = x.fragment()
	}
	x.x.Verdict = v
}

// describe tells of the service of a packet, if it has one.
func (x *explainer) describe(p *frame.Packet) {
	kind := flow.KindOf(p.Proto)
	vip, ours := x.s.vips.find(p.Dst)
	if kind == 0 || !ours {
		return
	}
	sid, served := x.s.ports.find(vip, kind, p.DstPort)
	if !served {
		return
	}
	spec := &x.c.byID[sid].spec
	svc := &x.s.services[sid]
	x.x.Service, x.x.Name, x.x.Scheduler = spec.Key(), spec.Name, spec.Scheduler
	for i, id := range svc.list {
		d := x.c.dests[id]
		active, inactive := d.load.Conns()
		x.x.Candidates = append(x.x.Candidates, Candidate{
			Addr: netip.AddrPortFrom(d.spec.Addr, p.DstPort), Weight: d.spec.Weight, Active: active, Inactive: inactive,
			Reason: scheduler.Reason(x.w.scheduler(svc), i),
		})
	}
}

// flow foresees what decide does.
func (x *explainer) flow() Verdict {
	id := x.w.table.Lookup(&x.k, x.w.table.Hash(&x.k), flow.None)
	if id == flow.None {
		return x.begins(flow.None)
	}
	e := x.w.table.Entry(id)
	if opensConnection(&x.p) && x.w.reuse(x.s, e) {
		return x.begins(id)
	}
	if x.s.dests[e.Dest].available {
		return x.known(ByFlow, id)
	}
	switch x.s.whenGone(&x.p) {
	case goneBegins:
		return x.begins(id)
	case goneMoves:
		if sid, ok := x.s.ports.find(x.k.VIP, x.k.Kind, x.k.VirtualPort); ok {
			return x.scheduled(sid, id)
		}
	}
	x.known(ByFlow, id)
	return DestGone
}

// known has the flow or template id decide.
func (x *explainer) known(by Decider, id flow.ID) Verdict {
	e := x.w.table.Entry(id)
	x.x.Decider, x.x.State, x.x.Expires = by, e.StateName(), x.w.table.Remaining(id)
	return x.send(e.Dest)
}

// begins foresees what newFlow does. old is a flow of the same tuple that would end, or None.
func (x *explainer) begins(old flow.ID) Verdict {
	sid, served := x.s.ports.find(x.k.VIP, x.k.Kind, x.k.VirtualPort)
	if v := unscheduled(x.s, &x.p, served); v != Forwarded {
		if v == NoFlow && x.p.Proto == frame.TCP && x.w.pressed.strained(x.w.answers.last) {
			return x.home(sid, &x.p, v)
		}
		return v
	}
	if x.w.pressed.dropsNext() {
		return DropPacket
	}
	return x.scheduled(sid, old)
}

// scheduled foresees what schedule does.
func (x *explainer) scheduled(sid uint16, old flow.ID) Verdict {
	d, v := x.choose(sid, &x.p, old)
	switch v {
	case Forwarded:
		return x.send(d)
	case NoDestination:
		return x.s.untaken(sid)
	}
	return v
}

// choose foresees whom choose chooses, and whether the table has room for the flow.
func (x *explainer) choose(sid uint16, p *frame.Packet, old flow.ID) (uint32, Verdict) {
	svc := &x.s.services[sid]
	if v := svc.excludes(&x.k); v != Forwarded {
		return 0, v
	}
	var made *flow.Key // the template
	if svc.persistent {
		tk := svc.templateKey(&x.k)
		if id := x.w.table.Lookup(&tk, x.w.table.Hash(&tk), flow.None); id != flow.None && x.s.leads(x.w.table.Entry(id)) {
			e := x.w.table.Entry(id)
			x.x.Decider, x.x.State, x.x.Expires = ByTemplate, e.StateName(), x.w.table.Remaining(id)
			return e.Dest, Forwarded
		}
		made = &tk
	}
	x.x.Decider = ByScheduler
	n := x.peek(svc, p)
	if n == scheduler.None {
		return 0, NoDestination
	}
	if !x.room(svc, old, made) {
		return 0, TableFull
	}
	return svc.list[n], Forwarded
}

// room reports whether the table has room for a flow, or can do without: for the template with the
// key made, unless that is nil.
func (x *explainer) room(svc *service, old flow.ID, made *flow.Key) bool {
	t, evict := x.w.table, !x.s.settings.RefuseWhenFull
	switch {
	case made != nil:
		return t.HasRoom(t.Hash(made), evict)
	case old != flow.None, svc.hashed, svc.onePacket && x.p.Proto == frame.UDP:
		return true
	}
	return t.HasRoom(t.Hash(&x.k), evict)
}

// peek foresees what ask does.
func (x *explainer) peek(svc *service, p *frame.Packet) int {
	r := scheduler.Request{Client: p.Src.Netip(), Virtual: p.Dst.Netip(), ClientPort: x.k.ClientPort, Now: x.w.answers.last}
	return scheduler.Peek(x.w.scheduler(svc), &r)
}

// send foresees what send does for destination id.
func (x *explainer) send(id uint32) Verdict {
	d := &x.s.dests[id]
	if state := x.c.dests[id]; state != nil {
		x.x.Chosen, x.x.MAC = netip.AddrPortFrom(state.spec.Addr, x.x.Tuple.DstPort), d.mac
		for i := range x.x.Candidates {
			x.x.Candidates[i].Chosen = x.x.Candidates[i].Addr == x.x.Chosen
		}
	}
	if !d.resolved {
		return Unresolved
	}
	return d.fits(x.f, &x.p)
}

// icmp foresees what the worker's icmp does.
func (x *explainer) icmp() Verdict {
	var inner frame.Packet
	switch v := x.s.quoted(x.f, &x.p, &inner, &x.k); v {
	case Forwarded:
	case Echoed:
		if v = x.s.echoes(x.f, &x.p); v == Echoed && x.w.answers.tokens < tokenPrice {
			v = ICMPIgnored
		}
		return v
	default:
		return v
	}
	x.describe(&inner)
	if id := x.w.table.Lookup(&x.k, x.w.table.Hash(&x.k), flow.None); id != flow.None {
		return x.known(ByFlow, id)
	}
	sid, ok := x.s.ports.find(x.k.VIP, x.k.Kind, x.k.VirtualPort)
	switch {
	case !ok:
		return NoICMPFlow
	case !x.s.settings.ScheduleICMP:
		return x.stray(sid, &inner)
	}
	d, v := x.choose(sid, &inner, flow.None)
	if v != Forwarded {
		return v
	}
	return x.send(d)
}

// stray foresees what the worker's stray does.
func (x *explainer) stray(sid uint16, inner *frame.Packet) Verdict {
	if !x.s.settings.StrayICMP {
		return NoICMPFlow
	}
	return x.home(sid, inner, NoICMPFlow)
}

// home foresees that a packet goes to where homeOf finds its flow, or else what it is if that
// cannot be told.
func (x *explainer) home(sid uint16, p *frame.Packet, lost Verdict) Verdict {
	svc := &x.s.services[sid]
	if svc.persistent {
		tk := svc.templateKey(&x.k)
		if id := x.w.table.Lookup(&tk, x.w.table.Hash(&tk), flow.None); id != flow.None && x.s.dests[x.w.table.Entry(id).Dest].available {
			return x.known(ByTemplate, id)
		}
	}
	if !svc.hashed {
		return lost
	}
	n := x.peek(svc, p)
	if n == scheduler.None {
		return lost
	}
	x.x.Decider = ByScheduler
	return x.send(svc.list[n])
}

// fragment foresees what the worker's fragment does, with a copy of what is known of the datagram.
func (x *explainer) fragment() Verdict {
	if !joinable(&x.p) {
		return OtherProto
	}
	var g datagram
	if known, ok := x.w.fragments.find(&x.p, x.w.answers.last); ok {
		g = *known
	}
	if g.decided && g.verdict == Fragment || g.add(extent(x.f, &x.p)) != fits {
		return Fragment
	}
	switch {
	case x.p.FragOff == 0:
		switch v := x.s.firstOf(&x.p, &x.k); v {
		case Forwarded:
			return x.flow()
		case isICMP:
			return x.icmp()
		default:
			return v
		}
	case !g.decided:
		return Fragment
	case g.dest == nowhere:
		return g.verdict
	}
	return x.send(g.dest)
}
