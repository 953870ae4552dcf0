package forwarder

import (
	"slices"

	"shunt/forwarder/flow"
	"shunt/scheduler"
)

// A worker forwards nothing while it adopts a configuration. So it carries out small transactions
// in its arrays itself, which takes microseconds; what a large one leaves is made beside it, where
// it only has to be put in place. What neither a frame nor a flow can tell from before is done in
// steps, between which frames are forwarded.
const (
	fewServices = 100 // of which more make a transaction large
	fewDests    = 1000
	takeStep    = 50   // schedulers at a time, up to ten microseconds each
	zeroStep    = 4000 // counters at a time
)

// prepare makes the configuration that a worker will have with the edits of s, beside the worker,
// which goes on with what it has; or nothing if the edits are few and find room in the worker's
// arrays. Nobody else but adopt changes what the worker has.
func (w *Worker) prepare(s *snapshot) *snapshot {
	old, e := w.snap, s.edits
	w.counters.reserve(e.numServices, e.numDests)
	if !e.beside && len(e.services) <= fewServices && len(e.dests) <= fewDests && len(e.macs) <= fewDests &&
		e.numServices <= cap(old.services) && e.numDests <= cap(old.dests) && old.guard.hasRoom(len(e.macs)) {
		return nil
	}
	own := *s
	own.edits = nil
	own.services, own.dests, own.guard = roomy(old.services, e.numServices), roomy(old.dests, e.numDests), old.guard.roomy(len(e.macs))
	own.guard.edit(e.macs)
	for i := range e.dests {
		own.dests[e.dests[i].id] = e.dests[i].dest
	}
	for i := range e.services {
		n := &own.services[e.services[i].id]
		before := n.sched
		*n = e.services[i].service
		if e.services[i].takes {
			n.before = before[w.index]
		}
	}
	w.zeroUnused(e)
	return &own
}

// roomy returns a copy of a list that is n long at least, and has room for some more.
func roomy[T any](list []T, n int) []T {
	n = max(n, len(list))
	out := make([]T, n, n+n/8+64)
	copy(out, list)
	return out
}

// zeroUnused has the counters of new destinations start at zero that nobody counts with yet. They
// are touched by that.
func (w *Worker) zeroUnused(e *edits) {
	for ids := range slices.Chunk(e.fresh, zeroStep) {
		w.Do(func() {
			w.dests = w.counters.growDests(w.dests, e.numDests)
			for _, id := range ids {
				if int(id) >= len(w.snap.dests) {
					w.dests[id] = Counts{}
				}
			}
		})
	}
}

// adopt makes s the worker's configuration, which is ready if prepare made something. It runs
// between two batches.
func (w *Worker) adopt(s, ready *snapshot) {
	old, e := w.snap, s.edits
	if w.snap = ready; ready == nil {
		w.snap = w.carryOut(old, s)
	}
	w.headers, w.vip, w.vip6 = [headerCache]header{}, vipSlot{}, vipSlot{}
	w.dests = w.counters.growDests(w.dests, e.numDests)
	w.services = w.counters.growServices(w.services, e.numServices)
	w.table.SetTimeouts(w.snap.timeouts)
	w.pressed.adopt()
	for _, id := range e.fresh {
		if ready == nil || int(id) < len(old.dests) {
			w.dests[id] = Counts{}
		}
	}
	for _, id := range e.anew {
		w.services[id] = Counts{}
	}
}

// carryOut makes the edits of s in the arrays of old.
func (w *Worker) carryOut(old, s *snapshot) *snapshot {
	own, e := *s, s.edits
	own.edits = nil
	own.services, own.dests, own.guard = old.services[:max(e.numServices, len(old.services))], old.dests[:max(e.numDests, len(old.dests))], old.guard
	own.guard.edit(e.macs)
	for i := range e.dests {
		own.dests[e.dests[i].id] = e.dests[i].dest
	}
	for i := range e.services {
		s := &own.services[e.services[i].id]
		if e.services[i].takes {
			e.services[i].service.sched[w.index].Take(s.sched[w.index])
		}
		*s = e.services[i].service
	}
	return &own
}

// settle does after the adoption of s what takes its time. Until its turn comes, a scheduler takes
// over when it is asked for the first time, and a flow of a destination that is gone ends with its
// next packet.
func (w *Worker) settle(s, ready *snapshot) {
	if ready != nil {
		for part := range slices.Chunk(s.edits.services, takeStep) {
			w.Do(func() {
				for i := range part {
					if svc := &w.snap.services[part[i].id]; svc.before != nil {
						w.scheduler(svc)
					}
				}
			})
		}
	}
	if s.settings.ExpireNodestConn && w.hasGone(s.edits.gone) {
		w.expireGone()
	}
}

// scheduler is the worker's instance of the scheduler of a service, which has taken over from the
// one before it.
func (w *Worker) scheduler(s *service) scheduler.Scheduler {
	now := s.sched[w.index]
	if s.before != nil {
		now.Take(s.before)
		s.before = nil
	}
	return now
}

func contains(sorted []uint16, id uint16) bool {
	_, found := slices.BinarySearch(sorted, id)
	return found
}

// hasGone reports whether one of these destinations, which were removed or had their time to drain,
// still has flows.
func (w *Worker) hasGone(gone []uint32) bool {
	for _, id := range gone {
		if active, inactive := w.snap.dests[id].load.Conns(); active+inactive > 0 {
			return true
		}
	}
	return false
}

// expireGone ends the flows of removed destinations, as expire_nodest_conn=1 has the kernel do
// right after ipvsadm -d (ip_vs_expire_nodest_conn_flush, ip_vs_conn.c).
func (w *Worker) expireGone() {
	t := w.table
	for start, slots := 0, t.Slots(); start < slots; start += listStep {
		w.Do(func() {
			for id := flow.ID(start); int(id) < min(start+listStep, slots); id++ {
				if !t.InUse(id) {
					continue
				}
				if e := t.Entry(id); !e.Kind().IsTemplate() && !w.snap.dests[e.Dest].available {
					w.unbind(e)
					t.Delete(id)
				}
			}
		})
	}
}
