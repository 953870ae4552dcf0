package forwarder

import (
	"encoding/binary"
	"slices"

	"shunt/forwarder/frame"
)

// macSet holds the MACs from which no frame may come: the realservers' and our own. Each worker has
// one, which it changes between two batches: open addressing, at most a quarter full.
type macSet struct {
	mask  uint64
	slots []uint64 // the MAC with bit 48 set; 0 is empty
	used  int
}

// macEdit is a MAC that came into the set, or went.
type macEdit struct {
	mac frame.MAC
	in  bool
}

func macWord(m []byte) uint64 {
	return uint64(binary.BigEndian.Uint32(m))<<16 | uint64(binary.BigEndian.Uint16(m[4:6])) | 1<<48
}

func newMACSet() macSet { return macSet{mask: 7, slots: make([]uint64, 8)} }

func (s *macSet) home(w uint64) uint64 { return w * 0x9e3779b97f4a7c15 >> 32 & s.mask }

// find returns the slot of a MAC, or the empty one where it would be.
func (s *macSet) find(w uint64) uint64 {
	i := s.home(w)
	for s.slots[i] != 0 && s.slots[i] != w {
		i = (i + 1) & s.mask
	}
	return i
}

func (s *macSet) has(m []byte) bool {
	w := macWord(m)
	return s.slots[s.find(w)] == w
}

// hasRoom reports whether n more can be added without the set growing.
func (s *macSet) hasRoom(n int) bool { return 4*(s.used+n) <= len(s.slots) }

// roomy returns a copy with room for n more.
func (s *macSet) roomy(n int) macSet {
	if s.hasRoom(n) {
		return macSet{mask: s.mask, slots: slices.Clone(s.slots), used: s.used}
	}
	size := len(s.slots)
	for size < 4*(s.used+n) {
		size *= 2
	}
	out := macSet{mask: uint64(size) - 1, slots: make([]uint64, size), used: s.used}
	for _, w := range s.slots {
		if w != 0 {
			out.slots[out.find(w)] = w
		}
	}
	return out
}

func (s *macSet) edit(edits []macEdit) {
	for _, e := range edits {
		if e.in {
			s.add(e.mac)
		} else {
			s.remove(e.mac)
		}
	}
}

func (s *macSet) add(m frame.MAC) {
	if !s.hasRoom(1) {
		*s = s.roomy(1)
	}
	w := macWord(m[:])
	i := s.find(w)
	if s.slots[i] == 0 {
		s.slots[i] = w
		s.used++
	}
}

// remove closes the gap that it makes: what was pushed on by the MAC that goes moves back (Knuth,
// The Art of Computer Programming, volume 3, 6.4, algorithm R).
func (s *macSet) remove(m frame.MAC) {
	gap := s.find(macWord(m[:]))
	if s.slots[gap] == 0 {
		return
	}
	s.used--
	s.slots[gap] = 0
	for i := (gap + 1) & s.mask; s.slots[i] != 0; i = (i + 1) & s.mask {
		// It may move to the gap if its home is not behind the gap.
		if w := s.slots[i]; (i-s.home(w))&s.mask >= (i-gap)&s.mask {
			s.slots[gap], s.slots[i] = w, 0
			gap = i
		}
	}
}
