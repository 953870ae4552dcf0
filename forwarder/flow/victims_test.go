package flow

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// A crowd is a full table to which things happen at random.
type crowd struct {
	*Table
	to     *Timeouts
	rng    uint32
	kinds  []Kind
	keys   uint32
	proofs map[uint64]int // in each bucket, since it was ranked
	chosen [2]int         // how many made room by being ranked, and by being remembered
}

func (c *crowd) pick(n int) int { c.rng = c.rng*1664525 + 1013904223; return int(c.rng>>8) % n }

// one is a slot in use.
func (c *crowd) one() ID {
	for {
		if id := ID(c.pick(c.Slots())); c.tag(id) != 0 {
			return id
		}
	}
}

// packet is one of a flow, or of none if it is a template.
func (c *crowd) packet(id ID) {
	e := c.Entry(id)
	if e.kind.IsTemplate() || !c.InUse(id) {
		return
	}
	if e.kind == TCP && c.pick(3) == 0 {
		e.State = []State{TCPSynRecv, TCPEstablished, TCPEstablished, TCPFinWait, TCPClose}[c.pick(5)]
	}
	c.Extend(id, e, c.to.Of(e.kind, e.State))
	before := e.Flags
	if c.Prove(e); e.Flags != before {
		c.proofs[uint64(id/bucketSlots)]++
	}
	e.Packets++
}

// begin makes a flow or template, and reports the entry that should have made room if another did.
func (c *crowd) begin() (id, want ID) {
	k := key4(c.keys)
	c.keys++
	k.Kind = c.kinds[c.pick(len(c.kinds))]
	if k.Kind.IsTemplate() {
		k.Client, k.ClientPort = frame.AddrFrom4(c.keys), 0
	}
	h, evict, full := c.Hash(&k), c.pick(20) != 0, c.used >= c.capacity
	b1, b2, _ := c.where(h)
	remembered := c.next[b1].number() > 0
	alive := remembered && c.InUse(c.next[b1].next(b1))
	allowed := []ID{modelVictim(c.Table, c.to, b1, b2, evict, 0, 0)}
	if alive && evict {
		for from := range 2 { // what has run out is left to the sweep
			allowed = append(allowed, modelVictim(c.Table, c.to, b1, b2, evict, from, c.proofs[b1]))
		}
	}
	timeout := c.to.Of(k.Kind, TCPSynRecv)
	if k.Kind.IsTemplate() {
		timeout = Ticks(time.Duration(1+c.pick(300)) * time.Second)
	}
	id = c.Put(&k, h, timeout, evict)
	switch {
	case !full:
	case id == allowed[0]:
	case len(allowed) > 1 && (id == allowed[1] || id == allowed[2]):
	default:
		return id, allowed[0]
	}
	if !remembered {
		c.chosen[0]++
		c.proofs[b1] = 0
	} else {
		c.chosen[1]++
	}
	if id == None {
		return id, id
	}
	if e := c.Entry(id); k.Kind == TCP {
		e.State = TCPSynRecv
		if template := c.one(); c.Entry(template).kind.IsTemplate() && c.InUse(template) {
			e.Control = 1 + uint32(template)
			te := c.Entry(template)
			te.Control++
			c.Renew(template, te)
		}
	}
	if !k.Kind.IsTemplate() {
		c.packet(id)
	}
	return id, id
}

// TestVictimsAgainstModel: whatever happens since a bucket was ranked, that one makes room which a
// naive walk chooses.
func TestVictimsAgainstModel(t *testing.T) {
	remembered := 0
	rapid.Check(t, func(t *rapid.T) {
		tab, err := New(Config{Flows: MinFlows, Seed: [2]uint64{rapid.Uint64().Draw(t, "seed"), 1}}, &fakeOwner{})
		if err != nil {
			t.Fatal(err)
		}
		defer tab.Close()
		c := &crowd{Table: tab, to: DefaultTimeouts(), proofs: map[uint64]int{}, rng: rapid.Uint32().Draw(t, "mix")}
		c.kinds = rapid.SliceOfN(rapid.SampledFrom([]Kind{TCP, TCP, TCP, UDP, TCP | Template}), 1, 8).Draw(t, "kinds")
		pause := rapid.Int64Range(0, int64(20*time.Millisecond)).Draw(t, "pause")
		packets := rapid.IntRange(0, 5).Draw(t, "packets")
		lazy := rapid.Bool().Draw(t, "lazy sweep")
		now := int64(time.Hour)
		tab.SetTime(now)
		for range 100 {
			c.begin()
		}
		for n := range 3000 {
			switch c.pick(200) {
			case 0:
				now += int64(c.pick(5)) * int64(time.Second)
			case 1:
				if id := c.one(); tab.Entry(id).Control == 0 || !tab.Entry(id).kind.IsTemplate() {
					tab.Delete(id)
				}
			case 2:
				if c.pick(10) == 0 {
					c.to.UDP = Ticks(time.Duration(100+c.pick(300)) * time.Second)
					tab.SetTimeouts(c.to)
				}
			case 3:
				if c.pick(20) == 0 {
					now += int64(69 * time.Second)
				}
			}
			now += int64(c.pick(int(pause) + 1))
			if tab.SetTime(now); !lazy || c.pick(100) == 0 {
				tab.Advance(now)
			}
			if id, want := c.begin(); id != want {
				t.Fatalf("step %d: slot %d makes room, want %d", n, id, want)
			}
			for range packets {
				if id := c.one(); c.pick(2) == 0 {
					c.packet(id)
				}
			}
		}
		remembered += c.chosen[1]
	})
	t.Logf("%d were remembered", remembered)
	if remembered == 0 {
		t.Error("nobody was remembered: this tests little")
	}
}
