package replayrun

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/replaybench"
)

// BenchOptions are the options of Bench.
type BenchOptions struct {
	Options
	// Duration is how long to measure; at least one round is measured.
	Duration time.Duration
	// Memory is the most bytes of frames to keep; a longer capture is refused.
	Memory int
}

// DefaultBenchMemory holds some ten million short frames.
const DefaultBenchMemory = 1 << 30

// A BenchReport is the speed of a configuration with a capture. The names in its JSON form are
// stable.
type BenchReport struct {
	Capture  Capture   `json:"capture"`
	Rounds   int       `json:"rounds"` // measured: the whole capture each
	PerFrame Spread    `json:"cpu_ns_per_frame"`
	Frames   float64   `json:"frames_per_second"` // of one CPU, at the median
	Gigabits float64   `json:"gigabits_per_second"`
	Mean     float64   `json:"mean_frame_bytes"`
	Verdicts []Verdict `json:"verdicts"` // of the first round, in which flows are new
	Flows    int       `json:"flows"`    // in the table at the end, templates among them
	Created  uint64    `json:"flows_created"`
	Memory   int       `json:"table_bytes"`
}

// Spread summarizes the results of several rounds.
type Spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

// Bench reads a capture into memory, passes it through the datapath repeatedly, and measures the
// CPU time. The timestamps of each round follow those of the previous round, so flows continue and
// expire as in continuous traffic. File reading and networking are excluded.
func Bench(ctx context.Context, opt BenchOptions) (*BenchReport, error) {
	r, err := bench(ctx, &opt)
	if err != nil && ctx.Err() != nil {
		return nil, interrupted(&opt.Options)
	}
	return r, err
}

func bench(ctx context.Context, opt *BenchOptions) (*BenchReport, error) {
	if opt.Memory == 0 {
		opt.Memory = DefaultBenchMemory
	}
	in, err := openInput(ctx, &opt.Options)
	if err != nil {
		return nil, err
	}
	defer in.close()
	stop := showProgress(opt.Progress, in.src, time.Now())
	tape, err := recordTape(ctx, in, opt.Memory)
	stop()
	if err != nil {
		return nil, err
	}
	b, err := buildFor(opt.Config, tape.frames[0].Time, false)
	if err != nil {
		return nil, err
	}
	defer b.engine.Close() // memory of this process only
	tape.leg = b.in
	return tape.measure(ctx, opt, b, newCapture(&opt.Options, in.src.Stats()))
}

// A tape is a capture in memory.
type tape struct {
	frames []frame.Frame
	bytes  uint64 // on the wire
	leg    frame.Leg
}

// recordTape reads a capture to its end.
func recordTape(ctx context.Context, in *input, room int) (*tape, error) {
	t := &tape{}
	batch := make([]frame.Frame, forwarder.BatchSize)
	var slab []byte
	for used := 0; ; {
		n, _, err := in.src.Next(batch)
		for i := range batch[:n] {
			f := batch[i]
			size := len(f.Buf)
			if used += size + frameSize; used > room {
				return nil, fmt.Errorf("%s: it does not fit into %s of memory; shorten it by `editcap -r FILE part.pcap 1-%d`, or increase --memory",
					nameOf(in.file.Name()), bytesOf(int64(room)), len(t.frames))
			}
			if size > len(slab) {
				slab = make([]byte, max(1<<20, size))
			}
			copy(slab, f.Buf)
			f.Buf, slab = slab[:size:size], slab[size:]
			t.frames, t.bytes = append(t.frames, f), t.bytes+uint64(f.Wire)
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == io.EOF && len(t.frames) == 0:
			return nil, fmt.Errorf("%s: the capture has no packet to measure with", nameOf(in.file.Name()))
		case err == io.EOF:
			return t, nil
		case err != nil:
			return nil, err
		}
	}
}

// frameSize is the memory of a frame beside its bytes.
const frameSize = 56

// measure gives the tape to the engine until the time is over.
func (t *tape) measure(ctx context.Context, opt *BenchOptions, b *built, c Capture) (*BenchReport, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := &BenchReport{Capture: c, Mean: float64(t.bytes) / float64(len(t.frames))}
	period := t.frames[len(t.frames)-1].Time - t.frames[0].Time + int64(time.Millisecond)
	ring := newRing(b.in)
	t.play(ctx, b.engine.Worker(0), ring, 0) // makes the flows, and is not counted
	r.Verdicts = verdictsOf(b.engine)

	bar, start := newBar(opt.Progress, "measuring"), time.Now()
	defer bar.clear()
	var costs []float64
	for round := int64(1); ; round++ {
		cpu := t.play(ctx, b.engine.Worker(0), ring, round*period)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		costs = append(costs, float64(cpu)/float64(len(t.frames)))
		took := time.Since(start)
		bar.show(float64(took) / float64(max(opt.Duration, 1)))
		// The table's clock ends after two years.
		if took >= opt.Duration || time.Duration((round+2)*period) > 300*24*time.Hour {
			break
		}
	}
	slices.Sort(costs)
	r.Rounds = len(costs)
	r.PerFrame = Spread{costs[len(costs)/2], costs[0], costs[len(costs)-1]}
	r.Frames = 1e9 / max(r.PerFrame.Median, 1e-3)
	r.Gigabits = r.Frames * r.Mean * 8 / 1e9
	st := b.engine.Stats()
	r.Flows, r.Created, r.Memory = st.Flows, st.Table.Created, st.Memory
	return r, nil
}

// A ring is where the frames lie when the worker gets them: in a few thousand slots that are filled
// before the clock runs, as a kernel fills them, so that they are in the processor's cache, and as
// they came.
type ring struct {
	leg    frame.Leg
	frames [replaybench.Slots]frame.Frame
	memory []byte
}

func newRing(leg frame.Leg) *ring { return &ring{leg: leg, memory: make([]byte, 1<<18)} }

// fill takes frames from the front of those that are left, shifts their times, and returns how many
// it took.
func (r *ring) fill(left []frame.Frame, shift int64) int {
	n, at := 0, 0
	for ; n < len(left) && n < len(r.frames); n++ {
		f := left[n]
		size := len(f.Buf)
		if at+size > len(r.memory) {
			if n > 0 {
				break
			}
			r.memory = make([]byte, size)
		}
		copy(r.memory[at:], f.Buf)
		f.Buf, f.In, f.Out = r.memory[at:at+size:at+size], r.leg, frame.NoLeg
		f.Time += shift
		r.frames[n] = f
		at += (size + 63) &^ 63
		if at > len(r.memory) {
			at = len(r.memory)
		}
	}
	return n
}

// play gives the whole tape to a worker and returns the CPU time that Process took.
func (t *tape) play(ctx context.Context, w *forwarder.Worker, r *ring, shift int64) (cpu time.Duration) {
	for left := t.frames; len(left) > 0 && ctx.Err() == nil; {
		n := r.fill(left, shift)
		left = left[n:]
		start := replaybench.ThreadTime()
		for at := 0; at < n; at += forwarder.BatchSize {
			end := min(at+forwarder.BatchSize, n)
			w.Process(r.frames[at:end], r.frames[end-1].Time)
		}
		cpu += replaybench.ThreadTime() - start
	}
	return cpu
}

// verdictsOf lists what became of all frames so far.
func verdictsOf(e *forwarder.Engine) []Verdict {
	st, out := e.Stats(), []Verdict{}
	for v := range forwarder.NumVerdicts {
		if n := st.Verdicts[v]; n > 0 {
			out = append(out, newVerdict(v, n))
		}
	}
	return out
}
