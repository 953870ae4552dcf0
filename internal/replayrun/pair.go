package replayrun

import (
	"net/netip"
	"slices"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// place is what one side did with a flow: the number of a realserver's address, or, below zero, the
// verdict that kept it from having one.
type place int32

func refusal(v forwarder.Verdict) place { return -1 - place(v) }

func (p place) served() bool { return p >= 0 }

func (p place) verdict() forwarder.Verdict { return forwarder.Verdict(-1 - p) }

// cell is where a flow is counted: under its service and what the two sides did.
type cell struct {
	service int
	places  [2]place
}

// record is a flow that may still go on: it may be scheduled on a side that has refused it so far.
type record struct {
	cell
	seen bool // in a table, when it was looked there last
}

// openRoom is how many records there are at least before those of flows that have ended are looked
// for.
var openRoom = 1 << 16

// A pair is two sides that are given the same frames, and what has come of it.
type pair struct {
	sides     [2]*side
	names     []string     // of services, those of the first side before those that only the second has
	addresses []netip.Addr // of realservers, by place

	cells    map[cell]uint64
	verdicts [forwarder.NumVerdicts][forwarder.NumVerdicts]uint64
	waiting  waiting

	open map[frame.Tuple]record
	room int // how large open may grow

	moved   []MovedFlow
	limit   int    // of moved; below zero is none
	leftOut uint64 // moved flows that are not listed
	start   int64  // time of the capture's first frame
}

// match pairs the services of both sides by their keys, then by their names, and numbers the
// realservers.
func (p *pair) match() {
	taken := map[int]bool{} // services of the first that the second has, too
	for i, s := range p.sides {
		for j := range s.listed {
			info := &s.listed[j]
			n := len(p.names)
			if i == 1 {
				n = p.counterpart(info, taken)
				taken[n] = true
			}
			if n == len(p.names) {
				p.names = append(p.names, s.names[info.Key()])
			}
			svc := &served{number: n, onePacket: info.OnePacket, members: map[member]place{}}
			for _, d := range slices.Backward(info.Destinations) { // in the order of the file
				m := member{d.Leg, d.MAC}
				if _, shared := svc.members[m]; !shared { // two with one MAC cannot be told apart: take them for the first
					svc.members[m] = p.place(d.Addr)
				}
			}
			s.services[info.Key()] = svc
		}
	}
}

// counterpart finds the service of the first side that a service of the second stands for; a new
// number if there is none.
func (p *pair) counterpart(info *forwarder.ServiceInfo, taken map[int]bool) int {
	if svc, ok := p.sides[0].services[info.Key()]; ok {
		return svc.number
	}
	name := p.sides[1].names[info.Key()]
	for i := range p.sides[0].listed {
		key := p.sides[0].listed[i].Key()
		_, kept := p.keyed(key)
		if p.names[i] == name && !kept && !taken[i] {
			return i
		}
	}
	return len(p.names)
}

// keyed reports whether the second side has a service of this key.
func (p *pair) keyed(key forwarder.ServiceKey) (i int, ok bool) {
	i = slices.IndexFunc(p.sides[1].listed, func(s forwarder.ServiceInfo) bool { return s.Key() == key })
	return i, i >= 0
}

// place numbers a realserver.
func (p *pair) place(a netip.Addr) place {
	if i := slices.Index(p.addresses, a); i >= 0 {
		return place(i)
	}
	p.addresses = append(p.addresses, a)
	return place(len(p.addresses) - 1)
}

// frame hands the same frame to both sides, which get bytes of their own, and notes what came of
// it.
func (p *pair) frame(first, second *frame.Frame, now int64) {
	var packet frame.Packet
	frame.Parse(first, &packet) // before an answer is made of it
	tuple := packet.Tuple
	if packet.Proto == frame.ICMP || packet.Proto == frame.ICMPv6 { // an error may begin the flow that it is about
		var inner frame.Packet
		if packet.L4 != 0 && frame.ParseInner(first, &packet, &inner) == frame.OK {
			tuple = inner.Tuple
		}
	}
	o := [2]outcome{p.sides[0].process(first, now), p.sides[1].process(second, now)}
	p.verdicts[o[0].verdict][o[1].verdict]++
	if packet.Fragment {
		p.fragment(&packet, [2]forwarder.Verdict{o[0].verdict, o[1].verdict}, now)
	}
	if packet.L4 == 0 {
		return // it has no ports, and begins nothing
	}
	p.flow(&tuple, &o, first.Time)
}

// flow counts the flow that a packet begins, if it does so on a side.
func (p *pair) flow(t *frame.Tuple, o *[2]outcome, at int64) {
	var services [2]*served
	fresh := [2]bool{o[0].fresh, o[1].fresh}
	if t.Proto == frame.UDP && (o[0].verdict == forwarder.Forwarded || o[1].verdict == forwarder.Forwarded) || fresh[0] || fresh[1] {
		for i, s := range p.sides {
			services[i] = s.service(t)
			// A datagram of a service of single packets is a flow of its own, that the table never
			// sees.
			single := services[i] != nil && services[i].onePacket && t.Proto == frame.UDP
			fresh[i] = fresh[i] || single && o[i].verdict == forwarder.Forwarded
		}
	}
	if !fresh[0] && !fresh[1] {
		return
	}
	next := record{cell: cell{service: -1}}
	for i := range o {
		next.places[i] = refusal(o[i].verdict)
		if o[i].verdict == forwarder.Forwarded && services[i] != nil {
			next.places[i] = services[i].members[o[i].to]
		}
		if services[i] != nil && next.service < 0 {
			next.service = services[i].number
		}
	}
	if next.service < 0 {
		return // no service has it: nothing that a configuration could change
	}
	if r, ok := p.open[*t]; ok {
		for i := range 2 {
			// It goes on at the other side, and begins late at this one: no flow of its own.
			if fresh[i] && !r.places[i].served() && !fresh[1-i] && next.places[1-i].served() {
				p.uncount(r.cell)
			}
		}
	}
	p.cells[next.cell]++
	if a, b := next.places[0], next.places[1]; a.served() && b.served() && a != b {
		p.move(t, &next.cell, at)
	}
	if len(p.open) >= p.room {
		p.forget()
	}
	p.open[*t] = next
}

func (p *pair) uncount(c cell) {
	if p.cells[c]--; p.cells[c] == 0 {
		delete(p.cells, c)
	}
}

// forget drops the records of flows that neither table has any more. It is done once in as many new
// flows as there are records afterwards, so it costs the same for each flow however many there are.
func (p *pair) forget() {
	for _, s := range p.sides {
		s.engine.Connections(func(c forwarder.ConnectionInfo) bool {
			t := tupleOf(&c)
			if r, ok := p.open[t]; ok && !c.Template {
				r.seen = true
				p.open[t] = r
			}
			return true
		})
	}
	for t, r := range p.open {
		if !r.seen {
			delete(p.open, t)
			continue
		}
		r.seen = false
		p.open[t] = r
	}
	p.room = max(openRoom, 2*len(p.open))
}

func tupleOf(c *forwarder.ConnectionInfo) frame.Tuple {
	t := frame.Tuple{Src: frame.AddrFrom(c.Client.Addr()), Dst: frame.AddrFrom(c.Virtual.Addr()),
		SrcPort: c.Client.Port(), DstPort: c.Virtual.Port()}
	for _, proto := range []frame.Proto{frame.TCP, frame.UDP, frame.SCTP} {
		if proto.String() == c.Proto {
			t.Proto = proto
		}
	}
	return t
}
