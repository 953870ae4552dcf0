package scheduler

// sed chooses the destination with the shortest expected delay: the least (active connections + 1) for its weight.
// Source: net/netfilter/ipvs/ip_vs_sed.c.
type sed struct {
	stateless
	pool
}

func newSED(_ Options, list []Destination) (Scheduler, error) { return &sed{pool: newPool(list)}, nil }

func (*sed) Name() string            { return "sed" }
func (s *sed) Fork() Scheduler       { return s }
func (s *sed) Schedule(*Request) int { return s.shortestDelay() }

// shortestDelay is sed's choice, which nq uses too.
func (p pool) shortestDelay() int {
	best, least, weight := None, int64(0), int64(0)
	for i := range p {
		c := &p[i]
		if c.weight <= 0 || !c.load.Available() {
			continue
		}
		cost, w := int64(c.load.Active())+1, int64(c.weight)
		if best == None || least*w > cost*weight {
			best, least, weight = i, cost, w
		}
	}
	return best
}
