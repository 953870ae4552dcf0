package director

import (
	"context"
	"time"

	"shunt/forwarder"
)

// watchEvery is how often the losses are looked at, to warn of them.
const watchEvery = 10 * time.Second

// watch has the engine do what is to be done every second, and warns of losses that an operator can do something about, as
// long as they grow.
func (d *Director) watch(ctx context.Context) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	dropped := make([]uint64, len(d.legs))
	var last forwarder.Stats
	spoilt := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-second.C:
			if err := d.engine.Maintain(); err != nil {
				d.log.Error("maintenance of the engine failed", "error", err)
			}
			d.neighbours.suspect(d.engine.Suspects())
			if err := d.engine.StateError(); (err != nil) != spoilt {
				if spoilt = err != nil; spoilt {
					d.log.Error("connections will be lost when this director stops", "error", err)
				} else {
					d.log.Info("connections will survive a restart of this director again")
				}
			}
			d.rewriteKept()
			continue
		case <-tick.C:
		}
		now := make([]uint64, len(d.legs))
		for _, r := range d.rings {
			for _, l := range r.Stats().Legs {
				now[l.Leg] += l.Dropped
			}
		}
		for i := range now {
			if n := now[i] - dropped[i]; n > 0 {
				d.log.Warn("ring full, the kernel dropped frames: increase ring.slots or workers", "leg", d.legs[i].name, "frames", n)
			}
		}
		dropped = now
		s := d.engine.Stats()
		if s.Cut != last.Cut {
			d.log.Error("another process truncated the connection table's file: its connections are lost, and a new table is in use",
				"state_dir", d.cfg.StateDir, "times", s.Cut-last.Cut, "frames", s.Verdicts[forwarder.TableLost])
			last = s // counters may have begun anew
		}
		if n := s.Table.Refused + s.Table.Evicted - last.Table.Refused - last.Table.Evicted; n > 0 {
			d.log.Warn("connection table full: increase flows", "refused", s.Table.Refused-last.Table.Refused,
				"evicted", s.Table.Evicted-last.Table.Evicted, "capacity", s.Capacity)
		}
		for _, v := range []forwarder.Verdict{forwarder.SendFull, forwarder.SendTooBig, forwarder.SendDown, forwarder.SendFailed,
			forwarder.AboveMTU, forwarder.LoopGuard} {
			if n := s.Verdicts[v] - last.Verdicts[v]; n > 0 {
				d.log.Warn("frames lost", "reason", v, "frames", n, "meaning", v.Meaning())
			}
		}
		last = s
	}
}
