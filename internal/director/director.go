package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/forwarder/ring"
	"shunt/internal/config"
	"shunt/internal/confine"
	"shunt/internal/control"
	"shunt/internal/delta"
	"shunt/internal/guard"
	"shunt/internal/ipvsadm"
	"shunt/internal/keptfile"
	"shunt/internal/owndir"
	"shunt/internal/statuspage"
)

// Options are what a director is told besides its configuration.
type Options struct {
	Log     *slog.Logger
	Level   *slog.LevelVar // set by the configuration, at the start and when it is read again; may be nil
	Version string
	// Confine gives up privileges that a running director does not need; nil keeps them. It acts on the whole process.
	Confine func(confine.Policy) api.Confinement
	// Reload has the file read again, for who asks by the control socket, and waits for what becomes of it. Nil: it cannot be.
	Reload func(context.Context) error
}

// A Director forwards until it is closed. Its methods may be called from any goroutine.
type Director struct {
	opt     Options
	log     *slog.Logger
	started time.Time

	mu   sync.Mutex // one change of the configuration at a time
	cfg  *config.Config
	kept *keptfile.Keeper // of changes by the control socket
	// unkeptWhy says why the connections end with the process, from the start on; "" if they do not.
	unkeptWhy string
	// confinement is what was given up at the start; nil: nothing.
	confinement atomic.Pointer[api.Confinement]
	reloads     atomic.Uint64
	read        atomic.Pointer[config.Config] // cfg, for who does not wait for a change under way
	teller      *delta.Teller                 // of all that follow the engine

	outcomes outcomes
	drift    drift
	seenLegs atomic.Pointer[[]api.Leg]
	seenLoss atomic.Pointer[api.Unkept]

	legs       []*leg
	rings      []*ring.Engine
	engine     *forwarder.Engine
	macs       atomic.Pointer[map[frame.MAC]bool] // of all legs; the map is not changed
	guarded    *guarded                           // nil with guard: off
	neighbours *neighbours
	sockets    []*control.Server
	page       *statuspage.Server

	cancel context.CancelFunc
	wg     sync.WaitGroup
	failed chan error // the first worker that ended by itself
}

// resolveWait is how long a director waits for its realservers before it takes the VIPs. It forwards to those that answer
// later from then on.
const resolveWait = time.Second

// Start builds a director and has it forward: when it returns without an error, the VIPs are its own.
func Start(cfg *config.Config, opt Options) (*Director, error) {
	d := &Director{
		opt: opt, log: opt.Log, started: time.Now(), cfg: cfg, failed: make(chan error, cfg.Workers),
		kept: keptfile.NewKeeper(opt.Log), outcomes: outcomes{conflicts: map[claim]*api.Conflict{}},
	}
	d.read.Store(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Director) start(ctx context.Context) error {
	if d.opt.Level != nil {
		d.opt.Level.Set(d.cfg.Log.Level)
	}
	if err := d.findLegs(); err != nil {
		return err
	}
	if err := refuseLocal(d.cfg); err != nil {
		return err
	}
	if dir := d.cfg.ProcDir; dir != "" {
		if err := owndir.Check(filepath.Join(dir, "net"), owndir.Private); err != nil {
			return fmt.Errorf("proc_dir: %w", err)
		}
		if err := ipvsadm.MakeProc(dir); err != nil {
			return fmt.Errorf("proc_dir: %w", err)
		}
	}
	plan, _, err := d.cfg.Plan(d.networks())
	if err != nil {
		return err
	}
	if err := tryProcessors(d.cfg.Ring.CPUs); err != nil {
		return err
	}
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
	d.legsSeen() // who asks by the control socket gets an answer while the start holds d.mu, and
	d.lost()
	d.mu.Lock()
	defer d.mu.Unlock()
	// Before the guard and the first frame: where another director answers already, this one must end without having
	// forwarded a frame a second time, and without taking the other's guard away.
	if err := d.openControl(); err != nil {
		return err
	}
	if a := d.cfg.HTTP.Listen; a != "" {
		if d.page, err = statuspage.Listen(a, d.cfg.HTTP.WebConfig, d, d.log); err != nil {
			return err
		}
	}
	if d.kept.Changes() > 0 { // what is in force is not the file's
		plan = *planOf(d.engine.Services(), d.engine.Settings())
	}
	all := d.inForce()
	all.Interfaces, all.Wait = d.interfaces(), resolveWait
	if d.engine.Taken().Flows > 0 {
		all.Wait = resumeWait
	}
	if err := d.teller.Change(all, func() error { d.run(ctx); return nil }); err != nil {
		return err
	}
	d.logPlan(plan)
	d.wg.Go(func() { d.watch(ctx) })
	if dir := d.cfg.ProcDir; dir != "" {
		d.wg.Go(func() { d.procFiles(ctx, dir) })
	}
	d.wg.Go(func() { d.follow(ctx) })
	if d.page != nil {
		d.page.Serve()
		if file := d.cfg.HTTP.WebConfig; file != "" {
			d.log.Info("status page", "address", d.page.Addr().String(), "web_config", file)
		} else {
			d.log.Info("status page", "url", "http://"+d.page.Addr().String()+"/")
		}
	}
	memory := 0
	for _, r := range d.rings {
		memory += r.Memory()
	}
	d.log.Info("forwarding", "vips", len(all.VIPs), "services", len(plan.Services), "realservers", len(all.Realservers),
		"workers", len(d.rings), "flows", d.cfg.Flows, "ring_bytes", memory)
	return nil
}

// run gives up privileges and starts the workers.
func (d *Director) run(ctx context.Context) {
	d.giveUp()
	for i, r := range d.rings {
		d.wg.Go(func() { d.work(ctx, i, r, d.cfg.Ring.CPUs) })
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

// Wait returns when a worker has ended by itself, with its error, or when ctx is done, without one.
func (d *Director) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.failed:
		return err
	}
}

// Close gives the VIPs and everything else back. It may be called on what Start could not finish.
func (d *Director) Close() error {
	var errs []error
	for _, s := range d.sockets {
		errs = append(errs, s.Close())
	}
	if d.page != nil {
		errs = append(errs, d.page.Close())
	}
	d.cancel() // ends links, workers and watchers
	d.wg.Wait()
	for _, r := range d.rings {
		errs = append(errs, r.Close())
	}
	// The rings first: a frame that comes in between is for nobody.
	errs = append(errs, d.guarded.close())
	for _, l := range d.legs {
		if l.link == nil && l.slot != nil {
			errs = append(errs, l.slot.Close())
		}
	}
	if d.engine != nil {
		errs = append(errs, d.engine.Close())
	}
	d.kept.Close() // what it has is for the next process, as the engine's state is
	return errors.Join(errs...)
}
