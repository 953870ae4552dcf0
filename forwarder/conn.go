package forwarder

import (
	"encoding/binary"
	"time"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// This file decides about flows as the kernel's ip_vs_in_hook and ip_vs_schedule do
// (net/netfilter/ipvs/ip_vs_core.c).

// opensConnection reports whether the packet is one with which a client begins a connection
// (is_new_conn).
func opensConnection(p *frame.Packet) bool {
	switch p.Proto {
	case frame.TCP:
		return p.TCPFlags&frame.SYN != 0
	case frame.SCTP:
		return p.Chunk == flow.ChunkInit
	}
	return false
}

// schedulable reports whether a packet of an unknown flow may make a new one (tcp_conn_schedule,
// sctp_conn_schedule).
func schedulable(s *snapshot, p *frame.Packet) bool {
	switch p.Proto {
	case frame.TCP:
		return p.TCPFlags&frame.RST == 0 && (p.TCPFlags&frame.SYN != 0 || s.settings.SloppyTCP)
	case frame.SCTP:
		return p.Chunk == flow.ChunkInit || s.settings.SloppySCTP && p.Chunk != flow.ChunkAbort
	}
	return true
}

// unscheduled returns why a packet of an unknown flow may not make a new one, or Forwarded. served
// tells whether a service has its port.
func unscheduled(s *snapshot, p *frame.Packet, served bool) Verdict {
	switch {
	case !served:
		return NoService
	case !schedulable(s, p):
		return NoFlow
	}
	return Forwarded
}

// reuse reports whether a connection that begins on the tuple of flow e is to be scheduled afresh.
func (w *Worker) reuse(s *snapshot, e *flow.Entry) bool {
	if s.settings.ExpireNodestConn && s.dests[e.Dest].weight == 0 {
		return true
	}
	mode := s.settings.ConnReuseMode
	if mode == 0 || e.Control != 0 { // a flow of a template stays with it
		return false
	}
	switch e.Kind() {
	case flow.TCP:
		return e.State == flow.TCPTimeWait || e.State == flow.TCPClose || mode&2 != 0 && e.State == flow.TCPFinWait
	case flow.SCTP:
		return e.State == flow.SCTPClosed
	}
	return false
}

// What becomes of a packet of a flow whose destination was removed.
const (
	goneDrops = iota
	goneBegins
	goneMoves
	goneResets
)

func (s *snapshot) whenGone(p *frame.Packet) int {
	switch {
	case s.settings.ExpireNodestConn:
		return goneBegins
	case s.settings.Gone == GoneReset && p.Proto == frame.TCP && p.TCPFlags&frame.SYN == 0:
		return goneResets
	case s.settings.Gone == GoneReset, s.settings.Gone == GoneReschedule:
		return goneMoves
	}
	return goneDrops
}

// goneDest decides about a packet of a flow whose destination was removed.
func (w *Worker) goneDest(s *snapshot, i int, f *frame.Frame, now int64, id flow.ID) Verdict {
	p := &w.packets[i]
	switch s.whenGone(p) {
	case goneBegins:
		return w.newFlow(s, i, f, now, id)
	case goneMoves:
		return w.reschedule(s, i, f, now, id)
	case goneResets:
		w.end(id)
		w.reset(s, f, p)
	}
	return DestGone
}

// reschedule gives a flow another realserver in the midst of it, whatever the packet is.
func (w *Worker) reschedule(s *snapshot, i int, f *frame.Frame, now int64, id flow.ID) Verdict {
	k, p := &w.keys[i], &w.packets[i]
	sid, ok := s.ports.find(k.VIP, k.Kind, k.VirtualPort)
	if !ok {
		return DestGone
	}
	return w.schedule(s, sid, i, f, now, id, p)
}

// newFlow decides about a packet of an unknown flow. old is a flow of the same tuple that ends now,
// or None.
func (w *Worker) newFlow(s *snapshot, i int, f *frame.Frame, now int64, old flow.ID) Verdict {
	k, p := &w.keys[i], &w.packets[i]
	sid, ok := s.ports.find(k.VIP, k.Kind, k.VirtualPort)
	if v := unscheduled(s, p, ok); v != Forwarded {
		w.end(old)
		if v == NoFlow && p.Proto == frame.TCP && w.pressed.strained(now) {
			return w.forgotten(s, sid, k, f, p, now)
		}
		w.refuse(s, f, p)
		return v
	}
	if w.pressed.drop(s) {
		w.end(old)
		return DropPacket
	}
	return w.schedule(s, sid, i, f, now, old, p)
}

// schedule chooses the realserver of a new flow by service sid, makes the flow and sends the packet
// on.
func (w *Worker) schedule(s *snapshot, sid uint16, i int, f *frame.Frame, now int64, old flow.ID, p *frame.Packet) Verdict {
	k := &w.keys[i]
	d, template, v := w.choose(s, sid, k, p, now)
	if v != Forwarded {
		w.end(old)
		if v == NoDestination {
			return w.nobody(s, sid, f, p)
		}
		return v
	}
	if s.services[sid].onePacket && p.Proto == frame.UDP {
		w.end(old)
		return w.onePacket(s, d, sid, f, p)
	}
	spot, _ := w.table.Absent(&w.search, i)
	id := w.bind(s, sid, k, w.search.Hashes[i], d, template, old, spot, 0)
	if id == flow.None {
		return w.unkept(s, sid, d, template, f, p, now)
	}
	return w.forward(s, id, w.table.Entry(id), f, p)
}

// unkept decides about a packet of a new flow to destination d for which the table has no room: it
// goes on if template or hash lead the packets that follow to the same realserver.
func (w *Worker) unkept(s *snapshot, sid uint16, d uint32, template flow.ID, f *frame.Frame, p *frame.Packet, now int64) Verdict {
	if template == flow.None && !s.services[sid].hashed {
		return TableFull
	}
	w.pressed.strain(now)
	return w.sendAlone(s, d, f, p)
}

// forgotten decides about a segment of a connection that is not known while the table is short of
// room: it may be one that had to make room. It goes where it went before, if that can be told. If
// not, the director says nothing, since with a RST it would end a connection that client and
// realserver still have.
func (w *Worker) forgotten(s *snapshot, sid uint16, k *flow.Key, f *frame.Frame, p *frame.Packet, now int64) Verdict {
	if id, ok := w.homeOf(s, sid, k, p, now); ok {
		return w.sendAlone(s, id, f, p)
	}
	return NoFlow
}

// nobody decides about the packet of a new flow that no realserver of the service takes.
func (w *Worker) nobody(s *snapshot, sid uint16, f *frame.Frame, p *frame.Packet) Verdict {
	v := s.untaken(sid)
	if v == NoDestination {
		w.unreachable(s, f, p)
	}
	return v
}

// untaken is the verdict for a new flow that no realserver of the service takes.
func (s *snapshot) untaken(sid uint16) Verdict {
	if s.awaited(sid) {
		return Unresolved
	}
	return NoDestination
}

// awaited reports whether a realserver of the service could take flows, but for its MAC that is
// being asked for. A client that is told meanwhile that nobody is there gives up; one that hears
// nothing comes again within a second. The kernel holds the packet until then.
func (s *snapshot) awaited(sid uint16) bool {
	for _, id := range s.services[sid].list {
		if d := &s.dests[id]; d.asked && d.weight > 0 && !d.load.Overloaded() {
			return true
		}
	}
	return false
}

// choose finds the destination of a new flow, and the template that it hangs on or None.
func (w *Worker) choose(s *snapshot, sid uint16, k *flow.Key, p *frame.Packet, now int64) (uint32, flow.ID, Verdict) {
	svc := &s.services[sid]
	if v := svc.excludes(k); v != Forwarded {
		return 0, flow.None, v
	}
	if svc.persistent {
		return w.template(s, svc, k, p, now)
	}
	n := w.ask(svc, k, p, now)
	if n == scheduler.None {
		return 0, flow.None, NoDestination
	}
	return svc.list[n], flow.None, Forwarded
}

// excludes returns why no scheduler is asked for a new flow of key k, or Forwarded.
func (svc *service) excludes(k *flow.Key) Verdict {
	switch {
	case k.ClientPort == 20 && k.Kind == flow.TCP:
		return NoFlow // FTP data of a realserver: never scheduled
	case !svc.persistent && !svc.group && k.VirtualPort != svc.port:
		return NoDestination // a service of all ports needs persistence, and so do the data connections of an FTP service
	}
	return Forwarded
}

// bind makes the entry of a new flow to destination d and counts it, in the place of flow old if
// that is one. It returns None if the table has no room. spot is where the entry goes if the table
// has told, or None. The flow's first packet is still to be counted, and may change the state that
// it has until then.
func (w *Worker) bind(s *snapshot, sid uint16, k *flow.Key, h flow.Hash, d uint32, template, old, spot flow.ID, state flow.State) flow.ID {
	load, active := s.dests[d].load, flow.IsActive(k.Kind, state)
	if active {
		load.OpenActive()
	} else {
		load.Open()
	}
	if template != flow.None {
		w.table.Entry(template).Control++ // before Put, which must not end it to make room
	}
	w.end(old)
	id := w.table.PutAt(spot, k, h, s.firstTimeout(k.Kind), !s.settings.RefuseWhenFull)
	if id == flow.None {
		load.Close(active)
		if template != flow.None {
			w.table.Entry(template).Control--
		}
		return flow.None
	}
	e := w.table.Entry(id)
	e.Dest, e.State = d, state
	if !active {
		e.Flags |= flow.Inactive
	}
	if template != flow.None {
		e.Control = 1 + uint32(template)
	}
	w.dests[d].Flows++
	w.services[sid].Flows++
	return id
}

// unsettled is the timeout of a flow none of whose packets has been counted: 3 s (ip_vs_conn_new,
// net/netfilter/ipvs/ip_vs_conn.c).
var unsettled = flow.Ticks(3 * time.Second)

// firstTimeout is what a flow gets until its first packet is counted, which gives it its own. It is
// what that packet most likely gives it, so that the sweep does not look at each flow twice, and
// those that have to make room in a flood are the oldest of the embryonic: with 3 s a handshake
// that goes on would be ended by the next SYN in its bucket.
func (s *snapshot) firstTimeout(k flow.Kind) uint32 {
	switch k {
	case flow.TCP:
		return s.timeouts.TCP[flow.TCPSynRecv]
	case flow.UDP:
		return s.timeouts.UDP
	}
	return unsettled
}

// ask has the scheduler of a service choose.
func (w *Worker) ask(svc *service, k *flow.Key, p *frame.Packet, now int64) int {
	if svc.blind {
		return w.scheduler(svc).Schedule(&w.request) // whatever it says
	}
	w.request = scheduler.Request{Client: p.Src.Netip(), Virtual: p.Dst.Netip(), ClientPort: k.ClientPort, Now: now}
	return w.scheduler(svc).Schedule(&w.request)
}

// onePacket sends a datagram whose flow is not remembered (ipvsadm -o).
func (w *Worker) onePacket(s *snapshot, id uint32, sid uint16, f *frame.Frame, p *frame.Packet) Verdict {
	d := &s.dests[id]
	d.load.Open()
	w.dests[id].Flows++
	w.services[sid].Flows++
	w.count(id, d, p)
	d.load.Close(false)
	return w.send(s, d, f, p)
}

// setState moves the state of a flow by a packet, the counts of active and inactive connections
// with it, and its deadline.
func (w *Worker) setState(s *snapshot, id flow.ID, e *flow.Entry, f *frame.Frame, p *frame.Packet) {
	kind := e.Kind()
	next := e.State
	switch kind {
	case flow.TCP:
		seq := upper(f, p)
		if next = flow.NextTCP(e.State, p.TCPFlags, w.pressed.secure); next != e.State {
			next = w.step(s, e, next, p.TCPFlags, seq)
		} else if next == flow.TCPSynRecv {
			w.suspects.note(e.Dest)
		}
		e.Follow(seq)
	case flow.SCTP:
		chunk := sctpChunk(f, p)
		if next = flow.NextSCTP(e.State, chunk); next != e.State {
			next = w.stepSCTP(s, e, next, chunk, upper(f, p))
		}
	}
	w.table.Extend(id, e, s.timeouts.Of(kind, next))
	if e.Flags&flow.Proven == 0 {
		w.table.Prove(e)
	}
}

// step moves a TCP flow to the state that follows by a segment, of whose sequence number seq is the
// upper half, and returns the state that it has then. With StrictRST a segment that ends a
// connection but cannot be the client's changes nothing, as the realserver refuses it too (RFC
// 5961, 3). Otherwise the entry would end, and the director would reset a connection that still
// exists.
func (w *Worker) step(s *snapshot, e *flow.Entry, next flow.State, flags uint8, seq uint16) flow.State {
	if s.settings.StrictRST && ends(flags) && !e.Fits(seq) {
		return e.State
	}
	switch next {
	case flow.TCPSynRecv, flow.TCPSynAck, flow.TCPEstablished:
		e.Learn(seq) // it begins, maybe again
	}
	w.move(s, e, next)
	return next
}

// ends reports whether a segment ends a connection, or one sense of it: one with RST or FIN, or
// without any of the flags that tell what it is.
func ends(flags uint8) bool {
	return flags&frame.RST != 0 || flags&frame.SYN == 0 && flags&(frame.FIN|frame.ACK) != frame.ACK
}

// stepSCTP is step for an association. Here tag is the upper half of the verification tag, which is
// the same in all packets of a client but its first.
func (w *Worker) stepSCTP(s *snapshot, e *flow.Entry, next flow.State, chunk uint8, tag uint16) flow.State {
	switch chunk {
	case flow.ChunkAbort, flow.ChunkError, flow.ChunkShutdown, flow.ChunkShutdownAck, flow.ChunkShutdownComplete:
		if s.settings.StrictRST && !e.Is(tag) {
			return e.State
		}
	}
	if next == flow.SCTPEstablished {
		e.Learn(tag)
	}
	w.move(s, e, next)
	return next
}

// upper is the upper half of the sequence number of a TCP segment, or of the verification tag of an
// SCTP packet.
func upper(f *frame.Frame, p *frame.Packet) uint16 { return binary.BigEndian.Uint16(f.Data()[p.L4+4:]) }

// move changes the state of a flow, and the counts of active and inactive connections with it.
func (w *Worker) move(s *snapshot, e *flow.Entry, next flow.State) {
	kind := e.Kind()
	inactive := e.Flags&flow.Inactive != 0
	if active := flow.IsActive(kind, next); active == inactive {
		if active {
			s.dests[e.Dest].load.Activate()
			e.Flags &^= flow.Inactive
		} else {
			s.dests[e.Dest].load.Deactivate()
			e.Flags |= flow.Inactive
		}
	}
	e.State = next
	if e.Control != 0 && (kind == flow.TCP && next == flow.TCPEstablished || kind == flow.SCTP && next == flow.SCTPEstablished) {
		w.table.Entry(flow.ID(e.Control - 1)).Flags |= flow.Assured
	}
}

// sctpChunk returns the type of the chunk that decides: the first, or an ABORT bundled behind a
// cookie (set_sctp_state, ip_vs_proto_sctp.c).
func sctpChunk(f *frame.Frame, p *frame.Packet) uint8 {
	if p.Chunk == flow.ChunkCookieEcho || p.Chunk == flow.ChunkCookieAck {
		b := f.Data()
		at := int(p.L4) + 12
		if at+4 <= len(b) {
			length := int(b[at+2])<<8 | int(b[at+3])
			next := at + (length+3)&^3
			if length >= 4 && next+4 <= len(b) && next+4 <= int(p.L3)+int(p.Len) && b[next] == flow.ChunkAbort {
				return flow.ChunkAbort
			}
		}
	}
	return p.Chunk
}

// end forgets flow id at once, if it is one.
func (w *Worker) end(id flow.ID) {
	if id == flow.None {
		return
	}
	w.unbind(w.table.Entry(id))
	w.table.Delete(id)
}

// unbind counts a flow or template out.
func (w *Worker) unbind(e *flow.Entry) {
	d := &w.snap.dests[e.Dest]
	if e.Kind().IsTemplate() {
		d.templates.Add(-1)
		return
	}
	d.load.Close(e.Flags&flow.Inactive == 0)
}

// Expire implements flow.Owner: what ends is counted out.
func (w *Worker) Expire(id flow.ID, e *flow.Entry, evicted bool) {
	if evicted && e.Kind() == flow.TCP {
		w.pressed.strain(w.answers.last)
	}
	w.unbind(e)
}
