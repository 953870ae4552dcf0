package scheduler

import "fmt"

// Peek returns the index that s would choose for r now. The state of s does not change: neither
// cursors, caches nor random numbers. Peek is for explanations and may allocate. Only the worker
// that owns s may call it.
func Peek(s Scheduler, r *Request) int {
	switch s := s.(type) {
	case *rr:
		c := *s
		return c.Schedule(r)
	case *wrr:
		c := *s
		return c.Schedule(r)
	case *twos:
		c := *s
		return c.Schedule(r)
	case *lblc:
		c := *s
		c.cache.slots = append([]locality(nil), s.cache.slots...)
		return c.Schedule(r)
	case *lblcr:
		m := s.sets[r.Virtual]
		if m == nil {
			return s.first()
		}
		if i := s.leastOf(m); i != None && !s.strained(i) {
			return i
		}
		return s.first()
	}
	return s.Schedule(r) // it remembers nothing
}

// Reason describes the standing of destination i of s's list: why it cannot be chosen, or the value
// by which it is compared with the others.
func Reason(s Scheduler, i int) string {
	p := poolOf(s)
	if i < 0 || i >= len(p) {
		return ""
	}
	c := &p[i]
	active, inactive := c.load.Conns()
	upper, _ := c.load.Thresholds()
	switch {
	case c.weight <= 0:
		return "weight 0: it gets no new connections"
	case c.load.Unreachable():
		return "no host answers for its address: its MAC is unknown"
	case c.load.Overloaded():
		return fmt.Sprintf("overloaded: connections %d, upper threshold %d", active+inactive, upper)
	}
	switch s.Name() {
	case "rr":
		return "in turn"
	case "wrr":
		return fmt.Sprintf("in turn, weight %d", c.weight)
	case "lc":
		return fmt.Sprintf("overhead %d (active %d * 256 + inactive %d)", overhead(c.load), active, inactive)
	case "wlc", "lblc", "lblcr", "twos":
		return fmt.Sprintf("overhead %.4g (active %d * 256 + inactive %d, by weight %d)", float64(overhead(c.load))/float64(c.weight), active, inactive, c.weight)
	case "sed", "nq":
		return fmt.Sprintf("delay %.4g (active %d + 1, by weight %d)", float64(active+1)/float64(c.weight), active, c.weight)
	case "fo":
		return fmt.Sprintf("weight %d", c.weight)
	case "ovf":
		if active > c.weight {
			return fmt.Sprintf("full: active connections %d, weight %d", active, c.weight)
		}
		return fmt.Sprintf("room: active connections %d, weight %d", active, c.weight)
	case "sh", "mh":
		return "by the hash of the client"
	case "dh":
		return "by the hash of the VIP"
	}
	return ""
}

// poolOf is the list of a scheduler.
func poolOf(s Scheduler) pool {
	switch s := s.(type) {
	case *rr:
		return s.pool
	case *wrr:
		return s.pool
	case *least:
		return s.pool
	case *nq:
		return s.pool
	case *lblc:
		return s.pool
	case *lblcr:
		return s.pool
	case *twos:
		return s.pool
	case *dh:
		return s.pool
	case *sh:
		return s.pool
	case *mh:
		return s.pool
	}
	return nil
}
