package flow

import "shunt/forwarder/frame"

// fetchLines asks the memory for the lines of the first buckets of all these hashes, and does not wait for it.
func (t *Table) fetchLines(hashes []Hash) uint64 {
	if len(hashes) > 0 {
		prefetchLines(&t.lines[0], t.buckets, &hashes[0], len(hashes))
	}
	return 0
}

// fetchEntries asks the memory for all these entries, and does not wait for it.
func (t *Table) fetchEntries(ids []ID) uint64 {
	if len(ids) > 0 {
		prefetchEntries(&t.entries[0], &ids[0], len(ids))
	}
	return 0
}

// fetchClients asks the memory for the clients' IPv6 addresses of all these entries, and does not wait for it.
func (t *Table) fetchClients(ids []ID) uint64 {
	if len(ids) > 0 {
		prefetchClients(&t.ext[0], &ids[0], len(ids))
	}
	return 0
}

//go:noescape
func prefetchLines(lines *line, buckets uint64, hashes *Hash, n int)

//go:noescape
func prefetchEntries(entries *Entry, ids *ID, n int)

//go:noescape
func prefetchClients(ext *frame.Addr, ids *ID, n int)
