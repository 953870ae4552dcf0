package scheduler

import (
	"net/netip"
	"time"
)

// lblc, locality-based least connections, keeps to one destination for each virtual address, and
// leaves it for wlc's choice when it has more active connections than its weight while another has
// less than half. Overload by threshold does not make it leave. It is of use for transparent
// caches, where virtual addresses are many. Source: net/netfilter/ipvs/ip_vs_lblc.c.
type lblc struct {
	ranked
	cache localities
}

func newLBLC(opt Options, list []Destination) (Scheduler, error) {
	return &lblc{ranked: newRanked(byWeightedOverhead, list), cache: newLocalities(opt)}, nil
}

func (*lblc) Name() string { return "lblc" }

func (s *lblc) Fork() Scheduler {
	return &lblc{ranked: s.fork(), cache: newLocalities(Options{Expiration: s.cache.expiration})}
}

// Take keeps the cache; what became of its destinations is looked up anew.
func (s *lblc) Take(prev Scheduler) {
	old, ok := prev.(*lblc)
	if !ok {
		return
	}
	expiration := s.cache.expiration
	s.cache = old.cache
	s.cache.expiration = expiration
	for i := range s.cache.slots {
		e := &s.cache.slots[i]
		e.index = s.pool.index(e.dest)
	}
}

func (s *lblc) Schedule(r *Request) int {
	e := s.cache.get(r)
	if e.used && e.index != None && s.pool[e.index].weight > 0 && !s.pool[e.index].load.Unreachable() && !s.strained(e.index) {
		return e.index
	}
	i := s.first()
	if i != None {
		e.used, e.index, e.dest = true, i, s.pool[i].id
	}
	return i
}

// strained reports whether destination i has more active connections than its weight while another
// has less than half (is_overloaded).
func (r *ranked) strained(i int) bool {
	if r.pool[i].load.Active() <= r.pool[i].weight {
		return false
	}
	for j := range r.runs {
		if r.refresh(&r.runs[j]); r.runs[j].slack {
			return true
		}
	}
	return false
}

// localitySlots is the size of the cache (IP_VS_LBLC_TAB_SIZE). Where the kernel keeps chains and
// sweeps what is old, two addresses that meet in one slot take it from each other, once it is not
// fresh any more.
const localitySlots = 1024

// defaultExpiration is lblc_expiration and lblcr_expiration of net.ipv4.vs.
const defaultExpiration = int64(24 * time.Hour)

// localities is a cache of fixed size from virtual addresses to destinations.
type localities struct {
	slots      []locality
	expiration int64
}

type locality struct {
	virtual netip.Addr
	used    bool
	dest    uint32
	index   int
	touched int64
}

func newLocalities(opt Options) localities {
	c := localities{slots: make([]locality, localitySlots), expiration: opt.Expiration}
	if c.expiration == 0 {
		c.expiration = defaultExpiration
	}
	return c
}

// get returns the entry of the request's virtual address, empty if there is none: of four
// neighbouring slots that of the address, or a free one, or the one that was unused for longest.
func (c *localities) get(r *Request) *locality {
	h := r.Now
	at := fold(r.Virtual) * 0x61c88647 >> 22
	var best *locality
	for i := range uint32(4) {
		e := &c.slots[(at+i)%localitySlots]
		if e.virtual == r.Virtual {
			if h-e.touched > c.expiration {
				e.used = false
			}
			e.touched = h
			return e
		}
		if best == nil || e.touched < best.touched {
			best = e
		}
	}
	*best = locality{virtual: r.Virtual, touched: h, index: None}
	return best
}
