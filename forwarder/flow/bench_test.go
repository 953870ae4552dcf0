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
			var hashes [64]Hash
			var hints [64]ID
			for i := 0; i < b.N; i += 64 {
				base := i % (len(keys) - 64)
				for j := range hashes {
					hashes[j] = tab.Hash(&keys[base+j])
				}
				sum := tab.Approach(hashes[:])
				for j := range hashes {
					hints[j] = tab.Hint(hashes[j])
				}
				sum += tab.Touch(hints[:])
				for j := range hashes {
					if tab.Lookup(&keys[base+j], hashes[j], hints[j]) == None {
						b.Fatal("lost a flow", sum)
					}
				}
			}
		})
	}
}
