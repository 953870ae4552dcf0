package forwarder

import (
	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// decideSpecial decides about what is not a whole packet of a flow: ICMP messages and fragments.
func (w *Worker) decideSpecial(s *snapshot, i int, f *frame.Frame, now int64) Verdict {
	if w.states[i] == isFragment {
		return w.fragment(s, i, f, now)
	}
	return w.icmp(s, i, f, now)
}

// icmp sends an error about a flow to the realserver of that flow, and answers echo requests (ip_vs_in_icmp,
// net/netfilter/ipvs/ip_vs_core.c). As in the kernel's direct routing the checksum of the message is left to the
// realserver to judge, and the flow's timer is not re-armed.
func (w *Worker) icmp(s *snapshot, i int, f *frame.Frame, now int64) Verdict {
	p := &w.packets[i]
	if p.V6 != (p.Proto == frame.ICMPv6) {
		return OtherProto
	}
	if !p.V6 && p.ICMPType == 8 || p.V6 && p.ICMPType == 128 {
		return w.echo(s, f, p)
	}
	if p.V6 && p.ICMPType >= 128 || !p.V6 && p.ICMPType != 3 && p.ICMPType != 4 && p.ICMPType != 11 {
		return ICMPIgnored
	}
	var inner frame.Packet
	if frame.ParseInner(f, p, &inner) != frame.OK {
		return BadTransport
	}
	kind := flow.KindOf(inner.Proto)
	vip, ours := s.vips.find(inner.Dst)
	if kind == 0 || !ours {
		return NoICMPFlow
	}
	k := &w.keys[i]
	*k = flow.Key{Client: inner.Src, VIP: vip, ClientPort: inner.SrcPort, VirtualPort: inner.DstPort, Kind: kind}
	h := w.table.Hash(k)
	id := w.table.Lookup(k, h, flow.None)
	if id == flow.None {
		if !s.settings.ScheduleICMP {
			return NoICMPFlow
		}
		sid, ok := s.ports.find(vip, kind, k.VirtualPort)
		if !ok {
			return NoICMPFlow
		}
		d, template, v := w.choose(s, sid, k, &inner, now)
		if v != Forwarded {
			return v
		}
		if id = w.bind(s, sid, k, h, d, template, flow.None); id == flow.None {
			return TableFull
		}
	}
	e := w.table.Entry(id)
	d := &s.dests[e.Dest]
	w.chosen = e.Dest
	if d.available {
		w.count(e.Dest, d, p)
	}
	return w.send(s, d, f, p)
}
