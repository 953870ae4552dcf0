package ring

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPaceWait(t *testing.T) {
	for _, c := range []struct {
		name    string
		p       Preset
		gap     int64
		n, room int
		want    int64
	}{
		{"balanced, nothing known", Balanced, maxGap, 1, 256, 0},
		{"balanced, dense", Balanced, 1000, 2, 256, 30_000},
		{"balanced, full enough", Balanced, 1000, 32, 256, 0},
		{"balanced, more than enough", Balanced, 1000, 200, 256, 0},
		{"balanced, one is missing", Balanced, 1000, 31, 256, 1000},
		{"balanced, as sparse as may be", Balanced, 50_000, 1, 256, 200_000},
		{"balanced, too sparse", Balanced, 50_001, 1, 256, 0},
		{"balanced, no more than the longest wait", Balanced, 20_000, 1, 256, 200_000},
		{"balanced, little room", Balanced, 1000, 2, 4, 2000},
		{"balanced, no room", Balanced, 1000, 4, 4, 0},
		{"latency", Latency, 0, 1, 256, 0},
		{"latency, dense", Latency, 100, 1, 256, 0},
		{"powersave, dense", Powersave, 1000, 1, 256, 63_000},
		{"powersave, sparse", Powersave, 250_000, 1, 256, 1_000_000},
		{"powersave, too sparse", Powersave, 250_001, 1, 256, 0},
		{"powersave, nothing known", Powersave, maxGap, 1, 256, 0},
	} {
		p := newPace(presets[c.p], 0)
		p.gap = c.gap
		if got := p.wait(c.n, c.room); got != c.want {
			t.Errorf("%s: waits %d, want %d", c.name, got, c.want)
		}
	}
}

func TestPaceTook(t *testing.T) {
	for _, c := range []struct {
		name string
		gap  int64 // estimated before
		n    int
		d    int64 // time since the last batch
		want int64
	}{
		{"falls: half of the way", 1000, 1, 200, 600},
		{"rises: an eighth of the way", 1000, 1, 1800, 1100},
		{"as it was", 1000, 4, 4000, 1000},
		{"per frame", 1000, 10, 2000, 600},
		{"a silence: half of the way at once", 1000, 1, 8002, 4501},
		{"not yet a silence", 1000, 1, 8000, 1875},
		{"a long silence counts no more than the longest gap", 1000, 1, int64(time.Hour), (1000 + maxGap) / 2},
		{"two batches at the same time", 1000, 1, 0, 500},
		{"a clock that steps back", 1000, 1, -5000, 500},
		{"out of nothing", 0, 1, 100, 50},
	} {
		const start = 1_000_000_000
		p := newPace(presets[Balanced], start)
		p.gap = c.gap
		p.took(c.n, start+c.d)
		if p.gap != c.want {
			t.Errorf("%s: gap %d, want %d", c.name, p.gap, c.want)
		}
		if p.last != start+c.d {
			t.Errorf("%s: last %d", c.name, p.last)
		}
	}
}

// Traffic that starts is gathered after a few batches; and after a silence a lone frame goes at once again.
func TestPaceLearns(t *testing.T) {
	now := int64(0)
	p := newPace(presets[Balanced], now)
	batches := 0
	for p.wait(1, 256) == 0 {
		now += 5000
		p.took(1, now)
		if batches++; batches > 10 {
			t.Fatalf("gap %d after %d batches", p.gap, batches)
		}
	}
	now += int64(time.Second)
	p.took(1, now)
	if d := p.wait(1, 256); d != 0 {
		t.Errorf("waits %d after a silence", d)
	}
}

func TestPaceSpin(t *testing.T) {
	for p, spin := range map[Preset]int64{Balanced: 50_000, Latency: 3_000_000, Powersave: 0} {
		pace := newPace(presets[p], 1000)
		if got := pace.spinUntil(); got != 1000+spin {
			t.Errorf("%v: spins until %d, want %d", p, got, 1000+spin)
		}
		pace.took(1, 5000)
		if got := pace.spinUntil(); got != 5000+spin {
			t.Errorf("%v: spins until %d after a batch, want %d", p, got, 5000+spin)
		}
	}
}

// Whatever the traffic is, no wait is negative or longer than the preset's, and the estimate keeps its bounds.
func TestPaceModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := presets[rapid.IntRange(0, len(presets)-1).Draw(t, "preset")]
		now := rapid.Int64Range(0, 1<<60).Draw(t, "start")
		p := newPace(set, now)
		for range rapid.IntRange(1, 50).Draw(t, "batches") {
			room := rapid.IntRange(1, 1024).Draw(t, "room")
			n := rapid.IntRange(1, room).Draw(t, "frames")
			d := p.wait(n, room)
			if d < 0 || d > set.gather || d > 0 && n >= set.fill {
				t.Fatalf("waits %d with %d frames", d, n)
			}
			now += rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64Range(-1_000_000, 1_000_000_000)).Draw(t, "time")
			p.took(n, now)
			if p.gap < 0 || p.gap > maxGap {
				t.Fatalf("gap %d", p.gap)
			}
		}
	})
}
