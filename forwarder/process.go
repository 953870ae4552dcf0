package forwarder

import (
	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// Process is the whole path of a frame, for a batch of up to BatchSize of them: it decides where
// each goes, writes the destination MAC into those that go on, and returns them, with the
// director's own answers among them, for a Sink. What it returns is valid until the frames of the
// batch are given back to their Source, or until the next call. Copies of fragments that came in
// earlier batches may be among it, behind the first fragment of their datagram.
//
// now is the time of the batch in nanoseconds, not before that of any earlier batch. Process takes
// no lock, reads no clock and allocates nothing.
//
// The frames of the batch themselves are changed: where all go on, what is returned is the batch.
//
// The work is done in steps, some frames at a time: reading frames and having the connection
// table's lines fetched where their flows may be; finding the slots there and having them fetched;
// deciding, in order. What is fetched in one step is looked at after a step for other frames, so
// that the memory has time to answer. Plain frames of known flows take the shortest way through all
// of it, and those of new flows one that is not much longer: see glance, usual and begin.
func (w *Worker) Process(batch []frame.Frame, now int64) []frame.Frame {
	s, t := w.snap, w.table
	if w.exact {
		t.Advance(now) // in strides: no SetTime before it
	} else {
		t.SetTime(now)
	}
	w.out, w.batch, w.straight = w.out[:0], batch, 0
	w.six, w.was6 = 0, false
	w.answers.reset(now)
	w.tick(now)

	t.Begin(&w.search)
	for at := 0; at < len(batch)+3*stride; at += stride {
		if at < len(batch) {
			w.readSome(s, batch, at)
		}
		t.Find(&w.search, at-stride, min(at, len(batch)))
		w.findSecond(at-2*stride, min(at-stride, len(batch)))
		if at >= 3*stride {
			w.decideSome(s, batch, at-3*stride, now)
		}
	}

	if !w.exact {
		t.Sweep(sweepBudget)
	}
	w.pressed.advance(w, now)
	if w.straight >= 0 {
		return batch[:w.straight]
	}
	return w.out
}

// stride is how many frames take a step together: enough for the memory to have answered when those
// before are looked at again.
const stride = 16

// readSome reads the frames of a batch from place at on, and has the lines fetched where their
// flows are looked for first.
func (w *Worker) readSome(s *snapshot, batch []frame.Frame, at int) {
	if len(s.vips.four) > nearVIPs {
		w.touched += s.vips.touch(batch[at:min(at+stride, len(batch))])
	}
	for i := at; i < len(batch) && i < at+stride; i++ {
		f := &batch[i]
		// What comes is mostly of the family of what came before.
		if !w.was6 && w.glance(s, i, f) {
			w.states[i] = isPlain
			continue
		}
		if w.glance6(s, i, f) {
			w.states[i] = isPlain6
			w.six |= 1 << (i & 63)
			w.was6 = true
			continue
		}
		if w.was6 && w.glance(s, i, f) {
			w.states[i] = isPlain
			w.was6 = false
			continue
		}
		w.states[i] = w.read(s, i, f)
		w.search.Hashes[i] = 0
		if w.states[i] == Forwarded {
			w.search.Hashes[i] = w.table.Hash(&w.keys[i])
			if !w.keys[i].Client.Is4() {
				w.six |= 1 << (i & 63)
			}
		}
	}
	w.table.Fetch(&w.search, at, min(at+stride, len(batch)))
}

// findSecond looks for the flows of frames from to to-1 that were not where they are looked for
// first.
func (w *Worker) findSecond(from, to int) {
	w.table.FindSecond(&w.search, from, to)
	w.table.FetchClients(&w.search, from, to, w.six)
}

// decideSome decides about the frames of a batch from place at on.
func (w *Worker) decideSome(s *snapshot, batch []frame.Frame, at int, now int64) {
	known := uint64(0)
	if len(s.dests) > nearDests {
		w.touched += w.touchDests(s, w.search.Hints[at&(BatchSize-1):min(at+stride, len(batch))])
	}
	for i := at; i < len(batch) && i < at+stride; i++ {
		f, id := &batch[i], w.search.Hints[i]
		v := w.states[i]
		if v == isPlain {
			q := &w.plain[i]
			if e := w.table.Known(&q.key, id); e != nil && q.frame.TCPFlags&frame.SYN == 0 && w.usual(s, i, f, &q.frame, id, e) {
				known++
				continue
			}
			w.unfold(i)
			v = w.begin(s, i, f, now, v)
		} else if v == isPlain6 {
			q := &w.plain[i]
			if e := w.table.Known6(&q.key, &w.keys[i].Client, id); e != nil && q.frame.TCPFlags&frame.SYN == 0 && w.usual(s, i, f, &q.frame, id, e) {
				known++
				continue
			}
			w.unfold6(i)
			v = w.begin(s, i, f, now, v)
		} else if v == Forwarded {
			v = w.decide(s, i, f, now)
		} else if v >= special {
			v = w.decideSpecial(s, i, f, now)
		}
		if v < NumVerdicts { // a fragment that is held has none yet
			w.verdicts[v]++
		}
	}
	w.verdicts[Forwarded] += known
}

// Verdicts of read that decideSpecial makes into real ones.
const (
	special    = 128 + iota
	isICMP     // an ICMP message to a VIP
	isFragment // a fragment to a VIP
	isPlain    // a plain frame to a VIP: see glance
	isPlain6   // the same of IPv6: see glance6
)

// held is the verdict of a fragment that waits for the first of its datagram: none yet.
const held = NumVerdicts

// read parses a frame and turns it away if it is not for a service of ours; otherwise it returns
// Forwarded (so far), and the packet and the key of its flow are in place i.
func (w *Worker) read(s *snapshot, i int, f *frame.Frame) Verdict {
	p := &w.packets[i]
	switch frame.Parse(f, p) {
	case frame.OK:
	case frame.Runt:
		return Runt
	case frame.NotIP:
		return NotIP
	case frame.BadIP:
		return BadHeader
	case frame.BadChecksum:
		return BadChecksum
	case frame.Cut:
		return Truncated
	case frame.BadL4:
		if _, ours := s.vips.find(p.Dst); !ours {
			return NotOurs
		}
		if !p.Fragment { // a first fragment tells what becomes of the others
			return BadTransport
		}
	case frame.OtherProto:
		if _, ours := s.vips.find(p.Dst); !ours {
			return NotOurs
		}
		return OtherProto
	}
	vip, ours := s.vips.find(p.Dst)
	if !ours {
		return NotOurs
	}
	b := f.Data()
	leg := &s.legs[f.In]
	if !leg.AnyMAC && macWord(b[0:6]) != macWord(leg.MAC[:]) {
		return NotForUs
	}
	if s.guard.has(b[6:12]) {
		return LoopGuard
	}
	if !leg.AnyMAC && wrongVLAN(leg, f, p) {
		return WrongVLAN
	}
	if badSource(p) || s.isVIP(p.Src) {
		return BadSource
	}
	if f.Truncated() {
		return Truncated
	}
	if p.Fragment {
		return isFragment
	}
	kind := flow.KindOf(p.Proto)
	if kind == 0 {
		return isICMP
	}
	// Field by field: Parse has just written the words of the address one by one, and a read of
	// both at once would have to wait until they have left the store buffer.
	k := &w.keys[i]
	k.Client.Hi, k.Client.Lo = p.Src.Hi, p.Src.Lo
	k.VIP, k.ClientPort, k.VirtualPort, k.Kind = vip, p.SrcPort, p.DstPort, kind
	return Forwarded
}

// isVIP reports whether a is one of the VIPs.
func (s *snapshot) isVIP(a frame.Addr) bool {
	_, ok := s.vips.find(a)
	return ok
}

// wrongVLAN reports whether the frame is of another VLAN than the leg's. One that has a second tag
// within is of a network within the VLAN, which the leg is not in; one of VLAN 0 has a priority,
// and is of none (IEEE 802.1Q, 9.6).
func wrongVLAN(leg *Leg, f *frame.Frame, p *frame.Packet) bool {
	vlan := f.TCI & 0xfff
	if f.TPID == 0 {
		vlan = 0
	}
	return vlan != leg.VLAN || p.VLANs != 0 || vlan != 0 && f.TPID != leg.tpid()
}

// badSource reports whether nobody may send from the source address: a group, the broadcast, the
// unspecified or a loopback address (RFC 1812, 5.3.7; RFC 4291, 2.5).
func badSource(p *frame.Packet) bool {
	if a := p.Src; a.Is4() {
		v := a.V4()
		return v>>28 >= 14 && v>>28 != 15 || v == 0xffffffff || v>>24 == 0 || v>>24 == 127
	}
	return p.Src.Hi>>56 == 0xff || p.Src.Hi == 0 && p.Src.Lo <= 1
}

// decide finds the flow of the frame in place i, or makes it, and sends the frame on.
func (w *Worker) decide(s *snapshot, i int, f *frame.Frame, now int64) Verdict {
	p, k, h, t := &w.packets[i], &w.keys[i], w.search.Hashes[i], w.table
	if _, absent := t.Absent(&w.search, i); absent {
		return w.newFlow(s, i, f, now, flow.None)
	}
	id := t.Lookup(k, h, w.search.Hints[i])
	if id != flow.None {
		e := t.Entry(id)
		if opensConnection(p) && w.reuse(s, e) {
			// The client begins again from the same port: as in the kernel, the old flow still
			// counts while the new one is scheduled, and ends then.
			return w.newFlow(s, i, f, now, id)
		}
		if d := &s.dests[e.Dest]; !d.available {
			return w.goneDest(s, i, f, now, id)
		}
		return w.forward(s, id, e, f, p)
	}
	return w.newFlow(s, i, f, now, flow.None)
}

// forward counts the frame to its flow, moves the flow's state and sends the frame to its
// realserver.
func (w *Worker) forward(s *snapshot, id flow.ID, e *flow.Entry, f *frame.Frame, p *frame.Packet) Verdict {
	d := &s.dests[e.Dest]
	w.count(e.Dest, d, p)
	w.setState(s, id, e, f, p)
	if e.Packets != ^uint32(0) {
		e.Packets++
	}
	return w.send(s, d, f, p)
}

// count adds the packet to the totals of its destination and service.
func (w *Worker) count(id uint32, d *dest, p *frame.Packet) {
	w.chosen = id
	c := &w.dests[id]
	c.Packets++
	c.Bytes += uint64(p.Len)
	c = &w.services[d.service]
	c.Packets++
	c.Bytes += uint64(p.Len)
}

// send writes the MACs and puts the frame among those that go out.
func (w *Worker) send(s *snapshot, d *dest, f *frame.Frame, p *frame.Packet) Verdict {
	if !d.resolved {
		return Unresolved
	}
	if p.Len > d.mtu {
		if v := w.tooBig(s, d, f, p); v != Forwarded {
			return v
		}
	}
	b := f.Data()
	copy(b[0:6], d.mac[:])
	if s.settings.Source == SourceOwn || s.settings.Source == SourceAuto && f.In == d.out {
		copy(b[6:12], s.legs[d.out].MAC[:])
	}
	o := w.put(f)
	o.Out = d.out
	if o.In != o.Out || o.TPID != 0 {
		retag(&s.legs[o.In], &s.legs[o.Out], o)
	}
	return Forwarded
}

// put has a frame of the batch sent, and returns it as it will be. As long as all of them are, they
// stay where they are.
func (w *Worker) put(f *frame.Frame) *frame.Frame {
	if n := w.straight; uint(n) < uint(len(w.batch)) && f == &w.batch[n] {
		w.straight++
		return f
	}
	return w.add(*f)
}

// add has a frame sent that may be none of the batch.
func (w *Worker) add(f frame.Frame) *frame.Frame {
	if w.straight >= 0 {
		w.out = append(w.out, w.batch[:w.straight]...)
		w.straight = -1
	}
	w.out = append(w.out, f)
	return &w.out[len(w.out)-1]
}

// retag gives the frame the VLAN tag of the leg it leaves by; the priority stays (IEEE 802.1Q,
// 6.9).
func retag(in, out *Leg, f *frame.Frame) {
	if in.AnyMAC {
		return // a capture: the tags stay as they were
	}
	if out.VLAN == 0 {
		f.TPID, f.TCI = 0, 0
		return
	}
	f.TPID = out.tpid()
	f.TCI = f.TCI&0xf000 | out.VLAN
}
