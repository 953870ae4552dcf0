package ring

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// paced is a pace that expects a frame each gap.
func paced(p Preset, gap int64) pace {
	out := newPace(presets[p], 0)
	out.gap = gap
	return out
}

func TestPaceWait(t *testing.T) {
	for _, c := range []struct {
		name    string
		p       Preset
		gap     int64
		n, room int
		waited  int64
		want    int64
	}{
		{"balanced, nothing known", Balanced, maxGap, 1, 256, 0, 0},
		{"balanced, dense", Balanced, 1000, 2, 256, 0, 62_000},
		{"balanced, full enough", Balanced, 1000, 64, 256, 0, 0},
		{"balanced, more than enough", Balanced, 1000, 200, 256, 0, 0},
		{"balanced, one is missing: no shorter than a sleep is worth", Balanced, 1000, 63, 256, 0, minStep},
		{"balanced, as sparse as may be: a step", Balanced, 25_000, 1, 256, 0, step},
		{"balanced, too sparse", Balanced, 25_001, 1, 256, 0, 0},
		{"balanced, the last step", Balanced, 25_000, 1, 256, 390_000, 10_000},
		{"balanced, long enough", Balanced, 25_000, 1, 256, 400_000, 0},
		{"balanced, none yet: a lull", Balanced, 10_000, 0, 256, 400_000, step},
		{"balanced, none for too long", Balanced, 10_000, 0, 256, lull, 0},
		{"balanced, little room", Balanced, 20_000, 2, 4, 0, 40_000},
		{"balanced, no room", Balanced, 1000, 4, 4, 0, 0},
		{"latency", Latency, 0, 1, 256, 0, 0},
		{"latency, dense", Latency, 100, 1, 256, 0, 0},
		{"powersave, dense", Powersave, 1000, 1, 256, 0, 63_000},
		{"powersave, sparse", Powersave, 62_500, 1, 256, 900_000, 100_000},
		{"powersave, too sparse", Powersave, 62_501, 1, 256, 0, 0},
		{"powersave, nothing known", Powersave, maxGap, 1, 256, 0, 0},
	} {
		p := paced(c.p, c.gap)
		if got := p.wait(c.n, c.room, c.waited); got != c.want {
			t.Errorf("%s: waits %d, want %d", c.name, got, c.want)
		}
	}
	p := paced(Balanced, 1000)
	p.heavy = true
	if d := p.wait(1, 64, 0); d != 0 {
		t.Errorf("waits %d for super-frames", d)
	}
}

// Frames at an even pace are estimated as they come, however they are cut into batches.
func TestPaceTook(t *testing.T) {
	for _, batch := range []int{1, 10, 64} {
		now := int64(0)
		p := newPace(presets[Balanced], now)
		for range 100 {
			now += int64(batch) * 10_000
			p.took(batch, 60*batch, now)
		}
		if p.gap < 9_500 || p.gap > 10_500 {
			t.Errorf("batches of %d: gap %d, want 10000", batch, p.gap)
		}
		if p.last != now {
			t.Errorf("last %d, want %d", p.last, now)
		}
	}
	// A clock that steps back, or stands still, does no harm.
	p := newPace(presets[Balanced], 1000)
	p.took(1, 60, 500)
	p.took(1, 60, 500)
	if p.gap < 0 || p.gap > maxGap {
		t.Errorf("gap %d", p.gap)
	}
}

// Bursts count by their mean: 64 frames within 100 us, each 640 us.
func TestPaceBursts(t *testing.T) {
	now := int64(0)
	p := newPace(presets[Balanced], now)
	for range 20 {
		for _, b := range []struct {
			after int64
			n     int
		}{{540_000, 1}, {50_000, 33}, {50_000, 30}} {
			now += b.after
			p.took(b.n, 60*b.n, now)
		}
	}
	if p.gap < 5_000 || p.gap > 20_000 || !p.dense() {
		t.Errorf("gap %d, want about 10000", p.gap)
	}
}

// Traffic that starts is gathered after a few batches; and after a silence a lone frame goes at
// once again.
func TestPaceLearns(t *testing.T) {
	now := int64(0)
	p := newPace(presets[Balanced], now)
	batches := 0
	for p.wait(1, 256, 0) == 0 {
		now += 5000
		p.took(1, 60, now)
		if batches++; batches > 50 {
			t.Fatalf("gap %d after %d batches", p.gap, batches)
		}
	}
	now += int64(time.Second)
	p.took(1, 60, now)
	if d := p.wait(1, 256, 0); d != 0 {
		t.Errorf("waits %d after a silence", d)
	}
}

// Who waits for an answer before it goes on is not made to wait for long: gathering that brings
// nothing is given up, for longer each time.
func TestPaceFutile(t *testing.T) {
	p := paced(Balanced, 20_000)
	for i, batches := range []int{8, 16, 32} {
		if p.wait(1, 64, 0) == 0 {
			t.Fatalf("time %d: does not gather", i)
		}
		if p.came(0, 1, 0, step, step) {
			t.Fatalf("time %d: waits on in vain", i)
		}
		for j := range batches {
			if p.wait(1, 64, 0) != 0 {
				t.Fatalf("time %d: gathers %d batches later", i, j)
			}
			p.skip--
		}
	}
	if !p.came(10, 11, 10, step, step) || p.futile != 0 {
		t.Errorf("frames that do come are not waited for: %+v", p)
	}
	// Some have come, and no more are to be expected: they go, and the next ones are gathered as
	// well.
	if p.came(0, 8, 7, step, 2*step) || p.skip != 0 {
		t.Errorf("a gathering that was worth it: %+v", p)
	}
	// The end of a burst is no reason not to wait for the next one.
	p.futile, p.skip = 0, 0
	if p.came(0, many, 0, step, step) || p.skip != 0 {
		t.Errorf("a burst was over: %+v", p)
	}
	// Between two bursts.
	if !p.came(0, 0, 0, step, 2*step) || p.came(0, 0, 0, step, lull) {
		t.Error("a lull is slept through, but not longer")
	}
}

func TestPaceSpin(t *testing.T) {
	for _, c := range []struct {
		p         Preset
		gap, want int64
	}{
		{Balanced, maxGap, 50_000},       // not expected soon
		{Balanced, 1_000_000, 3_000_000}, // one each millisecond
		{Balanced, 1_500_000, 3_000_000},
		{Balanced, 1_500_001, 50_000},
		{Balanced, 60_000, 3_000_000},
		{Balanced, 10_000, -1000}, // gathered
		{Latency, maxGap, 3_000_000},
		{Latency, 10, 3_000_000},
		{Powersave, maxGap, 0},
		{Powersave, 200_000, 0},
	} {
		p := paced(c.p, c.gap)
		p.last = 1000
		if got := p.spinUntil() - 1000; got != c.want {
			t.Errorf("%v, gap %d: spins for %d, want %d", c.p, c.gap, got, c.want)
		}
	}
}

// A configuration replaces the times of a preset.
func TestConfigPace(t *testing.T) {
	for _, c := range []struct {
		cfg                 Config
		spin, brief, gather int64
	}{
		{Config{}, 3_000_000, 50_000, 400_000},
		{Config{Spin: -1, Gather: -1}, 0, 0, 0},
		{Config{Spin: 20 * time.Microsecond}, 20_000, 20_000, 400_000},
		{Config{Busy: Latency, Gather: time.Millisecond}, 3_000_000, 3_000_000, 1_000_000},
	} {
		got := c.cfg.pace()
		if got.spin != c.spin || got.brief != c.brief || got.gather != c.gather || got.gather > 0 && got.fill == 0 {
			t.Errorf("%+v: %+v", c.cfg, got)
		}
	}
	bad := Config{Legs: []LegConfig{{Name: "x"}}, Spin: MaxSpin + 1}
	if err := bad.check(); err == nil {
		t.Error("spins for longer than it may")
	}
}

// Whatever the traffic is, no wait is negative or longer than a step, they end, and the estimate
// keeps its bounds.
func TestPaceModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := presets[rapid.IntRange(0, len(presets)-1).Draw(t, "preset")]
		now := rapid.Int64Range(0, 1<<60).Draw(t, "start")
		p := newPace(set, now)
		for range rapid.IntRange(1, 50).Draw(t, "batches") {
			room := rapid.IntRange(1, 1024).Draw(t, "room")
			n := rapid.IntRange(0, room).Draw(t, "frames")
			waited := int64(0)
			for steps := 0; ; steps++ {
				d := p.wait(n, room, waited)
				if d == 0 {
					break
				}
				if d < 0 || d > step || n >= set.fill || steps > 1000 {
					t.Fatalf("waits %d with %d frames, step %d", d, n, steps)
				}
				waited += d
				more := rapid.IntRange(0, room-n).Draw(t, "more")
				n += more
				if !p.came(more, n, more, d, waited) {
					break
				}
			}
			if waited > max(set.gather, lull) {
				t.Fatalf("waited %d", waited)
			}
			now += rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64Range(-1_000_000, 1_000_000_000)).Draw(t, "time")
			n = max(n, 1)
			p.took(n, n*rapid.IntRange(60, 65_000).Draw(t, "bytes"), now)
			if p.gap < 0 || p.gap > maxGap {
				t.Fatalf("gap %d", p.gap)
			}
			if u := p.spinUntil(); u != 0 && u > p.last+set.spin && u > p.last+set.brief {
				t.Fatalf("spins for %d", u-p.last)
			}
		}
	})
}
