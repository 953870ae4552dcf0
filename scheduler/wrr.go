package scheduler

// wrr is weighted round robin by a level that sinks from the highest weight to the lowest: each
// pass over the list gives a turn to all whose weight reaches the level. Source:
// net/netfilter/ipvs/ip_vs_wrr.c.
//
// Each change of the list puts the cursor before the head again but keeps the level, so that a
// service that was built server by server begins with a pass at level 1: every server has one turn
// before the first descent.
type wrr struct {
	pool
	weights []int32 // of the pool, for fast passes
	changes []Change

	cursor         int // the last one chosen, or None: before the head
	level          int64
	step, greatest int64 // gcd of the weights; the highest level
}

func newWRR(_ Options, list []Destination) (Scheduler, error) {
	s := &wrr{pool: newPool(list), cursor: None, weights: make([]int32, len(list))}
	for i := range list {
		s.weights[i] = list[i].Weight
	}
	s.step, s.greatest = levels(s.weights)
	s.level = s.greatest
	return s, nil
}

func (*wrr) Name() string            { return "wrr" }
func (s *wrr) follow(steps []Change) { s.changes = steps }
func (s *wrr) Fork() Scheduler       { c := *s; return &c }

// levels returns the greatest common divisor of the positive weights (1 if there is none), which is
// the step from level to level, and the highest level.
func levels(weights []int32) (step, greatest int64) {
	var top int64
	for _, w := range weights {
		if w > 0 {
			step = gcd(step, int64(w))
			top = max(top, int64(w))
		}
	}
	step = max(step, 1)
	return step, top - (step - 1)
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (s *wrr) Schedule(*Request) int {
	if s.greatest <= 0 {
		return None
	}
	start, at := s.cursor, s.cursor
	restarted, last := false, false
	for {
		for at++; at < len(s.weights); at++ {
			if int64(s.weights[at]) >= s.level && s.pool[at].load.Available() {
				s.cursor = at
				return at
			}
			if last && at == start {
				s.cursor = at
				return None
			}
		}
		at = None
		s.sink()
		if s.level <= 0 {
			s.level = s.greatest
			if last || start == None {
				// A whole pass over all weights of 1 and more has found nobody.
				s.cursor = None
				return None
			}
			restarted = true
		}
		last = restarted && s.level <= s.step
	}
}

// sink lowers the level by one step, or by as many as lead to a pass that can find somebody, which
// comes to the same.
func (s *wrr) sink() {
	s.level -= s.step
	if s.level <= s.step {
		return
	}
	var best int64
	for i, w := range s.weights {
		if w := int64(w); w > best && s.pool[i].load.Available() {
			if best = w; w >= s.level {
				return
			}
		}
	}
	// The lowest level, at which the search ends, is always stopped at.
	if skip := (s.level - max(best, 1) + s.step - 1) / s.step; skip > 0 {
		lowest := (s.level-1)%s.step + 1
		s.level = max(s.level-skip*s.step, lowest)
	}
}

// Take goes through the changes one by one, as each of them sets cursor and level
// (ip_vs_wrr_dest_changed).
func (s *wrr) Take(prev Scheduler) {
	weights := map[uint32]int32{}
	if old, ok := prev.(*wrr); ok {
		for i := range old.pool {
			weights[old.pool[i].id] = old.pool[i].weight
		}
		s.level, s.cursor = old.level, None
		if len(s.changes) == 0 && len(old.pool) == len(s.pool) {
			s.cursor = old.cursor
		}
	} else {
		for i := range s.pool {
			weights[s.pool[i].id] = s.pool[i].weight
		}
		for i := len(s.changes) - 1; i >= 0; i-- {
			switch c := s.changes[i]; c.Op {
			case Add:
				delete(weights, c.ID)
			default:
				weights[c.ID] = c.Old
			}
		}
		_, s.level = levels(values(weights))
		s.cursor = None
	}
	for _, c := range s.changes {
		if c.Op == Remove {
			delete(weights, c.ID)
		} else {
			weights[c.ID] = c.Weight
		}
		step, greatest := levels(values(weights))
		switch {
		case s.level > greatest || s.level == 0:
			s.level = greatest
		case step > 1:
			s.level = s.level/step*step + 1
		}
		s.cursor = None
	}
	s.changes = nil
}

func values(m map[uint32]int32) []int32 {
	out := make([]int32, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}
