package flow

import "math/bits"

// Batch is the largest number of flows that are looked up together.
const Batch = 64

// A Search is the first part of the lookup of many flows at once, as Process in shunt/forwarder does it. Memory is slow,
// but answers many questions at a time; so it is asked for all that a batch needs in loops that are short, have no branch
// that depends on what they read and, where the processor can be told so, do not wait. A lookup by itself would wait for each.
type Search struct {
	Hashes [Batch]Hash // of the flows; 0 for what is none
	Hints  [Batch]ID   // the answers, for Known and Lookup

	absent  uint64       // bit i is set if flow i is in neither of its buckets
	slots   [Batch]ID    // to be fetched: the hints, and where new flows will probably be
	clients [Batch]ID    // those of them that are of IPv6
	missed  [Batch]uint8 // places of the flows that are not where they are looked for first
	read    uint64       // what was read, which means nothing, but has to be used for the reads to happen
}

// Search fetches what the lookup of each of the first n hashes needs, and gives hints: the slot where the flow probably is,
// or None.
func (t *Table) Search(s *Search, n int) {
	n = min(n, Batch)
	lines, buckets := t.lines, t.buckets
	read := t.fetchLines(s.Hashes[:n])
	missed := 0
	s.absent = 0
	clear(t.marks[:])
	for i, h := range s.Hashes[:n] {
		b, _ := bits.Mul64(uint64(h), buckets)
		m := match(&lines[b], h)
		id := slot(b, m)
		s.Hints[i], s.slots[i] = id, id
		if m == 0 {
			s.missed[missed&(Batch-1)] = uint8(i)
			missed++
		}
	}
	if missed > 0 {
		read += t.searchSecond(s, s.missed[:missed])
	}
	s.read = read + t.fetchEntries(s.slots[:n])
}

// searchSecond looks in the second bucket for the flows that were not in their first.
func (t *Table) searchSecond(s *Search, places []uint8) (read uint64) {
	for _, i := range places {
		read += t.lines[t.second(s.Hashes[i&(Batch-1)])].tags[0]
	}
	for _, i := range places {
		i &= Batch - 1
		h := s.Hashes[i]
		b := t.second(h)
		m := match(&t.lines[b], h)
		id := None
		if m != 0 {
			id = slot(b, m)
		}
		s.Hints[i], s.slots[i] = id, id
		if m == 0 && h != 0 {
			s.absent |= 1 << i
			s.slots[i] = t.willPlace(t.first(h), b) // probably a new flow's
		}
	}
	return read
}

// Absent reports whether flow i of the last Search is certainly not in the table. If not, Lookup has to tell.
func (t *Table) Absent(s *Search, i int) bool {
	h := s.Hashes[i&(Batch-1)]
	return s.absent>>i&1 != 0 && t.untouched(t.first(h)) && t.untouched(t.second(h))
}

// spot is the slot that flow i of the last Search would get, as was found then, or None if it has to be looked for again.
func (t *Table) spot(s *Search, i int) ID {
	if s == nil || !t.Absent(s, i) {
		return None
	}
	return s.slots[i&(Batch-1)]
}

// marks has a bit set for each bucket that has changed since the last Search, and for others that share the bit.
type marks [64]uint64

func (t *Table) mark(b uint64)           { t.marks[b>>6%64] |= 1 << (b & 63) }
func (t *Table) untouched(b uint64) bool { return t.marks[b>>6%64]>>(b&63)&1 == 0 }

// touch reads a little of each of these entries.
func (t *Table) touch(ids []ID) (sum uint64) {
	entries := t.entries
	last := ID(len(entries) - 1)
	for _, id := range ids {
		sum += uint64(entries[min(id, last)].deadline) // None reads the last entry
	}
	return sum
}

// match has a bit set for each slot of a bucket whose tag is that of a hash; slot tells of which. Neither has a branch:
// which slot it is nobody can foretell.
func match(l *line, h Hash) uint64 {
	want := uint64(tagOf(h)) * lanes
	return zeroLanes(l.tags[0]^want)>>3 | zeroLanes(l.tags[1]^want)>>2 | zeroLanes(l.tags[2]^want)>>1 | zeroLanes(l.tags[3]^want)
}

// slot is the slot of the lowest bit of a match in bucket b, which has one: bit 16*n+12+w is lane n of word w.
func slot(b, match uint64) ID {
	at := uint64(bits.TrailingZeros64(match))
	return ID(b*bucketSlots + at&3*4 + at>>4)
}

// SearchClients fetches, after a Search of n flows, what is compared besides, or written, where the clients are of IPv6: their
// whole addresses. Bit i of six is set for those flows.
func (t *Table) SearchClients(s *Search, n int, six uint64) {
	n = min(n, Batch)
	ids := s.slots[:n]
	if bits.OnesCount64(six) < n {
		ids = s.clients[:0]
		for ; six != 0; six &= six - 1 {
			ids = append(ids, s.slots[bits.TrailingZeros64(six)&(Batch-1)])
		}
	}
	s.read += t.fetchClients(ids)
}

// Known6 is Known for a flow from an IPv6 client.
func (t *Table) Known6(k *Key, hint ID) *Entry {
	if uint64(hint) >= uint64(len(t.entries)) {
		return nil
	}
	e := &t.entries[hint]
	if e.ident != k.ident() || e.vip != k.VIP || e.kind != k.Kind || e.Flags&V6 == 0 || t.ext[hint] != k.Client || int32(e.deadline-t.now) <= 0 {
		return nil
	}
	return e
}

// Known returns the flow of key s if it is in the slot that the hint names and its deadline is still to come, else nil:
// then only Lookup knows. A pointer to an Entry is valid until the entry is deleted.
func (t *Table) Known(s *Short, hint ID) *Entry {
	if uint64(hint) >= uint64(len(t.entries)) {
		return nil
	}
	e := &t.entries[hint]
	if e.ident != s.ident || e.vip != s.vip || e.kind != s.kind || int32(e.deadline-t.now) <= 0 {
		return nil
	}
	return e
}
