package flow

// HasRoom reports whether Put would find a place for a flow of hash h if extra other flows were put first, without making one.
func (t *Table) HasRoom(h Hash, extra int, evict bool) bool {
	b1, b2, _ := t.where(h)
	if t.used+extra < t.capacity && t.place(b1, b2) != None {
		return true
	}
	for _, b := range [2]uint64{b1, b2} {
		for i := range uint64(bucketSlots) {
			if id := ID(b*bucketSlots + i); t.InUse(id) && t.mayVacate(t.Entry(id), evict) {
				return true
			}
		}
	}
	return false
}

// mayVacate reports whether vacate would end e.
func (t *Table) mayVacate(e *Entry, evict bool) bool {
	if int32(e.deadline-t.now) <= 0 {
		return !(e.Control > 0 && e.kind.IsTemplate())
	}
	return evict && e.evictable()
}
