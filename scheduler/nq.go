package scheduler

// nq, "never queue", chooses the first destination in the list without active connections, whatever its weight, and if
// there is none as sed does. Source: net/netfilter/ipvs/ip_vs_nq.c.
type nq struct {
	stateless
	pool
}

func newNQ(_ Options, list []Destination) (Scheduler, error) { return &nq{pool: newPool(list)}, nil }

func (*nq) Name() string      { return "nq" }
func (s *nq) Fork() Scheduler { return s }

func (s *nq) Schedule(*Request) int {
	for i := range s.pool {
		if s.usable(i) && s.pool[i].load.Active() == 0 {
			return i
		}
	}
	return s.shortestDelay()
}
