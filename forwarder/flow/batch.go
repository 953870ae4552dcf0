package flow

import (
	"math/bits"

	"shunt/forwarder/frame"
)

// Batch is the largest number of flows that are looked up together.
const Batch = 64

// A Search is the first part of the lookup of many flows, as Process in shunt/forwarder does it.
// Memory is slow, but answers many questions at a time; so it is asked for what some flows need
// long before that is needed, and the caller does other work meanwhile. The steps are Begin for a
// batch, then Fetch, Find and FindSecond, each for some flows at a time.
type Search struct {
	Hashes [Batch]Hash // of the flows; 0 for what is none
	Hints  [Batch]ID   // the answers, for Known and Lookup

	missed uint64    // bit i is set if flow i is not in its first bucket
	absent uint64    // likewise if it is in neither
	slots  [Batch]ID // of those that are absent: where they will probably be
	read   uint64    // what was read, which means nothing, but has to be used for the reads to happen
}

// Begin makes s ready for another batch.
func (t *Table) Begin(s *Search) {
	s.missed, s.absent = 0, 0
	clear(t.marks[:])
}

// Search takes all steps for the first n flows, whose hashes are there.
func (t *Table) Search(s *Search, n int) {
	t.Begin(s)
	t.Fetch(s, 0, n)
	t.Find(s, 0, n)
	t.FindSecond(s, 0, n)
}

// Fetch asks the memory for the lines in which flows from to to-1, whose hashes are there, are
// looked for first. It does so for some at once because a processor does not go on from a request
// while it has the address to translate, but can have several addresses translated at a time.
func (t *Table) Fetch(s *Search, from, to int) {
	if to = min(to, Batch); uint(from) < uint(to) {
		s.read += t.fetchLines(s.Hashes[from:to])
	}
}

// Find looks there for flows from to to-1, gives hints, the slots where they probably are, and asks
// the memory for these, or for the other line of a flow that is not there.
func (t *Table) Find(s *Search, from, to int) {
	to = min(to, Batch)
	if uint(from) >= uint(to) {
		return
	}
	if missed := t.findFirst(s, s.Hashes[from:to], s.Hints[from:to]); missed != 0 {
		s.missed |= missed << (from & 63)
		s.read += t.fetchSeconds(s.Hashes[from:to], missed)
	}
}

// FindSecond looks in the other line for those of flows from to to-1 that are not where they were
// looked for first. The hint for a flow that is in neither is None.
func (t *Table) FindSecond(s *Search, from, to int) {
	some := s.missed & span(from, to)
	if some == 0 {
		return
	}
	absent := t.findSecond(s, some)
	if absent == 0 {
		return
	}
	s.absent |= absent
	for m := absent; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m) & (Batch - 1)
		h := s.Hashes[i]
		s.slots[i] = None
		if h == 0 {
			s.absent &^= 1 << i // it is none
		} else {
			if t.used >= t.capacity {
				if b := t.first(h); t.next[b].number() > 0 { // for makeRoom
					s.slots[i] = t.next[b].next(b)
				} else {
					s.read += t.fetchBucket(b)
				}
				continue
			}
			id := t.place(t.first(h), t.second(h)) // probably a new flow's
			if s.slots[i] = id; id != None {
				s.read += uint64(t.dues[id/bucketSlots]) // for PutAt
			}
		}
	}
	s.read += t.fetchEntries(&s.slots, absent)
}

// span has bits from to to-1 set, which are places in a batch.
func span(from, to int) uint64 {
	if from >= to {
		return 0
	}
	return ^uint64(0) << (from & 63) & (^uint64(0) >> (64 - min(to, Batch)))
}

// FetchClients asks the memory, after FindSecond, for what is compared besides, or written, where
// the clients are of IPv6: their whole addresses. Bit i of six is set for those flows; only flows
// from to to-1 count.
func (t *Table) FetchClients(s *Search, from, to int, six uint64) {
	if six &= span(from, to); six != 0 {
		s.read += t.fetchClients(s, six)
	}
}

// slot of flow i of a Search: where it is, or will probably be.
func (s *Search) slot(i int) ID {
	i &= Batch - 1
	if s.absent>>i&1 != 0 {
		return s.slots[i]
	}
	return s.Hints[i]
}

// Absent reports whether flow i of the last Search is certainly not in the table; if not, Lookup
// has to tell. The spot is the free slot that it would get now, for PutAt, or None if that has to
// be looked for again.
func (t *Table) Absent(s *Search, i int) (spot ID, certainly bool) {
	i &= Batch - 1
	if h := s.Hashes[i]; s.absent>>i&1 != 0 && t.untouched(t.first(h)) && t.untouched(t.second(h)) {
		return s.slots[i], true
	}
	return None, false
}

// marks has a bit set for each bucket that has changed since the last Search, and for others that
// share the bit.
type marks [64]uint64

func (t *Table) mark(b uint64)           { t.marks[b>>6%64] |= 1 << (b & 63) }
func (t *Table) untouched(b uint64) bool { return t.marks[b>>6%64]>>(b&63)&1 == 0 }

// touch reads a little of each of these entries.
func (t *Table) touch(ids []ID) (sum uint64) {
	last := ID(t.Slots() - 1)
	for _, id := range ids {
		sum += uint64(t.Entry(min(id, last)).deadline) // None reads the last entry
	}
	return sum
}

// lookFirst is findFirst without help from the processor: it gives the hints of these hashes by
// their first buckets, and a bit for each that is not there.
func (t *Table) lookFirst(hashes []Hash, hints []ID) (missed uint64) {
	for i, h := range hashes {
		b := t.first(h)
		m := match(&t.all[b].line, h)
		hints[i] = slot(b, m)
		if m == 0 {
			hints[i] = None
			missed |= 1 << (i & 63)
		}
	}
	return missed
}

// lookSecond is findSecond without help from the processor: it gives the hints of the flows whose
// bits are set by their second buckets, and a bit for each that is not there.
func (t *Table) lookSecond(s *Search, set uint64) (absent uint64) {
	for ; set != 0; set &= set - 1 {
		i := bits.TrailingZeros64(set) & (Batch - 1)
		b := t.second(s.Hashes[i])
		m := match(&t.all[b].line, s.Hashes[i])
		s.Hints[i] = slot(b, m)
		if m == 0 {
			s.Hints[i] = None
			absent |= 1 << i
		}
	}
	return absent
}

// match has a bit set for each slot of a bucket whose tag is that of a hash; slot tells of which.
// Neither has a branch: which slot it is nobody can foretell.
func match(l *line, h Hash) uint64 {
	want := uint64(tagOf(h)) * lanes
	return zeroLanes(l.tags[0]^want)>>3 | zeroLanes(l.tags[1]^want)>>2 | zeroLanes(l.tags[2]^want)>>1 | zeroLanes(l.tags[3]^want)
}

// slot is the slot of the lowest bit of a match in bucket b, which has one: bit 16*n+12+w is lane n
// of word w.
func slot(b, match uint64) ID {
	at := uint64(bits.TrailingZeros64(match))
	return ID(b*bucketSlots + at&3*4 + at>>4)
}

// Known6 is Known for a flow from an IPv6 client, whose whole address it is given.
func (t *Table) Known6(s *Short, client *frame.Addr, hint ID) *Entry {
	b := uint64(hint / bucketSlots)
	if b >= uint64(len(t.all)) {
		return nil
	}
	e := &t.all[b].entries[hint%bucketSlots]
	if e.ident != s.ident || e.vip != s.vip || e.kind != s.kind || e.Flags&V6 == 0 || t.ext[hint] != *client || int32(e.deadline-t.now) <= 0 {
		return nil
	}
	return e
}

// Known returns the flow of key s if it is in the slot that the hint names and its deadline is
// still to come, else nil: then only Lookup knows. A pointer to an Entry is valid until the entry
// is deleted.
func (t *Table) Known(s *Short, hint ID) *Entry {
	b := uint64(hint / bucketSlots)
	if b >= uint64(len(t.all)) {
		return nil
	}
	e := &t.all[b].entries[hint%bucketSlots]
	if e.ident != s.ident || e.vip != s.vip || e.kind != s.kind || int32(e.deadline-t.now) <= 0 {
		return nil
	}
	return e
}
