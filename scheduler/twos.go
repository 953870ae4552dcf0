package scheduler

// twos takes two destinations at random, by their weights, and of them the one with less overhead for its weight.
// Source: net/netfilter/ipvs/ip_vs_twos.c; Mitzenmacher, The Power of Two Choices, 1996.
type twos struct {
	stateless
	pool
	random uint64
}

func newTwos(opt Options, list []Destination) (Scheduler, error) {
	return &twos{pool: newPool(list), random: opt.Seed*2 + 1}, nil
}

func (*twos) Name() string { return "twos" }

// Fork gives the other worker other random numbers.
func (s *twos) Fork() Scheduler {
	s.random += 0x9e3779b97f4a7c15
	return &twos{pool: s.pool, random: s.random ^ 0x6a09e667f3bcc909}
}

// Take goes on with the sequence of random numbers.
func (s *twos) Take(prev Scheduler) {
	if old, ok := prev.(*twos); ok {
		s.random = old.random
	}
}

// next is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
func (s *twos) next() uint64 {
	s.random += 0x9e3779b97f4a7c15
	z := s.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (s *twos) Schedule(*Request) int {
	total := int64(0)
	for i := range s.pool {
		if s.usable(i) {
			total += int64(s.pool[i].weight)
		}
	}
	if total == 0 {
		return None
	}
	// Both 0 and total are drawn, as in the kernel: the first is drawn a little more often.
	r1, r2 := int64(s.next()%uint64(total+1)), int64(s.next()%uint64(total+1))
	c1, c2 := None, None
	for i := range s.pool {
		if !s.usable(i) {
			continue
		}
		w := int64(s.pool[i].weight)
		if r1 -= w; c1 == None && r1 <= 0 {
			c1 = i
		}
		if r2 -= w; c2 == None && r2 <= 0 {
			c2 = i
		}
	}
	if c1 == None || c2 == None {
		return max(c1, c2) // another worker has overloaded one in between
	}
	w1, w2 := int64(s.pool[c1].weight), int64(s.pool[c2].weight)
	if w2*overhead(s.pool[c1].load) > w1*overhead(s.pool[c2].load) {
		return c2
	}
	return c1
}
