package ring

import (
	"fmt"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// Sockets are the sockets and the ring of one leg while not in use. The sockets of a deleted
// interface must be replaced: they stay without an interface, even if a new interface gets the same
// name or index.
type Sockets struct {
	leg *leg // with nothing but what binds it to its interface
}

// Close releases the sockets and the ring. It may take some milliseconds, because the kernel waits
// for all processors.
func (s *Sockets) Close() { s.leg.res.release() }

// OpenSockets opens sockets and a ring for a leg of this engine, on the interface that replaces the
// leg's previous one. Exchange puts them to use. Opening takes some milliseconds; the owner can
// continue meanwhile. OpenSockets is safe for concurrent use.
//
// With a fanout group, first remove the leg's sockets from all engines of the group and close them:
// the group is bound to its interface as long as it has a member. Then open the new sockets in the
// order in which the engines were opened, because this order determines the shards.
func (e *Engine) OpenSockets(lc LegConfig) (*Sockets, error) {
	for i := range e.cfg.Legs {
		if e.cfg.Legs[i].Leg != lc.Leg {
			continue
		}
		l, err := openLeg(lc, &e.cfg, i)
		if err != nil {
			return nil, fmt.Errorf("ring: interface %s: %w", lc.label(), err)
		}
		return &Sockets{l}, nil
	}
	return nil, fmt.Errorf("ring: interface %s: unknown leg %d", lc.label(), lc.Leg)
}

// Exchange replaces the sockets of a leg. It returns the previous sockets, nil if there were none;
// the caller closes them. If s is nil, the leg is Gone: it receives nothing, and frames sent to it
// count as Down. The counters continue.
//
// The new sockets receive no frame before the next SetVIPs or SetFilter.
//
// Only the owner may call Exchange, between two batches. Frames lent by Next must not be used
// afterwards. The error is ErrClosed, or reports an unknown leg; the caller then keeps s.
func (e *Engine) Exchange(id frame.Leg, s *Sockets) (old *Sockets, err error) {
	if !e.owned && !e.own() || e.closed.Load() {
		return nil, ErrClosed
	}
	at := -1
	for i, l := range e.legs {
		if l.id == id {
			at = i
		}
	}
	if at < 0 {
		return nil, fmt.Errorf("ring: unknown leg %d", id)
	}
	l, r := e.legs[at], e.res
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.rx >= 0 {
		l.readDrops()
		old = &Sockets{&leg{id: id, attachment: l.attachment}}
	}
	if s == nil {
		l.attachment = detached(l.name)
		l.gone.Store(true)
		l.down.Store(true)
	} else {
		l.attachment = s.leg.attachment
		l.gone.Store(s.leg.gone.Load())
		l.down.Store(s.leg.down.Load())
	}
	r.legs[at] = l.res
	l.out.use(l.tx)
	l.strays = 0
	l.count.lent.Store(0)
	l.count.next.Store(0)
	e.fds[at+1] = unix.PollFd{Fd: int32(l.rx), Events: unix.POLLIN} // ppoll(2) passes over -1
	return old, nil
}
