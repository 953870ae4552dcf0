package scheduler

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// server is a destination as a test writes it, in the order of ipvsadm -a.
type server struct {
	name   string
	weight int32
}

// built returns the scheduler of a service to which servers were added one by one, and its list.
func built(t testing.TB, name string, opt Options, servers ...server) (Scheduler, []Destination) {
	t.Helper()
	var list []Destination
	var changes []Change
	for i, v := range servers {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(11 + i)})
		list = append([]Destination{{ID: uint32(i), Addr: addr, Port: 80, Weight: v.weight, LastWeight: v.weight, Load: new(Load)}}, list...)
		changes = append(changes, Change{Op: Add, ID: uint32(i), Weight: v.weight})
	}
	s, err := Build(name, opt, list, changes)
	if err != nil {
		t.Fatal(err)
	}
	s.Take(nil)
	return s, list
}

// The sequences are those of the reference implementation of the kernel's rules; traces of a real
// kernel confirm them.
func TestSequences(t *testing.T) {
	for _, c := range []struct {
		scheduler string
		weights   [3]int32 // A, B, C, in the order in which they are added
		want      string
	}{
		{"rr", [3]int32{1, 1, 1}, "CBACBACBA"},
		{"rr", [3]int32{5, 0, 2}, "CACACA"},
		{"wrr", [3]int32{1, 2, 3}, "CBACCBCBACCBCBA"},
		{"wrr", [3]int32{3, 2, 1}, "CBAABACBAABA"},
		{"wrr", [3]int32{4, 2, 2}, "CBAACBAA"},
		{"wrr", [3]int32{5, 1, 1}, "CBAAAAACBAAAAA"},
		{"wrr", [3]int32{100, 100, 50}, "CBABACBABA"},
		{"wrr", [3]int32{0, 0, 0}, "---"},
		{"wlc", [3]int32{1, 1, 1}, "CCC"},
		{"lc", [3]int32{1, 9, 1}, "CCC"},
		{"wlc", [3]int32{1, 9, 0}, "BBB"},
		{"sed", [3]int32{1, 9, 1}, "BBB"},
		{"nq", [3]int32{1, 9, 1}, "CCC"},
		{"fo", [3]int32{1, 9, 9}, "CCC"},
		{"ovf", [3]int32{1, 9, 2}, "BBB"},
		{"lblc", [3]int32{1, 9, 2}, "CCC"},
		{"lblcr", [3]int32{1, 9, 0}, "BBB"},
		{"twos", [3]int32{0, 9, 0}, "BBB"},
	} {
		s, list := built(t, c.scheduler, Options{}, server{"A", c.weights[0]}, server{"B", c.weights[1]}, server{"C", c.weights[2]})
		got := sequence(s, list, len(c.want))
		if got != c.want {
			t.Errorf("%s %v: got %s, want %s", c.scheduler, c.weights, got, c.want)
		}
	}
}

var client = Request{Client: netip.MustParseAddr("192.0.2.1"), Virtual: netip.MustParseAddr("203.0.113.10"), ClientPort: 40000}

// sequence asks n times, without counting the flows, and names the servers by the order of their
// ids.
func sequence(s Scheduler, list []Destination, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(name(list, s.Schedule(&client)))
	}
	return b.String()
}

func name(list []Destination, i int) string {
	if i == None {
		return "-"
	}
	return string(rune('A' + list[i].ID))
}

func TestWRRAfterChangeOfScheduler(t *testing.T) {
	_, list := built(t, "rr", Options{}, server{"A", 1}, server{"B", 2}, server{"C", 3})
	old, _ := built(t, "rr", Options{}, server{"A", 1})
	s, err := Build("wrr", Options{}, list, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Take(old)
	if got, want := sequence(s, list, 6), "CCBCBA"; got != want {
		t.Errorf("got %s, want %s: it starts with the highest weight", got, want)
	}
}

func TestHashes(t *testing.T) {
	list := func(flags Flags, name string, w ...int32) (Scheduler, []Destination) {
		return built(t, name, Options{Flags: flags}, server{"A", w[0]}, server{"B", w[1]}, server{"C", w[2]})
	}
	for _, c := range []struct {
		scheduler string
		flags     Flags
		weights   []int32
		client    string
		port      uint16
		want      string
	}{
		{"sh", 0, []int32{1, 1, 1}, "192.0.2.1", 40000, "A"},
		{"sh", 0, []int32{1, 1, 1}, "192.0.2.2", 40000, "B"},
		{"sh", 0, []int32{1, 1, 1}, "192.0.2.3", 40000, "C"},
		{"sh", 0, []int32{1, 1, 1}, "198.51.100.7", 1, "C"},
		{"sh", 0, []int32{1, 1, 1}, "203.0.113.200", 1, "B"},
		{"sh", 0, []int32{1, 0, 1}, "192.0.2.2", 40000, "-"},
		{"sh", Fallback, []int32{1, 0, 1}, "192.0.2.2", 40000, "A"},
		{"sh", Port, []int32{1, 1, 1}, "192.0.2.1", 40000, "B"},
		{"sh", Port, []int32{1, 1, 1}, "192.0.2.1", 40001, "A"},
		{"mh", 0, []int32{1, 1, 1}, "192.0.2.1", 40000, "C"},
		{"mh", 0, []int32{1, 1, 1}, "192.0.2.2", 40000, "A"},
		{"mh", 0, []int32{1, 1, 1}, "192.0.2.3", 40000, "B"},
		{"mh", 0, []int32{1, 1, 1}, "198.51.100.7", 40000, "A"},
		{"mh", Port, []int32{1, 1, 1}, "192.0.2.1", 40000, "C"},
		{"mh", Port, []int32{1, 1, 1}, "192.0.2.1", 40001, "A"},
	} {
		s, l := list(c.flags, c.scheduler, c.weights...)
		r := client
		r.Client, r.ClientPort = netip.MustParseAddr(c.client), c.port
		if got := name(l, s.Schedule(&r)); got != c.want {
			t.Errorf("%s flags %d weights %v: %s:%d went to %s, want %s", c.scheduler, c.flags, c.weights, c.client, c.port, got, c.want)
		}
	}
}

func TestMaglevTable(t *testing.T) {
	s, list := built(t, "mh", Options{}, server{"A", 1}, server{"B", 1}, server{"C", 1})
	m := s.(*mh)
	var first strings.Builder
	count := map[string]int{}
	for i, d := range m.table {
		n := name(list, int(d))
		count[n]++
		if i < 16 {
			first.WriteString(n)
		}
	}
	if got, want := first.String(), "BCCABBAACBBAABBB"; got != want {
		t.Errorf("the table begins with %s, want %s", got, want)
	}
	if count["A"] != 1364 || count["B"] != 1364 || count["C"] != 1365 {
		t.Errorf("shares %v, want A 1364, B 1364, C 1365", count)
	}
	// Draining keeps the table, for the last weight stays.
	list[0].Weight = 0
	drained, err := Build("mh", Options{}, list, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range drained.(*mh).table {
		if d != m.table[i] {
			t.Fatalf("slot %d changed from %d to %d though only a weight became 0", i, m.table[i], d)
		}
	}
	if _, err := Build("mh", Options{TableSize: 65536}, list, nil); err == nil {
		t.Error("a table of 65536, which is no prime, was accepted")
	}
	big, err := Build("mh", Options{TableSize: 65537}, list, nil)
	if err != nil || len(big.(*mh).table) != 65537 {
		t.Errorf("a table of 65537: %v", err)
	}
}

func TestUnknown(t *testing.T) {
	_, err := Build("fastest", Options{}, nil, nil)
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "wlc") {
		t.Errorf("the error %q should be ErrUnknown and list the known", err)
	}
	if _, err := Build("rr", Options{TableSize: 251}, nil, nil); err == nil {
		t.Error("rr accepted a table size")
	}
}

// Every scheduler, with nobody to choose from, with everybody out, and with one left.
func TestNobody(t *testing.T) {
	for _, n := range Names() {
		if About(n) == "" {
			t.Errorf("%s: nothing is said about it", n)
		}
		s, _ := built(t, n, Options{})
		if s.Name() != n {
			t.Errorf("%s calls itself %s", n, s.Name())
		}
		if got := s.Schedule(&client); got != None {
			t.Errorf("%s chose %d of nobody", n, got)
		}
		s, list := built(t, n, Options{Flags: Fallback}, server{"A", 2}, server{"B", 1}, server{"C", 3})
		for i := range list {
			list[i].Load.SetUnreachable(true)
		}
		for range 3 {
			if got := s.Schedule(&client); got != None {
				t.Errorf("%s chose %d though nobody can be reached", n, got)
			}
		}
		list[1].Load.SetUnreachable(false)
		if n == "dh" {
			continue // it has no fallback
		}
		for range 5 {
			if got := s.Schedule(&client); got != 1 {
				t.Errorf("%s chose %d, want 1, the only one that can be reached", n, got)
			}
		}
		if got := s.Fork().Schedule(&client); got != 1 {
			t.Errorf("%s, forked, chose %d, want 1", n, got)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	for _, n := range Names() {
		s, list := many(t, n, 100)
		r := client
		s.Schedule(&r)
		if got := testing.AllocsPerRun(200, func() {
			if i := s.Schedule(&r); i != None {
				list[i].Load.Open()
				list[i].Load.Activate()
			}
		}); got != 0 {
			t.Errorf("%s allocates %.1f times", n, got)
		}
	}
}

func many(t testing.TB, name string, n int) (Scheduler, []Destination) {
	list := make([]Destination, n)
	var loads Loads
	for i := range list {
		list[i] = Destination{ID: uint32(i), Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Port: 80,
			Weight: int32(1 + i%7), LastWeight: int32(1 + i%7), Load: loads.New()}
	}
	s, err := Build(name, Options{}, list, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Take(nil)
	return s, list
}

func TestTwosSpreads(t *testing.T) {
	s, list := many(t, "twos", 10)
	for range 10000 {
		list[s.Schedule(&client)].Load.Open()
	}
	total := int32(0)
	for i := range list {
		total += list[i].Weight
	}
	for i := range list {
		want := 10000 * list[i].Weight / total
		if got := list[i].Load.Inactive(); got < want*9/10 || got > want*11/10 {
			t.Errorf("server %d of weight %d got %d flows, want about %d", i, list[i].Weight, got, want)
		}
	}
}

// Peek must foretell every choice, and change none.
func TestPeek(t *testing.T) {
	for _, n := range Names() {
		with, list := many(t, n, 40)
		without, other := many(t, n, 40)
		for k := range 300 {
			r := client
			r.Virtual = netip.AddrFrom4([4]byte{203, 0, 113, byte(k % 3)})
			want := Peek(with, &r)
			if again := Peek(with, &r); again != want {
				t.Fatalf("%s: two looks, %d and %d", n, want, again)
			}
			got, plain := with.Schedule(&r), without.Schedule(&r)
			if got != want || got != plain {
				t.Fatalf("%s: flow %d went to %d; foretold was %d, and without looking it is %d", n, k, got, want, plain)
			}
			if got == None {
				continue // ovf is full
			}
			if Reason(with, got) == "" {
				t.Fatalf("%s: no reason is given", n)
			}
			for _, l := range [][]Destination{list, other} {
				l[got].Load.Open()
				l[got].Load.Activate()
			}
		}
	}
}

func TestReasons(t *testing.T) {
	s, list := built(t, "wlc", Options{}, server{"A", 0}, server{"B", 1}, server{"C", 1}, server{"D", 2})
	list[1].Load.SetThresholds(1, 0)
	list[1].Load.Open()
	list[2].Load.SetUnreachable(true)
	list[0].Load.Open()
	for i, want := range []string{"overhead 0.5 (active 0 * 256 + inactive 1, by weight 2)", "overloaded: connections 1", "no host answers", "weight 0"} {
		if got := Reason(s, i); !strings.HasPrefix(got, want) {
			t.Errorf("place %d: %q, want %q", i, got, want)
		}
	}
}

func TestLBLC(t *testing.T) {
	for _, n := range []string{"lblc", "lblcr"} {
		s, list := built(t, n, Options{}, server{"A", 2}, server{"B", 2})
		for range 3 {
			i := s.Schedule(&client)
			if i != 0 {
				t.Fatalf("%s chose %d, want 0: it stays until active > weight", n, i)
			}
			list[i].Load.Open()
			list[i].Load.Activate()
		}
		if i := s.Schedule(&client); i != 1 {
			t.Errorf("%s chose %d, want 1, since 0 has more active connections than its weight and 1 is idle", n, i)
		}
		// What was learnt lives through a change of the list.
		list = append([]Destination{{ID: 9, Addr: netip.MustParseAddr("10.0.0.99"), Weight: 50, LastWeight: 50, Load: new(Load)}}, list...)
		next, err := Build(n, Options{}, list, []Change{{Op: Add, ID: 9, Weight: 50}})
		if err != nil {
			t.Fatal(err)
		}
		next.Take(s)
		if i := next.Schedule(&client); i != 2 {
			t.Errorf("%s chose %d after a server was added, want 2, the one it had", n, i)
		}
	}
}

// BenchmarkSchedule measures a decision and what a director does between two: the chosen one gets a
// connection, and one that was opened earlier ends.
func BenchmarkSchedule(b *testing.B) {
	for _, n := range Names() {
		for _, size := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/realservers=%d", n, size), func(b *testing.B) {
				s, list := many(b, n, size)
				r := client
				open := make([]int, 4*size) // a ring of connections, None where none
				for i := range open {
					open[i] = None
				}
				at := 0
				b.ReportAllocs()
				for b.Loop() {
					i := s.Schedule(&r)
					if i != None {
						list[i].Load.Open()
						list[i].Load.Activate()
					}
					i, open[at] = open[at], i
					if i != None {
						list[i].Load.Close(true)
					}
					if at++; at == len(open) {
						at = 0
					}
				}
			})
		}
	}
}
