package director

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/forwarder/ring"
	"shunt/internal/config"
	"shunt/internal/control"
	"shunt/internal/guard"
	"shunt/internal/ipvsadm"
	"shunt/internal/owndir"
	"shunt/internal/statuspage"
)

// resolveWait is how long a director waits for its realservers before it takes the VIPs. It
// forwards to those that answer later from then on.
const resolveWait = time.Second

// start is the order of a start: look whether all is there, open all, answer questions, forward.
func (d *Director) start(ctx context.Context) error {
	if d.opt.Level != nil {
		d.opt.Level.Set(d.cfg.Log.Level)
	}
	plan, err := d.check()
	if err != nil {
		return err
	}
	if err := d.open(ctx, plan); err != nil {
		return err
	}
	d.legsSeen() // who asks by the control socket gets an answer while the start holds d.mu, and
	d.lost()
	d.mu.Lock() // changes wait until the start is over
	defer d.mu.Unlock()
	if err := d.listen(); err != nil {
		return err
	}
	return d.forward(ctx, plan)
}

// check looks for what the configuration names on this host, and makes the plan.
func (d *Director) check() (forwarder.Plan, error) {
	if err := d.findLegs(); err != nil {
		return forwarder.Plan{}, err
	}
	if err := refuseLocal(d.cfg); err != nil {
		return forwarder.Plan{}, err
	}
	if dir := d.cfg.ProcDir; dir != "" {
		if err := owndir.Check(filepath.Join(dir, "net"), owndir.Private); err != nil {
			return forwarder.Plan{}, fmt.Errorf("proc_dir: %w", err)
		}
		if err := ipvsadm.MakeProc(dir); err != nil {
			return forwarder.Plan{}, fmt.Errorf("proc_dir: %w", err)
		}
	}
	plan, _, err := d.cfg.Plan(d.networks())
	if err != nil {
		return plan, err
	}
	return plan, tryProcessors(d.cfg.Ring.CPUs)
}

// open opens rings, engine and ARP, and makes the list of subscribers. No frame is let in yet.
func (d *Director) open(ctx context.Context, plan forwarder.Plan) error {
	if err := d.openRings(); err != nil {
		return err
	}
	if err := d.build(plan); err != nil {
		return err
	}
	if err := d.openLinks(ctx); err != nil {
		return err
	}
	d.guardVIPs(ctx)
	d.subscribe()
	return nil
}

// listen answers by the control sockets, and opens the status page. It comes before the guard and
// the first frame: where another director answers already, this one must end without having
// forwarded a frame a second time, and without taking the other's guard away.
func (d *Director) listen() (err error) {
	if err := d.openControl(); err != nil {
		return err
	}
	if a := d.cfg.HTTP.Listen; a != "" {
		d.page, err = statuspage.Listen(a, d.cfg.HTTP.WebConfig, d, d.log)
	}
	return err
}

// forward tells the subscribers all that the engine serves, has the workers run, and starts what
// watches. d.mu is held.
func (d *Director) forward(ctx context.Context, plan forwarder.Plan) error {
	all := d.inForce()
	all.Interfaces, all.Wait = d.interfaces(), resolveWait
	if d.engine.Taken().Flows > 0 {
		all.Wait = resumeWait
	}
	if err := d.teller.Change(all, func() error { d.run(ctx); return nil }); err != nil {
		return err
	}
	if d.kept.Changes() > 0 { // what is in force is not the file's
		plan = *planOf(d.engine.Services(), d.engine.Settings())
	}
	d.logPlan(plan)
	losses := d.newLosses()
	d.wg.Go(func() { d.watch(ctx, losses) })
	d.wg.Go(func() { d.follow(ctx) })
	if dir := d.cfg.ProcDir; dir != "" {
		d.wg.Go(func() { d.procFiles(ctx, dir) })
	}
	d.servePage()
	memory := 0
	for _, r := range d.rings {
		memory += r.Memory()
	}
	d.log.Info("forwarding", "vips", len(all.VIPs), "services", len(plan.Services), "realservers", len(all.Realservers),
		"workers", len(d.rings), "flows", d.cfg.Flows, "ring_bytes", memory)
	return nil
}

// servePage answers by the status page, if there is one.
func (d *Director) servePage() {
	if d.page == nil {
		return
	}
	d.page.Serve()
	if file := d.cfg.HTTP.WebConfig; file != "" {
		d.log.Info("status page", "address", d.page.Addr().String(), "web_config", file)
	} else {
		d.log.Info("status page", "url", "http://"+d.page.Addr().String()+"/")
	}
}

// run gives up privileges and starts the workers.
func (d *Director) run(ctx context.Context) {
	d.giveUp()
	cpus := d.cfg.Ring.CPUs // a reload replaces d.cfg
	for i, r := range d.rings {
		d.wg.Go(func() { d.work(ctx, i, r, cpus) })
	}
}

// guardVIPs has a guard keep the kernel out, if one is wanted.
func (d *Director) guardVIPs(ctx context.Context) {
	if !d.cfg.Guard {
		return
	}
	identity := guardIdentity(d.cfg)
	d.guarded = &guarded{log: d.log, own: ownAddresses, install: func(interfaces []string, vips, own []netip.Addr) (rules, error) {
		g, err := guard.Install(identity, interfaces, vips, own)
		if err != nil {
			return nil, err
		}
		d.wg.Go(func() { g.Watch(ctx, guardLogger(d.log)) })
		return g, nil
	}}
}

// openControl has the director answer by its control sockets.
func (d *Director) openControl() error {
	c := &d.cfg.Control
	for _, s := range []control.Socket{
		{Path: c.Socket, Mode: c.Mode, Group: c.Group},
		{Path: c.ReadOnly.Socket, Mode: c.ReadOnly.Mode, Group: c.ReadOnly.Group, ReadOnly: true},
	} {
		if s.Path == "" {
			continue
		}
		server, err := control.Listen(s, d, d.log)
		if err != nil {
			return err
		}
		d.sockets = append(d.sockets, server)
	}
	return nil
}

func (d *Director) openRings() error {
	busy, err := ring.ParsePreset(d.cfg.Ring.Busy)
	if err != nil {
		return err
	}
	rc := ring.Config{Slots: d.cfg.Ring.Slots, SlotSize: d.cfg.Ring.SlotSize, Busy: busy, Spin: d.cfg.Ring.Spin, Gather: d.cfg.Ring.Gather}
	for i, l := range d.legs {
		rc.Legs = append(rc.Legs, ring.LegConfig{Leg: frame.Leg(i), Index: l.ifi.Index, Name: l.ifi.Name, Shared: l.shared, VLAN: l.vlan, TPID: l.tpid})
	}
	if d.cfg.Workers > 1 {
		// Any number will do that no other director has; the process's own is a good guess.
		rc.FanoutGroup, rc.FanoutWorkers = uint16(1+os.Getpid()%60000), d.cfg.Workers
	}
	for range d.cfg.Workers {
		r, err := ring.Open(rc)
		if err != nil {
			return err
		}
		d.rings = append(d.rings, r)
	}
	return nil
}

// build makes the engine, and tells it the plan.
func (d *Director) build(plan forwarder.Plan) error {
	legs := make([]forwarder.Leg, len(d.legs))
	for i, l := range d.legs {
		legs[i] = l.engineLeg()
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("CLOCK_MONOTONIC: %w", err)
	}
	var err error
	d.engine, err = d.newEngine(forwarder.Config{
		Legs: legs, Workers: d.cfg.Workers, Flows: max(d.cfg.Flows/d.cfg.Workers, config.MinFlows), Epoch: now.Nano(), Settings: d.cfg.Settings,
	})
	if err != nil {
		return err
	}
	kept, since := d.kept.Recall(digest(d.cfg))
	if kept != nil {
		plan = d.possible(kept)
	}
	if err := d.engine.Update(func(tx *forwarder.Tx) error { return tx.Apply(plan) }); err != nil {
		return err
	}
	d.repeat(since)
	return nil
}

// work is one worker, on a thread of its own.
func (d *Director) work(ctx context.Context, i int, r *ring.Engine, cpus []int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if len(cpus) > 0 {
		runtime.LockOSThread() // and never unlocks: the thread is of no use to others any more, and ends with the worker
		if err := runOn(i, cpus[i]); err != nil {
			d.failed <- err
			return
		}
	}
	if err := d.engine.Worker(i).Run(ctx, r, r); err != nil && ctx.Err() == nil {
		d.failed <- err
	}
}
