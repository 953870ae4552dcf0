package flow

import "math/bits"

// The first two steps of a lookup, for many flows at once: see Process in shunt/forwarder.

// Approach reads the cache lines where the flows with these hashes are looked for. The loop is short and has no branch
// that depends on what it reads, so that the processor has many of the reads under way at once; a lookup by itself
// would wait for each. The result means nothing, but has to be used for the reads to happen.
func (t *Table) Approach(hashes []Hash) (sum uint64) {
	for _, h := range hashes {
		b1, b2, _ := t.where(h)
		sum += t.lines[b1].tags[0] + t.lines[b2].tags[0]
	}
	return sum
}

// Hint names the slot where the flow with this hash probably is, or None, without looking at the flow itself. A batch
// asks for all its hints, touches them all, and then looks the flows up.
func (t *Table) Hint(h Hash) ID {
	b1, b2, tag := t.where(h)
	want := uint64(tag) * lanes
	l := &t.lines[b1]
	for w := range l.tags {
		if m := zeroLanes(l.tags[w] ^ want); m != 0 {
			return ID(b1*bucketSlots + uint64(w*4) + uint64(bits.TrailingZeros64(m))/16)
		}
	}
	l = &t.lines[b2]
	for w := range l.tags {
		if m := zeroLanes(l.tags[w] ^ want); m != 0 {
			return ID(b2*bucketSlots + uint64(w*4) + uint64(bits.TrailingZeros64(m))/16)
		}
	}
	return None
}

// Place names the slot that a new flow with this hash would get, or None if both of its buckets are full: for a batch to
// touch, as it touches the hints. The flow may get another one, if a frame before it takes this.
func (t *Table) Place(h Hash) ID {
	b1, b2, _ := t.where(h)
	b := b1
	if t.free(b2) > t.free(b1) {
		b = b2
	}
	return t.firstFree(b)
}

// Touch reads a little of the entries that the hints name, as Approach does of the index.
func (t *Table) Touch(hints []ID) (sum uint64) {
	last := ID(len(t.entries) - 1)
	for _, id := range hints {
		sum += uint64(t.entries[min(id, last)].deadline) // None reads the last entry
	}
	return sum
}
