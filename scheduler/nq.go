package scheduler

// nq, "never queue", chooses the first destination in the list without active connections, whatever
// its weight, and if there is none as sed does. Source: net/netfilter/ipvs/ip_vs_nq.c.
type nq struct {
	stateless
	ranked
}

func newNQ(_ Options, list []Destination) (Scheduler, error) {
	return &nq{ranked: newRanked(byDelay, list)}, nil
}

func (*nq) Name() string      { return "nq" }
func (s *nq) Fork() Scheduler { return &nq{ranked: s.fork()} }

func (s *nq) Schedule(*Request) int {
	for i := range s.runs {
		n := &s.runs[i]
		if s.refresh(n); n.idle != None {
			return n.idle
		}
	}
	return s.first()
}
