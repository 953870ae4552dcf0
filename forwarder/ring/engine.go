package ring

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder"
)

var (
	_ forwarder.Source = (*Engine)(nil)
	_ forwarder.Sink   = (*Engine)(nil)
)

// An Engine is the Source and the Sink of one worker. Only the goroutine of that worker, the owner,
// may call Next, Send and Exchange. All other methods are safe for concurrent use.
type Engine struct {
	cfg     Config // as it was opened
	legs    []*leg
	byLeg   [maxLegs + 1]*leg
	giants  giants
	pace    pace
	latency sampler
	turn    int           // the leg that is served first
	fds     []unix.PollFd // the event, then the legs
	event   int           // eventfd(2)
	timeout unix.Timespec // of ppoll: here, so that it need not be allocated

	base    time.Time // with Go's reading of the monotonic clock,
	offset  int64     // and CLOCK_MONOTONIC at that time
	checked int64     // when the interfaces were last looked at
	owned   bool      // the owner's own note that state is held

	woken  atomic.Bool
	closed atomic.Bool
	state  atomic.Int32 // fresh, held or dead

	batches, gathers, polls, timeouts, wakes atomic.Uint64

	res *resources
}

// States of an engine.
const (
	fresh = iota // Next and Send were never called: nothing is lent
	held         // there is an owner, which alone may release the memory
	dead         // closed before there was an owner
)

// resources are what the kernel gave us. They are released once, by Close, by the owner in Next,
// or, should the owner never come back to Next after Close, when the engine is garbage.
type resources struct {
	mu     sync.Mutex // held while any goroutine but the owner uses one of them, and by the owner that exchanges some
	closed bool
	fds    []int
	maps   [][]byte
	legs   []*resources // of an engine: those of its legs, which may be exchanged; nil where a leg has none
}

// release frees all; it may be called again.
func (r *resources) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	for _, m := range r.maps {
		_ = unix.Munmap(m)
	}
	for _, fd := range r.fds {
		_ = unix.Close(fd)
	}
	for _, l := range r.legs {
		if l != nil {
			l.release()
		}
	}
}

// Open opens the sockets and rings of all legs, in the network namespace of the calling thread. No
// frame is received before the first SetVIPs or SetFilter.
//
// An error that wraps unix.EPERM means that a capability is missing, and names it. All other errors
// name the interface.
func Open(cfg Config) (*Engine, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, res: &resources{}, base: time.Now()}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return nil, fmt.Errorf("ring: CLOCK_MONOTONIC: %w", err)
	}
	e.offset = ts.Nano()
	e.pace = newPace(cfg.pace(), e.now())
	e.latency.off = cfg.NoLatency
	if err := e.open(); err != nil {
		e.res.release()
		return nil, err
	}
	runtime.AddCleanup(e, (*resources).release, e.res)
	return e, nil
}

func (e *Engine) open() error {
	r := e.res
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("ring: eventfd: %w", err)
	}
	r.fds = append(r.fds, fd)
	e.event = fd
	e.fds = append(e.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	mem, err := unix.Mmap(-1, 0, giantBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("ring: memory for large frames: %w", err)
	}
	r.maps = append(r.maps, mem)
	e.giants.mem = mem
	for i, lc := range e.cfg.Legs {
		l, err := openLeg(lc, &e.cfg, i)
		if err != nil {
			return fmt.Errorf("ring: interface %s: %w", lc.label(), err)
		}
		e.legs = append(e.legs, l)
		e.byLeg[l.id] = l
		e.fds = append(e.fds, unix.PollFd{Fd: int32(l.rx), Events: unix.POLLIN})
		r.legs = append(r.legs, l.res)
	}
	return nil
}

// now is CLOCK_MONOTONIC in nanoseconds. It is read through Go's own clock, which needs no system
// call.
func (e *Engine) now() int64 { return e.offset + int64(time.Since(e.base)) }

// Wake makes the present or the next waiting call of Next return. Several calls may have the effect
// of one.
func (e *Engine) Wake() {
	if !e.woken.Swap(true) {
		e.ring()
	}
}

// ring makes the eventfd readable.
func (e *Engine) ring() {
	e.res.mu.Lock()
	defer e.res.mu.Unlock()
	if !e.res.closed {
		_, _ = unix.Write(e.event, []byte{1, 0, 0, 0, 0, 0, 0, 1}) // a number other than 0 in either byte order
	}
}

// Close stops the engine: Next returns ErrClosed, at once if it is waiting. Further calls have no
// effect.
//
// The owner may be using lent frames during Close. So the owner's next call of Next releases rings
// and sockets; Close does so itself if Next and Send were never called. Until then no more frames
// are received. An owner that does not call Next again may leave the Engine to the garbage
// collector.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	_ = e.SetFilter(rejectAll())
	e.ring()
	if e.state.CompareAndSwap(fresh, dead) {
		e.res.release()
	}
	return nil
}

// Memory returns the size of the rings and of the buffers for large frames, in bytes.
func (e *Engine) Memory() int {
	e.res.mu.Lock()
	defer e.res.mu.Unlock()
	n := len(e.giants.mem)
	for _, l := range e.legs {
		n += l.walk.size()
	}
	return n
}
