package flow

import (
	"math/bits"

	"golang.org/x/sys/cpu"

	"shunt/forwarder/frame"
)

// What is asked for here comes when it comes: none of these functions waits for it.

// fetchLines asks the memory for the lines of the first buckets of these hashes.
func (t *Table) fetchLines(hashes []Hash) uint64 {
	if len(hashes) > 0 {
		prefetchLines(t, &hashes[0], len(hashes))
	}
	return 0
}

// findFirst gives the hints of these hashes by their first buckets, and a bit for each that is not there. It asks the memory for
// the entries.
func (t *Table) findFirst(_ *Search, hashes []Hash, hints []ID) (missed uint64) {
	if len(hashes) == 0 || len(hints) < len(hashes) {
		return 0
	}
	return searchLines(t, &hashes[0], &hints[0], len(hashes))
}

// fetchSeconds asks the memory for the lines of the second buckets of the hashes whose bits are set.
func (t *Table) fetchSeconds(hashes []Hash, set uint64) uint64 {
	prefetchSeconds(t, &hashes[0], set)
	return 0
}

// findSecond gives the hints of the flows whose bits are set by their second buckets, and a bit for each that is not there. It
// asks the memory for the entries.
func (t *Table) findSecond(s *Search, set uint64) (absent uint64) {
	return searchSeconds(t, &s.Hashes[0], &s.Hints[0], set)
}

// soonest is the slot in use in a bucket that is due first, or None.
func (t *Table) soonest(b uint64) ID {
	if !cpu.X86.HasSSE41 {
		return t.lookSoonest(b)
	}
	return ID(b*bucketSlots) | leastDue(&t.all[b].line, uint16(t.now>>dueShift))
}

// fetchEntries asks the memory for the entries whose bits are set.
func (t *Table) fetchEntries(ids *[Batch]ID, set uint64) uint64 {
	prefetchEntries(t, &ids[0], set)
	return 0
}

// fetchClients asks the memory for the clients' IPv6 addresses of the flows whose bits are set.
func (t *Table) fetchClients(s *Search, set uint64) uint64 {
	for ; set != 0; set &= set - 1 {
		if id := s.slot(bits.TrailingZeros64(set)); uint64(id) < uint64(len(t.ext)) {
			prefetchClient(&t.ext[id])
		}
	}
	return 0
}

//go:noescape
func prefetchLines(t *Table, hashes *Hash, n int)

//go:noescape
func searchLines(t *Table, hashes *Hash, hints *ID, n int) (missed uint64)

//go:noescape
func prefetchSeconds(t *Table, hashes *Hash, set uint64)

//go:noescape
func searchSeconds(t *Table, hashes *Hash, hints *ID, set uint64) (absent uint64)

// leastDue is the place in its bucket of the slot in use that is due first, or None. It needs SSE4.1.
//
//go:noescape
func leastDue(l *line, now uint16) ID

//go:noescape
func prefetchEntries(t *Table, ids *ID, set uint64)

//go:noescape
func prefetchClient(a *frame.Addr)
