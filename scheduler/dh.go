package scheduler

// dh chooses by a hash of the virtual address, from a table that the destinations fill in turn
// whatever their weight. If the one that is hit cannot take the flow, nobody does. Source:
// net/netfilter/ipvs/ip_vs_dh.c.
type dh struct {
	stateless
	pool
	table *[hashSize]int32
}

func newDH(_ Options, list []Destination) (Scheduler, error) {
	s := &dh{pool: newPool(list), table: new([hashSize]int32)}
	if len(list) > 0 {
		for i := range s.table {
			s.table[i] = int32(i % len(list))
		}
	}
	return s, nil
}

func (*dh) Name() string      { return "dh" }
func (s *dh) Fork() Scheduler { return s }

func (s *dh) Schedule(r *Request) int {
	if len(s.pool) == 0 {
		return None
	}
	if i := int(s.table[hash32(fold(r.Virtual))]); s.usable(i) {
		return i
	}
	return None
}
