package ring

import (
	"fmt"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// Sockets are the sockets and the ring of one leg that are not, or no more, in use: the packet sockets of an interface
// that was deleted stay without one for good, even when an interface of the same name or number comes.
type Sockets struct {
	leg *leg // with nothing but what binds it to its interface
}

// Close gives them back. It may take some milliseconds, in which the kernel waits for all processors.
func (s *Sockets) Close() { s.leg.res.release() }

// OpenSockets opens sockets and a ring for a leg of this engine, on the interface that takes the place of the one that it
// had; Exchange puts them to use. It may be called by any goroutine: opening takes some milliseconds, in which the owner
// goes on.
//
// With a fanout group, the sockets of this leg must have been taken out of all engines of the group before, and closed, as
// the group is bound to its interface as long as it has a member; and the engines' must be opened in the order in which the
// engines were, as their shards go by it.
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

// Exchange gives a leg other sockets, and returns those that it had, for the caller to close; nil if it had none. Without
// sockets (s is nil) the leg is Gone: it receives nothing, and frames to it are counted as Down. The counters go on.
//
// By the new ones no frame comes in before the next SetVIPs or SetFilter.
//
// It is called by the owner, between two batches: what Next has lent is not to be used any more. The error is ErrClosed, or
// tells that there is no such leg; s stays the caller's then.
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
