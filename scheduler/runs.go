package scheduler

import "sync/atomic"

// The schedulers that look for the least of something would have to look at every destination for
// every flow. They cut the list into runs instead, remember what each run has to offer, and look at
// a run again only when a Load in it has changed: between two flows only a few have. What they
// choose is what a walk over the whole list would: the first in the list of the best.

// runLength is how many destinations share a note of their changes.
const runLength = 32

// A group is what Loads of one run have in common.
type group struct {
	watched atomic.Bool   // a scheduler looks at the version
	version atomic.Uint32 // goes up with each change of a Load while it is watched
	used    int
}

// Loads creates Loads. Loads created in sequence share a note of their changes, which lets
// schedulers skip unchanged ones. A Loads belongs to one control plane. A Load created without it
// works as well, but it is examined each time, because its changes are not noted.
type Loads struct{ last *group }

// New returns a Load without connections.
func (a *Loads) New() *Load {
	if a.last == nil || a.last.used == runLength {
		a.last = new(group)
	}
	a.last.used++
	return &Load{group: a.last}
}

// measure is what a scheduler looks for.
type measure uint8

const (
	byOverhead         measure = iota // lc
	byWeightedOverhead                // wlc
	byDelay                           // sed
	byWeight                          // fo
	byRoom                            // ovf
	byShare                           // twos
)

// A run is a piece of the list whose Loads are of one group, and what was found there.
type run struct {
	lo, hi int
	group  *group // nil: always to be looked at
	seen   uint32
	known  bool

	best   int   // of the run, or None; the cost is cost/weight
	idle   int   // the first without active connections, or None (sed)
	slack  bool  // somebody has less than half as many active connections as its weight (wlc)
	cost   int64 // of the best
	weight int64 // by which the cost is divided
	sum    int64 // of the usable weights (twos)
}

// ranked is a pool with its runs. The runs belong to one instance.
type ranked struct {
	pool
	by   measure
	runs []run
}

func newRanked(by measure, list []Destination) ranked {
	r := ranked{pool: newPool(list), by: by}
	for i := range list {
		g := list[i].Load.group
		if g != nil {
			g.watched.Store(true) // before the first look: what changed until now is seen then
		}
		if n := len(r.runs); n > 0 && r.runs[n-1].group == g && i-r.runs[n-1].lo < runLength {
			r.runs[n-1].hi = i + 1
		} else {
			r.runs = append(r.runs, run{lo: i, hi: i + 1, group: g})
		}
	}
	return r
}

// fork is the same with runs of its own.
func (r *ranked) fork() ranked {
	return ranked{r.pool, r.by, append([]run(nil), r.runs...)}
}

// refresh looks at a run again if it has changed.
func (r *ranked) refresh(n *run) {
	if n.group != nil {
		// Read before the Loads: a change in the midst of it is seen the next time.
		v := n.group.version.Load()
		if n.known && v == n.seen {
			return
		}
		n.seen, n.known = v, true
	}
	n.best, n.idle, n.slack, n.sum = None, None, false, 0
	for i := n.lo; i < n.hi; i++ {
		c := &r.pool[i]
		if r.by == byWeightedOverhead && c.load.Active()*2 < c.weight {
			n.slack = true // also of one that cannot be chosen, as in the kernel
		}
		if c.weight <= 0 || !c.load.Available() {
			continue
		}
		var cost, weight int64
		switch r.by {
		case byOverhead:
			cost, weight = overhead(c.load), int64(c.ramp)
		case byWeightedOverhead:
			cost, weight = overhead(c.load), int64(c.weight)*int64(c.ramp)
		case byDelay:
			active := c.load.Active()
			cost, weight = int64(active)+1, int64(c.weight)*int64(c.ramp)
			if active == 0 && n.idle == None {
				n.idle = i
			}
		case byWeight:
			cost, weight = -int64(c.weight), 1
		case byRoom:
			if c.load.Active() > c.weight {
				continue
			}
			cost, weight = -int64(c.weight), 1
		case byShare:
			n.sum += int64(c.weight)
			continue
		}
		if n.best == None || n.cost*weight > cost*n.weight {
			n.best, n.cost, n.weight = i, cost, weight
		}
	}
}

// first returns the first in the list of those with the least cost for their weight, or None.
func (r *ranked) first() int {
	best, cost, weight := None, int64(0), int64(0)
	for i := range r.runs {
		n := &r.runs[i]
		r.refresh(n)
		if n.best != None && (best == None || cost*n.weight > n.cost*weight) {
			best, cost, weight = n.best, n.cost, n.weight
		}
	}
	return best
}

// least is a scheduler of which nothing is to be said but what it looks for.
type least struct {
	stateless
	ranked
	name string
}

func newLeast(name string, by measure, list []Destination) (Scheduler, error) {
	return &least{ranked: newRanked(by, list), name: name}, nil
}

func (s *least) Name() string          { return s.name }
func (s *least) Fork() Scheduler       { return &least{ranked: s.fork(), name: s.name} }
func (s *least) Schedule(*Request) int { return s.first() }
