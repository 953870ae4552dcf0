package ring

import (
	"net"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// ErrClosed is the error of Next after Close; errors.Is(err, net.ErrClosed) is true.
var ErrClosed = net.ErrClosed

// Next lends the received frames, from all legs in turn: see forwarder.Source. It waits for a
// frame, for Wake, or for 25 to 50 ms. Under dense traffic it may wait for more frames, at most as
// long as the preset allows. After Close the error is ErrClosed.
//
// now is CLOCK_MONOTONIC in nanoseconds, read once per batch after its last frame was found.
//
// Next must always be called by the same goroutine, which should be locked to its thread: the first
// call sets precise timers for the thread (prctl(2), PR_SET_TIMERSLACK).
func (e *Engine) Next(batch []frame.Frame) (n int, now int64, err error) {
	if !e.owned && !e.own() || e.closed.Load() {
		e.res.release()
		return 0, e.now(), ErrClosed
	}
	e.giveBack()
	n = e.gather(batch, e.collect(batch))
	if n == 0 && len(batch) > 0 {
		e.giveBack() // slots that were passed over: a socket is readable as long as they are held
		if !e.await() {
			if e.closed.Load() {
				e.res.release()
				return 0, e.now(), ErrClosed
			}
			now = e.now()
			e.checkAt(now) // above all a leg that is down and brings no frames
			return 0, now, nil
		}
		n = e.gather(batch, e.collect(batch))
	}
	now = e.now()
	bytes := 0
	for i := range batch[:n] {
		batch[i].Time = now
		bytes += int(batch[i].Wire)
	}
	if n > 0 {
		e.pace.took(n, bytes, now)
		e.batches.Add(1)
		e.latency.begin(now, &e.byLeg[batch[0].In].walk)
	}
	e.checkAt(now)
	return n, now, nil
}

// gather waits for more frames than the n that batch has, if the pace says so, and returns how many
// there are then.
func (e *Engine) gather(batch []frame.Frame, n int) int {
	waited, had := int64(0), n
	for {
		d := e.pace.wait(n, len(batch), waited)
		if d == 0 || e.woken.Load() {
			return n
		}
		if waited == 0 {
			e.gathers.Add(1)
		}
		e.sleep(d)
		waited += d
		more := e.collect(batch[n:])
		n += more
		if !e.pace.came(more, n, n-had, d, waited) {
			return n
		}
	}
}

// own makes the calling goroutine the owner; false if the engine was closed before.
func (e *Engine) own() bool {
	if !e.state.CompareAndSwap(fresh, held) {
		return e.state.Load() == held
	}
	e.owned = true
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0)
	return true
}

// giveBack returns what the last call lent.
func (e *Engine) giveBack() {
	for _, l := range e.legs {
		if l.walk.held > 0 {
			l.walk.giveBack()
			l.count.lent.Store(0)
		}
	}
	e.giants.used = 0
}

// collect fills batch with the frames at hand: each leg may have its share, and then what others
// left of theirs.
func (e *Engine) collect(batch []frame.Frame) int {
	n := 0
	legs := len(e.legs)
	if legs > 1 {
		e.turn = (e.turn + 1) % legs
		for i := 0; i < legs && n < len(batch); i++ {
			l := e.legs[(e.turn+i)%legs]
			share := (len(batch) - n) / (legs - i)
			n += e.from(l, batch[n:][:share])
		}
	}
	for i := 0; i < legs && n < len(batch); i++ {
		n += e.from(e.legs[(e.turn+i)%legs], batch[n:])
	}
	return n
}

// from fills batch from the ring of l.
func (e *Engine) from(l *leg, batch []frame.Frame) int {
	var s slot
	var truncated, oversize, bad uint64
	n, taken := 0, l.walk.held
fill:
	for n < len(batch) {
		if !e.giants.left() && l.walk.status()&unix.TP_STATUS_COPY != 0 {
			break
		}
		switch l.walk.take(&s) {
		case nothing:
			break fill
		case damaged:
			bad++
			if s.status&unix.TP_STATUS_COPY != 0 {
				drain(l.rx)
			}
			continue
		}
		buf := l.walk.mem[s.start:s.end:s.end]
		if s.status&unix.TP_STATUS_COPY != 0 {
			if whole := e.giants.fetch(l.rx, &s, l.walk.mem); whole != nil {
				buf = whole
				oversize++
			}
		}
		if s.pktType == unix.PACKET_OUTGOING {
			continue // a kernel without PACKET_IGNORE_OUTGOING (before 4.20)
		}
		if len(buf)-vnetLen < s.wire {
			truncated++
		}
		f := &batch[n]
		f.Buf, f.Wire, f.Head = buf, int32(s.wire), vnetLen
		f.In, f.Out, f.TPID, f.TCI = l.id, frame.NoLeg, s.tpid, s.tci
		n++
	}
	if l.walk.held != taken {
		c := &l.count
		c.next.Store(int32(l.walk.next.slot))
		c.lent.Store(int32(l.walk.held))
		add(&c.received, n)
		add(&c.truncated, truncated)
		add(&c.oversize, oversize)
		add(&c.damaged, bad)
	}
	return n
}

// ready reports whether any leg has a frame.
func (e *Engine) ready() bool {
	for _, l := range e.legs {
		if l.walk.ready() {
			return true
		}
	}
	return false
}

// await waits for a frame: true if there is one, false if Next should return without.
func (e *Engine) await() bool {
	for until := e.pace.spinUntil(); e.now() < until; {
		for range 16 {
			if e.ready() {
				return true
			}
		}
		if e.woken.Load() {
			e.rest()
			return false
		}
		// Others may need the processor: nothing is lost when they do not. The kernel's yield is
		// meant, not Go's, which wakes another thread each time, as our goroutine is locked to its
		// own.
		yield()
	}
	start := e.now()
	for {
		left := int64(e.pace.tick) - (e.now() - start)
		if left <= 0 {
			e.timeouts.Add(1)
			return false
		}
		e.polls.Add(1)
		if e.poll(e.fds, left) {
			e.rest()
			return false
		}
		if e.closed.Load() {
			return false
		}
		if e.ready() {
			return true
		}
	}
}

// rest takes note of a Wake. The event is read first: a Wake between the two steps then counts for
// this call. The other way round its event would be read while woken stays true, and no later Wake
// would set the event again.
func (e *Engine) rest() {
	var b [8]byte
	_, _ = unix.Read(e.event, b[:])
	e.woken.Swap(false) // not Store, which would not order what the waker did before what the owner does next
	e.wakes.Add(1)
}

// sleep waits for d nanoseconds, or until Wake or Close. It is for times of no more than a step: a
// garbage collection waits for its end.
func (e *Engine) sleep(d int64) {
	if !e.woken.Load() {
		e.timeout = unix.NsecToTimespec(d)
		doze(e.fds[:1], &e.timeout)
	}
}

// poll waits for the sockets and the event of fds for at most d nanoseconds. It reports whether the
// event has come. An error of the poll itself ends it early, and does no other harm.
func (e *Engine) poll(fds []unix.PollFd, d int64) (woken bool) {
	e.timeout = unix.NsecToTimespec(d)
	n, err := unix.Ppoll(fds, &e.timeout, nil)
	if err != nil || n == 0 {
		return false
	}
	for i := range fds {
		got := fds[i].Revents
		switch {
		case got == 0:
		case i == 0:
			woken = true
		case got&^unix.POLLIN != 0:
			e.trouble(i)
		case !e.legs[i-1].walk.ready():
			e.stray(e.legs[i-1])
		default:
			e.legs[i-1].strays = 0
		}
	}
	return woken
}

// trouble looks at a leg whose socket reports an error: the interface went down or was deleted.
// Reading the error clears it. A socket that cannot be helped is polled no more, lest Next spin.
func (e *Engine) trouble(i int) {
	l := e.legs[i-1]
	errno, err := unix.GetsockoptInt(l.rx, unix.SOL_SOCKET, unix.SO_ERROR)
	if l.look(); l.gone.Load() || err != nil || errno == 0 {
		e.fds[i].Fd = -1 // ppoll(2) passes over it
	}
}

// maxStrays is how often in a row a socket may be readable while its ring is not.
const maxStrays = 256

// stray looks at a socket that is readable although the next slot is empty. That is so for a moment
// while one processor has filled its slot and another, which is to fill the one before, has not;
// and for good if the queue for large frames holds one that no slot belongs to.
func (e *Engine) stray(l *leg) {
	if l.strays++; l.strays > maxStrays {
		l.strays = 0
		drain(l.rx)
	}
}

// checkEvery is how often the interfaces are looked at, in nanoseconds.
const checkEvery = 1_000_000_000

// checkAt calls check when it is time to.
func (e *Engine) checkAt(now int64) {
	if now-e.checked > checkEvery {
		e.checked = now
		e.check()
	}
}

// check looks at all interfaces: one that is up again is polled again.
func (e *Engine) check() {
	for i, l := range e.legs {
		if l.rx < 0 {
			continue
		}
		if l.look(); !l.gone.Load() {
			e.fds[i+1].Fd = int32(l.rx)
		}
	}
}
