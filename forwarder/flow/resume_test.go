package flow

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// A reporter is a testing.TB or a rapid.T.
type reporter interface {
	Helper()
	Fatal(...any)
	Cleanup(func())
}

// fileConfig is a table in a file of its own, which is there until the test, or this check of many,
// has ended.
func fileConfig(t reporter, flows int) Config {
	f, err := os.CreateTemp("", "flows")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); os.Remove(f.Name()) })
	return Config{Flows: flows, Seed: [2]uint64{3, 4}, Epoch: 1000, Boot: [16]byte{1, 2, 3}, File: f}
}

func all(*Key, *Entry) bool { return true }

// TestResumeAgainstOriginal: a table that is taken over goes on as the one that went on in its own
// process.
func TestResumeAgainstOriginal(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := fileConfig(rt, MinFlows)
		owner := &fakeOwner{}
		tab, err := New(c, owner)
		if err != nil {
			t.Fatal(err)
		}
		defer tab.Close()
		now := c.Epoch + rapid.Int64Range(0, 1e15).Draw(rt, "start")
		tab.Advance(now)
		var keys []Key
		for i := range rapid.IntRange(0, 300).Draw(rt, "flows") {
			k := key4(uint32(i))
			if i%7 == 0 {
				k.Client = frame.Addr{Hi: 0x20010db8 << 32, Lo: uint64(i)}
			}
			timeout := uint32(rapid.IntRange(1, 5000).Draw(rt, "timeout"))
			template := None
			if i%3 == 0 {
				tk := Key{Client: k.Client, VIP: 1, VirtualPort: 80, Kind: TCP | Template}
				if template = tab.Lookup(&tk, tab.Hash(&tk), None); template == None {
					template = tab.Put(&tk, tab.Hash(&tk), timeout/2+1, false)
				}
				keys = append(keys, tk)
			}
			id := tab.Put(&k, tab.Hash(&k), timeout, false)
			e := tab.Entry(id)
			e.State, e.Packets, e.Dest = TCPEstablished, uint32(i), uint32(i%5)
			if template != None {
				tab.Entry(template).Control++
				e.Control = 1 + uint32(template)
			}
			keys = append(keys, k)
			now += rapid.Int64Range(0, int64(Tick)).Draw(rt, "pause")
			tab.Advance(now)
		}
		if rapid.Bool().Draw(rt, "as if killed") {
			// What is counted twice may be half done.
			for id := range ID(tab.Slots()) {
				if e := tab.Entry(id); tab.tag(id) != 0 && e.kind.IsTemplate() {
					e.Control += 3
				}
			}
		}
		copied := copyOf(rt, c)
		for id := range ID(tab.Slots()) { // the original is as it should be
			if e := tab.Entry(id); tab.tag(id) != 0 && e.kind.IsTemplate() {
				e.Control = 0
			}
		}
		for id := range ID(tab.Slots()) {
			if e := tab.Entry(id); tab.tag(id) != 0 && !e.kind.IsTemplate() && e.Control != 0 {
				tab.Entry(ID(e.Control-1)).Control++
			}
		}
		now += rapid.Int64Range(0, 3000*int64(Tick)).Draw(rt, "away")
		other, r, err := Resume(copied, now, &fakeOwner{}, all)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if r.Dropped != 0 || r.Loosened != 0 {
			rt.Fatalf("of a sound table: %+v", r)
		}
		for range 4 {
			tab.Advance(now)
			other.Advance(now)
			if tab.Len() != other.Len() {
				rt.Fatalf("%d entries, of the original %d", other.Len(), tab.Len())
			}
			for i := range keys {
				h := tab.Hash(&keys[i])
				a, b := tab.Lookup(&keys[i], h, None), other.Lookup(&keys[i], h, None)
				if a != b || a != None && *tab.Entry(a) != *other.Entry(b) {
					rt.Fatalf("%+v is %d, in the original %d: %+v", keys[i], b, a, tab.Entry(max(0, a%ID(tab.Slots()))))
				}
			}
			now += rapid.Int64Range(0, 6000*int64(Tick)).Draw(rt, "on")
		}
	})
}

// copyOf copies a table's file, as it would be found by another process.
func copyOf(t reporter, c Config) Config {
	t.Helper()
	text, err := os.ReadFile(c.File.Name())
	if err != nil {
		t.Fatal(err)
	}
	d := fileConfig(t, c.Flows)
	if _, err := d.File.WriteAt(text, 0); err != nil {
		t.Fatal(err)
	}
	return d
}

// sample is the file of a table with some of everything.
func sample(t testing.TB) ([]byte, Config) {
	c := fileConfig(t, MinFlows)
	tab, err := New(c, &fakeOwner{})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	putSome(tab, c.Epoch, 200)
	text, err := os.ReadFile(c.File.Name())
	if err != nil {
		t.Fatal(err)
	}
	return text, c
}

// putSome puts n entries of all kinds into a table.
func putSome(tab *Table, epoch int64, n uint32) {
	tab.Advance(epoch + int64(time.Minute))
	for i := range n {
		k := key4(i)
		if i%5 == 0 {
			k.Client = frame.Addr{Hi: 0x20010db8 << 32, Lo: uint64(i)}
		}
		if i%4 == 0 {
			k.Kind, k.ClientPort = TCP|Template, 0
			k.Client.Lo += uint64(i)
		}
		id := tab.Put(&k, tab.Hash(&k), 1000+i, false)
		if i%4 == 1 {
			tab.Entry(id).Control = uint32(id) // of the one before, maybe
		}
	}
}

// exercise does with a table what a worker does, and checks that it counts right.
func exercise(t *testing.T, tab *Table, now int64, rounds int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		used := 0
		for id := range ID(tab.Slots()) {
			if tab.tag(id) == 0 {
				continue
			}
			used++
			k, e := tab.Key(id), tab.Entry(id)
			_ = e.StateName()
			tab.Lookup(&k, tab.Hash(&k), ID(r.Uint32()%uint32(tab.Slots())))
		}
		if tab.Len() > used {
			t.Fatalf("the table counts %d entries of %d", tab.Len(), used)
		}
		for i := range uint32(tab.Capacity() / 2) {
			k := key4(10000 + i)
			h := tab.Hash(&k)
			if id := tab.Lookup(&k, h, hint(tab, h)); id != None {
				tab.Extend(id, tab.Entry(id), 10)
				continue
			}
			tab.Put(&k, h, r.Uint32()%1000, true)
		}
		now += int64(10 * time.Minute)
		tab.Advance(now)
	}
}

// ends lets the time pass that no entry outlives.
func ends(t *testing.T, tab *Table, now int64) {
	t.Helper()
	tab.Advance(now + int64(401*24*time.Hour))
	if n := tab.Len(); n != 0 {
		t.Fatalf("%d entries never end", n)
	}
}

// FuzzResume: whatever a file has in it, it is refused, or taken over such that the table works.
// The table is small and in memory, so that there are many runs; that all entries end is looked at
// in some of them, as the year until then takes as long as a hundred runs.
func FuzzResume(f *testing.F) {
	c := Config{Flows: 100, Seed: [2]uint64{3, 4}, Epoch: 1000, Boot: [16]byte{1, 2, 3}}
	a, err := mapArena(bucketsFor(c.Flows), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := a.unmap(); err != nil {
			f.Error(err)
		}
	})
	h := a.at.header()
	h.Capacity, h.Seed0, h.Seed1, h.Epoch, h.Boot = uint64(c.Flows), c.Seed[0], c.Seed[1], c.Epoch, c.Boot
	h.Sum = h.sum()
	*a.head = h
	putSome(tableOf(a, &fakeOwner{}), c.Epoch, 60)
	text := bytes.Clone(a.mem)
	file := bytes.Clone(text)
	for n := range uint64(8) {
		f.Add(n, uint16(1<<n), len(text))
	}
	f.Add(uint64(1), uint16(0), len(text)-1)
	f.Fuzz(func(t *testing.T, seed uint64, flips uint16, length int) {
		copy(file, text)
		damage(file, a.at, seed, int(flips)%256)
		if length < headerBytes || length > len(file) {
			length = len(file)
		}
		now := c.Epoch + int64(2*time.Minute)
		if c.judge(headerOf(file), int64(length), now) != nil {
			return
		}
		copy(a.mem, file)
		kept := 0
		tab, got := takeOver(a, now, &fakeOwner{}, func(*Key, *Entry) bool { kept++; return true })
		resumed(t, tab, got, kept)
		exercise(t, tab, now, 1)
		if seed%1024 == 0 {
			ends(t, tab, now+int64(10*time.Minute))
		}
	})
}

// TestResumeDamaged does with files, and in every run of the tests, what FuzzResume does.
func TestResumeDamaged(t *testing.T) {
	text, _ := sample(t)
	taken := 0
	for seed := range uint64(60) {
		if damaged(t, bytes.Clone(text), seed, 1<<(seed%13)) {
			taken++
		}
	}
	if taken < 20 {
		t.Errorf("only %d of 60 files were taken over: this tests little", taken)
	}
}

// damage changes bytes of a table's file, most of them where entries are.
func damage(text []byte, l layout, seed uint64, flips int) {
	r := rand.New(rand.NewPCG(seed, 7))
	for range flips {
		at := l.all + r.IntN(len(text)-l.all)
		switch r.IntN(400) {
		case 0:
			at = r.IntN(headerBytes)
		case 1, 2, 3:
			at = headerBytes + r.IntN(headerSize-headerBytes)
		}
		text[at] = byte(r.Uint32())
	}
}

// resumed checks what became of a table that was taken over.
func resumed(t *testing.T, tab *Table, got Resumed, kept int) {
	t.Helper()
	if kept != tab.Len() || got.Flows+got.Templates != kept {
		t.Fatalf("%d entries were kept and the table has %d: %+v", kept, tab.Len(), got)
	}
}

// damaged damages a table's file, and has it taken over.
func damaged(t *testing.T, text []byte, seed uint64, flips int) bool {
	t.Helper()
	damage(text, layoutOf(bucketsFor(MinFlows)), seed, flips)
	c := fileConfig(t, MinFlows)
	if _, err := c.File.WriteAt(text, 0); err != nil {
		t.Fatal(err)
	}
	now := c.Epoch + int64(2*time.Minute)
	kept := 0
	tab, got, err := Resume(c, now, &fakeOwner{}, func(*Key, *Entry) bool { kept++; return true })
	if err != nil {
		if !errors.Is(err, ErrRefused) {
			t.Fatalf("not refused, but failed: %v", err)
		}
		return false
	}
	defer tab.Close()
	resumed(t, tab, got, kept)
	exercise(t, tab, now, 3)
	ends(t, tab, now+int64(30*time.Minute))
	return true
}

// Entries that were caught in the middle of something are dropped or set right.
func TestResumeTorn(t *testing.T) {
	c := fileConfig(t, MinFlows)
	tab, err := New(c, &fakeOwner{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(n uint32, template bool) ID {
		k := key4(n)
		if template {
			k.Kind |= Template
		}
		id := tab.Put(&k, tab.Hash(&k), 1000, false)
		tab.Entry(id).State = TCPEstablished
		return id
	}
	whole := put(1, false)
	tab.Entry(whole).Flags |= Inactive // the state was changed, the flag not yet
	deleted := put(2, false)
	tab.Entry(deleted).kind = 0
	loose := put(3, false)
	tab.Entry(loose).Control = 1 + uint32(deleted)
	begun := put(4, false)
	tab.setTag(begun, 0) // the tag comes last
	foreign := put(5, false)
	tab.Entry(foreign).vip = 9 // not where its key should be
	state := put(6, false)
	tab.Entry(state).State = 99
	invalid := put(7, true)
	tab.Invalidate(invalid)
	held := put(8, false)
	tab.Entry(held).Control = 1 + uint32(invalid)
	unwanted := put(9, false)
	tab.Entry(unwanted).Dest = 7
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	tab, r, err := Resume(c, c.Epoch+5, &fakeOwner{}, func(_ *Key, e *Entry) bool { return e.Dest != 7 })
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	if want := (Resumed{Flows: 3, Templates: 1, Dropped: 4, Loosened: 1}); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
	if tab.Entry(whole).Flags&Inactive != 0 {
		t.Error("an established connection is inactive")
	}
	if tab.Entry(loose).Control != 0 || tab.Entry(invalid).Control != 1 || tab.Len() != 4 {
		t.Errorf("controls %d and %d, %d entries", tab.Entry(loose).Control, tab.Entry(invalid).Control, tab.Len())
	}
	if c := tab.Counters(); c.Created != 9 {
		t.Errorf("the counters were not taken over: %+v", c)
	}
}

// Files of others are refused, and the reason is said.
func TestResumeRefuses(t *testing.T) {
	text, c := sample(t)
	now := c.Epoch + int64(time.Hour)
	for _, x := range []struct {
		says   string
		change func(c *Config, text []byte) []byte
		now    int64
	}{
		{"another version", func(c *Config, b []byte) []byte { b[8]++; return b }, now},
		{"not a connection table", func(c *Config, b []byte) []byte { return bytes.Repeat([]byte("text"), len(b)/4) }, now},
		{"the header is missing", func(c *Config, b []byte) []byte { return b[:100] }, now},
		{"the header is missing", func(c *Config, b []byte) []byte { return nil }, now},
		{"was truncated", func(c *Config, b []byte) []byte { return b[:len(b)-1] }, now},
		{"was truncated", func(c *Config, b []byte) []byte { return b[:4096] }, now},
		{"header is damaged", func(c *Config, b []byte) []byte { b[90] ^= 1; return b }, now},
		{"for 1024 flows, not 2048", func(c *Config, b []byte) []byte { c.Flows = 2048; return b }, now},
		{"was rebooted", func(c *Config, b []byte) []byte { c.Boot[3]++; return b }, now},
		{"seed", func(c *Config, b []byte) []byte { c.Seed[1]++; return b }, now},
		{"time", func(c *Config, b []byte) []byte { return b }, c.Epoch + 1},
		{"time", func(c *Config, b []byte) []byte { return b }, now + int64(366*24*time.Hour)},
	} {
		d := fileConfig(t, MinFlows)
		content := x.change(&d, bytes.Clone(text))
		if _, err := d.File.WriteAt(content, 0); err != nil {
			t.Fatal(err)
		}
		_, _, err := Resume(d, x.now, &fakeOwner{}, all)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("the error is %v, and should say %q", err, x.says)
		}
		if left, _ := os.ReadFile(d.File.Name()); !bytes.Equal(left, content) {
			t.Errorf("%s: the file was changed", x.says)
		}
	}
}

// TestResumeBefore: a table of the version before is taken over, once: its established flows have
// proved what later ones prove.
func TestResumeBefore(t *testing.T) {
	c := fileConfig(t, MinFlows)
	tab, err := New(c, &fakeOwner{})
	if err != nil {
		t.Fatal(err)
	}
	states := []State{TCPEstablished, TCPSynRecv, TCPFinWait, TCPFinWait}
	packets := []uint32{2, 9, 3, 9}
	proven := []bool{true, false, false, true}
	for i, state := range states {
		k := key4(uint32(i))
		e := tab.Entry(tab.Put(&k, tab.Hash(&k), 1000, false))
		e.State, e.Packets, e.born = state, packets[i], 0
	}
	tab.arena.head.Version = before
	tab.arena.head.Sum = tab.arena.head.sum()
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		tab, r, err := Resume(c, c.Epoch, &fakeOwner{}, all)
		if err != nil || r.Flows != len(states) {
			t.Fatalf("round %d: %+v, %v", round, r, err)
		}
		for i := range states {
			k := key4(uint32(i))
			e := tab.Entry(tab.Lookup(&k, tab.Hash(&k), None))
			if want := proven[i] && round == 0; e.Flags&Proven != 0 != want {
				t.Errorf("round %d: a flow in state %d with %d packets: proven %v, want %v", round, states[i], packets[i], !want, want)
			}
			e.Flags &^= Proven // the second time it is a table of this version, in which that means something
		}
		if err := tab.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLayoutHasVersion: whoever changes what stands in the memory must raise the version, or the
// next upgrade takes over what it does not understand. If this fails, raise version and write here
// what the memory is like now.
func TestLayoutHasVersion(t *testing.T) {
	var b strings.Builder
	for _, typ := range []reflect.Type{reflect.TypeFor[header](), reflect.TypeFor[line](), reflect.TypeFor[bucket](), reflect.TypeFor[Entry]()} {
		for i := range typ.NumField() {
			f := typ.Field(i)
			fmt.Fprintf(&b, "%s %s@%d ", f.Name, f.Type, f.Offset)
		}
	}
	k := Key{Client: frame.Addr{Hi: 5, Lo: 6}, VIP: 7, ClientPort: 8, VirtualPort: 9, Kind: TCP}
	fmt.Fprintf(&b, "hash %x", hash(&k, 1, 2))
	const layout5 = "Magic uint64@0 Version uint32@8 EntrySize uint32@12 LineSize uint32@16 _ uint32@20 Buckets uint64@24 OffBuckets uint64@32 " +
		"OffExt uint64@40 Size uint64@48 Capacity uint64@56 Seed0 uint64@64 Seed1 uint64@72 Epoch int64@80 " +
		"Boot [16]uint8@88 Sum uint64@104 Now uint64@112 Count flow.Counters@120 tags [4]uint64@0 due [4]uint64@32 " +
		"line flow.line@0 entries [16]flow.Entry@64 ident flow.ident@0 vip uint16@8 kind flow.Kind@10 State flow.State@11 Dest uint32@12 " +
		"deadline uint32@16 Packets uint32@20 Control uint32@24 Flags uint8@28 born uint8@29 seq uint16@30 hash 9f6078317ef37c99"
	if version != 5 || b.String() != layout5 {
		t.Errorf("version %d has this layout:\n%s", version, &b)
	}
}

// TestHugePagesPossible: the memory begins where huge pages can, of a file too, or it never gets
// any; and what was mapped to find such a place is given back.
func TestHugePagesPossible(t *testing.T) {
	for _, f := range []*os.File{nil, fileConfig(t, MinFlows).File} {
		before := addressSpace(t)
		for range 200 {
			a, err := mapArena(bucketsFor(MinFlows), f)
			if err != nil {
				t.Fatal(err)
			}
			if at := reflect.ValueOf(a.head).Pointer(); at%hugePage != 0 {
				t.Fatalf("the table is at %x", at)
			}
			a.all[len(a.all)-1].entries[15].Packets = 1 // the end is there
			if err := a.unmap(); err != nil {
				t.Fatal(err)
			}
		}
		if after := addressSpace(t); after > before+100<<10 { // the runtime may take some meanwhile
			t.Errorf("%d KiB of address space were not given back", after-before)
		}
	}
}

// addressSpace is what this process has of it, in KiB.
func addressSpace(t *testing.T) (kib int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if _, after, found := strings.Cut(string(status), "VmSize:"); !found {
		t.Fatal("/proc/self/status has no VmSize")
	} else if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// BenchmarkResume takes over a table of a million flows.
func BenchmarkResume(b *testing.B) {
	dir := b.TempDir()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		dir = "/dev/shm"
	}
	f, err := os.Create(filepath.Join(dir, "shunt-bench-resume"))
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	c := Config{Flows: 1_000_000, Seed: [2]uint64{3, 4}, File: f}
	tab, err := New(c, &fakeOwner{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range uint32(1_000_000) {
		k := key4(i)
		if tab.Put(&k, tab.Hash(&k), 50000, false) == None {
			b.Fatal("no room")
		}
	}
	for b.Loop() {
		if err := tab.Close(); err != nil {
			b.Fatal(err)
		}
		var r Resumed
		if tab, r, err = Resume(c, 0, &fakeOwner{}, all); err != nil || r.Flows != 1_000_000 {
			b.Fatal(r, err)
		}
	}
	tab.Close()
}
