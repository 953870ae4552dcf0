package flow

import (
	"math/bits"

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

// findFirst gives the hints of these hashes by their first buckets, and a bit for each that is not
// there. It asks the memory for the entries.
func (t *Table) findFirst(_ *Search, hashes []Hash, hints []ID) (missed uint64) {
	if len(hashes) == 0 || len(hints) < len(hashes) {
		return 0
	}
	return searchLines(t, &hashes[0], &hints[0], len(hashes))
}

// fetchSeconds asks the memory for the lines of the second buckets of the hashes whose bits are
// set.
func (t *Table) fetchSeconds(hashes []Hash, set uint64) uint64 {
	prefetchSeconds(t, &hashes[0], set)
	return 0
}

// findSecond gives the hints of the flows whose bits are set by their second buckets, and a bit for
// each that is not there. It asks the memory for the entries.
func (t *Table) findSecond(s *Search, set uint64) (absent uint64) {
	return searchSeconds(t, &s.Hashes[0], &s.Hints[0], set)
}

// fetchBucket asks the memory for all entries of a bucket.
func (t *Table) fetchBucket(b uint64) uint64 {
	prefetchBucket(&t.all[b])
	return 0
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

//go:noescape
func prefetchBucket(b *bucket)

//go:noescape
func prefetchEntries(t *Table, ids *ID, set uint64)

//go:noescape
func prefetchClient(a *frame.Addr)
