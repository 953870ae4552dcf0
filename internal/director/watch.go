package director

import (
	"context"
	"log/slog"
	"time"

	"shunt/forwarder"
)

// watchEvery is how often the losses are looked at, to warn of them.
const watchEvery = 10 * time.Second

// watch has the engine do what is to be done every second, and warns of losses.
func (d *Director) watch(ctx context.Context, w *losses) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-second.C:
			if err := d.engine.Maintain(); err != nil {
				d.log.Error("maintenance of the engine failed", "error", err)
			}
			d.neighbours.suspect(d.engine.Suspects())
			w.state(d.engine.StateError())
			d.rewriteKept()
		case <-tick.C:
			w.rings(d.ringDrops())
			w.engine(d.engine.Stats())
		}
	}
}

// ringDrops counts the frames for which the kernel found no room in the rings, for each leg.
func (d *Director) ringDrops() []uint64 {
	out := make([]uint64, len(d.legs))
	for _, r := range d.rings {
		for _, l := range r.Stats().Legs {
			out[l.Leg] += l.Dropped
		}
	}
	return out
}

// losses warns of losses that an operator can do something about, as long as they grow.
type losses struct {
	log      *slog.Logger
	legs     []string // their names
	stateDir string

	spoilt  bool            // the connections end with the process, as was logged
	dropped []uint64        // of the legs, and
	last    forwarder.Stats // as they were last seen
}

// newLosses returns the losses that watch looks at. d.mu is held.
func (d *Director) newLosses() *losses {
	w := &losses{log: d.log, stateDir: d.cfg.StateDir, dropped: make([]uint64, len(d.legs))}
	for _, l := range d.legs {
		w.legs = append(w.legs, l.name)
	}
	return w
}

// state looks at whether the connections outlive the process; err says why not.
func (w *losses) state(err error) {
	if (err != nil) == w.spoilt {
		return
	}
	if w.spoilt = err != nil; w.spoilt {
		w.log.Error("connections will be lost when this director stops", "error", err)
	} else {
		w.log.Info("connections will survive a restart of this director again")
	}
}

// rings looks at what the kernel dropped on each leg.
func (w *losses) rings(dropped []uint64) {
	for i := range dropped {
		if n := dropped[i] - w.dropped[i]; n > 0 {
			w.log.Warn("ring full, the kernel dropped frames: increase ring.slots or workers", "leg", w.legs[i], "frames", n)
		}
	}
	w.dropped = dropped
}

// engine looks at what the engine lost.
func (w *losses) engine(s forwarder.Stats) {
	last := &w.last
	if s.Cut != last.Cut {
		w.log.Error("another process truncated the connection table's file: its connections are lost, and a new table is in use",
			"state_dir", w.stateDir, "times", s.Cut-last.Cut, "frames", s.Verdicts[forwarder.TableLost])
		*last = s // counters may have begun anew
	}
	if n := s.Table.Refused + s.Table.Evicted - last.Table.Refused - last.Table.Evicted; n > 0 {
		w.log.Warn("connection table full: increase flows", "refused", s.Table.Refused-last.Table.Refused,
			"evicted", s.Table.Evicted-last.Table.Evicted, "capacity", s.Capacity)
	}
	for _, v := range []forwarder.Verdict{forwarder.SendFull, forwarder.SendTooBig, forwarder.SendDown, forwarder.SendFailed,
		forwarder.AboveMTU, forwarder.LoopGuard} {
		if n := s.Verdicts[v] - last.Verdicts[v]; n > 0 {
			w.log.Warn("frames lost", "reason", v, "frames", n, "meaning", v.Meaning())
		}
	}
	*last = s
}
