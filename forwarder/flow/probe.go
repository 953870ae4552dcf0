package flow

// Probes says how entries lie in a part of a table. A lookup that has no hint reads the line of an
// entry's first bucket, and that of its second if it is not in the first.
type Probes struct {
	First, Second uint64 // entries in their first, and in their second bucket
	Buckets       uint64 // looked at
	Full          uint64 // of these, without a free slot
}

// Probes looks at n buckets from bucket start on, modulo their number, at most at all of them. It
// costs some 10 to 100 ns an entry, and like all methods belongs to the worker.
func (t *Table) Probes(start uint64, n int) (p Probes) {
	for i := range min(uint64(n), t.buckets) {
		b := (start + i) % t.buckets
		p.Buckets++
		if t.free(b) == 0 {
			p.Full++
		}
		for id := ID(b * bucketSlots); id < ID((b+1)*bucketSlots); id++ {
			if t.tag(id) == 0 || t.Entry(id).Flags&Invalid != 0 { // the latter is found by nobody
				continue
			}
			k := t.Key(id)
			if first, _, _ := t.where(t.Hash(&k)); first == b {
				p.First++
			} else {
				p.Second++
			}
		}
	}
	return p
}

// Mean is how many lines a lookup of an entry that is there reads, 1 to 2; 0 if there was no entry.
func (p Probes) Mean() float64 {
	if p.First+p.Second == 0 {
		return 0
	}
	return float64(p.First+2*p.Second) / float64(p.First+p.Second)
}
