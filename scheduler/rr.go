package scheduler

// rr is round robin: the next usable destination after the last one chosen. Weights only matter if
// 0. Source: net/netfilter/ipvs/ip_vs_rr.c.
type rr struct {
	pool
	changes []Change
	cursor  int // the last one chosen, or None: before the head
}

func newRR(_ Options, list []Destination) (Scheduler, error) {
	return &rr{pool: newPool(list), cursor: None}, nil
}

func (*rr) Name() string            { return "rr" }
func (s *rr) follow(steps []Change) { s.changes = steps }
func (s *rr) Fork() Scheduler       { c := *s; return &c }

func (s *rr) Schedule(*Request) int {
	for i := s.cursor + 1; i < len(s.pool); i++ {
		if s.usable(i) {
			s.cursor = i
			return i
		}
	}
	for i := 0; i <= s.cursor; i++ {
		if s.usable(i) {
			s.cursor = i
			return i
		}
	}
	return None
}

// Take moves the cursor along: if its destination goes, it steps back to the one before.
func (s *rr) Take(prev Scheduler) {
	old, ok := prev.(*rr)
	if !ok {
		return
	}
	ids := make([]uint32, len(old.pool))
	for i := range old.pool {
		ids[i] = old.pool[i].id
	}
	at := old.cursor
	for _, c := range s.changes {
		switch c.Op {
		case Add:
			ids = append([]uint32{c.ID}, ids...)
			if at != None {
				at++
			}
		case Remove:
			for i, id := range ids {
				if id != c.ID {
					continue
				}
				ids = append(ids[:i], ids[i+1:]...)
				if i <= at {
					at--
				}
				break
			}
		}
	}
	s.changes = nil
	if at < len(s.pool) {
		s.cursor = at
	}
}
