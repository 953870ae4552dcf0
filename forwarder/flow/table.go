package flow

import (
	"errors"
	"fmt"
	"math/bits"
	"os"

	"shunt/forwarder/frame"
)

const (
	magic       = 0x0031776f6c667368 // "shflow1\0"
	version     = 5                  // of all that stands in the memory: raise it with every change of header, line, Entry, hash or where
	before      = 4                  // the version before, whose entries have neither Proven nor what stands behind Flags
	headerSize  = 4096
	bucketSlots = 16

	// MinFlows and MaxFlows bound the capacity of a table.
	MinFlows = 1024
	MaxFlows = 16_000_000

	// fill is the part of the slots, in percent, that a full table uses: two-choice hashing into
	// buckets of 16 finds a free slot for practically every flow up to there without ever moving
	// one.
	fill = 82
)

// header stands at the start of the memory. Fixed-size numbers only: another process may read it.
type header struct {
	Magic               uint64
	Version             uint32
	EntrySize, LineSize uint32
	_                   uint32
	Buckets             uint64
	OffBuckets          uint64
	OffExt              uint64
	Size                uint64
	Capacity            uint64
	Seed0, Seed1        uint64
	Epoch               int64 // nanoseconds of the clock that Advance is given
	Boot                [16]byte
	Sum                 uint64 // checksum of all before it; 0 until the table is whole

	Now   uint64 // ticks: the time that was last told
	Count Counters
}

// bucket is a line and the entries that it tells of. They stand beside each other because they are
// mostly in one page of 4 KiB then, and a lookup has one address to be translated and not two. Huge
// pages do not make up for that on a virtual machine whose host has small ones.
type bucket struct {
	line    line
	entries [bucketSlots]Entry
}

// line is one cache line for each bucket: what a lookup and the sweep of timers need to decide
// where to look closer.
type line struct {
	tags [4]uint64 // 16 tags of 16 bits of the hash; 0 is a free slot
	due  [4]uint64 // 16 times at which the sweep looks at the entries again, in units of 4 ticks, modulo 2^16
}

// setDue sets the time of slot i, and returns the one that was there.
func (l *line) setDue(i ID, due uint16) (old uint16) {
	shift := i % 4 * 16
	w := l.due[i/4&3]
	l.due[i/4&3] = w&^(0xffff<<shift) | uint64(due)<<shift
	return uint16(w >> shift)
}

// ID is the number of a flow's slot. It names the flow until it is deleted or expires.
type ID uint32

// None is no flow.
const None ID = 1<<32 - 1

// Entry flags.
const (
	Inactive  uint8 = 1 << iota // counted among the destination's inactive connections
	V6                          // the client's address is an IPv6 address
	Assured                     // a template that has had an established connection
	Invalid                     // a template that no new flow may use
	Proven                      // a flow that has proved to be a conversation, or a template that had one: see Prove
	Sequenced                   // a sequence number, or verification tag, is known: see Follow

	allFlags = Inactive | V6 | Assured | Invalid | Proven | Sequenced
)

// An Entry is one flow or template, 32 bytes. Its identity cannot be changed from outside; the rest
// belongs to the engine. A pointer to an Entry is valid until the entry is deleted.
type Entry struct {
	ident    ident
	vip      uint16
	kind     Kind
	State    State
	Dest     uint32 // id of the destination
	deadline uint32 // ticks since the epoch
	Packets  uint32 // in a flow: forwarded so far, stays at its maximum; in a template: its timeout in ticks
	Control  uint32 // in a flow: 1 + slot of its template, or 0; in a template: number of flows that depend on it
	Flags    uint8
	born     uint8  // when it was made, in ticks
	seq      uint16 // upper half of a sequence number or verification tag, if Sequenced
}

// Kind returns the protocol of the entry and whether it is a template.
func (e *Entry) Kind() Kind { return e.kind }

// An Owner is told of flows that end, so that it can count them out. Its methods must not change
// the table.
type Owner interface {
	// Expire is called when a flow or template ends because its deadline has passed, or because it
	// has to make room for a new one (evicted).
	Expire(id ID, e *Entry, evicted bool)
}

// Config describes a table.
type Config struct {
	// Flows is the number of flows and templates that the table holds, MinFlows to MaxFlows.
	Flows int
	// Seed keys the hash. A live director takes random numbers, a replay fixed ones. Both zero is
	// not allowed live, but is a valid seed.
	Seed [2]uint64
	// Epoch is a time, in nanoseconds of the clock given to Advance, that is not after any time
	// that will be given.
	Epoch int64
	// File is where the table lives, so that another process can take it over: see Resume. It stays
	// open, and is the caller's to close, after the table. nil is memory of this process.
	File *os.File
	// Boot says during which run of the machine the clock given to Advance is meaningful. Only a
	// table in a file needs it.
	Boot [16]byte
}

// Counters of a table since it was made.
type Counters struct {
	Created uint64
	Expired uint64
	Evicted uint64 // ended early to make room
	Refused uint64 // new flows that found no room
}

// A Table is the connection table of one worker. See the package comment for its layout.
type Table struct {
	all   []bucket
	ext   []frame.Addr
	dues  []uint16  // of each bucket, no later than the earliest due time in it
	mins  []uint16  // of each group of buckets, no later than the earliest of their dues
	next  []victims // of each bucket, who makes room
	swept swept
	marks marks

	seed0, seed1 uint64
	buckets      uint64
	capacity     int
	used         int
	epoch        int64
	now          uint32 // ticks
	cursor       int    // group at which an unfinished sweep goes on
	sweepTo      uint16
	sweeping     bool
	roundTo      uint32 // ticks: sweepTo of the sweep under way
	touched      uint64 // see sweepGroup: so that the reads happen
	settled      uint32 // ticks: that of the last sweep; every flow with a deadline up to here has ended
	again        bool   // the sweep under way has left templates for a second round

	spans [4 * 16]int32 // timeouts of flows by kind and state, in ticks

	owner Owner
	count *Counters // in the header
	arena *arena
}

// New makes an empty table, whose ends of flows are told to owner. Close gives its memory back.
func New(c Config, owner Owner) (*Table, error) {
	if c.Flows < MinFlows || c.Flows > MaxFlows {
		return nil, fmt.Errorf("a connection table of %d flows: must be %d to %d", c.Flows, MinFlows, MaxFlows)
	}
	if owner == nil {
		return nil, errors.New("a connection table needs an owner")
	}
	if c.File != nil {
		if err := c.File.Truncate(0); err != nil { // what was there would be believed
			return nil, err
		}
	}
	a, err := mapArena(bucketsFor(c.Flows), c.File)
	if err != nil {
		return nil, err
	}
	h := a.at.header()
	h.Capacity, h.Seed0, h.Seed1, h.Epoch, h.Boot = uint64(c.Flows), c.Seed[0], c.Seed[1], c.Epoch, c.Boot
	*a.head = h
	a.head.Sum = h.sum()
	return tableOf(a, owner), nil
}

// bucketsFor is the number of buckets of a table of so many flows.
func bucketsFor(flows int) int { return (flows*100/fill + bucketSlots) / bucketSlots }

// tableOf makes a table of memory that has a header and no entries yet.
func tableOf(a *arena, owner Owner) *Table {
	h := a.head
	a.copy = *h
	t := &Table{
		all: a.all, ext: a.ext, arena: a,
		dues: make([]uint16, a.at.buckets), mins: make([]uint16, (a.at.buckets+groupBuckets-1)/groupBuckets),
		next:  make([]victims, a.at.buckets),
		seed0: spread(h.Seed0 + 1), seed1: spread(h.Seed1 + 2), buckets: h.Buckets,
		capacity: int(h.Capacity), epoch: h.Epoch, owner: owner, count: &h.Count,
	}
	t.SetTimeouts(DefaultTimeouts())
	t.lookAt(horizon)
	return t
}

// Holds reports whether an address is one of the table's memory.
func (t *Table) Holds(addr uintptr) bool { return t.arena.holds(addr) }

// Replace empties a table whose file was cut while it was in use, which is a fault at the address
// of what is missing: from now on the table is in the process's own memory. Its flows are lost, and
// the owner is not told of each. Numbers of flows mean nothing any more. It is to be called by
// whoever uses the table.
func (t *Table) Replace() error {
	now := t.now
	if err := t.arena.renew(); err != nil {
		return err
	}
	*t = *tableOf(t.arena, t.owner)
	t.SetTime(t.epoch + int64(now)<<tickShift)
	return nil
}

// Close gives the memory back. The table must not be used afterwards.
func (t *Table) Close() error {
	count := *t.count
	t.all, t.ext, t.count = nil, nil, &count
	return t.arena.unmap()
}

// Len is the number of flows and templates in the table, some of which may be past their deadline.
func (t *Table) Len() int { return t.used }

// Capacity is the number of flows that the table was made for.
func (t *Table) Capacity() int { return t.capacity }

// MemorySize is the size of the table's memory in bytes, including the part that only IPv6 flows
// touch.
func (t *Table) MemorySize() int {
	return len(t.arena.mem) + 2*(len(t.dues)+len(t.mins)) + 4*len(t.next)
}

// Counters returns what the table counted.
func (t *Table) Counters() Counters { return *t.count }

// Entry returns the entry in slot id, which must be in use.
func (t *Table) Entry(id ID) *Entry { return &t.all[id/bucketSlots].entries[id%bucketSlots] }

// DestAt is the destination of the entry in slot id, or any number if there is none, or no such
// slot.
func (t *Table) DestAt(id ID) uint32 {
	if b := uint64(id / bucketSlots); b < uint64(len(t.all)) {
		return t.all[b].entries[id%bucketSlots].Dest
	}
	return 1<<32 - 1
}

// Slots is the number of slots: every ID is less.
func (t *Table) Slots() int { return len(t.all) * bucketSlots }

// InUse reports whether slot id holds an entry whose deadline has not passed.
func (t *Table) InUse(id ID) bool {
	return t.tag(id) != 0 && int32(t.Entry(id).deadline-t.now) > 0
}

// Key returns the identity of the entry in slot id, which must be in use.
func (t *Table) Key(id ID) Key {
	e := t.Entry(id)
	k := Key{VIP: e.vip, ClientPort: e.ident.cport(), VirtualPort: e.ident.vport(), Kind: e.kind}
	if e.Flags&V6 != 0 {
		k.Client = t.ext[id]
	} else {
		k.Client = frame.AddrFrom4(e.ident.client())
	}
	return k
}

// where returns the two buckets and the tag of a hash.
func (t *Table) where(h Hash) (b1, b2 uint64, tag uint16) { return t.first(h), t.second(h), tagOf(h) }

// first is the bucket in which most flows with this hash are: see Put.
func (t *Table) first(h Hash) uint64 {
	b, _ := bits.Mul64(uint64(h), t.buckets)
	return b
}

// second is the other bucket in which a flow with this hash may be.
func (t *Table) second(h Hash) uint64 {
	b, _ := bits.Mul64(bits.RotateLeft64(uint64(h), 32)*0x9e3779b97f4a7c15, t.buckets)
	return b
}

// tagOf is never 0, which is the tag of a free slot.
func tagOf(h Hash) uint16 { return uint16(h) | 1 }

const (
	lanes = 0x0001000100010001
	low15 = 0x7fff7fff7fff7fff
)

// top is the highest bit of each lane.
const top = 0x8000800080008000

// sub subtracts in each of four lanes of 16 bits (Warren, Hacker's Delight, 2-18).
func sub(a, b uint64) uint64 { return ((a | top) - (b &^ top)) ^ ((a ^ ^b) & top) }

// whole spreads the top bit of each lane over the lane.
func whole(m uint64) uint64 { return (m & top) >> 15 * 0xffff }

// zeroLanes has the top bit set of exactly those 16-bit lanes of x that are zero.
func zeroLanes(x uint64) uint64 {
	return ^((x&low15 + low15) | x | low15)
}

// Lookup returns the flow of key k, whose hash is h, or None. The hint is the answer of Hint for
// the same hash, however long ago; None is always a valid hint. A flow whose deadline has passed is
// ended on the spot and not returned.
func (t *Table) Lookup(k *Key, h Hash, hint ID) ID {
	c := k.ident()
	if hint != None && t.is(hint, k, c) {
		return t.alive(hint)
	}
	b1, b2, tag := t.where(h)
	want := uint64(tag) * lanes
	for range 2 {
		l := &t.all[b1].line
		for w := range l.tags {
			for m := zeroLanes(l.tags[w] ^ want); m != 0; m &= m - 1 {
				id := ID(b1*bucketSlots + uint64(w*4) + uint64(bits.TrailingZeros64(m))/16)
				if t.is(id, k, c) {
					return t.alive(id)
				}
			}
		}
		b1 = b2
	}
	return None
}

// is reports whether the entry in slot id has key k, which is c in short.
func (t *Table) is(id ID, k *Key, c ident) bool {
	e := t.Entry(id)
	if e.ident != c || e.vip != k.VIP || e.kind != k.Kind {
		return false
	}
	return e.Flags&V6 == 0 || t.ext[id] == k.Client
}

// alive returns id if its deadline is still to come or it lives on; else it ends the flow.
func (t *Table) alive(id ID) ID {
	if int32(t.Entry(id).deadline-t.now) > 0 {
		return id
	}
	return t.overdue(id)
}

func (t *Table) overdue(id ID) ID {
	e := t.Entry(id)
	for int32(e.deadline-t.now) <= 0 {
		if !t.undecided(e) {
			if t.expire(id, e) {
				return None
			}
			continue
		}
		if t.settled == t.unit() {
			return id // ran out in the last 3 ticks
		}
		// Rare: a template ran out after the sweep came by, while flows that may be over depend on
		// it. The rest of the sweep is no more work now than later, and is done once in 4 ticks at
		// most.
		if t.settle(); t.tag(id) == 0 {
			return None
		}
	}
	return id
}

// Put makes a new entry for key k, whose hash is h and which must not be in the table, with a
// timeout in ticks. When there is no room it ends the entry that has proved least and been silent
// longest, if evict allows it and it finds one where the new flow may live (see makeRoom);
// otherwise it returns None. The entry's state is 0 and its other fields are zero but for the flag
// V6; a template remembers its timeout.
func (t *Table) Put(k *Key, h Hash, timeout uint32, evict bool) ID {
	return t.PutAt(None, k, h, timeout, evict)
}

// PutAt is Put where Absent has told the spot that the flow gets. None is always a valid spot.
func (t *Table) PutAt(spot ID, k *Key, h Hash, timeout uint32, evict bool) ID {
	b1, b2, tag := t.where(h)
	id, full := spot, t.used >= t.capacity
	if id != None && (full || t.tag(id) != 0) { // it has become full since
		id = None
	}
	if id == None && !full {
		id = t.place(b1, b2)
	}
	if id == None {
		if id = t.makeRoom(b1, b2, evict); id == None {
			t.count.Refused++
			return None
		}
	}
	e := t.Entry(id)
	*e = Entry{ident: k.ident(), vip: k.VIP, kind: k.Kind, born: uint8(t.now)}
	if !k.Client.Is4() {
		e.Flags = V6
		t.ext[id] = k.Client
	}
	if k.Kind.IsTemplate() {
		e.Packets = timeout
	}
	if b := id / bucketSlots; k.Kind == UDP && t.next[b].class() == unproven {
		t.next[b] = 0
	}
	t.setTag(id, tag)
	t.used++
	t.count.Created++
	e.deadline = t.now + timeout
	due := t.dueAt(e.deadline)
	old := t.all[id/bucketSlots].line.setDue(id%bucketSlots, due)
	if !full || int16(due-old) < 0 { // the bucket is looked at for the flow that has just left the slot
		t.hurry(id/bucketSlots, due)
	}
	return id
}

// Delete forgets the entry in slot id, which must be in use, without telling the owner. A flow
// leaves its template; a template must have no flows.
func (t *Table) Delete(id ID) {
	if t.tag(id) == 0 {
		return
	}
	t.next[id/bucketSlots] = 0
	t.remove(id)
}

// remove is Delete of an entry that makes room: those that come next are not forgotten.
func (t *Table) remove(id ID) {
	if e := t.Entry(id); e.Control != 0 && !e.kind.IsTemplate() {
		template := t.Entry(ID(e.Control - 1))
		template.Control--
		until := t.now + 1
		if int32(e.deadline-until) < 0 {
			until = e.deadline
		}
		prolong(template, until)
		if template.Control == 0 {
			t.next[(e.Control-1)/bucketSlots] = 0
		}
	}
	t.Entry(id).kind = 0 // so that a hint from before does not find it
	t.setTag(id, 0)
	t.used--
}

// Invalidate makes a template unfindable under its key while it lives on for the flows that depend
// on it: its virtual port becomes 65535, as in ip_vs_check_template (ip_vs_conn.c).
func (t *Table) Invalidate(id ID) {
	e := t.Entry(id)
	e.ident |= 0xffff << 48
	e.Flags |= Invalid
}

func (t *Table) tag(id ID) uint16 {
	return uint16(t.all[id/bucketSlots].line.tags[id%bucketSlots/4] >> (id % 4 * 16))
}

func (t *Table) setTag(id ID, tag uint16) {
	w := &t.all[id/bucketSlots].line.tags[id%bucketSlots/4]
	shift := id % 4 * 16
	t.mark(uint64(id / bucketSlots))
	*w = *w&^(0xffff<<shift) | uint64(tag)<<shift
}
