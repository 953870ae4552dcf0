package flow

import (
	"math/bits"
	"time"
)

// roomy is how many free slots make a bucket roomy.
const roomy = 7

// place is the slot for a new flow that may live in these two buckets, or None if both are full:
// the first while it is roomy, then the emptier one. So a lookup finds 83 of 100 flows of a full
// table, and nearly all of one that is half full, in the first bucket that it looks at; and a table
// takes as many flows as if it took the emptier bucket each time.
func (t *Table) place(b1, b2 uint64) ID {
	f1 := t.free(b1)
	if f1 < roomy {
		if f2 := t.free(b2); f2 > f1 {
			return t.firstFree(b2)
		}
	}
	return t.firstFree(b1)
}

// Classes of entries, in the order in which they make room for a new flow. Within a class the one
// goes first that has been silent for the longest time. An entry of another class never makes room.
const (
	over     = iota // past its deadline
	single          // a datagram flow of one packet
	unproven        // see Proven: embryonic connections, flows of few packets, templates without a proven flow
	closing         // proven and silent for quiet: a flow that is closing or has few packets
	idle            // proven and silent for idleTime
	classes
)

// kept is the rank of what never makes room.
const kept = ^uint32(0)

const classShift = 29 // a rank is a class, and below it how little an entry has been silent

var (
	// quiet is how long a flow is silent that has no traffic at present.
	quiet = int32(Ticks(5 * time.Second))
	// idleTime is how long a proven flow keeps its place in a full table without a packet: as long
	// as in the kernel's drop_entry.
	idleTime = int32(Ticks(time.Minute))
)

// enough is how many flows of a bucket are unproven, or single datagrams, that the one silent
// longest has been so long enough: where there are fewer it may be a handshake, and the second
// bucket is asked for an older one.
const enough = 6

// fewPackets is up to how many packets a flow has few, as in the kernel's drop_entry.
const fewPackets = 8

// makeRoom frees a slot in one of two buckets, or returns None. Where victims of the first bucket
// are remembered, the next of them makes room.
func (t *Table) makeRoom(b1, b2 uint64, evict bool) ID {
	id := None
	if evict {
		id = t.recall(b1)
	}
	if id == None {
		id = t.victim(b1, b2, evict)
	}
	if id == None {
		return None
	}
	e := t.Entry(id)
	if int32(e.deadline-t.now) <= 0 {
		t.expire(id, e)
		return id
	}
	t.owner.Expire(id, e, true)
	t.count.Evicted++
	if b := uint64(id / bucketSlots); b != b1 {
		t.next[b] = 0
	}
	t.remove(id)
	return id
}

// victim is who makes room in one of two buckets: what is past its deadline, or if evict allows it
// the entry of the lowest rank, of the first bucket if that is over, a single datagram, or one of
// enough unproven ones; else of both. A rank needs the entries, which Search has fetched for the
// first bucket; it is known to nobody else, so that nothing has to be kept about it while frames
// pass. Those that come next in the first bucket are remembered for recall.
func (t *Table) victim(b1, b2 uint64, evict bool) ID {
	var all ranks
	best, loose := t.rankAll(b1, &all)
	if best.rank() < unproven<<classShift || loose >= enough {
		if evict {
			t.next[b1] = all.victims(best, loose, t.now)
		}
	} else if other, _ := t.rankAll(b2, &all); other.rank() < best.rank() {
		best, b1 = other, b2
	}
	if best.rank() == kept || !evict && best.rank()>>classShift != over {
		return None
	}
	return best.id(b1)
}

// A ranked is the rank of an entry, and in the lower 4 bits its slot in the bucket.
type ranked uint64

func (r ranked) rank() uint32   { return uint32(r >> 4) }
func (r ranked) id(b uint64) ID { return ID(b*bucketSlots + uint64(r&(bucketSlots-1))) }

// ranks are those of a bucket.
type ranks [bucketSlots]ranked

// rankAll ranks the entries of a bucket. The best makes room first; its rank is kept if none makes
// room. loose is how many are unproven, or single datagrams.
func (t *Table) rankAll(b uint64, all *ranks) (best ranked, loose int) {
	bk := &t.all[b]
	best = ranked(kept) << 4
	for i := range bk.entries {
		r := kept
		if uint16(bk.line.tags[i/4]>>(i%4*16)) != 0 {
			e := &bk.entries[i]
			if left := int32(e.deadline - t.now); left > 0 && e.Flags&Proven == 0 && e.kind < Template { // what a flood leaves
				loose++
				r = rankOf(unproven, t.silent(e, left))
				if e.kind == UDP && e.Packets <= 1 {
					r -= (unproven - single) << classShift
				}
			} else {
				r = t.rank(e)
			}
		}
		all[i] = ranked(r)<<4 | ranked(i)
		best = min(best, all[i])
	}
	return best, loose
}

// silent is how long a flow has been silent that has so much time left.
func (t *Table) silent(e *Entry, left int32) int32 {
	return t.spans[(e.kind&3)<<4|Kind(e.State&15)] - left
}

// rankOf is the rank of an entry of a class that has been silent for so many ticks.
func rankOf(class uint32, silent int32) uint32 {
	return class<<classShift | (1<<classShift - 1 - uint32(min(max(silent, 0), 1<<classShift-1)))
}

// rank is where an entry stands in the order in which entries make room.
func (t *Table) rank(e *Entry) uint32 {
	left := int32(e.deadline - t.now)
	if e.kind.IsTemplate() {
		switch {
		case e.Control > 0:
			return kept
		case left <= 0:
			return rankOf(over, -left)
		}
		return rankProof(e.Flags, false, int32(e.Packets)-left)
	}
	if left <= 0 {
		return rankOf(over, -left)
	}
	silent := t.silent(e, left)
	if e.kind == UDP && e.Packets <= 1 {
		return rankOf(single, silent)
	}
	return rankProof(e.Flags, e.Packets <= fewPackets || !e.open(), silent)
}

// rankProof is the rank of what is no single datagram: soon says that it does not wait for
// idleTime.
func rankProof(flags uint8, soon bool, silent int32) uint32 {
	switch {
	case flags&Proven == 0:
		return rankOf(unproven, silent)
	case soon && silent >= quiet:
		return rankOf(closing, silent)
	case silent >= idleTime:
		return rankOf(idle, silent)
	}
	return kept
}

// open reports whether a flow is neither beginning nor closing.
func (e *Entry) open() bool {
	switch e.kind {
	case TCP:
		return e.State == TCPEstablished || e.State == TCPCloseWait
	case SCTP:
		return e.State == SCTPEstablished
	}
	return true
}

// SetTimeouts tells the table the timeouts with which its flows are extended from now on, by which
// it tells how long a flow has been silent. After a change that is a guess until the flow's next
// packet.
func (t *Table) SetTimeouts(to *Timeouts) {
	before := t.spans
	for k := TCP; k <= SCTP; k++ {
		for s := range State(16) {
			t.spans[k<<4|Kind(s)] = int32(to.Of(k, s))
		}
	}
	if t.spans != before {
		clear(t.next)
	}
}

func (t *Table) free(b uint64) (n int) {
	for _, w := range t.all[b].line.tags {
		n += bits.OnesCount64(zeroLanes(w))
	}
	return n
}

func (t *Table) firstFree(b uint64) ID {
	for i, w := range t.all[b].line.tags {
		if m := zeroLanes(w); m != 0 {
			return ID(b*bucketSlots + uint64(i*4) + uint64(bits.TrailingZeros64(m))/16)
		}
	}
	return None
}
