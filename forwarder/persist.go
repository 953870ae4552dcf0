package forwarder

import (
	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// templateKey is the key of the template that a flow of key k hangs on.
func (svc *service) templateKey(k *flow.Key) flow.Key {
	tk := flow.Key{Client: svc.mask(k.Client), VIP: k.VIP, Kind: k.Kind | flow.Template}
	switch {
	case svc.group:
		tk.VIP, tk.Kind = svc.vip, flow.AnyProto|flow.Template
	case k.VirtualPort == svc.port && svc.port != 21:
		tk.VirtualPort = svc.port
	}
	return tk
}

// leads reports whether template e leads to a destination that new flows may go to.
func (s *snapshot) leads(e *flow.Entry) bool {
	d := &s.dests[e.Dest]
	return d.available && !(s.settings.ExpireQuiescentTemplate && d.weight == 0)
}

// template finds or makes the persistence template of a client, and the destination that it leads
// to (ip_vs_sched_persist, net/netfilter/ipvs/ip_vs_core.c).
func (w *Worker) template(s *snapshot, svc *service, k *flow.Key, p *frame.Packet, now int64) (dest uint32, template flow.ID, v Verdict) {
	t := w.table
	tk := svc.templateKey(k)
	h := t.Hash(&tk)
	id := t.Lookup(&tk, h, flow.None)
	if id != flow.None {
		e := t.Entry(id)
		if s.leads(e) {
			t.Renew(id, e)
			return e.Dest, id, Forwarded
		}
		t.Invalidate(id)
	}
	n := w.ask(svc, k, p, now)
	if n == scheduler.None {
		return 0, flow.None, NoDestination
	}
	id = t.Put(&tk, h, svc.timeout, !s.settings.RefuseWhenFull)
	if id == flow.None {
		return 0, flow.None, TableFull
	}
	e := t.Entry(id)
	e.Dest = svc.list[n]
	s.dests[e.Dest].templates.Add(1)
	return e.Dest, id, Forwarded
}
