package flow

import "math/bits"

// roomy is how many free slots make a bucket roomy.
const roomy = 7

// place is the slot for a new flow that may live in these two buckets, or None if both are full: the first while it is
// roomy, then the emptier one. So a lookup finds 83 of 100 flows of a full table, and nearly all of one that is half full,
// in the first bucket that it looks at; and a table takes as many flows as if it took the emptier bucket each time.
func (t *Table) place(b1, b2 uint64) ID {
	f1 := t.free(b1)
	if f1 < roomy {
		if f2 := t.free(b2); f2 > f1 {
			return t.firstFree(b2)
		}
	}
	return t.firstFree(b1)
}

// willPlace is the slot that a new flow in these two buckets would probably get, or None.
func (t *Table) willPlace(b1, b2 uint64) ID {
	if t.used < t.capacity {
		return t.place(b1, b2)
	}
	return t.soonest(b1)
}

// vacate ends the flow in slot id if it is past its deadline, or if evict allows it and it is one that may end early; it
// reports whether the slot is free now.
func (t *Table) vacate(id ID, evict bool) bool {
	e := t.Entry(id)
	if int32(e.deadline-t.now) <= 0 {
		return t.expire(id, e)
	}
	if evict && e.evictable() {
		t.owner.Expire(id, e, true)
		t.count.Evicted++
		t.Delete(id)
		return true
	}
	t.arm(id, e.deadline) // an extended deadline: next time it comes later in the order
	return false
}

// makeRoom frees a slot in one of two buckets: that of a flow past its deadline, or if evict allows it that of an
// embryonic or closing flow: the one due first in the first bucket, else in both. A flow with traffic both ways, or a
// template that has proved useful, is never ended for a new one. The due times, which stand in the two lines that Put has
// read already, tell where to look, so that a flood costs about one more cache line for each flow, which Search has fetched.
func (t *Table) makeRoom(b1, b2 uint64, evict bool) ID {
	if id := t.soonest(b1); id != None && t.vacate(id, evict) {
		return id
	}
	for tried := uint32(0); ; {
		id, bit := t.next(b1, b2, tried)
		if id == None || t.vacate(id, evict) {
			return id
		}
		tried |= bit
	}
}

// lookSoonest is soonest without help from the processor: the slot in use in a bucket that is due first, or None. There is no
// branch in it that depends on the times: they are in no order, and guessing wrong again and again would cost more than all the
// rest.
func (t *Table) lookSoonest(b uint64) ID {
	now, l := uint64(uint16(t.now>>dueShift))*lanes, &t.all[b].line
	best, at := uint32(1<<20), uint32(0)
	for w := range l.due {
		// How long until it is due, in order from the most overdue on; the last for those that are not in use.
		ahead := sub(l.due[w], now) ^ top | whole(zeroLanes(l.tags[w]))
		best = min(best, uint32(ahead&0xffff)<<4|at, uint32(ahead>>16&0xffff)<<4|(at+1), uint32(ahead>>32&0xffff)<<4|(at+2),
			uint32(ahead>>48)<<4|(at+3))
		at += 4
	}
	if best>>4 == 0xffff {
		return None
	}
	return ID(b*bucketSlots + uint64(best&15))
}

// next is the slot in use in two buckets that is due first and not among those tried, whose bits are set: bit i is slot
// i of the first bucket, 16+i that of the second. Without any it is None.
func (t *Table) next(b1, b2 uint64, tried uint32) (ID, uint32) {
	now := uint64(uint16(t.now>>dueShift)) * lanes
	const none = 0xffff
	best := uint32(none << 5)
	at := uint32(0)
	for _, b := range [2]uint64{b1, b2} {
		l := &t.all[b].line
		for w := range l.due {
			// How long until it is due, in order from the most overdue on; the last for those that are not in use.
			ahead := sub(l.due[w], now) ^ top | whole(zeroLanes(l.tags[w]))
			best = min(best,
				uint32(ahead&none)<<5|at|mask(tried, at),
				uint32(ahead>>16&none)<<5|(at+1)|mask(tried, at+1),
				uint32(ahead>>32&none)<<5|(at+2)|mask(tried, at+2),
				uint32(ahead>>48)<<5|(at+3)|mask(tried, at+3))
			at += 4
		}
	}
	if best>>5 == none {
		return None, 0
	}
	i := best & 31
	b := b1
	if i >= bucketSlots {
		b = b2
	}
	return ID(b*bucketSlots + uint64(i%bucketSlots)), 1 << i
}

// mask is what makes a time the last, if bit i of tried is set.
func mask(tried, i uint32) uint32 { return -(tried >> (i & 31) & 1) & (0xffff << 5) }

func (t *Table) free(b uint64) (n int) {
	for _, w := range t.all[b].line.tags {
		n += bits.OnesCount64(zeroLanes(w))
	}
	return n
}

func (t *Table) firstFree(b uint64) ID {
	for i, w := range t.all[b].line.tags {
		if m := zeroLanes(w); m != 0 {
			return ID(b*bucketSlots + uint64(i*4) + uint64(bits.TrailingZeros64(m))/16)
		}
	}
	return None
}
