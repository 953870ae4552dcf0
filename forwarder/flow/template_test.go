package flow

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// timers is what the kernel does: each entry has a timer of its own, and all fire in their order.
type timers struct {
	flows     map[Key]*timer
	templates map[Key]*timer
}

type timer struct {
	id       ID
	deadline uint32
	timeout  uint32 // of a template
	control  *timer // a flow's template
	flows    int    // a template's flows
}

// advance fires all timers up to now. Of a flow and a template that are due at the same time the
// flow ends first.
func (m *timers) advance(now uint32) {
	for {
		var first *timer
		var key Key
		for _, set := range []map[Key]*timer{m.flows, m.templates} {
			for k, x := range set {
				if x.deadline <= now && (first == nil || x.deadline < first.deadline) {
					first, key = x, k
				}
			}
		}
		switch {
		case first == nil:
			return
		case first.flows > 0:
			first.timeout = rearmed
			first.deadline += rearmed
		case key.Kind.IsTemplate():
			delete(m.templates, key)
		default:
			m.end(key)
		}
	}
}

func (m *timers) end(k Key) {
	if c := m.flows[k].control; c != nil {
		c.flows--
	}
	delete(m.flows, k)
}

// TestTemplatesAgainstTimers: however late and in whatever steps the sweep comes by, and in
// whichever order it meets the entries, templates end when timers in their order would have ended
// them.
func TestTemplatesAgainstTimers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab, err := New(Config{Flows: MinFlows, Seed: [2]uint64{rapid.Uint64().Draw(t, "s0"), 2}}, &fakeOwner{})
		if err != nil {
			t.Fatal(err)
		}
		defer tab.Close()
		m := &timers{map[Key]*timer{}, map[Key]*timer{}}
		now := uint32(0)
		ports := rapid.Uint16Range(1, 12)
		clients := rapid.Custom(func(t *rapid.T) Key {
			return Key{Client: frame.AddrFrom4(rapid.Uint32Range(1, 3).Draw(t, "client")), VirtualPort: 80, Kind: UDP | Template}
		})
		timeouts := rapid.Uint32Range(1, 3*rearmed)
		find := func(k Key) ID { return tab.Lookup(&k, tab.Hash(&k), None) }
		flows := func(t *rapid.T) Key {
			if len(m.flows) == 0 {
				t.Skip("no flows")
			}
			byClient := func(a, b Key) int {
				return cmp.Compare(a.Client.Lo<<16|uint64(a.ClientPort), b.Client.Lo<<16|uint64(b.ClientPort))
			}
			return rapid.SampledFrom(slices.SortedFunc(maps.Keys(m.flows), byClient)).Draw(t, "flow")
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				tk := clients.Draw(t, "template")
				k := tk
				k.Kind, k.ClientPort = UDP, ports.Draw(t, "port")
				if m.flows[k] != nil {
					t.Skip("there already")
				}
				find(k) // as the director does; it ends what is past its deadline
				id := find(tk)
				if c := m.templates[tk]; c == nil {
					if id != None {
						t.Fatalf("template %v is found after its end", tk)
					}
					timeout := timeouts.Draw(t, "timeout")
					id = tab.Put(&tk, tab.Hash(&tk), timeout, false)
					m.templates[tk] = &timer{id: id, deadline: now + timeout, timeout: timeout}
				} else {
					if id != c.id {
						t.Fatalf("template %v: slot %d, want %d", tk, id, c.id)
					}
					tab.Renew(id, tab.Entry(id))
					c.deadline = now + c.timeout
				}
				c := m.templates[tk]
				tab.Entry(id).Control++
				timeout := timeouts.Draw(t, "timeout of the flow")
				f := tab.Put(&k, tab.Hash(&k), timeout, false)
				tab.Entry(f).Control = 1 + uint32(id)
				c.flows++
				m.flows[k] = &timer{id: f, deadline: now + timeout, control: c}
			},
			"packet": func(t *rapid.T) {
				k := flows(t)
				f := m.flows[k]
				if find(k) != f.id {
					t.Fatalf("flow %v is lost", k)
				}
				timeout := timeouts.Draw(t, "timeout")
				tab.Extend(f.id, tab.Entry(f.id), timeout)
				f.deadline = now + timeout
			},
			"delete": func(t *rapid.T) {
				k := flows(t)
				tab.Delete(m.flows[k].id)
				m.end(k)
			},
			"late": func(t *rapid.T) { // time goes by, and the sweep lags behind
				now += 4 * rapid.OneOf(rapid.Uint32Range(1, 100), rapid.Uint32Range(1, 3*rearmed/4)).Draw(t, "ticks")
				m.advance(now)
				tab.SetTime(int64(now) << tickShift)
				tab.Sweep(rapid.IntRange(0, 3).Draw(t, "budget"))
			},
			"advance": func(t *rapid.T) {
				now += 4 * rapid.OneOf(rapid.Uint32Range(1, 100), rapid.Uint32Range(1, 20*rearmed)).Draw(t, "ticks")
				m.advance(now)
				tab.Advance(int64(now) << tickShift)
				if tab.Len() != len(m.flows)+len(m.templates) {
					t.Fatalf("%d entries, want %d flows and %d templates", tab.Len(), len(m.flows), len(m.templates))
				}
				for k, c := range m.templates {
					if e := tab.Entry(c.id); !tab.InUse(c.id) || tab.Key(c.id) != k || e.deadline != c.deadline || e.Packets != c.timeout || e.Control != uint32(c.flows) {
						t.Fatalf("template %v ends at %d, timeout %d, %d flows; want %+v", k, e.deadline, e.Packets, e.Control, *c)
					}
				}
			},
			"lookup": func(t *rapid.T) {
				tk := clients.Draw(t, "template")
				id, c := find(tk), m.templates[tk]
				if (id == None) != (c == nil) {
					t.Fatalf("template %v: slot %d, want %+v", tk, id, c)
				}
				if c != nil && tab.Entry(id).deadline != c.deadline {
					t.Fatalf("template %v ends at %d, want %d", tk, tab.Entry(id).deadline, c.deadline)
				}
			},
		})
	})
}

// TestTemplateOutlived is the rule of the kernel, written out: a template of 60 s and two flows,
// seen only long after.
func TestTemplateOutlived(t *testing.T) {
	second := func(n uint32) uint32 { return n * rearmed / 60 }
	for _, c := range []struct {
		flows []uint32 // when the flows end, in seconds
		now   uint32
		ends  uint32 // when the template ends; 0 if it has
	}{
		{nil, 40, 60},
		{nil, 70, 0},
		{[]uint32{50}, 70, 0},       // over before the template was due
		{[]uint32{65}, 70, 120},     // over now, but not when it was due
		{[]uint32{50, 65}, 70, 120}, //
		{[]uint32{65}, 130, 0},      // and not used again
		{[]uint32{65, 130}, 125, 180},
		{[]uint32{500}, 400, 420},
	} {
		for _, late := range []bool{false, true} { // both ways to look: a sweep, and a lookup before it
			t.Run(fmt.Sprint(c.flows, c.now, late), func(t *testing.T) {
				tab := newTable(t, MinFlows, nil)
				tk := Key{Client: frame.AddrFrom4(1), VirtualPort: 80, Kind: TCP | Template}
				template := tab.Put(&tk, tab.Hash(&tk), second(60), false)
				for n, end := range c.flows {
					k := key4(uint32(n))
					id := tab.Put(&k, tab.Hash(&k), second(end), false)
					tab.Entry(template).Control++
					tab.Entry(id).Control = 1 + uint32(template)
				}
				if at := int64(second(c.now)&^3) << tickShift; late {
					tab.SetTime(at)
				} else {
					tab.Advance(at)
				}
				got := uint32(0)
				if id := tab.Lookup(&tk, tab.Hash(&tk), None); id != None {
					got = tab.Entry(id).deadline
				}
				if got != second(c.ends) {
					t.Fatalf("the template ends at %d s, want %d s", got*60/rearmed, c.ends)
				}
			})
		}
	}
}
