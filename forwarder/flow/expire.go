package flow

import (
	"math/bits"
	"time"
)

const (
	tickShift = 24

	// Tick is the unit of deadlines: 2^24 ns, about 16.8 ms.
	Tick = time.Duration(1 << tickShift)

	dueShift = 2 // a due time is a deadline in units of 4 ticks

	// horizon is how far ahead a due time is set at most, a quarter of what 16 bits can tell apart:
	// 18 minutes. A later deadline is looked at again then. The sweep may be as late.
	horizon = 1 << 14

	// rearmed is the timeout of a template from the time on when it ran out while flows depended on
	// it, 60 s (ip_vs_conn_expire, net/netfilter/ipvs/ip_vs_conn.c).
	rearmed = 60e9>>tickShift + 1

	// groupBuckets buckets share the time at which the sweep must look at them.
	groupBuckets = 8
)

// Ticks converts a duration, rounding up so that nothing ends early. Negative durations are 0; the
// longest is a year.
func Ticks(d time.Duration) uint32 {
	const longest = 365 * 24 * time.Hour
	d = min(max(d, 0), longest)
	return uint32((int64(d) + 1<<tickShift - 1) >> tickShift)
}

// Now returns the time of the table, in ticks since its epoch.
func (t *Table) Now() uint32 { return t.now }

// unit is the time of the table without what due times do not tell apart.
func (t *Table) unit() uint32 { return t.now >> dueShift << dueShift }

// Remaining returns the time until the deadline of the entry in slot id; not less than 0.
func (t *Table) Remaining(id ID) time.Duration {
	return time.Duration(max(int32(t.Entry(id).deadline-t.now), 0)) << tickShift
}

// Extend sets the deadline of entry e in slot id to timeout ticks from now. It costs a store unless
// the deadline comes nearer, because the sweep looks at the deadline again when the old one has
// come.
func (t *Table) Extend(id ID, e *Entry, timeout uint32) {
	if d := t.now + timeout; int32(d-e.deadline) >= 0 {
		e.deadline = d
	} else {
		t.bringForward(id, e, d)
	}
}

func (t *Table) bringForward(id ID, e *Entry, deadline uint32) {
	t.arm(id, deadline)
	e.deadline = deadline
}

// Renew sets the deadline of template e in slot id to its own timeout from now: the one with which
// it was made, whatever has become of its service since, or 60 s once it has run out while flows
// depended on it.
func (t *Table) Renew(id ID, e *Entry) { t.Extend(id, e, e.Packets) }

// dueAt is the due time for a deadline.
func (t *Table) dueAt(deadline uint32) uint16 {
	ahead := int32((deadline+1<<dueShift-1)>>dueShift - t.now>>dueShift)
	return uint16(t.now>>dueShift) + uint16(min(max(ahead, 0), horizon))
}

// arm makes the sweep look at slot id when deadline has come, or at the horizon.
func (t *Table) arm(id ID, deadline uint32) {
	due := t.dueAt(deadline)
	t.all[id/bucketSlots].line.setDue(id%bucketSlots, due)
	t.mark(uint64(id / bucketSlots))
	t.hurry(id/bucketSlots, due)
}

// hurry makes the sweep look at a bucket at due, if it would not before.
func (t *Table) hurry(b ID, due uint16) {
	if int16(due-t.dues[b]) >= 0 {
		return
	}
	t.dues[b] = due
	if g := b / groupBuckets; int16(due-t.mins[g]) < 0 {
		t.mins[g] = due
	}
}

// lookAt makes the sweep look at every bucket at due.
func (t *Table) lookAt(due uint16) {
	for i := range t.dues {
		t.dues[i] = due
	}
	for i := range t.mins {
		t.mins[i] = due
	}
}

// SetTime moves the time of the table to now, in nanoseconds, without ending anything; a time
// before the last one changes nothing.
func (t *Table) SetTime(now int64) {
	if now <= t.epoch {
		return
	}
	if tick := uint32(uint64(now-t.epoch) >> tickShift); int32(tick-t.now) > 0 {
		if tick/victimTicks != t.now/victimTicks {
			clear(t.next) // their ticks begin anew
		}
		t.now = tick
		t.arena.head.Now = uint64(tick)
	}
}

// Advance moves the time to now, in nanoseconds, and ends every flow whose deadline has come by
// then.
func (t *Table) Advance(now int64) {
	// A jump of more than the horizon is walked in strides, because due times are told apart modulo
	// 2^16.
	for {
		next := now
		if stride := t.epoch + (int64(t.now)+horizon<<dueShift>>1)<<tickShift; next > stride {
			next = stride
		}
		t.SetTime(next)
		t.settle()
		if next == now {
			return
		}
	}
}

// Sweep looks for ended flows in at most budget groups of 128 slots (those that need no closer look
// cost next to nothing), going on where the last call stopped, and reports whether it has been
// everywhere since the time last changed. A worker calls it with a small budget in every pause;
// until it has come by, an ended flow is merely not found.
func (t *Table) Sweep(budget int) (done bool) {
	if !t.sweeping {
		if t.roundTo = t.unit(); t.roundTo == t.settled {
			return true
		}
		t.sweeping, t.cursor, t.sweepTo = true, 0, uint16(t.now>>dueShift)
	}
	for {
		for n := 1; n > 0; budget -= n {
			n = t.sweepSome(min(budget, sweepGroups))
		}
		if t.cursor < len(t.mins) {
			return false
		}
		t.settled = t.roundTo
		if !t.again {
			break
		}
		t.again, t.cursor = false, 0
	}
	t.sweeping = false
	return t.settled == t.unit()
}

// settle ends everything that is due.
func (t *Table) settle() {
	for !t.Sweep(len(t.mins)) {
	}
}

// sweepGroups is how many groups are swept together, so that the memory is asked for several things
// at a time, as in Search.
const sweepGroups = 8

// swept is the scratch of sweepSome.
type swept struct {
	buckets [sweepGroups * groupBuckets]uint32
	due     [sweepGroups * groupBuckets * bucketSlots]ID
}

// sweepSome goes on to the next groups in which something is due, at most limit, ends what is, and
// finds when they have to be looked at next. It returns how many groups it found; after the last
// the cursor is at the end.
func (t *Table) sweepSome(limit int) (groups int) {
	now := uint16(t.now >> dueShift)
	buckets := t.swept.buckets[:0]
	for ; t.cursor < len(t.mins); t.cursor++ {
		if int16(t.mins[t.cursor]-t.sweepTo) > 0 {
			continue
		}
		if groups == limit {
			break
		}
		groups++
		least := uint16(horizon) // of the buckets that can wait, how long
		for b := t.cursor * groupBuckets; b < min((t.cursor+1)*groupBuckets, len(t.dues)); b++ {
			if ahead := t.dues[b] - now; int16(ahead) > 0 {
				least = min(least, ahead)
			} else {
				buckets = append(buckets, uint32(b))
			}
		}
		t.mins[t.cursor] = now + least
	}
	for _, b := range buckets {
		t.touched += t.all[b].line.tags[0]
	}
	due := t.swept.due[:0]
	for _, b := range buckets {
		due = t.sweepLine(b, now, due)
	}
	t.touched += t.touch(due)
	for _, id := range due {
		e := t.Entry(id)
		switch {
		case int32(e.deadline-t.now) > 0:
			t.arm(id, e.deadline)
		case !t.undecided(e):
			t.expire(id, e)
		case int32(e.deadline-t.roundTo) > 0:
			t.arm(id, e.deadline) // ran out since this sweep began: the next one's
		default:
			t.again = true // left for the second round
			t.dues[id/bucketSlots], t.mins[id/bucketSlots/groupBuckets] = t.sweepTo, t.sweepTo
		}
	}
	return groups
}

// sweepLine adds to due what is due in a bucket, and finds when it has to be looked at next.
func (t *Table) sweepLine(b uint32, now uint16, due []ID) []ID {
	l := &t.all[b].line
	least := uint64(horizon) * lanes // of what is not due yet, how long there is, in each lane
	for w := range l.due {
		used := ^zeroLanes(l.tags[w]) & top
		if used == 0 {
			continue
		}
		ahead := sub(l.due[w], uint64(now)*lanes)
		over := sub(ahead, lanes) & used // not after now
		for m := over & top; m != 0; m &= m - 1 {
			due = append(due, ID(b*bucketSlots+uint32(w*4+bits.TrailingZeros64(m)/16)))
		}
		m := whole(used &^ over)
		ahead = ahead&m | low15&^m
		m = whole(sub(ahead, least))
		least = ahead&m | least&^m
	}
	next := uint16(horizon)
	for ; least != 0; least >>= 16 {
		next = min(next, uint16(least))
	}
	t.dues[b] = now + next
	if g := b / groupBuckets; int16(now+next-t.mins[g]) < 0 {
		t.mins[g] = now + next
	}
	return due
}

// A template whose time runs out while flows depend on it gets another 60 s, and so on until they
// are over: in the kernel, where each entry has a timer of its own. Here a sweep ends entries in
// the order of their slots, maybe some time after their deadlines. What the timers would have done
// in their order comes out all the same, by two rules:
//
//   - a flow that ends, whenever that is noticed, prolongs its template to where the timer would have been re-armed
//     while the flow was alive (prolong, from Delete);
//   - a template that has run out is looked at when every flow with a deadline up to its own is known to have ended: then
//     those that still depend on it have outlived it (undecided). The sweep comes by such templates in a second round.

// undecided reports whether e is a template past its deadline of which is not known whether a flow
// outlived it.
func (t *Table) undecided(e *Entry) bool {
	return e.Control > 0 && e.kind.IsTemplate() && int32(t.settled-e.deadline) < 0
}

// prolong re-arms a template as often as it ran out before a time at which a flow still depended on
// it.
func prolong(e *Entry, until uint32) {
	if n := int32(until - e.deadline); n > 0 {
		e.deadline += (uint32(n) + rearmed - 1) / rearmed * rearmed
		e.Packets = rearmed
	}
}

// expire ends an entry whose deadline has passed and reports whether it ended. A template on which
// flows depend is re-armed instead, or left as it is if nobody can tell yet.
func (t *Table) expire(id ID, e *Entry) bool {
	if e.Control > 0 && e.kind.IsTemplate() {
		if !t.undecided(e) {
			prolong(e, t.settled+1)
			t.arm(id, e.deadline)
		}
		return false
	}
	t.owner.Expire(id, e, false)
	t.count.Expired++
	t.Delete(id)
	return true
}
