package forwarder

import (
	"errors"
	"fmt"
	"runtime/debug"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// A worker's table and counters are files of a tmpfs that it has mapped. If somebody cuts such a
// file, which needs root or our own user, the next access to what is missing is a fault (SIGBUS),
// and would end the process. A worker that runs takes it as a panic, puts memory of the process in
// the place of the file, and goes on. That costs the frames nothing.

// ErrCut is wrapped by StateError after a file was cut under a running worker.
var ErrCut = errors.New("another process truncated a file of the connection table")

// mend puts empty memory in the place of a file that was cut while n frames were being processed,
// before which so many had been counted as forwarded; fault is what was recovered. Frames that were
// decided are sent. Those that were not are counted as TableLost. Any other panic goes on.
func (w *Worker) mend(fault any, n int, forwarded uint64, sink Sink) error {
	given := w.given
	if err := w.renew(fault); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	w.given = given
	out := w.out
	if w.straight >= 0 {
		out = w.batch[:w.straight]
	}
	sent := uint64(0)
	for i := range out {
		if w.ofBatch(&out[i]) {
			sent++
		}
	}
	// What has no verdict yet, and of that what goes out: Process counts frames of known flows some
	// at a time.
	left := min(w.given-min(w.given, w.decided()), uint64(n))
	counted := w.verdicts[Forwarded] - min(w.verdicts[Forwarded], forwarded)
	more := min(sent-min(sent, counted), left)
	w.verdicts[Forwarded] += more
	w.verdicts[TableLost] += left - more
	w.balance()
	if len(out) > 0 {
		w.lost(sink.Send(out), sent)
	}
	return nil
}

// renew replaces the memory at whose address the fault was.
func (w *Worker) renew(fault any) error {
	at, ok := fault.(interface{ Addr() uintptr }) // of runtime.Error, where it is a fault: debug.SetPanicOnFault
	switch {
	case ok && w.table != nil && w.table.Holds(at.Addr()):
		if err := w.table.Replace(); err != nil {
			return fmt.Errorf("worker %d: %w: %w", w.index, ErrCut, err)
		}
	case ok && w.counters.holds(at.Addr()):
		if err := w.counters.renew(); err != nil {
			return fmt.Errorf("worker %d: %w: %w", w.index, ErrCut, err)
		}
		w.balance()
	default:
		panic(fault)
	}
	w.cut.Add(1)
	return nil
}

// attempt runs fn, and reports whether it came to its end: it did not if a file turned out to have
// been cut, and is to be run again.
func (w *Worker) attempt(fn func()) (done bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			if err := w.renew(fault); err != nil {
				panic(err)
			}
		}
	}()
	fn()
	return true
}

// ofBatch reports whether a frame that goes out is one that came in with the batch.
func (w *Worker) ofBatch(f *frame.Frame) bool {
	for i := range w.batch {
		if b := w.batch[i].Buf; len(b) > 0 && len(f.Buf) > 0 && &b[0] == &f.Buf[0] {
			return true
		}
	}
	return false
}

// decided is how many frames have a verdict, or are held until they have.
func (w *Worker) decided() (n uint64) {
	for _, v := range w.verdicts {
		n += v
	}
	return n + uint64(w.fragments.len())
}

// balance has given agree with the counters.
func (w *Worker) balance() { w.given = w.decided() }

// recount counts the connections of all destinations anew, after a table was lost with those that
// it had. All workers stand still meanwhile, as each sees only its own: some 20 ms for a million
// flows. c.mu is held.
func (c *Control) recount() {
	sums := make([][]carried, len(c.workers))
	arrived, release := make(chan struct{}), make(chan struct{})
	left := make(chan struct{}, len(c.workers))
	for i, w := range c.workers {
		go func() {
			w.Do(func() {
				sums[i] = w.tally(len(c.dests))
				arrived <- struct{}{}
				<-release
			})
			left <- struct{}{}
		}()
	}
	for range c.workers {
		<-arrived
	}
	for id, d := range c.dests {
		if d == nil {
			continue
		}
		var sum carried
		for i := range sums {
			sum.active += sums[i][id].active
			sum.inactive += sums[i][id].inactive
			sum.templates += sums[i][id].templates
		}
		d.load.Recount(sum.active, sum.inactive)
		d.templates.Store(sum.templates)
	}
	close(release)
	for range c.workers {
		<-left
	}
}

// tally counts a worker's entries by destination.
func (w *Worker) tally(dests int) []carried {
	sum := make([]carried, dests)
	for id := range flow.ID(w.table.Slots()) {
		if !w.table.InUse(id) {
			continue
		}
		e := w.table.Entry(id)
		if int(e.Dest) >= dests {
			continue
		}
		sum[e.Dest].count(e)
	}
	return sum
}

// count adds an entry.
func (c *carried) count(e *flow.Entry) {
	switch {
	case e.Kind().IsTemplate():
		c.templates++
	case e.Flags&flow.Inactive != 0:
		c.inactive++
	default:
		c.active++
	}
}

// mended is what is to be done after files were cut: the numbers of connections are counted anew,
// and no other process may take over what is left. c.mu is held.
func (c *Control) mended() {
	cut := uint32(0)
	for _, w := range c.workers {
		cut += w.cut.Load()
	}
	if cut == c.cut {
		return
	}
	c.cut = cut
	c.state.lose(fmt.Errorf("%w; its connections are lost, and the worker continues in process memory", ErrCut))
	c.recount()
}
