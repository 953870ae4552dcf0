package flow

import (
	"math/rand/v2"
	"testing"
)

func BenchmarkLookup(b *testing.B) {
	for _, c := range []struct {
		name  string
		flows int
	}{{"1k", 1000}, {"64k", 64_000}, {"1M", 1_000_000}} {
		b.Run(c.name, func(b *testing.B) {
			tab := newTable(b, max(c.flows, MinFlows), nil)
			keys := make([]Key, c.flows)
			for n := range keys {
				keys[n] = key4(uint32(n))
				tab.Put(&keys[n], tab.Hash(&keys[n]), 50000, false)
			}
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			b.ReportMetric(float64(tab.MemorySize())/float64(tab.Capacity()), "bytes/flow")
			b.ResetTimer()
			var s Search
			for i := 0; i < b.N; i += Batch {
				base := i % (len(keys) - Batch)
				for j := range s.Hashes {
					s.Hashes[j] = tab.Hash(&keys[base+j])
				}
				tab.Search(&s, Batch)
				for j := range s.Hashes {
					if tab.Lookup(&keys[base+j], s.Hashes[j], s.Hints[j]) == None {
						b.Fatal("lost a flow")
					}
				}
			}
		})
	}
}
