package replaybench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// Slots is the number of frames that a Lender fills at a time.
const Slots = 2048

// A Lender gives frames to one worker.
type Lender struct {
	// Step is the time between two batches, of the clock that the frames bring along.
	Step time.Duration

	rig    *Rig
	worker int
	client func(i uint64) uint32 // of which client frame i is
	turn   func(i uint64) uint16
	flags  func(i uint64) uint8
	next   uint64
	slots  []frame.Frame
	memory []byte
}

// Lend returns a Lender of ACKs for a worker; client tells of which client each is, counted from 0.
func (r *Rig) Lend(worker int, client func(i uint64) uint32) *Lender {
	l := &Lender{rig: r, worker: worker, client: client, Step: forwarder.BatchSize * 100 * time.Nanosecond,
		turn:   func(uint64) uint16 { return 0 },
		flags:  func(uint64) uint8 { return frame.ACK },
		slots:  make([]frame.Frame, Slots),
		memory: make([]byte, Slots*slot),
	}
	return l
}

// LendNew returns a Lender of SYNs, each of another flow, until it has been round all of
// clients*20,000.
func (r *Rig) LendNew(worker int, clients uint32) *Lender {
	l := r.Lend(worker, func(i uint64) uint32 { return uint32(i % uint64(clients)) })
	l.turn = func(i uint64) uint16 { return uint16(1 + i/uint64(clients)%20_000) }
	l.flags = func(uint64) uint8 { return frame.SYN }
	return l
}

// Fill writes the next frames into the slots.
func (l *Lender) Fill() {
	for i := range l.slots {
		b := l.memory[i*slot : i*slot+FrameLen]
		l.rig.write(b, l.client(l.next), l.turn(l.next), l.flags(l.next))
		l.slots[i] = frame.Frame{Buf: b, Wire: FrameLen, Out: frame.NoLeg}
		l.next++
	}
}

// Process gives the frames in the slots to the worker, batch by batch, and returns how many it sent
// on.
func (l *Lender) Process() (sent int) {
	for at := 0; at < len(l.slots); at += forwarder.BatchSize {
		sent += l.batch(at)
	}
	return sent
}

// batch is Process for one batch, from a slot on.
func (l *Lender) batch(at int) (sent int) {
	now := &l.rig.now[l.worker].ns
	*now += int64(l.Step)
	return len(l.rig.Worker(l.worker).Process(l.slots[at:min(at+forwarder.BatchSize, len(l.slots))], *now))
}

// Cost is what frames cost.
type Cost struct {
	Frames uint64
	CPU    time.Duration // of the thread that ran Process
	Wall   time.Duration
}

// Add adds what other frames cost.
func (c *Cost) Add(o Cost) {
	c.Frames += o.Frames
	c.CPU += o.CPU
	c.Wall += o.Wall
}

// PerFrame is the CPU time of a frame, in nanoseconds.
func (c Cost) PerFrame() float64 { return float64(c.CPU) / float64(c.Frames) }

// WallPerFrame is the time of day that a frame took, in nanoseconds.
func (c Cost) WallPerFrame() float64 { return float64(c.Wall) / float64(c.Frames) }

// Run gives at least n frames and counts what Process takes. All of them must be forwarded.
func (l *Lender) Run(n uint64) (Cost, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var c Cost
	sent := uint64(0)
	for c.Frames < n {
		l.Fill()
		start, cpu := time.Now(), ThreadTime()
		sent += uint64(l.Process())
		c.CPU += ThreadTime() - cpu
		c.Wall += time.Since(start)
		c.Frames += Slots
	}
	if sent < c.Frames*999/1000 {
		return c, fmt.Errorf("of %d frames only %d were sent on", c.Frames, sent)
	}
	return c, nil
}

// Slowest gives at least n frames and returns the CPU time of the batch that took longest.
func (l *Lender) Slowest(n uint64) (longest time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for given := uint64(0); given < n; given += Slots {
		l.Fill()
		for at := 0; at < len(l.slots); at += forwarder.BatchSize {
			cpu := ThreadTime()
			l.batch(at)
			longest = max(longest, ThreadTime()-cpu)
		}
	}
	return longest
}

// ThreadTime is the CPU time of the calling thread, to which the goroutine must be locked.
func ThreadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err) // every Linux has it
	}
	return time.Duration(ts.Nano())
}

// LendRandom returns a Lender of ACKs of n clients in uniformly random order, the same at every
// call.
func (r *Rig) LendRandom(worker int, n uint32) *Lender {
	random := rand.New(rand.NewPCG(uint64(worker)+1, 2))
	return r.Lend(worker, func(uint64) uint32 { return random.Uint32N(n) })
}

// LendFlood returns a Lender of SYNs that each begin a flow, for a table of this capacity that it
// has filled.
func (r *Rig) LendFlood(worker int, capacity int) *Lender {
	l := r.LendNew(worker, uint32(capacity))
	for range 2*capacity/Slots + 1 {
		l.Fill()
		l.Process()
	}
	return l
}
