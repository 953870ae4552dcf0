package forwarder_test

import (
	"context"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// stopwatch is a Source of single frames that nobody is interested in, which notes how long it was
// not asked for the next one: by the clock, in which the machine's other work has its part, and by
// the processor time of the worker's thread.
type stopwatch struct {
	reel      *reel
	end       atomic.Bool
	wall, cpu atomic.Int64 // the longest, in nanoseconds
	lastWall  time.Time
	lastCPU   int64
	started   bool
}

func threadTime() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return t.Nano()
}

func (s *stopwatch) Next(b []frame.Frame) (int, int64, error) {
	if s.end.Load() {
		return 0, 0, io.EOF
	}
	if s.started {
		s.wall.Store(max(s.wall.Load(), int64(time.Since(s.lastWall))))
		s.cpu.Store(max(s.cpu.Load(), threadTime()-s.lastCPU))
	}
	time.Sleep(20 * time.Microsecond)
	s.started, s.lastWall, s.lastCPU = true, time.Now(), threadTime()
	return copy(b, s.reel.rewind()), s.lastWall.UnixNano(), nil
}

func (s *stopwatch) Send([]frame.Frame) forwarder.Lost { return forwarder.Lost{} }

// BenchmarkStall10000 is how long a worker does not forward while 10,000 services with ten
// realservers each come, change and go: the longest such time of each run, of which the median and
// the longest are told. ns/op is the whole change.
func BenchmarkStall10000(b *testing.B) {
	plans := [2]forwarder.Plan{largePlan(10000), largePlan(10000)}
	for i := range plans[1].Services {
		for j := range plans[1].Services[i].Destinations {
			plans[1].Services[i].Destinations[j].Weight++
		}
	}
	more := largePlan(10001)
	nobody := forwarder.Plan{Settings: plans[0].Settings}
	known, unknown := neighbours(&plans[0]), neighbours(&plans[0])
	for i := range unknown {
		unknown[i].MAC = frame.MAC{}
	}
	apply := func(p *forwarder.Plan) func(r *rig) {
		return func(r *rig) { r.update(func(tx *forwarder.Tx) error { return tx.Apply(*p) }) }
	}
	resolve := func(n []forwarder.Neighbour) func(r *rig) { return func(r *rig) { r.must(r.SetNeighbours(n)) } }
	nothing := func(*rig) {}
	for _, c := range []struct {
		name          string
		before, timed func(*rig) // the first is carried out before each time
	}{
		{"quiet", nothing, func(*rig) { time.Sleep(50 * time.Millisecond) }},
		{"come", apply(&nobody), apply(&plans[0])},
		{"go", apply(&plans[0]), apply(&nobody)},
		{"same", apply(&plans[0]), apply(&plans[0])},
		{"weights", apply(&plans[0]), apply(&plans[1])},
		{"one-more", apply(&plans[0]), apply(&more)},
		{"resolved", resolve(unknown), resolve(known)},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, func(c *forwarder.Config) { c.Clock, c.Exact, c.Flows = time.Now, false, 100_000 })
			defer func() { r.must(r.Close()) }()
			k := talk{largePeer, largePeer}
			s := &stopwatch{reel: newReel(k.tcp(frame.ACK))}
			ended := make(chan error)
			go func() {
				runtime.LockOSThread()
				ended <- r.Worker(0).Run(context.Background(), s, s)
			}()
			apply(&plans[0])(r)
			var wall, cpu []int64
			for b.Loop() {
				b.StopTimer()
				c.before(r)
				runtime.GC()
				r.Worker(0).Do(func() { s.wall.Store(0); s.cpu.Store(0); s.started = false })
				b.StartTimer()
				c.timed(r)
				r.Worker(0).Do(func() {})
				wall, cpu = append(wall, s.wall.Load()), append(cpu, s.cpu.Load())
			}
			s.end.Store(true)
			r.must(<-ended)
			slices.Sort(wall)
			slices.Sort(cpu)
			for name, list := range map[string][]int64{"wall": wall, "cpu": cpu} {
				b.ReportMetric(float64(list[len(list)/2])/1e3, name+"-µs")
				b.ReportMetric(float64(list[len(list)-1])/1e3, name+"-longest-µs")
			}
		})
	}
}

// largePeer is nobody's address.
var largePeer = netip.MustParseAddrPort("198.51.100.1:1")
