package ring

import "time"

// preset is what a Preset stands for; all times in nanoseconds.
type preset struct {
	spin   int64         // the longest look at the rings after the last frame before Next sleeps
	brief  int64         // the same where frames are expected later than that
	gather int64         // the longest wait for a fuller batch, when frames come densely; 0: never
	fill   int           // frames that a gathered batch should have
	tick   time.Duration // how long Next sleeps at most
}

// The figures are measured: see docs/performance.md. A sleep of a hundred microseconds costs a
// timer and two switches, about as much as sending two frames; a wake-up by the kernel costs
// several times that, and one from the depth of an idle processor 70 us of latency. So: sleep by
// the clock while frames come densely, look for the next one while they come singly, and let the
// kernel wake us when they do not come.
var presets = [...]preset{
	Balanced:  {spin: 3_000_000, brief: 50_000, gather: 400_000, fill: 64, tick: 25 * time.Millisecond},
	Latency:   {spin: 3_000_000, brief: 3_000_000, tick: 25 * time.Millisecond},
	Powersave: {gather: 1_000_000, fill: 64, tick: 50 * time.Millisecond},
}

const (
	// minGather is how many frames must be expected within the longest wait for it to be worth it.
	minGather = 16
	// step is the longest sleep at a time while frames are gathered, in nanoseconds; after each it
	// is seen whether they do come.
	step = 400_000
	// minStep is the shortest: below it, a sleep costs more than it brings.
	minStep = 30_000
	// lull is the longest silence, in nanoseconds, that is slept through by the clock between dense
	// frames.
	lull = 2_000_000
	// many is how many frames are worth a wait that brings no more: what it costs is little for
	// each of them. Who sends as many at once sends in bursts, and the burst was over.
	many = 16
	// worth is how many frames a wait must bring, lest the next ones be left out.
	worth = 4
	// maxFutile bounds how long no gathering is tried after it has brought nothing: 8 batches,
	// shifted by this.
	maxFutile = 7
	// heavyFrame is the mean length, in bytes, from which on frames are not gathered: what they
	// cost is their copy.
	heavyFrame = 4096
	// maxGap bounds the time between frames that is believed, in nanoseconds. A longer silence is a
	// new beginning.
	maxGap = 4_000_000
	// part is what the count of frames is kept in, lest small numbers be rounded away.
	part = 1 << 10
	// memory is how much of what was is kept with each batch, in eighths.
	memory = 7
)

// A pace tells how long to wait. It is arithmetic over times that the caller reads, in nanoseconds
// of one clock.
type pace struct {
	preset
	gap    int64 // estimated time from frame to frame
	last   int64 // when the last batch with frames was handed out
	time   int64 // what gap is made of: the time of the last batches, the older the less,
	frames int64 // and their frames, in parts of one
	heavy  bool  // the last batch was of super-frames
	futile uint8 // how often in a row gathering has brought nothing
	skip   int32 // batches that are not gathered for that
}

func newPace(p preset, now int64) pace {
	return pace{preset: p, gap: maxGap, last: now, time: maxGap, frames: part}
}

// took learns from a batch of n > 0 frames of some bytes handed out at now. Frames often come in
// bursts with silences of some hundred microseconds between them: it is their mean that counts.
func (p *pace) took(n, bytes int, now int64) {
	d := max(now-p.last, 0)
	if d >= maxGap {
		p.time, p.frames = maxGap, part // the next lone frame is not to wait
	} else {
		p.time = p.time*memory/8 + d
		p.frames = p.frames*memory/8 + int64(n)*part
	}
	p.gap = min(p.time*part/p.frames, maxGap)
	p.last = now
	p.heavy = bytes > n*heavyFrame
	if p.skip > 0 {
		p.skip--
	}
}

// dense reports whether frames come so densely that it is worth to gather them.
func (p *pace) dense() bool {
	return p.gap*minGather <= p.gather && p.skip == 0 && !p.heavy
}

// wait returns how long to sleep for more frames, having n of at most room and having waited for
// some time already; 0 if what there is should go at once.
func (p *pace) wait(n, room int, waited int64) int64 {
	want, most := min(p.fill, room), p.gather
	if n == 0 {
		most = max(most, lull)
	}
	if n >= want || waited >= most || !p.dense() {
		return 0
	}
	return min(max(p.gap*int64(want-n), minStep), step, most-waited)
}

// came tells that the last sleep, of d, has brought n frames; that there are all frames now, sum of
// them by waiting. It reports whether waiting on is of use. Whoever sends only when the last frame
// has been answered sends nothing while we wait, and the longer we wait the less: such traffic is
// not gathered for a while, longer each time.
func (p *pace) came(n, all, sum int, d, waited int64) bool {
	switch {
	case int64(2*n+1)*p.gap >= d:
		p.futile = 0
		return true
	case all == 0 && waited < max(p.gather, lull):
		return true // between two bursts
	case all >= many:
		return false
	case sum >= worth:
		p.futile = 0
		return false
	}
	p.skip = 8 << p.futile
	if p.futile < maxFutile {
		p.futile++
	}
	return false
}

// spinUntil returns the time until which to look for frames before sleeping: until well after the
// next one is due, if that is soon. Nothing is looked for where frames are gathered: that would
// cost what gathering saves.
func (p *pace) spinUntil() int64 {
	if p.dense() {
		return 0
	}
	if p.gap > p.spin/2 {
		return p.last + p.brief
	}
	return p.last + p.spin
}
