package scheduler

// sh chooses by a hash of the client's address, and of its port if asked to, from a table that the
// destinations fill by their weights; one of weight 0 still takes one place in each round, and the
// clients that hit it have no destination. Source: net/netfilter/ipvs/ip_vs_sh.c.
type sh struct {
	stateless
	pool
	flags Flags
	table *[hashSize]int32
}

func newSH(opt Options, list []Destination) (Scheduler, error) {
	s := &sh{pool: newPool(list), flags: opt.Flags, table: new([hashSize]int32)}
	if len(list) == 0 {
		return s, nil
	}
	at, given := 0, int32(0)
	for i := range s.table {
		s.table[i] = int32(at)
		if given++; given >= list[at].Weight {
			given = 0
			at = (at + 1) % len(list)
		}
	}
	return s, nil
}

func (*sh) Name() string      { return "sh" }
func (s *sh) Fork() Scheduler { return s }

func (s *sh) Schedule(r *Request) int {
	if len(s.pool) == 0 {
		return None
	}
	key := fold(r.Client)
	if s.flags&Port != 0 {
		key += uint32(r.ClientPort)
	}
	h := hash32(key)
	if i := int(s.table[h]); s.usable(i) {
		return i
	}
	if s.flags&Fallback == 0 {
		return None
	}
	// The search starts at twice the hash, not behind it: ip_vs_sh_get_fallback adds the hash to
	// the offset, and ip_vs_sh_hashkey adds it again.
	for off := range uint32(hashSize) {
		if i := int(s.table[(h+(off+h)%hashSize)%hashSize]); s.usable(i) {
			return i
		}
	}
	return None
}
