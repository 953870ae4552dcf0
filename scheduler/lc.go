package scheduler

// lc chooses the destination with the least overhead, whatever its weight. Source: net/netfilter/ipvs/ip_vs_lc.c.
type lc struct {
	stateless
	pool
}

func newLC(_ Options, list []Destination) (Scheduler, error) { return &lc{pool: newPool(list)}, nil }

func (*lc) Name() string      { return "lc" }
func (s *lc) Fork() Scheduler { return s }

func (s *lc) Schedule(*Request) int {
	best, least := None, int64(0)
	for i := range s.pool {
		if !s.usable(i) {
			continue
		}
		if o := overhead(s.pool[i].load); best == None || o < least {
			best, least = i, o
		}
	}
	return best
}
