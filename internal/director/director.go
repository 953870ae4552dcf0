package director

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/forwarder/ring"
	"shunt/internal/config"
	"shunt/internal/confine"
	"shunt/internal/control"
	"shunt/internal/delta"
	"shunt/internal/keptfile"
	"shunt/internal/statuspage"
)

// Options are what a director is told besides its configuration.
type Options struct {
	Log     *slog.Logger
	Level   *slog.LevelVar // set by the configuration, at the start and when it is read again; may be nil
	Version string
	// Confine gives up privileges that a running director does not need; nil keeps them. It acts on
	// the whole process.
	Confine func(confine.Policy) api.Confinement
	// Reload has the file read again, for who asks by the control socket, and waits for what
	// becomes of it. Nil: it cannot be.
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
	// unkeptWhy says why the connections end with the process, from the start on; "" if they do
	// not.
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

// Start builds a director and has it forward: when it returns without an error, the VIPs are its
// own.
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
