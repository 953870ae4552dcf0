package forwarder_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// An endless source lends the same frames again and again, as they first were. While paused it
// waits to be woken, as a ring does that has no frames.
type endless struct {
	*reel
	now    int64
	lent   int
	paused atomic.Bool
	woken  chan struct{}
}

func newEndless(frames ...frame.Frame) *endless {
	return &endless{reel: newReel(frames...), woken: make(chan struct{}, 1)}
}

func (s *endless) Next(batch []frame.Frame) (n int, now int64, err error) {
	if s.paused.Load() {
		<-s.woken
		return 0, s.now, nil
	}
	runtime.Gosched() // as the system call of a ring would
	s.now += int64(100 * time.Microsecond)
	n = copy(batch, s.rewind())
	s.lent += n
	return n, s.now, nil
}

// Wake ends a Next that waits.
func (s *endless) Wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// countingSink counts what it is given, by realserver, and calls check for each batch.
type countingSink struct {
	servers [8]int
	sent    int
	check   func(batch []frame.Frame)
}

func (s *countingSink) Send(batch []frame.Frame) forwarder.Lost {
	for _, f := range batch {
		s.servers[serverOf(f)&7]++
	}
	s.sent += len(batch)
	if s.check != nil {
		s.check(batch)
	}
	return forwarder.Lost{}
}

// running runs all workers of an engine over sources and sinks made for each, and returns how to
// stop them.
func (r *rig) running(t *testing.T, src func(worker int) forwarder.Source, sink func(worker int) forwarder.Sink) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for n := range r.Workers() {
		wg.Go(func() {
			if err := r.Worker(n).Run(ctx, src(n), sink(n)); err != nil {
				t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// TestRun: a source that ends ends the worker without an error, one that fails with its error, and
// what they lent along with it is carried all the same.
func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	broken := errors.New("broken")
	var frames []frame.Frame
	for n := range uint16(300) {
		frames = append(frames, talk4(1024+n, 80).tcp(frame.SYN))
	}
	for _, c := range []struct {
		err, want error
	}{{io.EOF, nil}, {broken, broken}, {fmt.Errorf("the capture: %w", io.EOF), nil}} {
		r := start(t)
		someServices(r)
		sink := &sliceSink{}
		src := &failingSource{sliceSource{frames: frames}, c.err}
		if err := r.Worker(0).Run(context.Background(), src, sink); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Fatalf("after %v Run says %v", c.err, err)
		}
		if got := r.Stats().Verdicts[forwarder.Forwarded]; len(sink.sent) != len(frames) || got != uint64(len(frames)) {
			t.Fatalf("of %d frames %d were sent, %d counted", len(frames), len(sink.sent), got)
		}
		for i, f := range sink.sent {
			if string(f.Buf[12:]) != string(frames[i].Buf[12:]) {
				t.Fatalf("frame %d is not in its place", i)
			}
		}
	}
}

// failingSource gives its error together with its last frames.
type failingSource struct {
	sliceSource
	err error
}

func (s *failingSource) Next(batch []frame.Frame) (n int, now int64, err error) {
	n, now, _ = s.sliceSource.Next(batch)
	for i := range n {
		batch[i] = clone(batch[i])
	}
	if len(s.frames) == 0 {
		return n, now, s.err
	}
	return n, now, nil
}

// TestShutdown: a worker ends when its context does, whether frames come or its source waits for
// some.
func TestShutdown(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, paused := range []bool{false, true} {
		r := start(t, func(c *forwarder.Config) { c.Workers = 2 })
		someServices(r)
		stop := r.running(t, func(int) forwarder.Source {
			src := newEndless(talk4(40000, 80).tcp(frame.SYN))
			src.paused.Store(paused)
			return src
		}, func(int) forwarder.Sink { return &countingSink{} })
		r.Stats() // the workers answer, so they are under way or not yet
		stop()
		r.Stats() // and they still do
	}
}

// TestDoRunsOnce: whether the worker runs, waits, starts or ends meanwhile, a function that it is
// given runs exactly once, alone, before Do returns.
func TestDoRunsOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := start(t)
	someServices(r)
	const callers, calls = 8, 50
	var wg sync.WaitGroup
	ran := 0 // guarded by nothing but Do
	for range callers {
		wg.Go(func() {
			for range calls {
				done := false
				r.Worker(0).Do(func() {
					ran++
					done = true
				})
				if !done {
					t.Error("Do returned before its function had run")
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() {
		wg.Wait()
		close(finished)
	}()
	for again, n := true, 0; again; n++ {
		src := newEndless(talk4(40000, 80).tcp(frame.SYN))
		src.paused.Store(n%2 == 0)
		stop := r.running(t, func(int) forwarder.Source { return src }, func(int) forwarder.Sink { return &countingSink{} })
		select {
		case <-finished:
			again = false
		case <-time.After(time.Millisecond): // not a limit: only so that the worker ends now and then
		}
		stop()
	}
	if ran != callers*calls {
		t.Fatalf("%d functions ran, want %d", ran, callers*calls)
	}
}

// TestTransactionsAreWhole: while traffic runs, transactions move two services from one realserver
// to the other and back. Each datagram is scheduled afresh, and those of one batch, of both
// services, must all go to the same.
func TestTransactionsAreWhole(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := start(t, func(c *forwarder.Config) { c.Workers = 2 })
	once := func(s *forwarder.Service) { s.OnePacket = true }
	a, b := service("UDP "+vip4+":53", "rr", once), service("UDP ["+vip6+"]:53", "wrr", once)
	r.serve(a, 1)
	r.serve(b, 1)
	for _, v6 := range []bool{false, true} {
		r.must(r.SetNeighbour(0, server(2, v6), serverMAC(2)))
	}
	sinks := [2]*countingSink{}
	for i := range sinks {
		sinks[i] = &countingSink{check: func(batch []frame.Frame) {
			for _, f := range batch {
				if serverOf(f) != serverOf(batch[0]) || len(batch) != 4 {
					t.Errorf("one batch went to realservers %d and %d", serverOf(f), serverOf(batch[0]))
				}
			}
		}}
	}
	stop := r.running(t,
		func(int) forwarder.Source {
			return newEndless(talk4(1, 53).udp(), talk6(1, 53).udp(), talk4(2, 53).udp(), talk6(2, 53).udp())
		},
		func(n int) forwarder.Sink { return sinks[n] })
	for n := range 200 {
		from, to := n%2+1, (n+1)%2+1
		r.update(func(tx *forwarder.Tx) error {
			var errs []error
			for _, s := range []forwarder.Service{a, b} {
				errs = append(errs, tx.DeleteDestination(s.Key(), dest(s, from)), tx.AddDestination(s.Key(), dest(s, to)))
			}
			return errors.Join(errs...)
		})
		_ = r.Update(func(tx *forwarder.Tx) error { // and those that fail are not seen at all
			return errors.Join(tx.DeleteDestination(a.Key(), dest(a, to)), errOnPurpose)
		})
	}
	stop()
	for n, s := range sinks {
		if s.servers[0] != 0 || s.servers[1] == 0 && s.servers[2] == 0 {
			t.Errorf("worker %d sent %v", n, s.servers)
		}
	}
}

// TestEverythingAtOnce: several workers carry traffic while everything that may be asked or changed
// is, by several goroutines. The race detector looks on; afterwards the counts have to add up.
func TestEverythingAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	const workers = 3
	r := start(t, func(c *forwarder.Config) { c.Workers, c.Exact, c.Flows = workers, false, 4096 })
	someServices(r)
	web := service("TCP "+vip4+":80", "rr")
	var sources [workers]*endless
	var sinks [workers]*countingSink
	for n := range sources {
		var frames []frame.Frame
		for i := range uint16(10) {
			k, k6 := talk4(uint16(1000*n)+2000+i, 80), talk6(uint16(1000*n)+2000+i, 80)
			frames = append(frames, k.tcp(frame.SYN), k.tcp(frame.ACK), k6.tcp(frame.SYN), k.tcp(frame.FIN|frame.ACK), k6.icmpError(frame.TCP))
		}
		sources[n], sinks[n] = newEndless(frames...), &countingSink{}
	}
	stop := r.running(t, func(n int) forwarder.Source { return sources[n] }, func(n int) forwarder.Sink { return sinks[n] })
	var wg sync.WaitGroup
	for _, fn := range []func(n int){
		func(n int) {
			r.must(r.Update(func(tx *forwarder.Tx) error {
				return tx.EditDestination(web.Key(), dest(web, 1, weight(int32(n%3))))
			}))
		},
		func(n int) {
			_ = r.Update(func(tx *forwarder.Tx) error { return tx.DeleteDestination(web.Key(), dest(web, 2)) })
			_ = r.Update(func(tx *forwarder.Tx) error { return tx.AddDestination(web.Key(), dest(web, 2)) })
		},
		func(n int) {
			r.set(func(s *forwarder.Settings) {
				s.Gone, s.DropEntry, s.ExpireNodestConn = forwarder.GonePolicy(n%3), n%4, n%5 == 0
			})
		},
		func(n int) {
			extra := service(fmt.Sprintf("TCP %s:%d", vip4, 9000+n%3), "wlc")
			_ = r.Update(func(tx *forwarder.Tx) error {
				return errors.Join(tx.AddService(extra), tx.AddDestination(extra.Key(), dest(extra, 3)))
			})
			_ = r.Update(func(tx *forwarder.Tx) error { return tx.DeleteService(extra.Key()) })
		},
		func(n int) {
			r.must(r.SetNeighbour(0, server(1, true), serverMAC(1+n%2*4)))
			r.must(r.SetLeg(1, forwarder.Leg{MAC: frame.MAC{2, 0, 0, 0, 9, byte(n)}}))
		},
		func(int) { r.Services() },
		func(int) { r.Stats() },
		func(int) { r.Connections(func(forwarder.ConnectionInfo) bool { return true }) },
	} {
		wg.Go(func() {
			for n := range 60 {
				fn(n)
			}
		})
	}
	wg.Wait()
	stop()

	lent, total := 0, uint64(0)
	for _, s := range sources {
		lent += s.lent
	}
	s := r.Stats()
	for _, n := range s.Verdicts {
		total += n
	}
	if uint64(lent) != total {
		t.Errorf("%d frames were lent, %d counted", lent, total)
	}
	sent := 0
	for _, s := range sinks {
		sent += s.sent
	}
	if uint64(sent) != s.Verdicts[forwarder.Forwarded]+s.Answered {
		t.Errorf("%d frames were sent, %d forwarded and %d answered", sent, s.Verdicts[forwarder.Forwarded], s.Answered)
	}
	r.set(func(s *forwarder.Settings) { s.DropEntry = 0 })
	_ = r.Update(func(tx *forwarder.Tx) error { return tx.AddDestination(web.Key(), dest(web, 2)) })
	if active, inactive := r.counted(); active+inactive != r.Stats().Flows {
		t.Errorf("realservers have %d active and %d inactive connections, the tables %d flows", active, inactive, r.Stats().Flows)
	}
}
