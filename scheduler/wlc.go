package scheduler

// wlc chooses the destination with the least overhead for its weight; the first in the list of equal ones. Source:
// net/netfilter/ipvs/ip_vs_wlc.c.
type wlc struct {
	stateless
	pool
}

func newWLC(_ Options, list []Destination) (Scheduler, error) { return &wlc{pool: newPool(list)}, nil }

func (*wlc) Name() string            { return "wlc" }
func (s *wlc) Fork() Scheduler       { return s }
func (s *wlc) Schedule(*Request) int { return s.leastWeighted() }

// leastWeighted is wlc's choice, which lblc and lblcr use too.
func (p pool) leastWeighted() int {
	best, least, weight := None, int64(0), int64(0)
	for i := range p {
		c := &p[i]
		if c.weight <= 0 || !c.load.Available() {
			continue
		}
		o, w := overhead(c.load), int64(c.weight)
		if best == None || least*w > o*weight {
			best, least, weight = i, o, w
		}
	}
	return best
}
