package ring

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// usualMac is where the kernel puts the Ethernet header of a frame with a virtio_net_hdr.
const usualMac = 76

// A header is what the kernel writes at the start of a slot.
type header struct {
	status    uint32
	len, snap uint32
	mac       uint16
	tci, tpid uint16
	pktType   uint8
}

// whole is the header of a frame of n bytes that fits.
func whole(n int) header {
	return header{status: unix.TP_STATUS_USER, len: uint32(n), snap: uint32(n), mac: usualMac}
}

// write puts h at off, the status last, as the kernel does.
func (h header) write(mem []byte, off int) {
	b := mem[off:]
	hostOrder.PutUint32(b[offLen:], h.len)
	hostOrder.PutUint32(b[offSnap:], h.snap)
	hostOrder.PutUint16(b[offMac:], h.mac)
	hostOrder.PutUint16(b[offTCI:], h.tci)
	hostOrder.PutUint16(b[offTPID:], h.tpid)
	b[offPktType] = h.pktType
	storeStatus(mem, off, h.status)
}

// A fakeKernel fills the slots of a ring in order, and stops at one that was not given back.
type fakeKernel struct {
	g    geometry
	mem  []byte
	next cursor
}

// put writes a frame; false if the ring is full.
func (k *fakeKernel) put(h header, data []byte) bool {
	if loadStatus(k.mem, k.next.off) != unix.TP_STATUS_KERNEL {
		return false
	}
	if int(h.mac)+len(data) <= k.g.slotSize {
		copy(k.mem[k.next.off+int(h.mac):], data)
	}
	h.write(k.mem, k.next.off)
	k.g.step(&k.next)
	return true
}

// newRing is a ring over plain memory, its walker and its kernel.
func newRing(slots, slotSize, page int) (*walker, *fakeKernel) {
	g := newGeometry(slots, slotSize, page)
	mem := make([]byte, g.size())
	w := newWalker(mem, g)
	return &w, &fakeKernel{g: g, mem: mem}
}

func TestGeometry(t *testing.T) {
	page := os.Getpagesize()
	for _, size := range []int{MinSlotSize, MinSlotSize + 1, 1000, 2048, 9000, 4096, 65536 + 128, MaxSlotSize} {
		for _, slots := range []int{MinSlots, MinSlots + 1, 100, 1000, DefaultSlots, 12345} {
			g := newGeometry(slots, size, page)
			// What packet_set_ring in net/packet/af_packet.c demands.
			if g.blockSize <= 0 || g.blockSize%page != 0 || g.slotSize%unix.TPACKET_ALIGNMENT != 0 {
				t.Errorf("%d slots of %d: %+v: not aligned", slots, size, g)
			}
			if g.perBlock != g.blockSize/g.slotSize || g.perBlock == 0 || g.slots%g.perBlock != 0 {
				t.Errorf("%d slots of %d: %+v: not whole blocks", slots, size, g)
			}
			if g.slots < slots || g.slots >= slots+g.perBlock || g.slotSize < size || g.slotSize >= size+unix.TPACKET_ALIGNMENT {
				t.Errorf("%d slots of %d: %+v: not what was asked for", slots, size, g)
			}
			// A whole round: no slot crosses a block or overlaps the one before.
			var c cursor
			last := -g.slotSize
			for i := range g.slots {
				if c.slot != i || c.off < last+g.slotSize || c.off/g.blockSize != (c.off+g.slotSize-1)/g.blockSize ||
					c.off+g.slotSize > g.size() {
					t.Fatalf("%+v: slot %d: %+v after %d", g, i, c, last)
				}
				last = c.off
				g.step(&c)
			}
			if c != (cursor{}) {
				t.Errorf("%+v: a round ends at %+v", g, c)
			}
		}
	}
}

func TestTake(t *testing.T) {
	const slotSize = 512
	room := uint32(slotSize - usualMac)
	const user = unix.TP_STATUS_USER
	const vlan, tpid = unix.TP_STATUS_VLAN_VALID, unix.TP_STATUS_VLAN_TPID_VALID
	for _, c := range []struct {
		name string
		h    header
		want found
		s    slot // with offsets from the start of the slot
	}{
		{"empty", header{}, nothing, slot{}},
		{"empty, whatever else the header says", header{status: unix.TP_STATUS_COPY, len: 60, snap: 60, mac: usualMac}, nothing, slot{}},
		{"a frame", header{user, 60, 60, usualMac, 0, 0, 0}, good, slot{user, 66, 136, 60, 0, 0, 0}},
		{"no bytes", header{user, 0, 0, usualMac, 0, 0, 0}, good, slot{user, 66, 76, 0, 0, 0, 0}},
		{"all of the slot", header{user, room, room, usualMac, 0, 0, 0}, good, slot{user, 66, slotSize, int(room), 0, 0, 0}},
		{"cut", header{user, 9000, room, usualMac, 0, 0, 0}, good, slot{user, 66, slotSize, 9000, 0, 0, 0}},
		{"largest", header{user, maxWire, room, usualMac, 0, 0, 0}, good, slot{user, 66, slotSize, maxWire, 0, 0, 0}},
		{"outgoing", header{user, 60, 60, usualMac, 0, 0, unix.PACKET_OUTGOING}, good, slot{user, 66, 136, 60, 0, 0, unix.PACKET_OUTGOING}},
		{"a tag", header{user | vlan | tpid, 60, 60, usualMac, 0x2064, 0x88a8, 0}, good, slot{user | vlan | tpid, 66, 136, 60, 0x88a8, 0x2064, 0}},
		{"a tag without a type", header{user | vlan, 60, 60, usualMac, 100, 0x1234, 0}, good, slot{user | vlan, 66, 136, 60, 0x8100, 100, 0}},
		{"priority tag", header{user | vlan | tpid, 60, 60, usualMac, 0, 0x8100, 0}, good, slot{user | vlan | tpid, 66, 136, 60, 0x8100, 0, 0}},
		{"a tag that is not valid", header{user | tpid, 60, 60, usualMac, 100, 0x8100, 0}, good, slot{user | tpid, 66, 136, 60, 0, 0, 0}},
		{"earliest start", header{user, 60, 60, minMac + vnetLen, 0, 0, 0}, good, slot{user, minMac, minMac + vnetLen + 60, 60, 0, 0, 0}},

		{"starts in the header", header{user, 60, 60, minMac + vnetLen - 1, 0, 0, 0}, damaged, slot{status: user}},
		{"starts at 0", header{user, 60, 60, 0, 0, 0, 0}, damaged, slot{status: user}},
		{"starts behind the slot", header{user, 60, 60, slotSize, 0, 0, 0}, damaged, slot{status: user}},
		{"starts far behind the slot", header{user, 0, 0, 0xffff, 0, 0, 0}, damaged, slot{status: user}},
		{"ends behind the slot", header{user, room + 1, room + 1, usualMac, 0, 0, 0}, damaged, slot{status: user}},
		{"longer in the slot than on the wire", header{user, 59, 60, usualMac, 0, 0, 0}, damaged, slot{status: user}},
		{"snap is negative as a signed number", header{user, 0xffffffff, 0x80000000, usualMac, 0, 0, 0}, damaged, slot{status: user}},
		{"snap wraps around with mac", header{user, 0xffffffff, 0xffffffff, usualMac, 0, 0, 0}, damaged, slot{status: user}},
		{"length is negative as a signed number", header{user, 0xffffffff, 60, usualMac, 0, 0, 0}, damaged, slot{status: user}},
		{"length is not believable", header{user, maxWire + 1, 60, usualMac, 0, 0, 0}, damaged, slot{status: user}},
		{"damaged copy", header{user | unix.TP_STATUS_COPY | vlan, 0, 1, usualMac, 1, 1, 1}, damaged, slot{status: user | unix.TP_STATUS_COPY | vlan}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := newRing(64, slotSize, 4096)
			// Neither the first slot nor the last, so that an offset that is forgotten shows.
			w.next = cursor{5, 5 * slotSize}
			w.tail = w.next
			c.h.write(w.mem, w.next.off)
			if got, want := w.ready(), c.want != nothing; got != want {
				t.Errorf("ready: %v, want %v", got, want)
			}
			var s slot
			if got := w.take(&s); got != c.want {
				t.Fatalf("take: %d, want %d", got, c.want)
			}
			if c.want == good {
				c.s.start += 5 * slotSize
				c.s.end += 5 * slotSize
			}
			if s != c.s {
				t.Errorf("got  %+v\nwant %+v", s, c.s)
			}
			held := 1
			if c.want == nothing {
				held = 0
			}
			if w.held != held || w.next.slot != 5+held {
				t.Errorf("holds %d, next slot %d", w.held, w.next.slot)
			}
			w.giveBack()
			// A damaged slot goes back as well: a slot that stays would stop the ring.
			if st := loadStatus(w.mem, 5*slotSize); c.want != nothing && st != unix.TP_STATUS_KERNEL {
				t.Errorf("given back with status %#x", st)
			}
			if w.held != 0 || w.tail != w.next {
				t.Errorf("after giveBack: holds %d, tail %+v, next %+v", w.held, w.tail, w.next)
			}
		})
	}
}

// A walker that holds the whole ring must not take a slot twice, although all still say that they
// are filled.
func TestTakeWholeRing(t *testing.T) {
	w, k := newRing(64, 256, 4096)
	for i := range w.slots {
		if !k.put(whole(1), []byte{byte(i)}) {
			t.Fatal("full too early")
		}
	}
	if k.put(whole(1), nil) {
		t.Fatal("the ring takes more than it has slots")
	}
	var s slot
	for range w.slots {
		if w.take(&s) != good {
			t.Fatal("nothing to take")
		}
	}
	if w.ready() || w.take(&s) != nothing {
		t.Error("a held slot was taken again")
	}
	if n := w.filled(w.next.slot); n != w.slots {
		t.Errorf("filled: %d, want %d: nothing was given back", n, w.slots)
	}
	w.giveBack()
	if w.held != 0 || w.filled(0) != 0 || w.ready() {
		t.Error("not all was given back")
	}
}

// A model of the ring is a queue. Whatever the order of filling, taking and giving back, frames
// come out as they went in, and the kernel finds room exactly for what was given back.
func TestWalkModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Pages of 256 bytes make blocks that end with unused bytes, and rings of several blocks,
		// without much memory.
		page := rapid.SampledFrom([]int{256, 512, 4096}).Draw(t, "page")
		w, k := newRing(rapid.IntRange(1, 40).Draw(t, "slots"), rapid.IntRange(100, 700).Draw(t, "size"), page)
		if rapid.Bool().Draw(t, "small blocks") {
			g := geometry{slotSize: w.slotSize, perBlock: rapid.IntRange(1, 5).Draw(t, "per block")}
			g.blockSize = (g.slotSize*g.perBlock + page - 1) / page * page
			g.perBlock = g.blockSize / g.slotSize
			g.slots = g.perBlock * rapid.IntRange(1, 6).Draw(t, "blocks")
			mem := make([]byte, g.size())
			*w = newWalker(mem, g)
			k = &fakeKernel{g: g, mem: mem}
		}
		type put struct {
			h    header
			data []byte
			bad  bool
		}
		var waiting, held []put
		seq := byte(0)
		t.Repeat(map[string]func(*rapid.T){
			"fill": func(t *rapid.T) {
				for range rapid.IntRange(1, 10).Draw(t, "frames") {
					n := rapid.IntRange(0, w.slotSize-usualMac).Draw(t, "length")
					p := put{h: whole(n), data: bytes.Repeat([]byte{seq}, n)}
					p.h.len += uint32(rapid.IntRange(0, 2).Draw(t, "cut") * 1000)
					if p.bad = rapid.IntRange(0, 9).Draw(t, "damage") == 0; p.bad {
						p.h.snap = p.h.len + 1
					}
					seq++
					full := len(waiting)+len(held) == w.slots
					if k.put(p.h, p.data) == full {
						t.Fatalf("the ring holds %d of %d and full is %v", len(waiting)+len(held), w.slots, !full)
					}
					if !full {
						waiting = append(waiting, p)
					}
				}
			},
			"take": func(t *rapid.T) {
				for range rapid.IntRange(1, 10).Draw(t, "frames") {
					var s slot
					off := w.next.off
					got := w.take(&s)
					if len(waiting) == 0 {
						if got != nothing {
							t.Fatalf("took %d from an empty ring", got)
						}
						return
					}
					p := waiting[0]
					waiting, held = waiting[1:], append(held, p)
					switch {
					case p.bad:
						if got != damaged {
							t.Fatalf("%+v is not damaged", p.h)
						}
					case got != good:
						t.Fatalf("%+v: take gave %d", p.h, got)
					case s.start != off+usualMac-vnetLen || !bytes.Equal(w.mem[s.start+vnetLen:s.end], p.data) || s.wire != int(p.h.len):
						t.Fatalf("%+v: took %+v with other bytes", p.h, s)
					}
				}
			},
			"give back": func(*rapid.T) {
				w.giveBack()
				held = nil
			},
			"": func(t *rapid.T) {
				if w.held != len(held) {
					t.Fatalf("holds %d, want %d", w.held, len(held))
				}
				if w.ready() != (len(waiting) > 0) {
					t.Fatalf("ready is %v with %d waiting", w.ready(), len(waiting))
				}
				want := len(waiting)
				if want+len(held) == w.slots {
					want = w.slots // held slots look filled too: who counts takes the lesser
				}
				if n := w.filled(w.next.slot); n != want {
					t.Fatalf("filled: %d, want %d", n, want)
				}
			},
		})
	})
}

// One goroutine fills and the other walks: under the race detector this shows that only the status
// is shared, and that it orders all the rest.
func TestWalkConcurrently(t *testing.T) {
	w, k := newRing(64, 256, 4096)
	const frames = 20_000
	done := make(chan struct{})
	go func() {
		defer close(done)
		var b [100]byte
		for i := 0; i < frames; {
			hostOrder.PutUint32(b[:], uint32(i))
			b[99] = byte(i)
			if k.put(whole(len(b)), b[:]) {
				i++
			} else {
				runtime.Gosched()
			}
		}
	}()
	var s slot
	for i := 0; i < frames; {
		switch w.take(&s) {
		case nothing:
			w.giveBack()
			runtime.Gosched()
		case good:
			b := w.mem[s.start+vnetLen : s.end]
			if len(b) != 100 || hostOrder.Uint32(b) != uint32(i) || b[99] != byte(i) {
				t.Fatalf("frame %d: % x", i, b)
			}
			b[0] = 0xff // a lent frame may be written to
			i++
		case damaged:
			t.Fatalf("frame %d is damaged", i)
		}
	}
	<-done
}

// checkTake takes a slot with the header of raw bytes, and demands that nothing outside of the slot
// is lent.
func checkTake(raw []byte, slotSize int) error {
	w, _ := newRing(8, slotSize, 4096)
	at := 3 * w.slotSize
	w.next = cursor{3, at}
	w.tail = w.next
	copy(w.mem[at:at+w.slotSize], raw)
	before := bytes.Clone(w.mem)
	status := loadStatus(w.mem, at)
	var s slot
	got := w.take(&s)
	if !bytes.Equal(w.mem, before) {
		return fmt.Errorf("take wrote to the ring")
	}
	if (got == nothing) != (status&unix.TP_STATUS_USER == 0) {
		return fmt.Errorf("status %#x: take gave %d", status, got)
	}
	switch got {
	case good:
		if s.start < at+minMac || s.end < s.start+vnetLen || s.end > at+w.slotSize {
			return fmt.Errorf("slot at %d to %d lends %d to %d", at, at+w.slotSize, s.start, s.end)
		}
		if n := s.end - s.start - vnetLen; s.wire < n || s.wire > maxWire {
			return fmt.Errorf("%d bytes at hand, %d on the wire", n, s.wire)
		}
		if s.status != status {
			return fmt.Errorf("status %#x, want %#x", s.status, status)
		}
	case damaged:
		if s != (slot{status: status}) {
			return fmt.Errorf("damaged, but lends %+v", s)
		}
	}
	w.giveBack()
	if got != nothing && loadStatus(w.mem, at) != unix.TP_STATUS_KERNEL {
		return fmt.Errorf("not given back")
	}
	return nil
}

func TestTakeHostile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), minMac, minMac).Draw(t, "header")
		size := rapid.IntRange(minMac, 5000).Draw(t, "size")
		// Random bytes alone would hardly ever come near the bounds.
		near := rapid.SampledFrom([]int{0, minMac, minMac + vnetLen, usualMac, size, maxWire, 1 << 16, 1 << 31, 1 << 32})
		off := rapid.IntRange(-2, 2)
		hostOrder.PutUint32(raw[offStatus:], hostOrder.Uint32(raw)|unix.TP_STATUS_USER)
		if rapid.Bool().Draw(t, "near") {
			hostOrder.PutUint16(raw[offMac:], uint16(near.Draw(t, "mac")+off.Draw(t, "mac+")))
			hostOrder.PutUint32(raw[offSnap:], uint32(near.Draw(t, "snap")+off.Draw(t, "snap+")))
			hostOrder.PutUint32(raw[offLen:], uint32(near.Draw(t, "len")+off.Draw(t, "len+")))
		}
		if err := checkTake(raw, size); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzTake(f *testing.F) {
	seed := func(h header) {
		raw := make([]byte, minMac)
		h.write(raw, 0)
		f.Add(raw, uint16(512))
	}
	seed(header{})
	seed(whole(60))
	seed(whole(512 - usualMac))
	seed(whole(513 - usualMac))
	seed(header{unix.TP_STATUS_USER, 0xffffffff, 0xffffffff, 0xffff, 0xffff, 0xffff, 0xff})
	seed(header{unix.TP_STATUS_USER | unix.TP_STATUS_COPY, 9000, 436, usualMac, 0, 0, 0})
	seed(header{unix.TP_STATUS_USER | unix.TP_STATUS_VLAN_VALID, 60, 60, usualMac, 5, 0x88a8, 0})
	f.Fuzz(func(t *testing.T, raw []byte, size uint16) {
		if err := checkTake(raw, max(int(size), minMac)); err != nil {
			t.Fatal(err)
		}
	})
}
