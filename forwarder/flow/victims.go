package flow

// To rank the entries of a bucket is to read all of it. So the scan also remembers the few that
// make room after the first. In a flood most new flows then cost the reading of one entry. The
// remembered ones are of one class, single or unproven, and are the first of it in their order.
// They stay the first: an entry with a packet goes behind them, and a new entry comes behind them.
// What could put another entry before them, or leave too few behind them, forgets them:
//
//   - a new single datagram, if they are unproven (PutAt);
//   - the end of a template's last flow: from then on the template can make room (Delete);
//   - an entry that leaves the bucket without making room (Delete), because enough was counted
//     with it;
//   - other timeouts, by which silence is told (SetTimeouts).
//
// Two things wait for the next scan. An entry that runs out is left to the sweep. A flow that
// proves itself is still counted in enough: the one that makes room has been silent since before
// then.

// victims are the slots of those that make room next in a bucket, 4 bits each, the next one lowest;
// above them their number (3 bits), their class (1), and the tick at which they were ranked (12).
// With number 0 the rest means nothing.
type victims uint32

const (
	maxVictims   = 4
	victimSlots  = 1<<(4*maxVictims) - 1
	victimNumber = 4 * maxVictims
	victimClass  = victimNumber + 3
	victimTick   = victimClass + 1

	// victimTicks is how many ticks can be told apart. All victims are forgotten when they begin
	// anew, every 69 s.
	victimTicks = 1 << (32 - victimTick)
)

func (v victims) number() uint32 { return uint32(v) >> victimNumber & 7 }
func (v victims) class() uint32  { return single + uint32(v)>>victimClass&1 }

// next is the one that makes room first, of bucket b.
func (v victims) next(b uint64) ID { return ranked(v).id(b) }

// rest are those without the next, which there must be.
func (v victims) rest() victims { return (v&^victimSlots | v&victimSlots>>4) - 1<<victimNumber }

// age is how many ticks ago they were ranked.
func (v victims) age(now uint32) uint32 { return now%victimTicks - uint32(v>>victimTick) }

// victims are those that make room after best. Of unproven ones there are no more than leave enough
// in the bucket. One that had a packet in this very tick is none, because another in the same tick
// would not show.
func (all *ranks) victims(best ranked, loose int, now uint32) victims {
	class, most := best.rank()>>classShift, maxVictims
	switch class {
	case single:
	case unproven:
		most = min(most, loose-enough)
	default:
		return 0
	}
	v, n := victims(0), 0
	for ; n < most; n++ {
		if best = all.after(best); best.rank() >= rankOf(class, 0) {
			break
		}
		v |= victims(best&(bucketSlots-1)) << (4 * n)
	}
	return v | victims(n)<<victimNumber | victims(class-single)<<victimClass | victims(now%victimTicks)<<victimTick
}

// after is the next rank after r.
func (all *ranks) after(r ranked) ranked {
	r++
	least := ^ranked(0)
	for _, other := range all {
		least = min(least, other-r) // what is before r is far behind
	}
	return r + least
}

// recall is the next of the remembered victims of a bucket that has had no packet since, or None.
func (t *Table) recall(b uint64) ID {
	for v := t.next[b]; v.number() > 0; {
		id := v.next(b)
		rank, least := t.rank(t.Entry(id)), rankOf(v.class(), int32(v.age(t.now)))
		if v = v.rest(); rank>>classShift == v.class() && rank < least {
			t.next[b] = v
			return id
		}
		if rank>>classShift == over {
			break
		}
	}
	t.next[b] = 0
	return None
}
