package flow

import (
	"math/bits"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// fakeOwner records the ends of flows.
type fakeOwner struct {
	ended   []ID
	evicted []ID
}

func (o *fakeOwner) Expire(id ID, e *Entry, evicted bool) {
	if evicted {
		o.evicted = append(o.evicted, id)
		return
	}
	o.ended = append(o.ended, id)
}

func newTable(t testing.TB, flows int, o Owner) *Table {
	t.Helper()
	if o == nil {
		o = &fakeOwner{}
	}
	tab, err := New(Config{Flows: flows, Seed: [2]uint64{0x1234567890abcdef, 0xfedcba0987654321}}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tab.Close(); err != nil {
			t.Error(err)
		}
	})
	return tab
}

func key4(n uint32) Key {
	return Key{Client: frame.AddrFrom4(0x0a000000 + n/50000), VIP: 1, ClientPort: uint16(n%50000 + 1024), VirtualPort: 80, Kind: TCP}
}

func TestNewRefusesSizes(t *testing.T) {
	for _, n := range []int{-1, 0, MinFlows - 1, MaxFlows + 1} {
		if _, err := New(Config{Flows: n}, &fakeOwner{}); err == nil {
			t.Errorf("a table of %d flows was made", n)
		}
	}
	if _, err := New(Config{Flows: MinFlows}, nil); err == nil {
		t.Error("a table without an owner was made")
	}
}

// TestAgainstMap compares the table with a map and a list of deadlines, over random operations and
// random time.
func TestAgainstMap(t *testing.T) {
	type flow struct {
		id       ID
		deadline int64  // ticks
		packets  uint32 // a template's timeout to begin with
	}
	rapid.Check(t, func(t *rapid.T) {
		o := &fakeOwner{}
		tab, err := New(Config{Flows: MinFlows, Seed: [2]uint64{rapid.Uint64().Draw(t, "s0"), rapid.Uint64().Draw(t, "s1")},
			Epoch: 77}, o)
		if err != nil {
			t.Fatal(err)
		}
		defer tab.Close()
		model := map[Key]*flow{}
		now := int64(0) // ticks since the epoch
		keys := rapid.Custom(func(t *rapid.T) Key {
			k := Key{VIP: uint16(rapid.IntRange(0, 2).Draw(t, "vip")), ClientPort: uint16(rapid.IntRange(0, 40).Draw(t, "cport")),
				VirtualPort: uint16(rapid.SampledFrom([]int{80, 443}).Draw(t, "vport")), Kind: rapid.SampledFrom([]Kind{TCP, UDP, TCP | Template}).Draw(t, "kind")}
			if rapid.Bool().Draw(t, "v6") {
				k.Client = frame.Addr{Hi: 0x20010db8 << 32, Lo: uint64(rapid.IntRange(0, 3).Draw(t, "host"))}
			} else {
				k.Client = frame.AddrFrom4(uint32(rapid.IntRange(0, 3).Draw(t, "host")))
			}
			return k
		})
		timeouts := rapid.OneOf(rapid.Uint32Range(1, 300), rapid.Uint32Range(1, 1<<20))
		live := func(k Key) *flow {
			if f := model[k]; f != nil && f.deadline > now {
				return f
			}
			return nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				h := tab.Hash(&k)
				if tab.Lookup(&k, h, None) != None {
					t.Skip("there already")
				}
				timeout := timeouts.Draw(t, "timeout")
				var id ID
				if rapid.Bool().Draw(t, "searched") {
					s := Search{Hashes: [Batch]Hash{5: h}}
					tab.Search(&s, 6)
					if rapid.Bool().Draw(t, "changed since") { // another flow comes and goes in the same buckets
						other := k
						other.VIP ^= 0x8000
						tab.Delete(tab.Put(&other, h, timeout, false))
					}
					spot, _ := tab.Absent(&s, 5)
					id = tab.PutAt(spot, &k, h, timeout, false)
				} else {
					id = tab.Put(&k, h, timeout, false)
				}
				if id == None {
					t.Fatalf("no room with %d flows", tab.Len())
				}
				model[k] = &flow{id: id, deadline: now + int64(timeout)}
				if k.Kind.IsTemplate() {
					model[k].packets = timeout
				}
			},
			"lookup": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				h := tab.Hash(&k)
				with := None
				if rapid.Bool().Draw(t, "hint") {
					with = hint(tab, h)
				}
				s := Search{Hashes: [Batch]Hash{3: h}}
				tab.Search(&s, 4)
				_, absent := tab.Absent(&s, 3)
				known := (*Entry)(nil)
				if k.Client.Is4() {
					short := ShortKey(k.Client.V4(), k.ClientPort, k.VirtualPort, k.VIP, k.Kind)
					if short.Key() != k || tab.HashShort(&short) != h {
						t.Fatalf("%v in short is %v, its hash %x, want %x", k, short.Key(), tab.HashShort(&short), h)
					}
					known = tab.Known(&short, s.Hints[3])
				} else {
					tab.FetchClients(&s, 0, 4, rapid.SampledFrom([]uint64{0, 1 << 3, 15}).Draw(t, "six"))
					short := ShortKey6(k.Client, k.ClientPort, k.VirtualPort, k.VIP, k.Kind)
					if tab.HashShort6(&short, k.Client) != h {
						t.Fatalf("%v in short has hash %x, want %x", k, tab.HashShort6(&short, k.Client), h)
					}
					known = tab.Known6(&short, &k.Client, s.Hints[3])
				}
				got, want := tab.Lookup(&k, h, with), live(k)
				if want != nil && (absent || known != nil && known != tab.Entry(want.id)) || want == nil && known != nil {
					t.Fatalf("%v: absent %v, known %v, want %v", k, absent, known, want)
				}
				if want == nil {
					if got != None {
						t.Fatalf("found %v, which is not there", k)
					}
					return
				}
				if got != want.id {
					t.Fatalf("%v: slot %d, want %d", k, got, want.id)
				}
				if tab.Key(got) != k {
					t.Fatalf("key %v, want %v", tab.Key(got), k)
				}
				e := tab.Entry(got)
				if e.Packets != want.packets {
					t.Fatalf("packets %d, want %d", e.Packets, want.packets)
				}
				e.Packets++
				want.packets++
				if rapid.Bool().Draw(t, "extend") {
					timeout := timeouts.Draw(t, "timeout")
					tab.Extend(got, e, timeout)
					want.deadline = now + int64(timeout)
				}
			},
			"delete": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				if f := live(k); f != nil {
					tab.Delete(f.id)
					delete(model, k)
				}
			},
			"advance": func(t *rapid.T) {
				step := rapid.OneOf(rapid.Int64Range(0, 50), rapid.Int64Range(0, 1<<21)).Draw(t, "ticks")
				now += step
				tab.Advance(77 + now<<tickShift)
			},
			"": func(t *rapid.T) {
				n := 0
				for k, f := range model {
					if f.deadline <= now {
						delete(model, k)
						continue
					}
					n++
					if !tab.InUse(f.id) {
						t.Fatalf("%v is gone %d ticks early", k, f.deadline-now)
					}
				}
				if tab.Len() < n {
					t.Fatalf("%d flows, want %d", tab.Len(), n)
				}
				checkDues(t, tab)
			},
		})
		// All that is left ends, and the counters add up.
		tab.Advance(77 + (now+1<<24)<<tickShift)
		if tab.Len() != 0 {
			t.Fatalf("%d flows never end", tab.Len())
		}
	})
}

// checkDues: the sweep comes by a bucket before anything in it is due, and by a group before any of
// its buckets is.
func checkDues(t interface{ Fatalf(string, ...any) }, tab *Table) {
	for b, due := range tab.dues {
		if first := tab.mins[b/groupBuckets]; int16(due-first) < 0 {
			t.Fatalf("group %d is due at %d, its bucket %d at %d", b/groupBuckets, first, b, due)
		}
		for i := range ID(bucketSlots) {
			l := &tab.all[b].line
			if at := uint16(l.due[i/4] >> (i % 4 * 16)); tab.tag(ID(b)*bucketSlots+i) != 0 && int16(at-due) < 0 {
				t.Fatalf("bucket %d is due at %d, its slot %d at %d", b, due, i, at)
			}
		}
	}
}

// TestLateSweep: what comes for longer than the horizon while the sweep lags behind does not keep
// it from what is overdue.
func TestLateSweep(t *testing.T) {
	o := &fakeOwner{}
	tab := newTable(t, MinFlows, o)
	for n := range uint32(400) {
		k := key4(n)
		tab.Put(&k, tab.Hash(&k), 100, false)
	}
	tab.SetTime((100 + 60*60) << tickShift) // a minute late
	for n := range uint32(400) {
		k := key4(1000 + n)
		tab.Put(&k, tab.Hash(&k), Ticks(2*time.Hour), false)
	}
	for !tab.Sweep(3) {
	}
	if len(o.ended) != 400 {
		t.Fatalf("%d of 400 flows ended", len(o.ended))
	}
}

// TestAdvanceIsExact: after Advance exactly the flows whose time has come are gone, each told once.
func TestAdvanceIsExact(t *testing.T) {
	o := &fakeOwner{}
	tab := newTable(t, 20000, o)
	rng := rand.New(rand.NewPCG(1, 2))
	deadline := map[ID]uint32{}
	for n := range uint32(15000) {
		k := key4(n)
		timeout := uint32(rng.IntN(200000) + 1)
		deadline[tab.Put(&k, tab.Hash(&k), timeout, false)] = timeout
	}
	for now := uint32(0); now < 210000; now += uint32(rng.IntN(3000)) {
		o.ended = o.ended[:0]
		tab.Advance(int64(now) << tickShift)
		for _, id := range o.ended {
			if d, ok := deadline[id]; !ok || d > now {
				t.Fatalf("slot %d ended at %d, due at %d (%v)", id, now, d, ok)
			}
			delete(deadline, id)
		}
		// Due times are in units of 4 ticks: up to 3 ticks late in being swept, never late in being
		// found.
		for id, d := range deadline {
			if d+4 <= now {
				t.Fatalf("slot %d was due at %d and is still counted at %d", id, d, now)
			}
			if d <= now && tab.InUse(id) {
				t.Fatalf("slot %d was due at %d and is in use at %d", id, d, now)
			}
		}
	}
	if len(deadline) != 0 || tab.Len() != 0 {
		t.Fatalf("%d flows left in the model, %d in the table", len(deadline), tab.Len())
	}
}

// TestSweepInSteps: small budgets end the same flows as one Advance.
func TestSweepInSteps(t *testing.T) {
	o := &fakeOwner{}
	tab := newTable(t, 20000, o)
	for n := range uint32(10000) {
		k := key4(n)
		tab.Put(&k, tab.Hash(&k), 100+n%50, false)
	}
	tab.SetTime(200 << tickShift)
	steps := 0
	for !tab.Sweep(3) {
		steps++
	}
	if len(o.ended) != 10000 || tab.Len() != 0 {
		t.Fatalf("%d ended, %d left", len(o.ended), tab.Len())
	}
	if steps < 10 {
		t.Fatalf("the sweep took %d steps: the budget does not bound it", steps)
	}
}

// TestFull fills a table to its capacity, which must not refuse a single flow, then asks for more.
func TestFull(t *testing.T) {
	const flows = 200000
	o := &fakeOwner{}
	tab := newTable(t, flows, o)
	to := DefaultTimeouts()
	at := func(d time.Duration) { tab.SetTime(int64(d)) }
	at(0)
	for n := range uint32(flows) {
		k := key4(n)
		id := tab.Put(&k, tab.Hash(&k), to.TCP[TCPEstablished], false)
		if id == None {
			t.Fatalf("refused flow %d of %d", n, flows)
		}
		e := tab.Entry(id)
		e.State, e.Flags, e.Packets = TCPEstablished, Proven, 100
	}
	at(59 * time.Second)
	k := key4(flows)
	if id := tab.Put(&k, tab.Hash(&k), 1000, true); id != None {
		t.Fatal("a proven flow had to make room that had traffic in the last minute")
	}
	if c := tab.Counters(); c.Refused != 1 || c.Created != flows {
		t.Fatalf("counters %+v", c)
	}
	// Half of them begin to close: now there is room, taken from the closing ones only.
	for n := range uint32(flows) {
		k := key4(n)
		id := tab.Lookup(&k, tab.Hash(&k), None)
		if id == None {
			t.Fatalf("flow %d got lost", n)
		}
		if e := tab.Entry(id); n%2 == 0 {
			e.State = TCPFinWait
			tab.Extend(id, e, to.TCP[TCPFinWait])
		} else {
			tab.Extend(id, e, to.TCP[TCPEstablished])
		}
	}
	at(62 * time.Second)
	if id := tab.Put(&k, tab.Hash(&k), 1000, true); id != None {
		t.Fatal("a closing flow had to make room that had traffic in the last seconds")
	}
	at(70 * time.Second)
	for n := range uint32(1000) {
		k := key4(flows + n)
		id := tab.Put(&k, tab.Hash(&k), 100, true)
		if id == None {
			t.Fatalf("no room for flow %d, though half of the flows are closing", n)
		}
		e := tab.Entry(id)
		e.State, e.Flags, e.Packets = TCPEstablished, Proven, 100
		tab.Extend(id, e, to.TCP[TCPEstablished])
	}
	checkDues(t, tab)
	if len(o.evicted) != 1000 || tab.Len() != flows {
		t.Fatalf("%d evicted, %d flows", len(o.evicted), tab.Len())
	}
	for n := uint32(1); n < flows; n += 2 {
		k := key4(n)
		if tab.Lookup(&k, tab.Hash(&k), None) == None {
			t.Fatalf("established flow %d was evicted", n)
		}
	}
	// Without eviction the policy is to refuse.
	k = key4(flows + 5000)
	if tab.Put(&k, tab.Hash(&k), 1000, false) != None {
		t.Fatal("a full table took a flow without evicting")
	}
	// What is past its deadline always makes room.
	at(200 * time.Second)
	if tab.Put(&k, tab.Hash(&k), 1000, false) == None {
		t.Fatal("no room although half of the flows are past their deadline")
	}
}

// TestBytesPerFlow holds the table to its budget of 64 bytes a flow.
func TestBytesPerFlow(t *testing.T) {
	for _, flows := range []int{100_000, 1_000_000} {
		tab := newTable(t, flows, nil)
		if per := float64(tab.MemorySize()) / float64(flows); per > 64 {
			t.Errorf("%d flows: %.1f bytes a flow", flows, per)
		}
	}
}

// TestOldHint: a hint may be older than the end of its flow.
func TestOldHint(t *testing.T) {
	tab := newTable(t, MinFlows, nil)
	k := key4(1)
	h := tab.Hash(&k)
	id := tab.Put(&k, h, 1000, false)
	with := hint(tab, h)
	tab.Delete(id)
	if with != id || tab.Lookup(&k, h, with) != None {
		t.Fatal("a flow is found after its end")
	}
}

func TestInvalidTemplate(t *testing.T) {
	tab := newTable(t, MinFlows, nil)
	k := Key{Client: frame.AddrFrom4(1), VIP: 1, VirtualPort: 80, Kind: TCP | Template}
	h := tab.Hash(&k)
	id := tab.Put(&k, h, 1000, false)
	tab.Invalidate(id)
	if tab.Lookup(&k, h, None) != None {
		t.Error("an invalid template was found")
	}
	if !tab.InUse(id) || tab.Key(id).VirtualPort != 65535 {
		t.Error("an invalid template must live on as port 65535")
	}
}

// TestHashSpreads: flows that differ in one field only spread over buckets and tags under any seed.
func TestHashSpreads(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		s0, s1 := rng.Uint64(), rng.Uint64()
		for name, vary := range map[string]func(*Key, uint32){
			"port":   func(k *Key, n uint32) { k.ClientPort = uint16(n) },
			"client": func(k *Key, n uint32) { k.Client.Lo += uint64(n) },
			"prefix": func(k *Key, n uint32) { k.Client.Hi, k.Client.Lo = 0x20010db800000000+uint64(n)<<16, 1 },
		} {
			const buckets, flows = 1000, 60000
			var count [buckets]int
			for n := range uint32(flows) {
				k := key4(0)
				vary(&k, n)
				h := hash(&k, s0, s1)
				count[uint64(h)>>32*buckets>>32]++
			}
			for b, n := range count {
				if n < 15 || n > 140 { // 60 expected, about 8 standard deviations
					t.Errorf("%s: bucket %d has %d of %d flows", name, b, n, flows)
				}
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	tab := newTable(t, MinFlows, &fakeOwner{})
	n := uint32(0)
	now := int64(0)
	allocs := testing.AllocsPerRun(20000, func() {
		k := key4(n % 900)
		n++
		h := tab.Hash(&k)
		id := tab.Lookup(&k, h, hint(tab, h))
		if id == None {
			id = tab.Put(&k, h, 50, true)
		}
		e := tab.Entry(id)
		e.State = NextTCP(e.State, frame.SYN, false)
		tab.Extend(id, e, 40)
		now += int64(Tick) / 3
		tab.SetTime(now)
		tab.Delete(id)
	})
	if allocs != 0 {
		t.Fatalf("%v allocations", allocs)
	}
}

func TestTicksRoundUp(t *testing.T) {
	for d, want := range map[time.Duration]uint32{-1: 0, 0: 0, 1: 1, Tick: 1, Tick + 1: 2, time.Second: 60} {
		if got := Ticks(d); got != want {
			t.Errorf("Ticks(%v) = %d, want %d", d, got, want)
		}
	}
}

// hint is what Search says of one hash.
func hint(t *Table, h Hash) ID {
	s := Search{Hashes: [Batch]Hash{h}}
	t.Search(&s, 1)
	return s.Hints[0]
}

// An entry holds 32 bits of a client's IPv6 address beside the whole: clients that have the same 32
// bits are told apart.
func TestKnown6(t *testing.T) {
	tab := newTable(t, 1024, nil)
	tab.SetTime(0)
	a := frame.Addr{Hi: 0x20010db8_00000001, Lo: 7}
	d := uint64(0x1234_5678_9abc)
	k := Key{Client: a, VIP: 1, ClientPort: 1024, VirtualPort: 80, Kind: TCP}
	other := k
	other.Client = frame.Addr{Hi: a.Hi ^ bits.RotateLeft64(d, 29), Lo: a.Lo ^ d}
	if k.ident() != other.ident() {
		t.Fatal("these clients differ in what an entry has of them: nothing is shown")
	}
	four := Key{Client: frame.AddrFrom4(compact(a)), VIP: 1, ClientPort: 1024, VirtualPort: 80, Kind: TCP}
	put := func(k *Key) ID { return tab.Put(k, tab.Hash(k), 100, false) }
	find := func(k *Key, hint ID) *Entry {
		s := ShortKey6(k.Client, k.ClientPort, k.VirtualPort, k.VIP, k.Kind)
		return tab.Known6(&s, &k.Client, hint)
	}
	id, id4 := put(&k), put(&four)
	if e := find(&k, id); e == nil || e != tab.Entry(id) {
		t.Errorf("the flow is not known: %v", e)
	}
	for name, e := range map[string]*Entry{
		"another client of the same 32 bits": find(&other, id), "a client of IPv4": find(&k, id4), "no hint": find(&k, None),
	} {
		if e != nil {
			t.Errorf("%s is taken for the flow", name)
		}
	}
	tab.SetTime(int64(time.Hour))
	if find(&k, id) != nil {
		t.Error("a flow whose time is over is known")
	}
}
