package scheduler

// twos takes two destinations at random, by their weights, and of them the one with less overhead
// for its weight. Source: net/netfilter/ipvs/ip_vs_twos.c; Mitzenmacher, The Power of Two Choices,
// 1996.
type twos struct {
	ranked
	random uint64
}

func newTwos(opt Options, list []Destination) (Scheduler, error) {
	return &twos{ranked: newRanked(byShare, list), random: opt.Seed*2 + 1}, nil
}

func (*twos) Name() string { return "twos" }

// Fork gives the other worker other random numbers.
func (s *twos) Fork() Scheduler {
	s.random += 0x9e3779b97f4a7c15
	return &twos{ranked: s.fork(), random: s.random ^ 0x6a09e667f3bcc909}
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
	for i := range s.runs {
		s.refresh(&s.runs[i])
		total += s.runs[i].sum
	}
	if total == 0 {
		return None
	}
	// Both 0 and total are drawn, as in the kernel: the first is drawn a little more often.
	c1 := s.at(int64(s.next() % uint64(total+1)))
	c2 := s.at(int64(s.next() % uint64(total+1)))
	if c1 == None || c2 == None {
		return max(c1, c2) // another worker has overloaded one in between
	}
	w1, w2 := int64(s.pool[c1].weight), int64(s.pool[c2].weight)
	if w2*overhead(s.pool[c1].load) > w1*overhead(s.pool[c2].load) {
		return c2
	}
	return c1
}

// at returns the first usable destination at which the weights add up to r.
func (s *twos) at(r int64) int {
	for i := range s.runs {
		n := &s.runs[i]
		if n.sum == 0 || r > n.sum {
			r -= n.sum
			continue
		}
		for j := n.lo; j < n.hi; j++ {
			if !s.usable(j) {
				continue
			}
			if r -= int64(s.pool[j].weight); r <= 0 {
				return j
			}
		}
	}
	return None
}
