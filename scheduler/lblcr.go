package scheduler

import "net/netip"

// lblcr is lblc with replication: each virtual address has a set of destinations, which wlc's
// choice joins when the least loaded of them has too many connections, and which the most loaded
// leaves when the set was the same for a day. Source: net/netfilter/ipvs/ip_vs_lblcr.c.
type lblcr struct {
	ranked
	expiration int64
	sets       map[netip.Addr]*replicas
}

// replicas is the set of one virtual address. The kernel keeps it as a list, newest first, which
// decides between equals: here each member has the number of its joining, and the highest number
// wins.
type replicas struct {
	joined   []uint32 // by place in the pool; 0 is no member
	away     map[uint32]uint32
	runs     []run
	size     int
	last     uint32 // the highest number given
	modified int64  // when somebody joined or left
}

func newLBLCR(opt Options, list []Destination) (Scheduler, error) {
	s := &lblcr{ranked: newRanked(byWeightedOverhead, list), expiration: opt.Expiration, sets: map[netip.Addr]*replicas{}}
	if s.expiration == 0 {
		s.expiration = defaultExpiration
	}
	return s, nil
}

func (*lblcr) Name() string { return "lblcr" }

func (s *lblcr) Fork() Scheduler {
	return &lblcr{ranked: s.fork(), expiration: s.expiration, sets: map[netip.Addr]*replicas{}}
}

// Take keeps the sets; members that were removed wait for the day they come back.
func (s *lblcr) Take(prev Scheduler) {
	old, ok := prev.(*lblcr)
	if !ok {
		return
	}
	for addr, m := range old.sets {
		n := s.newSet()
		n.last, n.modified, n.away = m.last, m.modified, m.away
		for i, number := range m.joined {
			if number != 0 {
				n.away[old.pool[i].id] = number
			}
		}
		for i := range s.pool {
			if number := n.away[s.pool[i].id]; number != 0 {
				n.joined[i] = number
				n.size++
				delete(n.away, s.pool[i].id)
			}
		}
		s.sets[addr] = n
	}
}

func (s *lblcr) newSet() *replicas {
	m := &replicas{joined: make([]uint32, len(s.pool)), away: map[uint32]uint32{}, runs: append([]run(nil), s.runs...)}
	for i := range m.runs {
		m.runs[i].known = false
	}
	return m
}

// Schedule allocates only when a virtual address is seen for the first time.
func (s *lblcr) Schedule(r *Request) int {
	m := s.sets[r.Virtual]
	if m == nil {
		i := s.first()
		if i != None {
			m = s.newSet()
			s.sets[r.Virtual] = m
			m.join(i, r.Now)
		}
		return i
	}
	i := s.leastOf(m)
	if m.size > 1 && r.Now-m.modified > s.expiration {
		m.leave(s.mostOf(m), r.Now)
	}
	if i != None && !s.strained(i) {
		return i
	}
	if i = s.first(); i != None && m.joined[i] == 0 {
		m.join(i, r.Now)
	}
	return i
}

func (m *replicas) join(i int, now int64) {
	m.last++
	m.joined[i] = m.last
	m.size++
	m.changed(i, now)
}

func (m *replicas) leave(i int, now int64) {
	if i == None {
		return
	}
	m.joined[i] = 0
	m.size--
	m.changed(i, now)
}

// changed has the run of i looked at again.
func (m *replicas) changed(i int, now int64) {
	m.modified = now
	for j := range m.runs {
		if i < m.runs[j].hi {
			m.runs[j].known = false
			return
		}
	}
}

// leastOf returns the member of the set with the least overhead for its weight
// (ip_vs_dest_set_min).
func (s *lblcr) leastOf(m *replicas) int {
	best, cost, weight := None, int64(0), int64(0)
	for j := range m.runs {
		n := &m.runs[j]
		s.refreshSet(m, n)
		if n.best != None && (best == None || before(n.cost, n.weight, m.joined[n.best], cost, weight, m.joined[best])) {
			best, cost, weight = n.best, n.cost, n.weight
		}
	}
	return best
}

// before reports whether the first of two members comes before the second: by less cost for its
// weight, or because it joined later.
func before(cost1, weight1 int64, joined1 uint32, cost2, weight2 int64, joined2 uint32) bool {
	a, b := cost1*weight2, cost2*weight1
	return a < b || a == b && joined1 > joined2
}

// refreshSet is refresh for the members of a set.
func (s *lblcr) refreshSet(m *replicas, n *run) {
	if n.group != nil {
		v := n.group.version.Load()
		if n.known && v == n.seen {
			return
		}
		n.seen, n.known = v, true
	}
	n.best = None
	for i := n.lo; i < n.hi; i++ {
		if m.joined[i] == 0 || !s.usable(i) {
			continue
		}
		cost, weight := overhead(s.pool[i].load), int64(s.pool[i].weight)*int64(s.pool[i].ramp)
		if n.best == None || before(cost, weight, m.joined[i], n.cost, n.weight, m.joined[n.best]) {
			n.best, n.cost, n.weight = i, cost, weight
		}
	}
}

// mostOf returns the member of the set with the greatest overhead for its weight
// (ip_vs_dest_set_max).
func (s *lblcr) mostOf(m *replicas) int {
	best, cost, weight := None, int64(0), int64(0)
	for i, number := range m.joined {
		if number == 0 || s.pool[i].weight <= 0 {
			continue
		}
		o, w := overhead(s.pool[i].load), int64(s.pool[i].weight)
		a, b := o*weight, cost*w
		if best == None || a > b || a == b && number > m.joined[best] {
			best, cost, weight = i, o, w
		}
	}
	return best
}
