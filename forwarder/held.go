package forwarder

import (
	"math"

	"shunt/forwarder/frame"
)

const (
	heldFrames = 64   // fragments that a worker holds until the first of their datagram comes
	heldSize   = 2048 // bytes of each; a longer one is not held
)

// holdings are the copies of fragments that came before the first of their datagram. Each has a
// place of fixed size: nothing is allocated, however many come. A copy that goes out is lent as the
// frames of a batch are: its place is free again when the next batch comes.
type holdings struct {
	frames []heldFrame
	bytes  []byte
	free   [heldFrames]uint8
	lent   [heldFrames]uint8
	nfree  int
	nlent  int
	order  uint64 // of the last frame that was held
	due    int64  // no held frame's time is over before
}

// heldFrame is a frame without its bytes, which stand in a place of their own. It holds no pointer.
type heldFrame struct {
	owner  uint16 // the datagram's place in the table
	next   uint8  // 1 + number of the next one of the same datagram, in the order of their offsets
	offset uint16
	order  uint64 // of arrival; 0 if nothing is held here
	length uint32 // of the IP packet
	size   int    // of the frame
	time   int64
	wire   int32
	head   uint8
	in     frame.Leg
	tpid   uint16
	tci    uint16
}

func newHoldings() holdings {
	h := holdings{frames: make([]heldFrame, heldFrames), bytes: make([]byte, heldFrames*heldSize), nfree: heldFrames, due: math.MaxInt64}
	for i := range h.free {
		h.free[i] = uint8(i)
	}
	return h
}

// len is the number of frames that are held and have no verdict yet.
func (h *holdings) len() int { return heldFrames - h.nfree - h.nlent }

// put frees the place of a frame.
func (h *holdings) put(n uint8) {
	h.frames[n].order = 0
	h.free[h.nfree] = n
	h.nfree++
}

// tick takes back what the last batch lent, and drops what is held for too long.
func (w *Worker) tick(now int64) {
	h := &w.fragments.holdings
	for h.nlent > 0 {
		h.nlent--
		h.put(h.lent[h.nlent])
	}
	if now < h.due {
		return
	}
	h.due = math.MaxInt64
	for i := range h.frames {
		if h.frames[i].order == 0 {
			continue
		}
		if g := &w.fragments.table[h.frames[i].owner]; g.until <= now {
			w.dropHeld(g)
		} else {
			h.due = min(h.due, g.until)
		}
	}
}

// hold copies a fragment that came before the first of datagram g. If no place is free, the
// datagram whose fragment was held longest is given up: fragments that are merely out of order are
// not held for long.
func (w *Worker) hold(g *datagram, f *frame.Frame, p *frame.Packet) Verdict {
	h := &w.fragments.holdings
	if len(f.Buf) > heldSize || h.nfree == 0 && !w.makeRoom() || g.decided {
		w.giveUp(g)
		return Fragment
	}
	h.nfree--
	n := h.free[h.nfree]
	h.order++
	m := &h.frames[n]
	*m = heldFrame{owner: g.place, offset: p.FragOff, order: h.order, length: p.Len, size: len(f.Buf), time: f.Time,
		wire: f.Wire, head: f.Head, in: f.In, tpid: f.TPID, tci: f.TCI}
	copy(h.buf(n), f.Buf)
	at := &g.held
	for *at != 0 && h.frames[*at-1].offset < p.FragOff {
		at = &h.frames[*at-1].next
	}
	m.next = *at
	*at = n + 1
	h.due = min(h.due, g.until)
	return held
}

func (h *holdings) buf(n uint8) []byte { return h.bytes[int(n)*heldSize : (int(n)+1)*heldSize] }

// makeRoom gives up the datagram of the frame that is held longest, and reports whether there was
// one.
func (w *Worker) makeRoom() bool {
	h := &w.fragments.holdings
	oldest := -1
	for i := range h.frames {
		if o := h.frames[i].order; o != 0 && (oldest < 0 || o < h.frames[oldest].order) {
			oldest = i
		}
	}
	if oldest < 0 {
		return false // all places are lent
	}
	w.giveUp(&w.fragments.table[h.frames[oldest].owner])
	return true
}

// release has the held frames of a datagram follow its first.
func (w *Worker) release(s *snapshot, g *datagram) {
	h := &w.fragments.holdings
	for g.held != 0 {
		n := g.held - 1
		m := &h.frames[n]
		g.held = m.next
		f := frame.Frame{Buf: h.buf(n)[:m.size:m.size], Time: m.time, Wire: m.wire, Head: m.head, In: m.in, TPID: m.tpid, TCI: m.tci}
		v := w.follow(s, g, &f, &frame.Packet{Len: m.length})
		w.verdicts[v]++
		if v != Forwarded {
			h.put(n)
			continue
		}
		m.order = 0
		h.lent[h.nlent] = n
		h.nlent++
	}
}

// dropHeld drops the held frames of a datagram.
func (w *Worker) dropHeld(g *datagram) {
	h := &w.fragments.holdings
	for g.held != 0 {
		n := g.held - 1
		g.held = h.frames[n].next
		h.put(n)
		w.verdicts[Fragment]++
	}
}
