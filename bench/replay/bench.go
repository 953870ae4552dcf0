package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gonum.org/v1/plot/plotter"

	"shunt/bench/report"
	"shunt/internal/replaybench"
)

// The measures, and who takes part in them.
const (
	perFlows    = "Established flows, uniformly random order"
	perNew      = "Every frame a new flow"
	perServices = "Services"
	perServers  = "Realservers of one service"
	perWorkers  = "Frames a CPU second, relative to one worker"
	perClock    = "Frames a second by the clock, relative to one worker"
	memory      = "Memory"
	stops       = "Stops"
	slowest     = "The slowest of all batches of 64 frames, CPU time"
	longestStop = "longest by the garbage collector, 10 million flows"
	twoWorkers  = "2 workers"
	twoApart    = "2 processes that have nothing in common"
	unitFrame   = "CPU ns a frame"
)

// An entrant is one configuration that takes its turn in each round.
type entrant struct {
	measure, name string
	x             float64 // where it is on its measure's plot
	lender        *replaybench.Lender
}

type bench struct {
	rep      *report.Report
	frames   uint64
	unit     int // flows that are called a million
	entrants []entrant
	rigs     []*replaybench.Rig
	pair     [2]*replaybench.Lender
	apart    [2]*apart
	ten      *replaybench.Lender
}

func (b *bench) close() {
	for _, r := range b.rigs {
		r.Close() // memory of this process only
	}
	for _, a := range b.apart {
		if a != nil {
			_ = a.close() // it has told what there was to tell
		}
	}
}

// rig makes an engine in which each worker has so many established flows.
func (b *bench) rig(s replaybench.Setup, flows int) (*replaybench.Rig, error) {
	if s.Flows = max(s.Flows, flows, 1024); flows > 0 {
		fmt.Fprintf(os.Stderr, "%d flows to %d services of %d realservers\n", flows, max(s.Services, 1), max(s.Realservers, 1))
	}
	r, err := replaybench.NewRig(s)
	if err != nil {
		return nil, err
	}
	b.rigs = append(b.rigs, r)
	for w := range max(s.Workers, 1) {
		if err := r.Establish(w, flows); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (b *bench) add(measure, name string, x float64, l *replaybench.Lender) {
	b.entrants = append(b.entrants, entrant{measure, name, x, l})
}

// prepare makes all entrants. The largest table comes first, so that the process holds nothing else
// when its memory is measured.
func (b *bench) prepare() error {
	sizes := []struct {
		name  string
		flows int
	}{{"10 million", 10 * b.unit}, {"1", 1}, {"1 thousand", b.unit / 1000}, {"64 thousand", b.unit * 64 / 1000}, {"1 million", b.unit}}
	for _, s := range sizes {
		r, err := b.rig(replaybench.Setup{Realservers: 16}, s.flows)
		if err != nil {
			return err
		}
		l := r.LendRandom(0, uint32(s.flows))
		b.add(perFlows, s.name, float64(s.flows), l)
		if b.ten == nil {
			b.ten = l
			debug.FreeOSMemory()
			rss, err := residentMiB()
			if err != nil {
				return err
			}
			b.rep.Add(memory, "MiB resident", "10 million flows", rss)
		}
	}
	for _, n := range []int{1, 100, 10_000} {
		r, err := b.rig(replaybench.Setup{Services: n, Realservers: 4}, b.unit)
		if err != nil {
			return err
		}
		b.add(perServices, strconv.Itoa(n)+", established", float64(n), r.LendRandom(0, uint32(b.unit)))
	}
	for _, n := range []int{1, 16, 256, 4096} {
		r, err := b.rig(replaybench.Setup{Realservers: n}, b.unit)
		if err != nil {
			return err
		}
		b.add(perServers, strconv.Itoa(n)+", established", float64(n), r.LendRandom(0, uint32(b.unit)))
	}
	if err := b.prepareNew(); err != nil {
		return err
	}
	two, err := b.rig(replaybench.Setup{Realservers: 16, Workers: 2}, b.unit)
	if err != nil {
		return err
	}
	b.pair = [2]*replaybench.Lender{two.LendRandom(0, uint32(b.unit)), two.LendRandom(1, uint32(b.unit))}
	for i := range b.apart {
		if b.apart[i], err = startApart(b.unit); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) prepareNew() error {
	r, err := b.rig(replaybench.Setup{Realservers: 16, Flows: b.unit}, 0)
	if err != nil {
		return err
	}
	b.add(perNew, "SYN flood, 1 million in a full table", 0, r.LendFlood(0, b.unit))
	if r, err = b.rig(replaybench.Setup{Realservers: 16, Flows: b.unit}, 0); err != nil {
		return err
	}
	l := r.LendNew(0, uint32(b.unit))
	l.Step = 64 * 60 * time.Second / time.Duration(b.unit/2)
	if _, err := l.Run(uint64(2 * b.unit)); err != nil {
		return err
	}
	b.add(perNew, "half a million flows, as many end as begin", 0, l)
	return nil
}

// growth looks for a pause that a table makes while it fills, as one whose memory the kernel gives
// when it is first touched would.
func (b *bench) growth() error {
	r, err := replaybench.NewRig(replaybench.Setup{Realservers: 16, Flows: max(b.unit, 1024)})
	if err != nil {
		return err
	}
	defer r.Close() // each round has its own
	l := r.LendNew(0, uint32(b.unit))
	b.rep.Add(slowest, "us", "a table of 1 million fills for the first time", float64(l.Slowest(uint64(b.unit)))/1e3)
	b.rep.Add(slowest, "us", "the same frames once more: known flows", float64(r.LendNew(0, uint32(b.unit)).Slowest(uint64(b.unit)))/1e3)
	return nil
}

// round gives everybody one turn.
func (b *bench) round() error {
	for i := range b.entrants {
		e := &b.entrants[i]
		c, err := e.lender.Run(b.frames)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", e.measure, e.name, err)
		}
		b.rep.Add(e.measure, unitFrame, e.name, c.PerFrame())
	}
	if err := b.scaling(twoWorkers, b.pair[0], b.pair[1]); err != nil {
		return err
	}
	if err := b.scaling(twoApart, b.apart[0], b.apart[1]); err != nil {
		return err
	}
	return b.growth()
}

// slicesOfRound is in how many turns one worker alone and two beside each other share a round: on a
// machine whose speed changes from one moment to the next, both are to have the same.
const slicesOfRound = 20

// scaling compares one worker alone with two beside each other. CPU time is what counts: what else
// runs on the machine takes time of day from both, but only what they do to each other (caches,
// memory, locks) makes a frame cost more CPU. The time of day is told besides, which means
// something on a machine that has nothing else to do.
func (b *bench) scaling(name string, pair ...runner) error {
	var alone, beside [2]replaybench.Cost
	for n := range slicesOfRound {
		c, err := pair[n%2].Run(b.frames / slicesOfRound)
		if err != nil {
			return err
		}
		alone[n%2].Add(c)
		var wg sync.WaitGroup
		var errs [2]error
		for i, l := range pair {
			wg.Go(func() {
				c, err := l.Run(b.frames / slicesOfRound)
				beside[i].Add(c)
				errs[i] = err
			})
		}
		wg.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
	}
	b.rep.Add(perWorkers, "ratio", name, alone[0].PerFrame()/beside[0].PerFrame()+alone[1].PerFrame()/beside[1].PerFrame())
	b.rep.Add(perClock, "ratio", name, alone[0].WallPerFrame()/beside[0].WallPerFrame()+alone[1].WallPerFrame()/beside[1].WallPerFrame())
	return nil
}

// runner is a Lender, here or in another process.
type runner interface {
	Run(frames uint64) (replaybench.Cost, error)
}

// pauses has the garbage collector run again and again beside ten million flows with traffic, and
// then beside a worker that only counts.
func (b *bench) pauses() error {
	longest, typical, err := stopped(func() error { _, err := b.ten.Run(10_000); return err })
	if err != nil {
		return err
	}
	b.rep.Add(stops, "us", longestStop, longest)
	b.rep.Add(stops, "us", "median of them", typical)
	runtime.LockOSThread() // as a Lender does
	defer runtime.UnlockOSThread()
	if longest, typical, err = stopped(count); err != nil {
		return err
	}
	b.rep.Add(stops, "us", "longest, without engine and traffic", longest)
	b.rep.Add(stops, "us", "median, without engine and traffic", typical)
	b.rep.Notes = append(b.rep.Notes, "A stop lasts until every processor has noticed it, and those that slept are awake again: the figures "+
		"without engine are the machine's and the runtime's.")
	return nil
}

// stopped asks the runtime for the longest time that the collector stopped everybody while
// something was done again and again, and for the median, in us.
func stopped(work func() error) (longest, typical float64, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			runtime.GC()
			time.Sleep(20 * time.Millisecond)
		}
	}()
	before := longestStops()
	for over := false; !over; {
		if err := work(); err != nil {
			return 0, 0, err
		}
		select {
		case <-done:
			over = true
		default:
		}
	}
	after := longestStops()
	all := uint64(0)
	for i := range after.Counts {
		after.Counts[i] -= before.Counts[i]
		all += after.Counts[i]
	}
	seen := uint64(0)
	for i, n := range after.Counts {
		if n == 0 {
			continue
		}
		if longest = after.Buckets[i+1]; math.IsInf(longest, 1) {
			longest = after.Buckets[i]
		}
		if seen <= all/2 {
			typical = longest
		}
		seen += n
	}
	return longest * 1e6, typical * 1e6, nil
}

func longestStops() *metrics.Float64Histogram {
	s := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(s)
	h := s[0].Value.Float64Histogram()
	return &metrics.Float64Histogram{Counts: append([]uint64(nil), h.Counts...), Buckets: h.Buckets}
}

// residentMiB is the memory that this process has.
func residentMiB() (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
			return float64(kib) / 1024, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmRSS")
}

func (b *bench) goals() {
	if b.unit != 1_000_000 {
		b.rep.Notes = append(b.rep.Notes, fmt.Sprintf("Not to be compared with anything: a million stands for %d here.", b.unit))
		return
	}
	b.rep.Absolute(perFlows, "1 million", 35, false)
	b.rep.Absolute(perFlows, "10 million", 60, false)
	b.rep.Absolute(memory, "10 million flows", 1024, false)
	b.rep.Absolute(perNew, "SYN flood, 1 million in a full table", 120, false)
	b.rep.Absolute(stops, longestStop, 100, false)
	b.rep.Absolute(perWorkers, twoWorkers, 1.8, true)
}

// plots shows how the cost grows.
func (b *bench) plots(out string) error {
	for _, p := range []struct{ measure, file, x string }{
		{perFlows, "replay-flows", "flows"}, {perServices, "replay-services", "services"}, {perServers, "replay-realservers", "realservers"},
	} {
		var xy plotter.XYs
		for _, e := range b.entrants {
			if e.measure == p.measure {
				v, _ := b.rep.Median(e.measure, e.name)
				xy = append(xy, plotter.XY{X: math.Log10(e.x), Y: v})
			}
		}
		slices.SortFunc(xy, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
		if err := report.Lines(out, p.file, p.measure, "log10 of "+p.x, unitFrame, []report.Line{{Name: "median", XY: xy}}); err != nil {
			return err
		}
	}
	return nil
}

// profiles records where the time goes: with known flows and in a flood.
func (b *bench) profiles(out string) error {
	for _, p := range []struct{ measure, name, file string }{
		{perFlows, "1 million", "replay-known.pprof"}, {perNew, "SYN flood, 1 million in a full table", "replay-flood.pprof"},
	} {
		for i := range b.entrants {
			if e := &b.entrants[i]; e.measure == p.measure && e.name == p.name {
				if err := profile(filepath.Join(out, p.file), e.lender, 5*b.frames); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func profile(path string, l *replaybench.Lender, frames uint64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = l.Run(frames)
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}
