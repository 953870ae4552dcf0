package scheduler

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// naive chooses as the kernel's walk over the list does, for the schedulers that look for the least
// of something.
func naive(name string, list []Destination) int {
	best := None
	over := func(i int) int64 { return overhead(list[i].Load) }
	w := func(i int) int64 { return int64(list[i].Weight) }
	for i := range list {
		d := &list[i]
		if d.Weight <= 0 || !d.Load.Available() {
			continue
		}
		active := int64(d.Load.Active())
		better := best == None
		switch name {
		case "lc":
			better = better || over(i) < over(best)
		case "wlc":
			better = better || over(best)*w(i) > over(i)*w(best)
		case "nq", "sed":
			if name == "nq" && active == 0 {
				return i
			}
			better = better || (int64(list[best].Load.Active())+1)*w(i) > (active+1)*w(best)
		case "fo":
			better = better || w(i) > w(best)
		case "ovf":
			if active > w(i) {
				continue
			}
			better = better || w(i) > w(best)
		}
		if better {
			best = i
		}
	}
	return best
}

// TestAgainstWalk gives random connections, endings, edits and outages to the schedulers that
// remember runs, and compares every choice with a walk over the whole list.
func TestAgainstWalk(t *testing.T) {
	for _, name := range []string{"lc", "wlc", "sed", "nq", "fo", "ovf"} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { walkAgainst(t, name) })
		})
	}
}

func walkAgainst(t *rapid.T, name string) {
	var loads Loads
	var list []Destination
	type conn struct {
		load   *Load
		active bool
	}
	var open []conn
	var s Scheduler
	build := func() {
		var err error
		if s, err = Build(name, Options{}, list, nil); err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "fork") {
			s = s.Fork()
		}
		s.Take(nil)
	}
	id := uint32(0)
	add := func() {
		l := loads.New()
		if rapid.IntRange(0, 9).Draw(t, "without a group") == 0 {
			l = new(Load)
		}
		upper := rapid.SampledFrom([]int32{0, 0, 2, 5}).Draw(t, "upper")
		l.SetThresholds(upper, 0)
		w := rapid.SampledFrom([]int32{0, 1, 1, 2, 3, 7, 100}).Draw(t, "weight")
		list = append([]Destination{{ID: id, Weight: w, LastWeight: w, Load: l}}, list...)
		id++
	}
	for range rapid.IntRange(0, 80).Draw(t, "realservers") {
		add()
	}
	build()
	for range rapid.IntRange(1, 200).Draw(t, "steps") {
		switch k := rapid.IntRange(0, 19).Draw(t, "step"); {
		case k < 12:
			got, want := s.Schedule(&client), naive(name, list)
			if got != want {
				t.Fatalf("%s chose %d, the walk %d", name, got, want)
			}
			if got != None {
				l := list[got].Load
				l.Open()
				active := rapid.Bool().Draw(t, "active")
				if active {
					l.Activate()
				}
				open = append(open, conn{l, active})
			}
		case k < 16:
			if len(open) > 0 {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "ends")
				open[i].load.Close(open[i].active)
				open = slices.Delete(open, i, i+1)
			}
		case k < 17:
			if len(open) > 0 {
				c := &open[rapid.IntRange(0, len(open)-1).Draw(t, "state of")]
				if c.active {
					c.load.Deactivate()
				} else {
					c.load.Activate()
				}
				c.active = !c.active
			}
		case k < 18:
			if len(list) > 0 {
				list[rapid.IntRange(0, len(list)-1).Draw(t, "out")].Load.SetUnreachable(rapid.Bool().Draw(t, "is"))
			}
		case k < 19:
			if len(list) > 0 {
				i := rapid.IntRange(0, len(list)-1).Draw(t, "goes")
				list = slices.Delete(slices.Clone(list), i, i+1)
			}
			add()
			build()
		default:
			if len(list) > 0 {
				list = slices.Clone(list)
				list[rapid.IntRange(0, len(list)-1).Draw(t, "edited")].Weight = rapid.SampledFrom([]int32{0, 1, 5}).Draw(t, "new weight")
				build()
			}
		}
	}
}

// The order of the kernel's wrr is its own, but over a cycle each has exactly as many turns as its
// weight says.
func TestWRRProportion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "realservers")
		list := make([]Destination, n)
		total, step := 0, int64(0)
		for i := range list {
			w := rapid.Int32Range(1, 50).Draw(t, "weight")
			list[i] = Destination{ID: uint32(i), Weight: w, Load: new(Load)}
			total += int(w)
			step = gcd(step, int64(w))
		}
		s, err := Build("wrr", Options{}, list, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Take(nil)
		for range 2 {
			turns := make([]int, n)
			for range total / int(step) {
				turns[s.Schedule(&client)]++
			}
			for i := range list {
				if want := int(list[i].Weight) / int(step); turns[i] != want {
					t.Fatalf("weight %d had %d turns in a cycle, want %d", list[i].Weight, turns[i], want)
				}
			}
		}
	})
}

// When one of a hundred realservers leaves, its clients must go elsewhere and few others.
func TestDisruption(t *testing.T) {
	const realservers, clients = 100, 20000
	for _, c := range []struct {
		name  string
		opt   Options
		limit float64 // of clients that move though their realserver is still there
	}{
		{"mh", Options{TableSize: 65537}, 0.01},
		{"mh", Options{}, 0.03},
		// The kernel's sh fills its 256 buckets in turn: one who leaves shifts all behind him.
		{"sh", Options{}, 1},
	} {
		var list []Destination
		for i := range realservers {
			list = append([]Destination{{ID: uint32(i), Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), Port: 80, Weight: 1, LastWeight: 1, Load: new(Load)}}, list...)
		}
		before, err := Build(c.name, c.opt, list, nil)
		if err != nil {
			t.Fatal(err)
		}
		const left = 37
		rest := slices.Delete(slices.Clone(list), left, left+1)
		after, err := Build(c.name, c.opt, rest, nil)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(1, 2))
		moved, stayed := 0, 0
		for range clients {
			r := Request{Client: netip.AddrFrom4([4]byte{byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())})}
			a, b := before.Schedule(&r), after.Schedule(&r)
			switch {
			case a == left:
			case list[a].ID != rest[b].ID:
				moved++
			default:
				stayed++
			}
		}
		if share := float64(moved) / float64(moved+stayed); share > c.limit {
			t.Errorf("%s, table %d: %.2f %% of the clients of others moved, want at most %.0f %%", c.name, c.opt.TableSize, 100*share, 100*c.limit)
		} else {
			t.Logf("%s, table %d: %.2f %% of the clients of others moved", c.name, c.opt.TableSize, 100*share)
		}
	}
}

// One that starts slowly gets its part of the share, by all who heed it.
func TestRamp(t *testing.T) {
	for _, name := range []string{"lc", "wlc", "sed"} {
		list := []Destination{
			{ID: 0, Weight: 1, Load: new(Load), Ramp: 100},
			{ID: 1, Weight: 1, Load: new(Load)},
		}
		s, err := Build(name, Options{}, list, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 1100 {
			i := s.Schedule(&client)
			list[i].Load.Open()
			list[i].Load.Activate()
		}
		if got := list[0].Load.Active(); got < 95 || got > 105 {
			t.Errorf("%s: a tenth of a share got %d of 1100 flows, want about 100", name, got)
		}
	}
}

// kernelLBLCR is the kernel's code with its lists.
type kernelLBLCR struct {
	list     []Destination
	set      []*Destination // newest first
	modified int64
}

func (k *kernelLBLCR) strained(d *Destination) bool {
	if d.Load.Active() <= d.Weight {
		return false
	}
	for i := range k.list {
		if k.list[i].Load.Active()*2 < k.list[i].Weight {
			return true
		}
	}
	return false
}

func (k *kernelLBLCR) schedule(now int64) *Destination {
	var least *Destination
	for _, d := range k.set {
		if d.Weight > 0 && d.Load.Available() && (least == nil || overhead(least.Load)*int64(d.Weight) > overhead(d.Load)*int64(least.Weight)) {
			least = d
		}
	}
	if len(k.set) > 1 && now-k.modified > defaultExpiration {
		most := 0
		for i, d := range k.set {
			if overhead(k.set[most].Load)*int64(d.Weight) < overhead(d.Load)*int64(k.set[most].Weight) {
				most = i
			}
		}
		k.set = slices.Delete(k.set, most, most+1)
		k.modified = now
	}
	if least != nil && !k.strained(least) {
		return least
	}
	i := naive("wlc", k.list)
	if i == None {
		return nil
	}
	d := &k.list[i]
	if !slices.Contains(k.set, d) {
		k.set = append([]*Destination{d}, k.set...)
		k.modified = now
	}
	return d
}

func TestLBLCRAgainstKernel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var loads Loads
		k := &kernelLBLCR{}
		for i := range rapid.IntRange(1, 70).Draw(t, "realservers") {
			w := rapid.Int32Range(1, 4).Draw(t, "weight")
			k.list = append(k.list, Destination{ID: uint32(i), Weight: w, LastWeight: w, Load: loads.New()})
		}
		s, err := Build("lblcr", Options{}, k.list, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Take(nil)
		var open []*Load
		r := client
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				r.Now += rapid.SampledFrom([]int64{1, defaultExpiration / 2, defaultExpiration + 1}).Draw(t, "time")
			case 1, 2:
				if len(open) > 0 {
					i := rapid.IntRange(0, len(open)-1).Draw(t, "ends")
					open[i].Close(true)
					open = slices.Delete(open, i, i+1)
				}
			default:
				want, got := k.schedule(r.Now), s.Schedule(&r)
				if want == nil && got != None || want != nil && (got == None || k.list[got].ID != want.ID) {
					t.Fatalf("chose %d, the kernel would %v", got, want)
				}
				if got != None {
					k.list[got].Load.Open()
					k.list[got].Load.Activate()
					open = append(open, k.list[got].Load)
				}
			}
		}
	})
}

// TestLBLCAgainstKernel: one destination for each virtual address, until it has too much.
func TestLBLCAgainstKernel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var loads Loads
		var list []Destination
		for i := range rapid.IntRange(1, 70).Draw(t, "realservers") {
			w := rapid.Int32Range(0, 4).Draw(t, "weight")
			list = append(list, Destination{ID: uint32(i), Weight: w, LastWeight: w, Load: loads.New()})
		}
		s, err := Build("lblc", Options{}, list, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Take(nil)
		k := kernelLBLCR{list: list} // for is_overloaded, which is the same
		cache := map[netip.Addr]*Destination{}
		var open []*Load
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			if len(open) > 0 && rapid.IntRange(0, 3).Draw(t, "step") == 0 {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "ends")
				open[i].Close(true)
				open = slices.Delete(open, i, i+1)
				continue
			}
			r := client
			r.Virtual = netip.AddrFrom4([4]byte{203, 0, 113, byte(rapid.IntRange(1, 3).Draw(t, "VIP"))})
			want := cache[r.Virtual]
			if want == nil || want.Weight <= 0 || k.strained(want) {
				want = nil
				if i := naive("wlc", list); i != None {
					want = &list[i]
					cache[r.Virtual] = want
				}
			}
			got := s.Schedule(&r)
			if want == nil && got != None || want != nil && (got == None || list[got].ID != want.ID) {
				t.Fatalf("chose %d, the kernel would %v", got, want)
			}
			if got != None {
				list[got].Load.Open()
				list[got].Load.Activate()
				open = append(open, list[got].Load)
			}
		}
	})
}
