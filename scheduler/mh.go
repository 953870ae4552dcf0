package scheduler

import (
	"fmt"
	"math/bits"
)

// mhTableSize is the size of the table that the kernel has by default
// (CONFIG_IP_VS_MH_TAB_INDEX=12).
const mhTableSize = 4093

// Keys of the two hashes (ip_vs_mh_state_alloc).
const (
	mhKey1 = 2654435761
	mhKey2 = 2654446892
)

// mh is Maglev hashing of the client's address, and of its port if asked to: a table in which each
// destination has its share by weight, and of which little changes when one goes. Weights are the
// last that were not 0, so that draining a destination does not move the others' clients. Source:
// net/netfilter/ipvs/ip_vs_mh.c; Eisenbud and others, Maglev, NSDI 2016.
type mh struct {
	stateless
	pool
	flags Flags
	table []int32
	size  uint32
}

func newMH(opt Options, list []Destination) (Scheduler, error) {
	size := opt.TableSize
	if size == 0 {
		size = mhTableSize
	}
	if size < 251 || size > 131071 || !prime(size) {
		return nil, fmt.Errorf("mh: a table of %d: its size must be a prime from 251 to 131071, such as 4093 or 65537", size)
	}
	if len(list) > size {
		return nil, fmt.Errorf("mh: %d realservers do not fit into a table of %d: raise its size", len(list), size)
	}
	return &mh{pool: newPool(list), flags: opt.Flags, size: uint32(size), table: maglev(list, uint32(size))}, nil
}

func prime(n int) bool {
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return n > 1
}

func (*mh) Name() string      { return "mh" }
func (s *mh) Fork() Scheduler { return s }

// maglev fills the table, or returns nil if there is nobody to fill it with (ip_vs_mh_permutate,
// ip_vs_mh_populate).
func maglev(list []Destination, size uint32) []int32 {
	type picker struct {
		at, skip uint32
		turns    int64
	}
	weights := make([]int32, len(list))
	for i := range list {
		weights[i] = list[i].LastWeight
	}
	step, top := levels(weights)
	top += step - 1
	if top <= 0 {
		return nil
	}
	shift := max(bits.Len64(uint64(top/step))-bits.Len32(size)/2, 0)
	pickers := make([]picker, len(list))
	for i, d := range list {
		key := fold(d.Addr) + uint32(d.Port)
		pickers[i] = picker{at: siphash13(key, mhKey1) % size, skip: siphash13(key, mhKey2)%(size-1) + 1}
		if d.LastWeight > 0 {
			pickers[i].turns = max(int64(d.LastWeight)/step>>shift, 1)
		}
	}
	table := make([]int32, size)
	for i := range table {
		table[i] = None
	}
	i, turns := 0, int64(0)
	for n := uint32(0); n < size; {
		p := &pickers[i]
		if p.turns < 1 {
			i = (i + 1) % len(pickers)
			continue
		}
		for table[p.at] != None {
			p.at = (p.at + p.skip) % size
		}
		table[p.at] = int32(i)
		n++
		if turns++; turns >= p.turns {
			turns = 0
			i = (i + 1) % len(pickers)
		}
	}
	return table
}

func (s *mh) Schedule(r *Request) int {
	if s.table == nil {
		return None
	}
	key := fold(r.Client)
	if s.flags&Port != 0 {
		key += uint32(r.ClientPort)
	}
	h := siphash13(key, mhKey1)
	if i := int(s.table[h%s.size]); s.usable(i) {
		return i
	}
	if s.flags&Fallback == 0 {
		return None
	}
	for off := range s.size {
		if i := int(s.table[siphash13(key+(off+h)%s.size, mhKey1)%s.size]); s.usable(i) {
			return i
		}
	}
	return None
}
