package forwarder

import (
	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// decideSpecial decides about what is not a whole packet of a flow: ICMP messages and fragments.
func (w *Worker) decideSpecial(s *snapshot, i int, f *frame.Frame, now int64) Verdict {
	if w.states[i] == isFragment {
		return w.fragment(s, i, f, now)
	}
	return w.icmp(s, i, f, now)
}

// icmp sends an error about a flow to the realserver of that flow, and answers echo requests
// (ip_vs_in_icmp, net/netfilter/ipvs/ip_vs_core.c). As in the kernel's direct routing the checksum
// of the message is left to the realserver to judge, and the flow's timer is not re-armed.
func (w *Worker) icmp(s *snapshot, i int, f *frame.Frame, now int64) Verdict {
	p, k := &w.packets[i], &w.keys[i]
	var inner frame.Packet
	switch v := s.quoted(f, p, &inner, k); v {
	case Forwarded:
	case Echoed:
		return w.echo(s, f, p)
	default:
		return v
	}
	h := w.table.Hash(k)
	id := w.table.Lookup(k, h, flow.None)
	if id == flow.None {
		sid, ok := s.ports.find(k.VIP, k.Kind, k.VirtualPort)
		if !ok {
			return NoICMPFlow
		}
		if !s.settings.ScheduleICMP {
			return w.stray(s, sid, k, f, p, &inner, now)
		}
		d, template, v := w.choose(s, sid, k, &inner, now)
		if v != Forwarded {
			return v
		}
		if id = w.bind(s, sid, k, h, d, template, flow.None, flow.None, 0); id == flow.None {
			return w.unkept(s, sid, d, template, f, p, now)
		}
		w.table.Extend(id, w.table.Entry(id), unsettled) // until a packet of its own comes
	}
	return w.sendAlone(s, w.table.Entry(id).Dest, f, p)
}

// quoted reads which flow an ICMP message is about, into inner and k. It returns Forwarded then,
// Echoed of an echo request, or why the message goes nowhere.
func (s *snapshot) quoted(f *frame.Frame, p, inner *frame.Packet, k *flow.Key) Verdict {
	switch {
	case p.V6 != (p.Proto == frame.ICMPv6):
		return OtherProto
	case !p.V6 && p.ICMPType == 8 || p.V6 && p.ICMPType == 128:
		return Echoed
	case p.V6 && p.ICMPType >= 128 || !p.V6 && p.ICMPType != 3 && p.ICMPType != 4 && p.ICMPType != 11:
		return ICMPIgnored
	}
	switch frame.ParseInner(f, p, inner) {
	case frame.OK:
	case frame.OtherProto: // about a ping of the VIP, for one
		return NoICMPFlow
	default:
		return BadTransport
	}
	kind := flow.KindOf(inner.Proto)
	vip, ours := s.vips.find(inner.Dst)
	if kind == 0 || !ours {
		return NoICMPFlow
	}
	*k = flow.Key{Client: inner.Src, VIP: vip, ClientPort: inner.SrcPort, VirtualPort: inner.DstPort, Kind: kind}
	return Forwarded
}

// sendAlone sends a packet of no flow to destination id, and counts it there.
func (w *Worker) sendAlone(s *snapshot, id uint32, f *frame.Frame, p *frame.Packet) Verdict {
	d := &s.dests[id]
	w.chosen = id
	if d.available {
		w.count(id, d, p)
	}
	return w.send(s, d, f, p)
}

// stray sends an ICMP error about a flow that is not known to the realserver that has it
// nevertheless, if that can be told. After a restart, and for datagrams of one-packet scheduling,
// of which no flow is remembered, path-MTU discovery needs it.
func (w *Worker) stray(s *snapshot, sid uint16, k *flow.Key, f *frame.Frame, p, inner *frame.Packet, now int64) Verdict {
	if s.settings.StrayICMP {
		if id, ok := w.homeOf(s, sid, k, inner, now); ok {
			return w.sendAlone(s, id, f, p)
		}
	}
	return NoICMPFlow
}

// homeOf is the destination of a flow that is not known, of which p is a packet, if it can be told:
// by the client's template, or by a hash of addresses and ports.
func (w *Worker) homeOf(s *snapshot, sid uint16, k *flow.Key, p *frame.Packet, now int64) (id uint32, ok bool) {
	svc := &s.services[sid]
	if svc.persistent {
		tk := svc.templateKey(k)
		if at := w.table.Lookup(&tk, w.table.Hash(&tk), flow.None); at != flow.None && s.dests[w.table.Entry(at).Dest].available {
			return w.table.Entry(at).Dest, true
		}
	}
	if !svc.hashed {
		return 0, false
	}
	n := w.ask(svc, k, p, now)
	if n == scheduler.None {
		return 0, false
	}
	return svc.list[n], true
}
