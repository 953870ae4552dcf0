package forwarder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// BatchSize is the number of frames that a worker takes at a time: enough to share the cost of a
// system call, few enough for the cache.
const BatchSize = flow.Batch

// sweepBudget is how many groups of the table's slots a worker looks through between two batches at
// most.
const sweepBudget = 32

// Counts are a service's or a destination's totals since it was made: flows scheduled, packets and
// bytes (of IP) forwarded, as IPVS counts them.
type Counts struct {
	Flows, Packets, Bytes uint64
}

func (c *Counts) add(o Counts) {
	c.Flows += o.Flows
	c.Packets += o.Packets
	c.Bytes += o.Bytes
}

// minus is what was counted since o.
func (c Counts) minus(o Counts) Counts {
	return Counts{c.Flows - o.Flows, c.Packets - o.Packets, c.Bytes - o.Bytes}
}

// A Worker carries frames from one Source to one Sink, with a connection table of its own. Process
// and Run belong to one goroutine; Do may be called from any.
type Worker struct {
	index int
	table *flow.Table
	snap  *snapshot

	counters *counters
	verdicts *[NumVerdicts]uint64
	dests    []Counts // by id
	services []Counts // by id
	answered uint64

	// scratch of Process
	packets [BatchSize]frame.Packet
	keys    [BatchSize]flow.Key
	search  flow.Search
	plain   [BatchSize]plain
	states  [BatchSize]Verdict
	six     uint64 // which frames are of IPv6
	was6    bool   // whether the last one was
	touched uint64 // what touch and touchDests read
	// What Process returns: the first straight frames of its batch, or, if that is below zero, out.
	batch    []frame.Frame
	straight int
	out      []frame.Frame

	headers [headerCache]header // Ethernet headers that passed: see glance
	vip     vipSlot             // the one asked for last, as number
	vip6    vipSlot             // the same of IPv6

	request scheduler.Request // here because it would escape to the heap
	chosen  uint32            // the destination of the last packet that was sent to one
	answers answers
	pressed pressure

	suspects suspects

	fragments fragments

	// exact makes every Process end all flows that are due, instead of a bounded part.
	exact bool

	resumed flow.Resumed

	given uint64        // frames that have, or will have, a verdict: see mend
	cut   atomic.Uint32 // how often a file of this worker's was cut under it

	mail    atomic.Pointer[letter]
	mailMu  sync.Mutex // one letter at a time
	runMu   sync.Mutex // held while Run runs, or by Do when it does not
	running atomic.Bool
	wake    atomic.Pointer[func()]
}

// letter is a function to be run by the worker between two batches.
type letter struct {
	fn   func()
	done chan struct{}
}

// newWorker makes a worker, with the table that st has for it, if st is not nil. A worker that
// comes with an error is to be closed nevertheless.
func newWorker(index int, cfg Config, snap *snapshot, st *state) (*Worker, error) {
	own := *snap
	own.guard = newMACSet() // each worker has its own
	w := &Worker{index: index, snap: &own, exact: cfg.Exact, out: make([]frame.Frame, 0, 2*BatchSize+heldFrames),
		fragments: newFragments(cfg.Seed)}
	w.answers.tokens = answerBurst * tokenPrice // whatever time the clock of the frames begins at
	fc := flow.Config{Flows: cfg.Flows, Seed: cfg.Seed, Epoch: cfg.Epoch}
	var counts *os.File
	if st != nil {
		fc.File, fc.Boot, counts = st.tables[index], cfg.State.Boot, st.counts[index]
	}
	var err error
	if w.counters, err = newCounters(counts, cfg.Seed); err != nil {
		return nil, err
	}
	w.verdicts = w.counters.verdicts
	if st.takes() {
		w.table, w.resumed, err = flow.Resume(fc, cfg.State.Now, w, st.keep)
		w.services = w.counters.growServices(nil, st.names.maxService()+1)
		w.dests = w.counters.growDests(nil, len(st.names.dests))
	} else {
		w.table, err = flow.New(fc, w)
	}
	if err == nil {
		w.table.SetTimeouts(snap.timeouts)
	}
	return w, err
}

// close gives the worker's memory back.
func (w *Worker) close() error {
	var err error
	if w.table != nil {
		err = w.table.Close()
	}
	w.verdicts, w.dests, w.services = nil, nil, nil
	return errors.Join(err, w.counters.close())
}

// Do runs fn while the worker is between two batches, and returns when it has run. fn may read and
// change all that belongs to the worker. It must not call Do, and should be short: no frame is
// forwarded meanwhile. If a file of the worker is cut meanwhile, fn is run once more from its
// beginning: what it changes outside of the worker has to bear that.
func (w *Worker) Do(fn func()) {
	w.mailMu.Lock()
	defer w.mailMu.Unlock()
	l := &letter{fn: fn, done: make(chan struct{})}
	w.mail.Store(l)
	for {
		if w.running.Load() {
			if wake := w.wake.Load(); wake != nil {
				(*wake)()
			}
		}
		// Nobody runs the worker: it is ours. Otherwise Run opens the letter, or hands the lock
		// over at its end.
		if w.runMu.TryLock() {
			w.openMail()
			w.runMu.Unlock()
		}
		select {
		case <-l.done:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (w *Worker) openMail() {
	if l := w.mail.Swap(nil); l != nil {
		for !w.attempt(l.fn) {
		}
		close(l.done)
	}
}

// A Waker is a Source whose Next can be ended from another goroutine.
type Waker interface{ Wake() }

// Run carries frames from src to sink until ctx is done or src ends (io.EOF), which is no error.
// The caller keeps src and sink and closes them afterwards.
func (w *Worker) Run(ctx context.Context, src Source, sink Sink) error {
	w.runMu.Lock()
	defer w.runMu.Unlock()
	if k, ok := src.(Waker); ok {
		wake := k.Wake
		w.wake.Store(&wake)
		defer w.wake.Store(nil)
		stop := context.AfterFunc(ctx, wake)
		defer stop()
	}
	w.running.Store(true)
	defer func() {
		w.running.Store(false)
		w.openMail()
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // see carry
	batch := make([]frame.Frame, BatchSize)
	w.balance()
	for {
		if again, err := w.carry(ctx, src, sink, batch); !again {
			return err
		}
	}
}

// carry is Run until it ends, or until a file of the worker turns out to have been cut: then it
// reports that it wants to go on.
func (w *Worker) carry(ctx context.Context, src Source, sink Sink, batch []frame.Frame) (again bool, err error) {
	var n int            // frames that are being processed
	var forwarded uint64 // what had been counted before them
	defer func() {
		if fault := recover(); fault != nil {
			err = w.mend(fault, n, forwarded, sink)
			again = err == nil
		}
	}()
	for {
		if w.mail.Load() != nil {
			w.openMail()
		}
		got, now, err := src.Next(batch)
		if n = got; n > 0 {
			w.given += uint64(n)
			forwarded = w.verdicts[Forwarded]
			out := w.Process(batch[:n], now)
			n = 0
			if len(out) > 0 {
				w.lost(sink.Send(out), w.verdicts[Forwarded]-forwarded)
			}
		} else if err == nil {
			w.idle(now)
		}
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case ctx.Err() != nil:
			return false, nil
		case err != nil:
			return false, fmt.Errorf("worker %d: %w", w.index, err)
		}
	}
}

// idle uses a pause to look for ended flows.
func (w *Worker) idle(now int64) {
	w.table.SetTime(now)
	w.table.Sweep(16 * sweepBudget)
	w.tick(now)
	w.pressed.advance(w, now)
}

// lost moves frames that the sink did not take from the forwarded to the lost ones. Answers, which
// were never counted as forwarded, may be among them; a Sink does not say which it lost, so it is
// taken to have lost of the forwarded ones first.
func (w *Worker) lost(l Lost, forwarded uint64) {
	if l == (Lost{}) {
		return
	}
	moved := min(uint64(l.Total()), forwarded)
	w.verdicts[Forwarded] -= moved
	w.given += uint64(l.Total()) - moved
	w.verdicts[SendFull] += uint64(l.Full)
	w.verdicts[SendTooBig] += uint64(l.TooBig)
	w.verdicts[SendDown] += uint64(l.Down)
	w.verdicts[SendFailed] += uint64(l.Refused)
}
