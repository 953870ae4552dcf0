package ring

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// Stats are the counters of an engine since Open.
type Stats struct {
	Legs []LegStats

	Batches  uint64 // calls of Next that returned frames
	Gathers  uint64 // short sleeps for a fuller batch
	Polls    uint64 // sleeps until a frame arrives
	Timeouts uint64 // of these, those that ended without a frame
	Wakes    uint64 // calls of Next that ended because of Wake

	Latency Histogram // of sampled frames

	Memory int // bytes of the rings and the buffers for large frames
}

// LegStats are the counters of one leg of an engine. With several workers, each engine has its
// share.
type LegStats struct {
	Leg  frame.Leg
	Name string

	Received  uint64 // frames lent, including truncated ones
	Dropped   uint64 // frames to the VIPs that the kernel dropped: the ring was full, or the frame cannot be described
	Truncated uint64 // frames lent without their end: too long for a slot and for the socket's queue
	Oversize  uint64 // frames larger than a slot, fetched completely
	Damaged   uint64 // slots with an inconsistent header
	Sent      uint64
	Lost      forwarder.Lost // frames given to Send but not sent, by reason; each count wraps at 2^32

	InUse    int // slots unread or lent
	Slots    int
	SlotSize int // bytes
	Memory   int // bytes of the ring

	Down bool // the interface is down
	Gone bool // the interface was deleted: Exchange replaces it
}

// counters are what the worker counts for one leg: it alone adds, anyone may load.
type counters struct {
	received, truncated, oversize, damaged atomic.Uint64
	sent                                   atomic.Uint64
	full, tooBig, down, refused            atomic.Uint64

	lent atomic.Int32 // slots held by the worker
	next atomic.Int32 // slot that the worker takes next
}

// add counts n more, without a write where there is nothing to count.
func add[N int | uint32 | uint64](c *atomic.Uint64, n N) {
	if n != 0 {
		c.Add(uint64(n))
	}
}

// Stats reads the counters. It is safe for concurrent use. After Close it returns the last state.
func (e *Engine) Stats() Stats {
	r := e.res
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{
		Batches: e.batches.Load(), Gathers: e.gathers.Load(), Polls: e.polls.Load(), Timeouts: e.timeouts.Load(),
		Wakes: e.wakes.Load(), Latency: e.latency.read(), Memory: len(e.giants.mem), Legs: make([]LegStats, len(e.legs)),
	}
	for i, l := range e.legs {
		if !r.closed && l.rx >= 0 {
			l.readDrops()
		}
		c := &l.count
		s.Legs[i] = LegStats{
			Leg: l.id, Name: l.name,
			Received: c.received.Load(), Dropped: l.drops, Truncated: c.truncated.Load(), Oversize: c.oversize.Load(),
			Damaged: c.damaged.Load(), Sent: c.sent.Load(),
			Lost: forwarder.Lost{
				Full: uint32(c.full.Load()), TooBig: uint32(c.tooBig.Load()), Down: uint32(c.down.Load()), Refused: uint32(c.refused.Load()),
			},
			Slots: l.walk.slots, SlotSize: l.walk.slotSize, Memory: l.walk.size(),
			Down: l.down.Load(), Gone: l.gone.Load(),
		}
		if !r.closed {
			s.Legs[i].InUse = min(int(c.lent.Load())+l.walk.filled(int(c.next.Load())), l.walk.slots)
		}
		s.Memory += l.walk.size()
	}
	return s
}

// readDrops adds up tp_drops, which the kernel sets to zero when it is read. The resources' mutex
// is held.
func (l *leg) readDrops() {
	if st, err := unix.GetsockoptTpacketStats(l.rx, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		l.drops += uint64(st.Drops)
	}
}
