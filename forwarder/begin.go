package forwarder

import (
	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// begin decides about the plain frame in place i, whose verdict is v so far, where usual did not.
// One with which a flow begins, of a service without anything special, takes a short way: what has
// been read of it is enough, and once it has its entry it is sent on as one of a known flow is. So
// this decides nothing that newFlow and schedule would decide otherwise.
func (w *Worker) begin(s *snapshot, i int, f *frame.Frame, now int64, v Verdict) Verdict {
	k, q := &w.keys[i], &w.plain[i].frame
	spot, absent := w.table.Absent(&w.search, i)
	if !absent || w.pressed.rate != 0 {
		w.reread(i, f, v)
		return w.decide(s, i, f, now)
	}
	sid, ok := s.ports.find(k.VIP, k.Kind, k.VirtualPort)
	if !ok || !s.services[sid].takes(q) {
		w.reread(i, f, v)
		return w.decide(s, i, f, now)
	}
	svc := &s.services[sid]
	n := w.scheduler(svc).Schedule(&w.request)
	if n == scheduler.None {
		w.reread(i, f, v)
		return w.nobody(s, sid, f, &w.packets[i])
	}
	state := flow.State(0)
	if k.Kind == flow.TCP {
		state = flow.NextTCP(flow.TCPNone, q.TCPFlags, w.pressed.secure) // which usual does not change
	}
	id := w.bind(s, sid, k, w.search.Hashes[i], svc.list[n], flow.None, flow.None, spot, state)
	if id == flow.None {
		return TableFull
	}
	e := w.table.Entry(id)
	if !w.usual(s, i, f, q, id, e) {
		w.reread(i, f, v)
		return w.forward(s, id, e, f, &w.packets[i])
	}
	return Forwarded
}

// takes reports whether the service takes a new flow that begins with this frame, and nothing about
// it is special.
func (svc *service) takes(q *frame.Plain) bool {
	if q.Proto == frame.TCP && (q.TCPFlags&(frame.SYN|frame.RST) != frame.SYN || q.SrcPort == 20) {
		return false
	}
	return svc.blind && !svc.persistent && !svc.onePacket && (svc.group || svc.port == q.DstPort)
}

// reread is what is to be done before the plain frame in place i goes the long way after all.
func (w *Worker) reread(i int, f *frame.Frame, v Verdict) {
	if v == isPlain {
		w.plain[i].frame.Packet(f, &w.packets[i])
	} else {
		frame.Parse(f, &w.packets[i])
	}
}
