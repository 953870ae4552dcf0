package flow

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// modelClass is what an entry is in a full table, as docs/security.md says it; -1 never makes room.
func modelClass(tab *Table, e *Entry, to *Timeouts) (class int, silent time.Duration) {
	left := time.Duration(int32(e.deadline-tab.now)) * Tick
	if e.kind.IsTemplate() {
		silent = time.Duration(e.Packets)*Tick - left
	} else {
		silent = time.Duration(to.Of(e.kind, e.State))*Tick - left
	}
	silent = max(silent, 0)
	switch {
	case e.kind.IsTemplate() && e.Control > 0:
		return -1, 0
	case left <= 0:
		return 0, -left
	case e.kind == UDP && e.Packets <= 1:
		return 1, silent
	case e.Flags&Proven == 0:
		return 2, silent
	}
	few := !e.kind.IsTemplate() && e.Packets <= 8
	closed := e.kind == TCP && e.State != TCPEstablished && e.State != TCPCloseWait || e.kind == SCTP && e.State != SCTPEstablished
	switch {
	case (few || closed) && silent >= time.Duration(Ticks(5*time.Second))*Tick:
		return 3, silent
	case silent >= time.Duration(Ticks(time.Minute))*Tick:
		return 4, silent
	}
	return -1, 0
}

// modelVictim is who makes room for a flow in these two buckets, or None. Entries of classes below
// from are left out, but count as unproven if nothing else is known of them; more entries were
// unproven than are now.
func modelVictim(tab *Table, to *Timeouts, b1, b2 uint64, evict bool, from, more int) ID {
	victim, least, longest := None, 5, time.Duration(0)
	loose := more
	look := func(b uint64) {
		for i := range uint64(bucketSlots) {
			id := ID(b*bucketSlots + i)
			if tab.tag(id) == 0 {
				continue
			}
			class, silent := modelClass(tab, tab.Entry(id), to)
			if (class == 1 || class == 2 || class == 0 && from > 0) && !tab.Entry(id).kind.IsTemplate() && tab.Entry(id).Flags&Proven == 0 {
				loose++
			}
			if class >= from && (class < least || class == least && silent > longest) {
				victim, least, longest = id, class, silent
			}
		}
	}
	look(b1)
	if least > 2 || least == 2 && loose < 6 {
		look(b2)
	}
	if least == 5 || !evict && least > 0 {
		return None
	}
	return victim
}

// TestRoomAgainstModel: of a full table of any entries that one makes room which a naive walk
// chooses.
func TestRoomAgainstModel(t *testing.T) {
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		o := &fakeOwner{}
		tab, err := New(Config{Flows: MinFlows, Seed: [2]uint64{rapid.Uint64().Draw(t, "seed"), 1}}, o)
		if err != nil {
			t.Fatal(err)
		}
		defer tab.Close()
		to := DefaultTimeouts()
		now := int64(time.Hour)
		tab.SetTime(now)
		kinds := rapid.SliceOfNDistinct(rapid.SampledFrom([]Kind{TCP, UDP, SCTP, TCP | Template}), 1, 4, func(k Kind) Kind { return k }).Draw(t, "kinds")
		states := rapid.SliceOfN(rapid.SampledFrom([]State{TCPEstablished, TCPSynRecv, TCPFinWait, TCPClose, TCPCloseWait, SCTPEstablished}), 1, 3).Draw(t, "states")
		packets := rapid.SliceOfN(rapid.SampledFrom([]uint32{0, 1, 2, 8, 9, 100}), 1, 3).Draw(t, "packets")
		proven := rapid.SampledFrom([]int{0, 5, 10, 10}).Draw(t, "proven of ten")
		if rapid.IntRange(0, 2).Draw(t, "conversations") == 0 {
			kinds, states, packets, proven = []Kind{TCP, UDP}, []State{TCPEstablished}, []uint32{9, 100}, 10
		}
		pause := rapid.Int64Range(0, int64(200*time.Millisecond)).Draw(t, "pause")
		rng := uint32(rapid.Uint32().Draw(t, "mix"))
		pick := func(n int) int { rng = rng*1664525 + 1013904223; return int(rng>>8) % n }
		for n := range uint32(MinFlows) {
			now += pause
			tab.SetTime(now)
			k := key4(n)
			k.Kind = kinds[pick(len(kinds))]
			if k.Kind.IsTemplate() {
				k.Client, k.ClientPort = frame.AddrFrom4(n), 0
			}
			timeout := Ticks(time.Duration(1+pick(300)) * time.Second)
			id := tab.Put(&k, tab.Hash(&k), timeout, false)
			if id == None {
				continue
			}
			e := tab.Entry(id)
			if !k.Kind.IsTemplate() {
				if e.State = states[pick(len(states))]; k.Kind == UDP {
					e.State = 0
				}
				e.Packets = packets[pick(len(packets))]
				tab.Extend(id, e, to.Of(k.Kind, e.State))
			} else {
				e.Control = uint32(pick(4) / 3)
			}
			if pick(10) < proven {
				e.Flags |= Proven
			}
		}
		now += int64(rapid.SampledFrom([]time.Duration{0, 10 * time.Second, 70 * time.Second, 3 * time.Minute}).Draw(t, "later"))
		tab.SetTime(now)
		for n := range uint32(100) {
			k := key4(100_000 + n)
			h := tab.Hash(&k)
			if tab.used < tab.capacity {
				break
			}
			evict := pick(5) != 0
			b1, b2, _ := tab.where(h)
			want := modelVictim(tab, to, b1, b2, evict, 0, 0)
			class := -1
			if want != None {
				class, _ = modelClass(tab, tab.Entry(want), to)
			}
			id := tab.Put(&k, h, to.TCP[TCPSynRecv], evict)
			if id != want {
				t.Fatalf("slot %d makes room, want %d", id, want)
			}
			seen[fmt.Sprintf("class %d", class)]++
			if id != None {
				tab.Entry(id).State = TCPSynRecv
			}
		}
		checkDues(t, tab)
	})
	for class := -1; class <= 4; class++ {
		if seen[fmt.Sprintf("class %d", class)] == 0 {
			t.Errorf("class %d never made room: this tests little (%v)", class, seen)
		}
	}
}

// TestProve: how a flow proves to be a conversation, and how it does not.
func TestProve(t *testing.T) {
	const soon, later = 2, 3
	for _, x := range []struct {
		name   string
		kind   Kind
		states []State // after each packet
		at     []uint32
		want   bool
	}{
		{"handshake, request and acknowledgement in an instant", TCP, []State{TCPSynRecv, TCPEstablished, TCPEstablished, TCPEstablished}, []uint32{0, 0, 1, 1}, false},
		{"the same over a round trip", TCP, []State{TCPSynRecv, TCPEstablished, TCPEstablished, TCPEstablished}, []uint32{0, 1, soon, later}, true},
		{"three packets, however late", TCP, []State{TCPSynRecv, TCPEstablished, TCPEstablished}, []uint32{0, soon, 5000}, false},
		{"SYNs again and again", TCP, []State{TCPSynRecv, TCPSynRecv, TCPSynRecv, TCPSynRecv, TCPSynRecv}, []uint32{0, 60, 180, 420, 900}, false},
		{"closed by a RST", TCP, []State{TCPSynRecv, TCPEstablished, TCPClose, TCPClose}, []uint32{0, 1, 60, 120}, false},
		{"closing", TCP, []State{TCPSynRecv, TCPEstablished, TCPFinWait, TCPFinWait}, []uint32{0, 1, soon, later}, true},
		{"two datagrams", UDP, []State{0, 0}, []uint32{0, 600}, false},
		{"four datagrams at once", UDP, []State{0, 0, 0, 0}, []uint32{0, 0, 0, 0}, false},
		{"four datagrams", UDP, []State{0, 0, 0, 0}, []uint32{0, 1, 1, later}, true},
		{"an association", SCTP, []State{SCTPInit1, SCTPEstablished, SCTPEstablished, SCTPEstablished}, []uint32{0, 1, soon, later}, true},
		{"INITs", SCTP, []State{SCTPInit1, SCTPInit, SCTPInit, SCTPInit}, []uint32{0, 1, soon, later}, false},
	} {
		tab := newTable(t, MinFlows, nil)
		tk := Key{Client: frame.AddrFrom4(1), VIP: 1, VirtualPort: 80, Kind: x.kind | Template}
		template := tab.Put(&tk, tab.Hash(&tk), 1000, false)
		k := key4(0)
		k.Kind = x.kind
		e := tab.Entry(tab.Put(&k, tab.Hash(&k), 50000, false))
		e.Control = 1 + uint32(template)
		for i, state := range x.states {
			tab.SetTime(int64(x.at[i]) << tickShift)
			e.State = state
			tab.Prove(e)
			e.Packets++
		}
		if got := e.Flags&Proven != 0; got != x.want {
			t.Errorf("%s: proven %v", x.name, got)
		}
		if got := tab.Entry(template).Flags&Proven != 0; got != x.want {
			t.Errorf("%s: its template is proven: %v", x.name, got)
		}
	}
}

// TestFits: a segment fits if it begins near where the client is, also where the numbers wrap
// around.
func TestFits(t *testing.T) {
	for _, start := range []uint16{0, 5, 0x7fff, 0xfffa, 0xffff} {
		e := &Entry{}
		if !e.Fits(start + 1000) {
			t.Error("something does not fit although nothing is known")
		}
		e.Follow(start)
		e.Flags |= Sequenced
		for d := -40000; d < 25000; d += 1 {
			if want := d >= -1 && d <= 2; e.Fits(start+uint16(d)) != want && d > -32000 && d < 32000 {
				t.Fatalf("from %d, %d units on: fits is %v", start, d, !want)
			}
		}
		for _, far := range []uint16{5, 1000, 0x8000, 0xfff0, 0xffff} {
			if e.Follow(start + far); e.seq != start {
				t.Errorf("from %d: followed a segment %d units on", start, far)
			}
		}
		if e.Follow(start + reach); e.seq != start+reach {
			t.Errorf("from %d: did not follow", start)
		}
	}
}
