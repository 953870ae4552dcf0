//go:build !amd64

package flow

import "math/bits"

// To ask the memory for something is to read it here: a processor goes on while it waits, as long
// as there are few instructions in between. What is read means nothing, but has to be used for the
// reads to happen.

// fetchLines asks the memory for the lines of the first buckets of these hashes.
func (t *Table) fetchLines(hashes []Hash) (read uint64) {
	for _, h := range hashes {
		read += t.all[t.first(h)].line.tags[0]
	}
	return read
}

// findFirst gives the hints of these hashes by their first buckets, and a bit for each that is not
// there. It asks the memory for the entries.
func (t *Table) findFirst(s *Search, hashes []Hash, hints []ID) (missed uint64) {
	missed = t.lookFirst(hashes, hints)
	s.read += t.touch(hints)
	return missed
}

// fetchSeconds asks the memory for the lines of the second buckets of the hashes whose bits are
// set.
func (t *Table) fetchSeconds(hashes []Hash, set uint64) (read uint64) {
	for ; set != 0; set &= set - 1 {
		read += t.all[t.second(hashes[bits.TrailingZeros64(set)])].line.tags[0]
	}
	return read
}

// findSecond gives the hints of the flows whose bits are set by their second buckets, and a bit for
// each that is not there. It asks the memory for the entries.
func (t *Table) findSecond(s *Search, set uint64) (absent uint64) {
	absent = t.lookSecond(s, set)
	s.read += t.fetchEntries(&s.Hints, set)
	return absent
}

// fetchBucket asks the memory for all entries of a bucket.
func (t *Table) fetchBucket(b uint64) (read uint64) {
	for i := 0; i < bucketSlots; i += 2 { // two entries are a cache line
		read += uint64(t.all[b].entries[i].deadline)
	}
	return read
}

// fetchEntries asks the memory for the entries whose bits are set.
func (t *Table) fetchEntries(ids *[Batch]ID, set uint64) (read uint64) {
	last := ID(t.Slots() - 1)
	for ; set != 0; set &= set - 1 {
		read += uint64(t.Entry(min(ids[bits.TrailingZeros64(set)], last)).deadline)
	}
	return read
}

// fetchClients asks the memory for the clients' IPv6 addresses of the flows whose bits are set.
func (t *Table) fetchClients(s *Search, set uint64) (read uint64) {
	last := ID(len(t.ext) - 1)
	for ; set != 0; set &= set - 1 {
		read += t.ext[min(s.slot(bits.TrailingZeros64(set)), last)].Lo
	}
	return read
}
