package flow

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// longest is how far ahead a deadline may be, in ticks: a year, and a little for what is rounded
// up.
const longest = int32(365*24*3600e9>>tickShift + 2)

// ErrRefused is wrapped by Resume when the file is none that this process can take over.
var ErrRefused = errors.New("the table cannot be taken over")

// Resumed is what became of a table's entries when it was taken over.
type Resumed struct {
	Flows, Templates int
	Dropped          int // entries that contradicted themselves, or that keep did not want
	Loosened         int // flows whose template was not there: they go on without one
}

// Resume takes over the table that another process left in c.File, at time now of the clock given
// to Advance. Its flows, seed, epoch and boot must be those of c, and nobody else may have the file
// mapped.
//
// The other process may have been killed between any two instructions, and the file may have been
// damaged since: what is in it is believed only as far as it fits together. Each entry is checked,
// and dropped if it cannot be right or keep returns false; keep is called once for each of the
// others, may change what of an entry is not its identity, and so can count them. Flows that have
// run out meanwhile are among them: the next sweeps end them. An error that wraps ErrRefused means
// that the file is another table's, or none; it was not changed.
func Resume(c Config, now int64, owner Owner, keep func(*Key, *Entry) bool) (*Table, Resumed, error) {
	h, err := readHeader(c.File)
	var info os.FileInfo
	if err == nil {
		info, err = c.File.Stat()
	}
	if err == nil {
		err = c.judge(h, info.Size(), now)
	}
	if err != nil {
		return nil, Resumed{}, fmt.Errorf("%s: %w: %w", c.File.Name(), ErrRefused, err)
	}
	a, err := mapArena(int(h.Buckets), c.File)
	if err != nil {
		return nil, Resumed{}, err
	}
	t, r := takeOver(a, now, owner, keep)
	return t, r, nil
}

// judge says why a file of so many bytes, with this head, cannot be taken over at time now; nil if
// it can.
func (c *Config) judge(h *header, size, now int64) error {
	want := layoutOf(int(h.Buckets)).header()
	switch {
	case h.Magic != want.Magic:
		return errors.New("not a connection table")
	case h.Version != want.Version && h.Version != before || h.EntrySize != want.EntrySize || h.LineSize != want.LineSize:
		return fmt.Errorf("written by another version: layout %d, expected %d", h.Version, want.Version)
	case h.Sum != h.sum():
		return errors.New("the header is damaged")
	case h.Capacity != uint64(c.Flows) || h.Buckets != uint64(bucketsFor(c.Flows)):
		return fmt.Errorf("the table is for %d flows, not %d", h.Capacity, c.Flows)
	case h.OffBuckets != want.OffBuckets || h.OffExt != want.OffExt || h.Size != want.Size:
		return errors.New("the parts of the table have unexpected positions")
	case size != int64(h.Size):
		return fmt.Errorf("the file has %d bytes, not %d: it was truncated", size, h.Size)
	case h.Boot != c.Boot:
		return errors.New("the host was rebooted since")
	case [2]uint64{h.Seed0, h.Seed1} != c.Seed || h.Epoch != c.Epoch:
		return errors.New("the seed or epoch differs")
	case now < h.Epoch || (now-h.Epoch)>>tickShift < int64(h.Now) || (now-h.Epoch)>>tickShift-int64(h.Now) > int64(longest):
		return errors.New("the time of the table is in the future, or too old")
	}
	return nil
}

// takeOver makes a table of memory whose head was judged.
func takeOver(a *arena, now int64, owner Owner, keep func(*Key, *Entry) bool) (*Table, Resumed) {
	t := tableOf(a, owner)
	t.SetTime(now)
	r := t.rebuild(keep, a.head.Version == before)
	a.head.Version = version
	a.head.Sum = a.head.sum()
	return t, r
}

// readHeader reads the head of a file before it is mapped: to touch a page that a file has not
// would end the process.
func readHeader(f io.ReaderAt) (*header, error) {
	b := make([]byte, headerBytes)
	if n, err := f.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("the header is missing: the file has only %d bytes", n)
	}
	return headerOf(b), nil
}

// rebuild looks at every entry, and makes anew what is not in the memory or may be wrong there: the
// number of entries, the times at which the sweep has to look, the numbers of flows that depend on
// a template. In a table of the version before, what is established or has many packets is taken
// for Proven.
func (t *Table) rebuild(keep func(*Key, *Entry) bool, old bool) (r Resumed) {
	t.lookAt(uint16(t.now>>dueShift) + horizon)
	var dependent []ID // flows of templates
	oldest := int32(0)
	var k Key // here because it escapes to the heap, and once is enough
	for b := range t.all {
		for i := range ID(bucketSlots) {
			id := ID(b)*bucketSlots + i
			tag := t.tag(id)
			if tag == 0 {
				continue
			}
			e := t.Entry(id)
			k = t.Key(id)
			if !t.plausible(id, tag, &k, e) || !keep(&k, e) {
				t.setTag(id, 0)
				e.kind = 0
				r.Dropped++
				continue
			}
			if old && e.wasProven() {
				e.Flags |= Proven
			}
			t.used++
			t.arm(id, e.deadline)
			oldest = min(oldest, int32(e.deadline-t.now))
			switch {
			case e.kind.IsTemplate():
				r.Templates++
				e.Control = 0
			default:
				r.Flows++
				if e.Control != 0 {
					dependent = append(dependent, id)
				}
			}
		}
	}
	for _, id := range dependent {
		e := t.Entry(id)
		if c := e.Control - 1; c < uint32(t.Slots()) && t.tag(ID(c)) != 0 && t.Entry(ID(c)).kind.IsTemplate() {
			t.Entry(ID(c)).Control++
			continue
		}
		e.Control = 0
		r.Loosened++
	}
	// No sweep has been by since the oldest deadline.
	t.settled = t.unit() + uint32(oldest) - 1<<dueShift
	return r
}

// wasProven reports whether an entry that a version without Proven left is taken for it.
func (e *Entry) wasProven() bool {
	if e.kind.IsTemplate() {
		return e.Flags&Assured != 0
	}
	return e.kind != UDP && e.open() || e.Packets >= provenPackets && e.proves()
}

// plausible reports whether an entry can be one that a table made: its numbers are in their ranges,
// and it is where its key's hash says, by which most damage is found. It also sets right what
// follows from the rest.
func (t *Table) plausible(id ID, tag uint16, k *Key, e *Entry) bool {
	proto, template := e.kind&^Template, e.kind.IsTemplate()
	if proto == 0 || proto > AnyProto || proto == AnyProto && !template || e.Flags&^allFlags != 0 {
		return false
	}
	if left := int32(e.deadline - t.now); left > longest || left < -longest || template && e.Packets > uint32(longest) {
		return false
	}
	if k.Client.Is4() != (e.Flags&V6 == 0) || e.ident.client() != compact(k.Client) {
		return false
	}
	switch {
	case template:
		e.State = 0
	case e.kind == TCP && e.State >= tcpStates || e.kind == SCTP && e.State >= sctpStates || e.kind == UDP && e.State != 0:
		return false
	case IsActive(e.kind, e.State):
		e.Flags &^= Inactive // the process may have ended between the one and the other
	default:
		e.Flags |= Inactive
	}
	if e.Flags&Invalid != 0 {
		return template && e.ident.vport() == 0xffff // its place is that of the port it had
	}
	b1, b2, want := t.where(t.Hash(k))
	bucket := uint64(id / bucketSlots)
	return tag == want && (bucket == b1 || bucket == b2)
}

// ErrOwnMemory is wrapped by ReserveIPv6 when the file has no room. The table works, but nobody can
// take it over.
var ErrOwnMemory = errors.New("IPv6 flows are in the process's own memory")

// ReserveIPv6 makes sure that there is memory for IPv6 flows, before the first of them comes. Where
// the file has no room for it, it is the process's own, and the error wraps ErrOwnMemory. It may be
// called from any goroutine, but not beside Close.
func (t *Table) ReserveIPv6() error { return t.arena.reserveIPv6() }
