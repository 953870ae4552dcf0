package ring

import "time"

// preset is what a Preset stands for; all times in nanoseconds.
type preset struct {
	spin   int64         // how long Next looks at the rings after the last frame before it sleeps
	gather int64         // the longest wait for a fuller batch, when frames come densely; 0: never
	fill   int           // frames that a gathered batch should have
	tick   time.Duration // how long Next sleeps at most
}

// The figures are measured: see BenchmarkForward and the package's notes in docs. A sleep of some tens of
// microseconds costs a timer and two switches, about as much as sending one or two frames, and a wake-up by the
// kernel a frame costs more than that; so a gathered batch is worth its wait from four frames on.
var presets = [...]preset{
	Balanced:  {spin: 50_000, gather: 200_000, fill: 32, tick: 25 * time.Millisecond},
	Latency:   {spin: 3_000_000, gather: 0, fill: 0, tick: 25 * time.Millisecond},
	Powersave: {spin: 0, gather: 1_000_000, fill: 64, tick: 50 * time.Millisecond},
}

// minGather is how many frames must be expected within the longest wait for it to be worth it.
const minGather = 4

// maxGap bounds the estimate of the time between frames, in nanoseconds, so that it recovers from silence within a
// few batches.
const maxGap = 1_000_000

// A pace tells how long to wait. It is arithmetic over times that the caller reads, in nanoseconds of one clock.
type pace struct {
	preset
	gap  int64 // estimated time from frame to frame
	last int64 // when the last batch with frames was handed out
}

func newPace(p preset, now int64) pace { return pace{preset: p, gap: maxGap, last: now} }

// took learns from a batch of n > 0 frames handed out at now. An estimate that falls is believed sooner than one that
// rises, except for a silence: there the next lone frame is not to wait.
func (p *pace) took(n int, now int64) {
	gap := min(max(now-p.last, 0)/int64(n), maxGap)
	if gap < p.gap || gap > 8*p.gap {
		p.gap = (p.gap + gap) / 2
	} else {
		p.gap += (gap - p.gap) / 8
	}
	p.last = now
}

// wait returns how long to gather more frames, having n of at most room; 0 if what there is should go at once.
func (p *pace) wait(n, room int) int64 {
	want := min(p.fill, room)
	if n >= want || p.gap*minGather > p.gather {
		return 0
	}
	return min(p.gap*int64(want-n), p.gather)
}

// spinUntil returns the time until which to look for frames before sleeping.
func (p *pace) spinUntil() int64 { return p.last + p.spin }
