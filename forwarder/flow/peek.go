package flow

// HasRoom reports whether Put would find a place for a flow of hash h, without making one.
func (t *Table) HasRoom(h Hash, evict bool) bool {
	b1, b2, _ := t.where(h)
	return t.used < t.capacity && t.place(b1, b2) != None || t.victim(b1, b2, evict) != None
}
