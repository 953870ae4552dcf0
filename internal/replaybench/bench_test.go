package replaybench

import (
	"math/rand/v2"
	"testing"
	"time"
)

func report(b *testing.B, c Cost, err error) {
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(c.PerFrame(), "cpu-ns/frame")
	b.ReportMetric(float64(c.Wall)/float64(c.Frames), "wall-ns/frame")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkKnown(b *testing.B) {
	for _, c := range []struct {
		name  string
		flows int
	}{{"1", 1}, {"64k", 65536}, {"1M", 1_000_000}, {"10M", 10_000_000}} {
		b.Run(c.name, func(b *testing.B) {
			r, err := NewRig(Setup{Flows: max(c.flows, 1024)})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			if err := r.Establish(0, c.flows); err != nil {
				b.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 2))
			l := r.Lend(0, func(uint64) uint32 { return random.Uint32N(uint32(c.flows)) })
			l.Run(1_000_000)
			var best Cost
			for b.Loop() {
				cost, e := l.Run(1_000_000)
				if err = e; best.Frames == 0 || cost.CPU < best.CPU {
					best = cost
				}
			}
			report(b, best, err)
		})
	}
}

func BenchmarkFlood(b *testing.B) {
	r, err := NewRig(Setup{Flows: 1_000_000})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	l := r.LendNew(0, 1_000_000)
	l.Run(2_000_000)
	var best Cost
	for b.Loop() {
		cost, e := l.Run(1_000_000)
		if err = e; best.Frames == 0 || cost.CPU < best.CPU {
			best = cost
		}
	}
	report(b, best, err)
}

func BenchmarkNew(b *testing.B) {
	r, err := NewRig(Setup{Flows: 1_000_000})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	l := r.LendNew(0, 1_000_000)
	l.Step = 64 * 60 * time.Second / 500_000
	l.Run(2_000_000)
	var best Cost
	for b.Loop() {
		cost, e := l.Run(1_000_000)
		if err = e; best.Frames == 0 || cost.CPU < best.CPU {
			best = cost
		}
	}
	report(b, best, err)
}
