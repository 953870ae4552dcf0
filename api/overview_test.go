package api

import "testing"

func TestQuantile(t *testing.T) {
	l := Latency{Bounds: []float64{1, 2, 4}, Counts: []uint64{10, 0, 10, 5}}
	for q, want := range map[float64]float64{0.2: 0.5, 0.4: 1, 0.6: 3, 0.8: 4, 0.9: 4, 1: 4} {
		if got := l.Quantile(q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := (&Latency{}).Quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	old := Latency{Bounds: l.Bounds, Counts: []uint64{10, 0, 0, 5}}
	if d := l.Since(&old); d.Count() != 10 || d.Quantile(0.5) != 3 {
		t.Errorf("since: %+v", d)
	}
	if d := l.Since(&Latency{}); d.Count() != 25 {
		t.Errorf("since the start: %+v", d)
	}
}
