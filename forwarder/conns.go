package forwarder

import (
	"fmt"
	"net/netip"

	"shunt/forwarder/flow"
)

// EndConnections ends at once the flows and templates that match says so of, and returns how many.
// The client's next packet is treated as one of an unknown flow. A template lives on as long as
// flows depend on it. The tables are walked in short steps between batches, so that traffic goes
// on; match is called by the workers and must be quick.
func (e *Engine) EndConnections(match func(ConnectionInfo) bool) (ended int) {
	for _, templates := range []bool{false, true} { // flows first: they hold their templates
		e.walk(func(w *Worker, id flow.ID, names []destKey) {
			entry := w.table.Entry(id)
			if entry.Kind().IsTemplate() != templates || templates && entry.Control > 0 || !match(w.describe(id, names)) {
				return
			}
			w.end(id)
			ended++
		})
	}
	return ended
}

// MoveConnections has the flows and templates that match says so of go to the realserver with
// address to of their service from now on, and returns how many were moved. Flows of services that
// have no such realserver, and those that go there already, stay as they are. Where no service has
// it, that is an error which wraps ErrNoDest. Which realserver knows the connection is another
// matter: a TCP connection survives a move only if the other one can take it up.
func (e *Engine) MoveConnections(match func(ConnectionInfo) bool, to netip.Addr) (moved int, err error) {
	targets := e.targets(to)
	if len(targets) == 0 {
		return 0, fmt.Errorf("realserver %s: %w", to, ErrNoDest)
	}
	e.walk(func(w *Worker, id flow.ID, names []destKey) {
		entry := w.table.Entry(id)
		if int(entry.Dest) >= len(names) {
			return
		}
		target, ok := targets[names[entry.Dest].service]
		if !ok || target == entry.Dest || int(target) >= len(w.snap.dests) || !w.snap.dests[target].available || !match(w.describe(id, names)) {
			return
		}
		w.redirect(entry, target)
		moved++
	})
	return moved, nil
}

// redirect has a flow or template go to another destination, and counts it there.
func (w *Worker) redirect(e *flow.Entry, target uint32) {
	old, d := &w.snap.dests[e.Dest], &w.snap.dests[target]
	if e.Kind().IsTemplate() {
		old.templates.Add(-1)
		d.templates.Add(1)
	} else {
		active := e.Flags&flow.Inactive == 0
		old.load.Close(active)
		d.load.Open()
		if active {
			d.load.Activate()
		}
	}
	e.Dest = target
}

// targets are the destinations with an address, by their service.
func (e *Engine) targets(addr netip.Addr) map[ServiceKey]uint32 {
	c := e.Control
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[ServiceKey]uint32{}
	for h, state := range c.hops {
		for _, d := range state.dests {
			if h.Addr == addr && d.available() {
				out[d.service.spec.Key()] = d.id
			}
		}
	}
	return out
}

// walk calls fn on the worker for every entry of its table, in short steps between batches.
func (e *Engine) walk(fn func(w *Worker, id flow.ID, names []destKey)) {
	names := e.names()
	for _, w := range e.workers {
		for start, slots := 0, w.table.Slots(); start < slots; start += listStep {
			w.Do(func() {
				for id := flow.ID(start); int(id) < min(start+listStep, slots); id++ {
					if w.table.InUse(id) {
						fn(w, id, names)
					}
				}
			})
		}
	}
}
