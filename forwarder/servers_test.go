package forwarder

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// A list of realservers is what a plain slice would be, and slices of it that somebody holds stay
// as they are; so does a service that is saved and comes back.
func TestListOfRealservers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		svc := &serviceState{}
		var model []*destState
		type held struct{ list, want []*destState }
		var all []held
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			n := byte(rapid.IntRange(0, 90).Draw(t, "address"))
			d := &destState{spec: Destination{Addr: netip.AddrFrom4([4]byte{10, 0, 0, n}), Port: 80}}
			at := slices.IndexFunc(model, func(e *destState) bool { return e.spec.Addr == d.spec.Addr })
			saved, before := *svc, slices.Clone(model)
			if at < 0 {
				svc.prepend(d)
				model = slices.Insert(model, 0, d)
			} else {
				if got := svc.find(d.spec.Addr, 80); got != model[at] {
					t.Fatalf("found %p, want %p", got, model[at])
				}
				svc.remove(model[at])
				model = slices.Delete(slices.Clone(model), at, at+1)
			}
			if rapid.IntRange(0, 3).Draw(t, "rollback") == 0 {
				*svc, model = saved, before
				svc.index = nil
			} else {
				all = append(all, held{svc.dests, slices.Clone(model)})
			}
			if got := svc.find(d.spec.Addr, 80); (got != nil) != slices.ContainsFunc(model, func(e *destState) bool { return e.spec.Addr == d.spec.Addr }) {
				t.Fatalf("found %v", got)
			}
		}
		all = append(all, held{svc.dests, model})
		for _, h := range all {
			if !slices.Equal(h.list, h.want) {
				t.Fatalf("a list is %v, want %v", h.list, h.want)
			}
		}
	})
}

// A service of very many realservers is made and taken away in one transaction.
func BenchmarkLongList(b *testing.B) {
	e, err := New(Config{Legs: []Leg{{Name: "a", MAC: frame.MAC{2, 1}}}, Workers: 1, Flows: 4096, Settings: DefaultSettings()})
	if err != nil {
		b.Fatal(err)
	}
	s := Service{Name: "web", Scheduler: "wlc", Matches: []Match{{Addr: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Proto: frame.TCP, First: 80, Last: 80}}}
	for _, n := range []int{200, 2000, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				err := e.Update(func(tx *Tx) error {
					if err := tx.AddService(s); err != nil {
						return err
					}
					for i := range n {
						if err := tx.AddDestination(s.Key(), Destination{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Port: 80, Weight: 1}); err != nil {
							return err
						}
					}
					return tx.Flush()
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/realserver")
		})
	}
}
