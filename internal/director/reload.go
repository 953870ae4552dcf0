package director

import (
	"context"
	"time"

	"shunt/api"
	"shunt/forwarder"
	"shunt/internal/config"
	"shunt/internal/control"
	"shunt/internal/delta"
)

// reloadWait is how long new realservers may take to be resolved before the new configuration is in
// force. Meanwhile the old one is.
const reloadWait = 300 * time.Millisecond

// Reload puts another configuration in force. Flows and counters of what stays live on. If it
// returns an error, nothing has changed.
func (d *Director) Reload(cfg *config.Config) error {
	err := d.reload(cfg)
	d.Reread(err)
	return err
}

// RereadFile has the file read again, and waits. The error is an *api.Error with all that is wrong
// with it.
func (d *Director) RereadFile(ctx context.Context, by control.Peer) (api.Reload, error) {
	if d.opt.Reload == nil {
		return api.Reload{}, &api.Error{Code: api.CodeReload, Message: "this director cannot reload its configuration"}
	}
	d.log.Info("reload requested by the control socket", "by", by)
	if err := d.opt.Reload(ctx); err != nil {
		return api.Reload{}, &api.Error{Code: api.CodeReload, Message: control.Excerpt(err.Error(), maxReloadError)}
	}
	return d.outcomes.reload(), nil
}

// maxReloadError bounds what is told of a refused file, in bytes.
const maxReloadError = 32 << 10

func (d *Director) reload(cfg *config.Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.sameLegs(cfg); err != nil {
		return err
	}
	if err := refuseLocal(cfg); err != nil {
		return err
	}
	plan, neighbours, err := cfg.Plan(d.networks())
	if err != nil {
		return err
	}
	change := delta.Change{VIPs: cfg.VIPs(), Realservers: neighbours, All: true, Wait: reloadWait}
	if err := d.teller.Change(change, func() error {
		return d.engine.Update(func(tx *forwarder.Tx) error { return tx.Apply(plan) })
	}); err != nil {
		return err
	}
	d.warnRestart(cfg)
	if d.opt.Level != nil {
		d.opt.Level.Set(cfg.Log.Level)
	}
	d.cfg = cfg
	d.read.Store(cfg)
	d.kept.Forget(digest(cfg))
	d.reloads.Add(1)
	d.logPlan(plan)
	d.log.Info("the configuration is in force", "file", cfg.Path, "vips", len(change.VIPs), "services", len(plan.Services), "realservers", len(neighbours))
	return nil
}

// sameLegs refuses other legs: their sockets are open, and flows refer to them.
func (d *Director) sameLegs(cfg *config.Config) error {
	for i := range cfg.Legs {
		c := &cfg.Legs[i]
		key := "interface"
		if i < len(d.cfg.Legs) {
			was := &d.cfg.Legs[i]
			switch {
			case c.Interface != was.Interface:
			case c.Name != was.Name:
				key = "name"
			case c.VLAN != was.VLAN:
				key = "vlan"
			case c.TPID != was.TPID:
				key = "vlan_protocol"
			case c.Public != was.Public:
				key = "public"
			default:
				continue
			}
		}
		return cfg.LegError(i, key, "legs cannot change on reload (first difference: leg %s): restart the director to change them", c.Name)
	}
	if n := len(cfg.Legs); n < len(d.cfg.Legs) {
		return cfg.LegError(n-1, "interface", "legs cannot change on reload (leg %s is missing after this one): restart the director "+
			"to change them", d.cfg.Legs[n].Name)
	}
	return nil
}

// warnRestart names what was changed in the file but stays as it was until the next start.
func (d *Director) warnRestart(cfg *config.Config) {
	for _, x := range config.Diff(d.cfg, cfg) {
		if x.Restart {
			d.log.Warn("change takes effect at the next start", "key", x.Key, "old", x.Old, "new", x.New)
		}
	}
}
