//go:build !amd64

package flow

import "math/bits"

// fetchLines reads the lines of the first buckets of all these hashes. The loop is short, so that the processor has many of
// the reads under way at once. The result means nothing, but has to be used for the reads to happen.
func (t *Table) fetchLines(hashes []Hash) (read uint64) {
	lines, buckets := t.lines, t.buckets
	for _, h := range hashes {
		b, _ := bits.Mul64(uint64(h), buckets)
		read += lines[b].tags[0]
	}
	return read
}

// fetchEntries does the same with entries.
func (t *Table) fetchEntries(ids []ID) uint64 { return t.touch(ids) }

// fetchClients does the same with the clients' IPv6 addresses of entries.
func (t *Table) fetchClients(ids []ID) (sum uint64) {
	last := ID(len(t.ext) - 1)
	for _, id := range ids {
		sum += t.ext[min(id, last)].Lo
	}
	return sum
}
