package forwarder_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// eventually waits for something that must come.
func (r *rig) eventually(what string, cond func() bool) {
	r.Helper()
	for end := time.Now().Add(time.Minute); !cond(); runtime.Gosched() {
		if time.Now().After(end) {
			r.Fatal("in vain: " + what)
		}
	}
}

// TestFileCut: a file that is cut under two running workers ends nothing. The worker whose file it
// is begins anew, in memory of the process; the other one keeps its flows; each frame has its
// verdict; all numbers of connections are those of the tables; and no other process believes what
// is left.
func TestFileCut(t *testing.T) {
	for _, c := range []struct {
		file  string
		size  int64
		flows int // that are lost
	}{{"table.0", 0, 20}, {"table.0", 4096 + 576, 20}, {"counts.0", 0, 0}, {"counts.0", 100, 0}} {
		t.Run(c.file, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			r := start(t, keeping(dir, func(c *forwarder.Config) { c.Workers = 2 }))
			r.serve(service("TCP "+vip4+":80", "rr"), 1, 2)
			src := make([]*endless, 2)
			sinks := []*countingSink{{}, {}}
			for n := range src {
				var frames []frame.Frame
				for i := range uint16(20) {
					k := talk4(uint16(n+1)*1000+i, 80)
					frames = append(frames, k.tcp(frame.SYN), k.tcp(frame.ACK), k.tcp(frame.ACK, 'x'))
				}
				src[n] = newEndless(frames...)
				src[n].now = second
			}
			stop := r.running(t, func(n int) forwarder.Source { return src[n] }, func(n int) forwarder.Sink { return sinks[n] })
			flows := func(n int) int { return r.Worker(n).Flows() }
			defer stop()
			r.eventually("all flows are there", func() bool { return flows(0) == 20 && flows(1) == 20 })
			before := r.Stats()
			r.must(os.Truncate(filepath.Join(dir, c.file), c.size))
			r.eventually("the worker has noticed", func() bool { return r.Stats().Cut > 0 })
			r.eventually("the flows that begin again are there", func() bool { return flows(0) == 20 })
			r.must(r.Maintain())
			if err := r.StateError(); !errors.Is(err, forwarder.ErrCut) {
				t.Errorf("the error is %v", err)
			}
			r.wall += 10 * forwarder.EstimatePeriod
			r.must(r.Maintain())
			stop()

			s := r.Stats()
			if s.Cut != 1 || s.Flows != 40 || s.Verdicts[forwarder.TableLost] > forwarder.BatchSize {
				t.Errorf("cut %d times, %d flows, %d frames lost", s.Cut, s.Flows, s.Verdicts[forwarder.TableLost])
			}
			if c.flows > 0 { // the verdicts were not in the file that was cut
				var total uint64
				for _, n := range s.Verdicts {
					total += n
				}
				if lent := uint64(src[0].lent + src[1].lent); total != lent {
					t.Errorf("%d frames have a verdict, of %d", total, lent)
				}
				if sent := uint64(sinks[0].sent + sinks[1].sent); sent != s.Verdicts[forwarder.Forwarded] {
					t.Errorf("%d frames were sent, and %d counted as forwarded; %v", sent, s.Verdicts[forwarder.Forwarded], s.Verdicts)
				}
				if s.Table.Created-before.Table.Created > 40 {
					t.Errorf("the other worker has lost flows: %+v, before %+v", s.Table, before.Table)
				}
			}
			active, inactive := r.counted()
			if active+inactive != 40 {
				t.Errorf("%d active and %d inactive connections are counted, of 40", active, inactive)
			}
			left := crash(t, dir)
			b := start(t, keeping(left, func(c *forwarder.Config) { c.Workers = 2 }))
			if got := b.Taken(); got.Flows > 0 {
				t.Errorf("taken over: %+v", got)
			}
		})
	}
}

// cuttingSource cuts a file before it lends its second batch.
type cuttingSource struct {
	sliceSource
	path    string
	batches int
}

func (s *cuttingSource) Next(batch []frame.Frame) (n int, now int64, err error) {
	if s.batches++; s.batches == 2 {
		if err := os.Truncate(s.path, 0); err != nil {
			return 0, 0, err
		}
	}
	return s.sliceSource.Next(batch[:2])
}

// TestCutInBatch: frames in work when the table goes are counted as lost, once each; those after
// them begin their flows anew.
func TestCutInBatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	r := start(t, keeping(dir))
	r.serve(service("TCP "+vip4+":80", "rr"), 1, 2)
	src := &cuttingSource{path: filepath.Join(dir, "table.0")}
	for n := range uint16(6) {
		src.frames = append(src.frames, talk4(2000+n, 80).tcp(frame.SYN))
	}
	sink := &sliceSink{}
	r.must(r.Worker(0).Run(t.Context(), src, sink))
	s := r.Stats()
	if s.Verdicts[forwarder.TableLost] != 2 || s.Verdicts[forwarder.Forwarded] != 4 || len(sink.sent) != 4 || s.Flows != 2 {
		t.Errorf("of 6 frames %d are lost, %d forwarded, %d sent; %d flows", s.Verdicts[forwarder.TableLost], s.Verdicts[forwarder.Forwarded], len(sink.sent), s.Flows)
	}
	r.must(r.Maintain())
	if active, inactive := r.counted(); active+inactive != 2 {
		t.Errorf("%d and %d connections are counted, of 2", active, inactive)
	}
}

// TestFileCutControl: a file that only the control plane writes to, cut, ends nothing either.
func TestFileCutControl(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	r := start(t, keeping(dir))
	r.serve(service("TCP "+vip4+":80", "rr"), 1, 2)
	r.give(talk4(1000, 80).tcp(frame.SYN))
	r.must(os.Truncate(filepath.Join(dir, "zeros"), 0))
	r.must(r.Zero(nil))
	if n := r.one().Counts.Packets; n != 0 {
		t.Errorf("%d packets are shown", n)
	}
	if err := r.StateError(); !errors.Is(err, forwarder.ErrCut) {
		t.Errorf("the error is %v", err)
	}
}

// TestFileCutIdle: what the control plane reads of a worker that does not run bears a cut file too.
func TestFileCutIdle(t *testing.T) {
	for _, file := range []string{"table.0", "counts.0"} {
		dir := filepath.Join(t.TempDir(), "state")
		r := start(t, keeping(dir))
		r.serve(service("TCP "+vip4+":80", "rr"), 1, 2)
		r.give(talk4(1000, 80).tcp(frame.SYN))
		r.must(os.Truncate(filepath.Join(dir, file), 0))
		r.conns()
		r.Stats()
		r.Services()
		r.serve(service("TCP "+vip4+":81", "rr"), 1, 2)
		r.must(r.Maintain())
		if s := r.Stats(); s.Cut != 1 {
			t.Errorf("%s: cut %d times", file, s.Cut)
		}
		if len(r.give(talk4(1001, 81).tcp(frame.SYN))) != 1 {
			t.Errorf("%s: nothing is forwarded", file)
		}
	}
}

// TestOtherPanics: a panic that is no cut file stays one.
func TestOtherPanics(t *testing.T) {
	r := start(t)
	defer func() {
		if recover() == nil {
			t.Error("a panic was swallowed")
		}
	}()
	r.Worker(0).Do(func() { panic("another") })
}
