package ring

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// readable reports whether the event of an engine is set.
func readable(e *Engine) bool {
	fds := []unix.PollFd{{Fd: int32(e.event), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n == 1
}

func TestWake(t *testing.T) {
	w := newLab(t, 1)[0]
	for _, p := range []Preset{Balanced, Latency, Powersave} {
		e := open(t, Config{Legs: []LegConfig{w.leg(0)}, Busy: p}, vip4)
		batch := make([]frame.Frame, 8)
		// Before a call: several count as one.
		e.Wake()
		e.Wake()
		if n, _, err := e.Next(batch); n != 0 || err != nil {
			t.Fatalf("%v: Next: %d, %v", p, n, err)
		}
		if s := e.Stats(); s.Wakes != 1 || s.Timeouts != 0 {
			t.Errorf("%v: %+v", p, s)
		}
		// During calls, until one is woken and not ended by its time.
		var stop atomic.Bool
		var others sync.WaitGroup
		others.Go(func() {
			for !stop.Load() {
				time.Sleep(2 * time.Millisecond)
				e.Wake()
			}
		})
		eventually(t, "Wake ends Next", func() bool {
			n, _, err := e.Next(batch)
			if n != 0 || err != nil {
				t.Fatalf("%v: Next: %d, %v", p, n, err)
			}
			return e.Stats().Wakes >= 10
		})
		stop.Store(true)
		others.Wait()
		// A Wake does not keep a frame back.
		e.Wake()
		w.send(nil, w.frame(datagram(vip4, 10)))
		next(t, e, 1)
		// Without a frame or a Wake the time ends it.
		before := e.Stats().Timeouts
		eventually(t, "the time ends Next", func() bool {
			_, _, err := e.Next(batch)
			return err == nil && e.Stats().Timeouts > before
		})
	}
}

// However a Wake falls together with the end of a call, the engine must not take itself for woken
// without the event being set: no Wake would have an effect any more.
func TestWakeIsNotLost(t *testing.T) {
	w := newLab(t, 1)[0]
	// Powersave does not spin, so that only the event wakes it.
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}, Busy: Powersave}, vip4)
	batch := make([]frame.Frame, 8)
	var stop atomic.Bool
	var others sync.WaitGroup
	others.Go(func() {
		for !stop.Load() {
			e.Wake()
		}
	})
	// Each call ends by a Wake, but for those that find the other goroutine without a processor for
	// long.
	for range 20_000 {
		if e.woken.Load() && e.Stats().Timeouts > 100 {
			break
		}
		if _, _, err := e.Next(batch); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	others.Wait()
	if e.woken.Load() && !readable(e) {
		t.Fatal("the engine is woken, but its event is not set")
	}
}

// A Wake that comes when Next would gather is not lost: the frames are lent at once, and the next
// call returns.
func TestWakeWhileGathering(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}, Busy: Powersave}, vip4)
	e.pace.gap = 1000 // as after dense traffic
	w.send(nil, w.frame(datagram(vip4, 10)))
	eventually(t, "the frame is in the ring", func() bool { return e.Stats().Legs[0].InUse == 1 })
	e.Wake()
	batch := make([]frame.Frame, 8)
	if n, _, err := e.Next(batch); n != 1 || err != nil {
		t.Fatalf("Next: %d, %v", n, err)
	}
	if s := e.Stats(); s.Gathers != 0 || s.Batches != 1 || s.Wakes != 0 {
		t.Errorf("%+v", s)
	}
	if n, _, err := e.Next(batch); n != 0 || err != nil {
		t.Fatalf("Next: %d, %v", n, err)
	}
	if s := e.Stats(); s.Wakes != 1 || s.Timeouts != 0 {
		t.Errorf("%+v", s)
	}
}

// Gathering fills a batch with what comes meanwhile.
func TestGather(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4)
	const frames = 10
	for n := range frames {
		w.send(nil, w.frame(datagram(vip4, n)))
	}
	eventually(t, "the frames are in the ring", func() bool { return e.Stats().Legs[0].InUse == frames })
	e.pace.gap = 100
	batch := make([]frame.Frame, 64)
	if n, _, err := e.Next(batch); n != frames || err != nil {
		t.Fatalf("Next: %d, %v", n, err)
	}
	if s := e.Stats(); s.Gathers != 1 {
		t.Errorf("%+v", s)
	}
}
