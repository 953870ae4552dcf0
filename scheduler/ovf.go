package scheduler

// ovf, overflow, fills the destination of the highest weight until it has more active connections than that, then the
// next. UDP is never active, so it never flows over. Source: net/netfilter/ipvs/ip_vs_ovf.c.
type ovf struct {
	stateless
	pool
}

func newOVF(_ Options, list []Destination) (Scheduler, error) { return &ovf{pool: newPool(list)}, nil }

func (*ovf) Name() string      { return "ovf" }
func (s *ovf) Fork() Scheduler { return s }

func (s *ovf) Schedule(*Request) int {
	best, highest := None, int32(0)
	for i := range s.pool {
		if w := s.pool[i].weight; w > highest && s.pool[i].load.Available() && s.pool[i].load.Active() <= w {
			best, highest = i, w
		}
	}
	return best
}
