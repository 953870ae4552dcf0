package scheduler

// fo, failover, chooses the usable destination of the highest weight, the first in the list of equal ones. Source:
// net/netfilter/ipvs/ip_vs_fo.c.
type fo struct {
	stateless
	pool
}

func newFO(_ Options, list []Destination) (Scheduler, error) { return &fo{pool: newPool(list)}, nil }

func (*fo) Name() string      { return "fo" }
func (s *fo) Fork() Scheduler { return s }

func (s *fo) Schedule(*Request) int {
	best, highest := None, int32(0)
	for i := range s.pool {
		if s.pool[i].weight > highest && s.pool[i].load.Available() {
			best, highest = i, s.pool[i].weight
		}
	}
	return best
}
