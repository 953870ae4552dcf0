package director

import (
	"encoding/hex"
	"fmt"
	"slices"

	"shunt/api"
	"shunt/forwarder"
	"shunt/internal/config"
	"shunt/internal/control"
)

// possible is a plan that was kept, without what the engine would refuse: another version may have
// taken it.
func (d *Director) possible(plan *forwarder.Plan) forwarder.Plan {
	for _, err := range plan.Prune(d.cfg.Settings) {
		d.log.Warn("part of the previous director's kept state is invalid and is skipped", "error", err)
	}
	return *plan
}

// repeat makes the changes of the process before, before anything is forwarded.
func (d *Director) repeat(since [][]api.Change) {
	for _, changes := range since {
		if err := d.again(changes); err != nil {
			d.log.Warn("a change made by the previous director's control socket cannot be applied again", "error", err)
		}
	}
	if n := d.kept.Changes(); n > 0 {
		d.log.Info("changes made by the previous director's control socket are in force; reload to return to the configuration file", "changes", n)
	}
}

// again makes changes that were kept. Another version may have kept them.
func (d *Director) again(changes []api.Change) error {
	for i := range changes {
		if err := control.CheckChange(&changes[i], fmt.Sprintf("changes[%d]", i)); err != nil {
			return err
		}
	}
	t, err := d.translate(changes)
	if err == nil {
		_, err = t.commit()
	}
	return err
}

// rewriteKept has the file of changes written anew when it is due.
func (d *Director) rewriteKept() {
	if !d.mu.TryLock() {
		return // another second
	}
	r := d.kept.Rewrite(func() *forwarder.Plan { return planOf(d.engine.Services(), d.engine.Settings()) })
	d.mu.Unlock()
	if r == nil {
		return
	}
	r.Write()
	d.mu.Lock()
	defer d.mu.Unlock()
	r.End()
}

// planOf is what is served, as a plan.
func planOf(services []forwarder.ServiceInfo, settings forwarder.Settings) *forwarder.Plan {
	p := &forwarder.Plan{Settings: settings, Services: make([]forwarder.ServicePlan, 0, len(services))}
	for _, s := range services {
		sp := forwarder.ServicePlan{Service: s.Service}
		for _, r := range slices.Backward(s.Destinations) {
			sp.Destinations = append(sp.Destinations, r.Destination)
		}
		p.Services = append(p.Services, sp)
	}
	return p
}

// digest names a configuration.
func digest(cfg *config.Config) string { return hex.EncodeToString(cfg.Digest[:]) }
