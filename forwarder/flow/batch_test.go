package flow

import (
	"math/rand/v2"
	"testing"
)

// TestFindFirst compares what the processor's own instructions find with what plain code does, in a
// table that is full, so that buckets are in all states, for any number of flows.
func TestFindFirst(t *testing.T) {
	tab := newTable(t, MinFlows, nil)
	r := rand.New(rand.NewPCG(1, 2))
	for n := range uint32(MinFlows) {
		k := key4(n)
		tab.Put(&k, tab.Hash(&k), 50000, false)
	}
	there, missing := 0, 0
	for range 5000 {
		var s Search
		var want, got [Batch]ID
		n := 1 + r.IntN(Batch)
		for i := range n {
			k := key4(r.Uint32N(2 * MinFlows))
			s.Hashes[i] = tab.Hash(&k)
		}
		missedWant, missed := tab.lookFirst(s.Hashes[:n], want[:n]), tab.findFirst(&s, s.Hashes[:n], got[:n])
		if missed != missedWant || got != want {
			t.Fatalf("%d flows: hints %v and %x, want %v and %x", n, got, missed, want, missedWant)
		}
		for _, id := range got[:n] {
			if id == None {
				missing++
			} else {
				there++
			}
		}
	}
	for range 500 {
		var s Search
		for i := range s.Hashes {
			k := key4(r.Uint32N(2 * MinFlows))
			s.Hashes[i] = tab.Hash(&k)
		}
		want, set := s, r.Uint64()
		absent, absentWant := tab.findSecond(&s, set), tab.lookSecond(&want, set)
		if absent != absentWant || s.Hints != want.Hints {
			t.Fatalf("second buckets of %x: hints %v and %x, want %v and %x", set, s.Hints, absent, want.Hints, absentWant)
		}
	}
	if there < 10000 || missing < 10000 {
		t.Errorf("%d were there and %d not: this tests little", there, missing)
	}
}

// TestSteps: whether the steps are taken for all flows at once or for some at a time, in turns,
// comes to the same.
func TestSteps(t *testing.T) {
	tab := newTable(t, MinFlows, nil)
	for n := range uint32(MinFlows) {
		k := key4(n)
		tab.Put(&k, tab.Hash(&k), 50000, false)
	}
	for _, stride := range []int{1, 3, 16, 63, 64, 100} {
		for _, n := range []int{1, 15, 16, 17, 63, 64} {
			var all, some Search
			for i := range n {
				k := key4(uint32(i * MinFlows / 32)) // half of them are there
				all.Hashes[i] = tab.Hash(&k)
			}
			some.Hashes = all.Hashes
			tab.Search(&all, n)
			tab.Begin(&some)
			for at := 0; at < n+2*stride; at += stride {
				tab.Fetch(&some, at, min(at+stride, n))
				tab.Find(&some, at-stride, min(at, n))
				tab.FindSecond(&some, at-2*stride, min(at-stride, n))
			}
			all.read, some.read = 0, 0
			if all != some {
				t.Errorf("%d flows by %d: %+v, want %+v", n, stride, some, all)
			}
		}
	}
}
