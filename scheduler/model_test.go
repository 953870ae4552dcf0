package scheduler

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The models are the kernel's code, literally: a list of pointers, a cursor that points into it,
// passes over the list.

type node struct {
	id     uint32
	weight int32
	load   *Load
}

type kernelRR struct {
	list []*node // newest first
	last *node   // nil: the head
}

func (k *kernelRR) schedule() *node {
	start := slices.Index(k.list, k.last) // -1 for the head
	order := append(slices.Clone(k.list[start+1:]), k.list[:start+1]...)
	for _, n := range order {
		if n.load.Available() && n.weight > 0 {
			k.last = n
			return n
		}
	}
	return nil
}

func (k *kernelRR) change(op Op, n *node) {
	switch op {
	case Add:
		k.list = append([]*node{n}, k.list...)
	case Remove:
		i := slices.Index(k.list, n)
		if k.last == n {
			k.last = nil
			if i > 0 {
				k.last = k.list[i-1]
			}
		}
		k.list = slices.Delete(slices.Clone(k.list), i, i+1)
	}
}

type kernelWRR struct {
	list       []*node
	cl         *node
	cw, mw, di int64
}

func (k *kernelWRR) recompute() {
	k.di, k.mw = 0, 0
	for _, n := range k.list {
		if n.weight > 0 {
			k.di = gcd(int64(n.weight), k.di)
			k.mw = max(k.mw, int64(n.weight))
		}
	}
	if k.di == 0 {
		k.di = 1
	}
	k.mw -= k.di - 1
	k.cl = nil
}

func (k *kernelWRR) change(op Op, n *node) {
	switch op {
	case Add:
		k.list = append([]*node{n}, k.list...)
	case Remove:
		i := slices.Index(k.list, n)
		k.list = slices.Delete(slices.Clone(k.list), i, i+1)
	}
	k.recompute()
	if k.cw > k.mw || k.cw == 0 {
		k.cw = k.mw
	} else if k.di > 1 {
		k.cw = k.cw/k.di*k.di + 1
	}
}

// schedule is ip_vs_wrr_schedule.
func (k *kernelWRR) schedule() *node {
	if k.mw == 0 {
		return nil
	}
	dest, last := k.cl, k.cl
	var stop *node
	lastPass, restarted := false, false
	for {
		for i := slices.Index(k.list, dest) + 1; i < len(k.list); i++ {
			dest = k.list[i]
			if dest.load.Available() && int64(dest.weight) >= k.cw {
				k.cl = dest
				return dest
			}
			if dest == stop {
				k.cl = dest
				return nil
			}
		}
		dest = nil
		k.cw -= k.di
		if k.cw <= 0 {
			k.cw = k.mw
			if lastPass || last == nil {
				k.cl = nil
				return nil
			}
			restarted = true
		}
		if restarted && k.cw <= k.di {
			lastPass = true
			stop = last
		}
	}
}

// TestModels gives the same random commands and flows to the schedulers and to their models.
func TestModels(t *testing.T) {
	t.Run("rr", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			m := &kernelRR{}
			against(t, "rr", m.change, func() []*node { return m.list }, m.schedule)
		})
	})
	t.Run("wrr", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			m := &kernelWRR{}
			m.recompute()
			m.cw = m.mw
			against(t, "wrr", m.change, func() []*node { return m.list }, m.schedule)
		})
	})
}

func against(t *rapid.T, name string, change func(Op, *node), list func() []*node, schedule func() *node) {
	next := uint32(0)
	var steps []Change
	weights := rapid.SampledFrom([]int32{0, 1, 2, 3, 4, 6, 10, 50, 100, 65535})
	var s Scheduler
	var dests []Destination
	renew := func() {
		dests = dests[:0]
		for _, n := range list() {
			dests = append(dests, Destination{ID: n.id, Weight: n.weight, Load: n.load})
		}
		built, err := Build(name, Options{}, dests, steps)
		if err != nil {
			t.Fatal(err)
		}
		built.Take(s)
		s, steps = built, nil
	}
	renew()
	for range rapid.IntRange(1, 40).Draw(t, "actions") {
		l := list()
		switch rapid.IntRange(0, 6).Draw(t, "action") {
		case 0, 1:
			n := &node{id: next, weight: weights.Draw(t, "weight"), load: new(Load)}
			next++
			change(Add, n)
			steps = append(steps, Change{Op: Add, ID: n.id, Weight: n.weight})
		case 2:
			if len(l) > 0 {
				n := rapid.SampledFrom(l).Draw(t, "removed")
				change(Remove, n)
				steps = append(steps, Change{Op: Remove, ID: n.id, Old: n.weight})
			}
		case 3:
			if len(l) > 0 {
				n := rapid.SampledFrom(l).Draw(t, "edited")
				c := Change{Op: Edit, ID: n.id, Old: n.weight, Weight: weights.Draw(t, "weight")}
				n.weight = c.Weight
				change(Edit, n)
				steps = append(steps, c)
			}
		case 4:
			if len(l) > 0 {
				n := rapid.SampledFrom(l).Draw(t, "reached")
				n.load.SetUnreachable(rapid.Bool().Draw(t, "not"))
			}
		default:
			if len(steps) > 0 {
				renew()
			}
			for range rapid.IntRange(1, 12).Draw(t, "flows") {
				want, got := schedule(), s.Schedule(&client)
				switch {
				case want == nil && got != None:
					t.Fatalf("%s chose %d, the model nobody", name, dests[got].ID)
				case want != nil && (got == None || dests[got].ID != want.id):
					t.Fatalf("%s chose place %d, the model %d", name, got, want.id)
				}
			}
		}
	}
}
