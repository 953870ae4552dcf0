package forwarder

import (
	"net/netip"
	"time"

	"shunt/forwarder/frame"
)

// Decider says what decides about a packet.
type Decider string

// The deciders.
const (
	ByNobody    Decider = ""          // the packet is not for a service: see Explanation.Verdict
	ByFlow      Decider = "flow"      // the connection table knows its flow
	ByTemplate  Decider = "template"  // the client's persistence
	ByScheduler Decider = "scheduler" // it would begin a flow
)

// An Explanation tells what an engine would do with the first packet of a tuple, and why.
type Explanation struct {
	Tuple     frame.Tuple
	Verdict   Verdict
	Decider   Decider
	Service   ServiceKey // zero if none matches
	Name      string     // of the service
	Scheduler string
	// Chosen is where it would go; invalid if nowhere.
	Chosen netip.AddrPort
	MAC    frame.MAC
	// State and Expires are those of the flow or the template that decides.
	State      string
	Expires    time.Duration
	Candidates []Candidate // as the scheduler walks them: last added first
}

// A Candidate is a destination of the service, and why it is chosen or not.
type Candidate struct {
	Addr             netip.AddrPort
	Weight           int32
	Active, Inactive int32
	Reason           string
	Chosen           bool
}

// Explain tells what worker would do with a packet of tuple t that begins a connection (a TCP SYN,
// a datagram, an SCTP INIT), without doing it: see [Engine.ExplainFrame]. A packet from the address
// of a realserver has that one's MAC. Workers are numbered from 0; see ring.Shard for which has a
// client.
func (e *Engine) Explain(worker int, t frame.Tuple) Explanation {
	return e.explain(worker, func(w *Worker) frame.Frame { return w.opening(e.Control, t) })
}

// ExplainFrame tells what worker would do with frame f if it came now, without doing it: no flow is
// made, no cursor moves, nothing is answered, and f is not changed. A fragment that would be held
// until the first of its datagram comes gets the verdict Fragment.
func (e *Engine) ExplainFrame(worker int, f frame.Frame) Explanation {
	return e.explain(worker, func(*Worker) frame.Frame { return f })
}

func (e *Engine) explain(worker int, of func(*Worker) frame.Frame) Explanation {
	c := e.Control
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.workers[worker]
	var x Explanation
	w.Do(func() {
		f := of(w)
		(&explainer{w: w, c: c, s: w.snap, f: &f, x: &x}).explain()
	})
	return x
}
