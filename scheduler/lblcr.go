package scheduler

import (
	"net/netip"
	"slices"
)

// lblcr is lblc with replication: each virtual address has a set of destinations, which wlc's choice joins when the
// least loaded of them has too many connections, and which the most loaded leaves when the set was the same for a day.
// Source: net/netfilter/ipvs/ip_vs_lblcr.c.
type lblcr struct {
	pool
	expiration int64
	sets       map[netip.Addr]int // into members
	members    []replicas
}

// replicas is the set of one virtual address, newest first.
type replicas struct {
	ids      []uint32
	at       []int // their places in the pool, None for one that is not there now
	modified int64
}

func newLBLCR(opt Options, list []Destination) (Scheduler, error) {
	s := &lblcr{pool: newPool(list), expiration: opt.Expiration, sets: map[netip.Addr]int{}}
	if s.expiration == 0 {
		s.expiration = defaultExpiration
	}
	return s, nil
}

func (*lblcr) Name() string { return "lblcr" }

func (s *lblcr) Fork() Scheduler {
	return &lblcr{pool: s.pool, expiration: s.expiration, sets: map[netip.Addr]int{}}
}

// Take keeps the sets; those whose destination was removed wait for it to come back.
func (s *lblcr) Take(prev Scheduler) {
	old, ok := prev.(*lblcr)
	if !ok {
		return
	}
	s.sets, s.members = old.sets, old.members
	for i := range s.members {
		m := &s.members[i]
		for j, id := range m.ids {
			m.at[j] = s.pool.index(id)
		}
	}
}

// Schedule allocates only when a virtual address is seen for the first time, or a set grows beyond its room.
func (s *lblcr) Schedule(r *Request) int {
	n, known := s.sets[r.Virtual]
	if !known {
		i := s.leastWeighted()
		if i != None {
			s.sets[r.Virtual] = len(s.members)
			s.members = append(s.members, replicas{ids: make([]uint32, 0, 8), at: make([]int, 0, 8)})
			s.insert(&s.members[len(s.members)-1], i, r.Now)
		}
		return i
	}
	m := &s.members[n]
	i := s.least(m)
	if len(m.at) > 1 && r.Now-m.modified > s.expiration {
		s.drop(m, s.most(m), r.Now)
	}
	if i != None && !s.strained(i) {
		return i
	}
	if i = s.leastWeighted(); i != None && !slices.Contains(m.at, i) {
		s.insert(m, i, r.Now)
	}
	return i
}

func (s *lblcr) insert(m *replicas, i int, now int64) {
	m.at = slices.Insert(m.at, 0, i)
	m.ids = slices.Insert(m.ids, 0, s.pool[i].id)
	m.modified = now
}

func (s *lblcr) drop(m *replicas, place int, now int64) {
	if place == None {
		return
	}
	m.at = slices.Delete(m.at, place, place+1)
	m.ids = slices.Delete(m.ids, place, place+1)
	m.modified = now
}

// least returns the member of the set with the least overhead for its weight (ip_vs_dest_set_min).
func (s *lblcr) least(m *replicas) int {
	best, low := None, int64(0)
	for _, i := range m.at {
		if i == None || !s.usable(i) {
			continue
		}
		o := overhead(s.pool[i].load)
		if best == None || low*int64(s.pool[i].weight) > o*int64(s.pool[best].weight) {
			best, low = i, o
		}
	}
	return best
}

// most returns the place in the set of the member with the greatest overhead for its weight (ip_vs_dest_set_max).
func (s *lblcr) most(m *replicas) int {
	best, high := None, int64(0)
	for place, i := range m.at {
		if i == None || s.pool[i].weight <= 0 {
			continue
		}
		o := overhead(s.pool[i].load)
		if best == None || high*int64(s.pool[i].weight) < o*int64(s.pool[m.at[best]].weight) {
			best, high = place, o
		}
	}
	return best
}
