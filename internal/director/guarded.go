package director

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"shunt/api"
	"shunt/internal/config"
	"shunt/internal/delta"
	"shunt/internal/guard"
)

// guardIdentity is what the guard's tables are named by: it stays the same over restarts, and two
// directors that run at a time have not the same control socket.
func guardIdentity(cfg *config.Config) string {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		path = cfg.Path
	}
	return cmp.Or(cfg.Control.Socket, cfg.StateDir, path)
}

// rules are those of a guard.
type rules interface {
	SetInterfaces(interfaces []string, vips []netip.Addr) error
	SetOwn(own []netip.Addr) error
	ChangeVIPs(vips, come, gone []netip.Addr) error
	State() api.Guard
	Close() error
}

var _ rules = (*guard.Guard)(nil)

// guarded keeps the host's kernel from the frames to the VIPs. Its rules are installed by the first
// delta that has interfaces. Where that is impossible, it says so once, and there are no rules.
type guarded struct {
	log     *slog.Logger
	install func(interfaces []string, vips, own []netip.Addr) (rules, error)
	own     func() map[netip.Addr]bool // the addresses of this host

	mu    sync.Mutex // guards what follows: the state is read at any time
	rules rules      // nil before the installation, and without a guard
	err   error      // why there is no guard
}

// Prepare guards the VIPs that come, and follows interfaces and addresses of the host.
func (g *guarded) Prepare(d *delta.Delta) error {
	r, err := g.present()
	if err != nil {
		return nil // which was said
	}
	if r == nil {
		g.begin(d)
		return nil
	}
	var errs []error
	switch {
	case d.Interfaces != nil:
		errs = append(errs, r.SetInterfaces(d.Interfaces, d.VIPs))
	case len(d.Come) > 0:
		errs = append(errs, r.ChangeVIPs(d.VIPs, d.Come, nil))
	}
	if d.Own != nil {
		errs = append(errs, r.SetOwn(d.Own))
	}
	return errors.Join(errs...)
}

// Settle leaves the VIPs that went to the kernel again.
func (g *guarded) Settle(d *delta.Delta) error {
	if r, _ := g.present(); r != nil && len(d.Gone) > 0 {
		return r.ChangeVIPs(d.VIPs, nil, d.Gone)
	}
	return nil
}

// begin installs the rules.
func (g *guarded) begin(d *delta.Delta) {
	if d.Interfaces == nil {
		return
	}
	r, err := g.install(d.Interfaces, d.VIPs, slices.Collect(maps.Keys(g.own())))
	g.mu.Lock()
	g.rules, g.err = r, err
	g.mu.Unlock()
	if err != nil {
		g.log.Warn("no guard: this host's kernel also sees the frames to the VIPs; see that it neither has these addresses nor routes "+
			"(net.ipv4.ip_forward=0), or write guard: off", "error", err)
		return
	}
	g.log.Info("guard installed: this host's kernel does not see the frames to the VIPs", "interfaces", d.Interfaces, "tables", r.State().Tables)
}

// present returns the rules, nil before the installation, or why there are none.
func (g *guarded) present() (rules, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rules, g.err
}

// state is what a screen shows of the guard; nil with guard: off.
func (g *guarded) state() *api.Guard {
	if g == nil {
		return nil
	}
	r, err := g.present()
	switch {
	case err != nil:
		return &api.Guard{Error: err.Error()}
	case r == nil:
		return nil
	}
	s := r.State()
	return &s
}

func (g *guarded) close() error {
	if g == nil {
		return nil
	}
	if r, _ := g.present(); r != nil {
		return r.Close()
	}
	return nil
}

// guardLogger logs what becomes of the guard.
func guardLogger(log *slog.Logger) func(api.Guard, error) {
	var last api.Guard
	return func(s api.Guard, err error) {
		switch {
		case err != nil:
			log.Error("guard", "error", err)
		case s.Restored > last.Restored:
			log.Error("guard removed by another process and restored: meanwhile this host's kernel saw the frames to the VIPs; make that process leave "+
				"alone the tables of family netdev whose names begin with shunt_", "by", s.By, "times", s.Restored)
		case s.Missing != "" && last.Missing == "":
			log.Error("guard removed repeatedly by another process: it is restored after increasing pauses, during which this host's kernel sees the "+
				"frames to the VIPs", "missing", s.Missing, "times", s.Restored)
		}
		last = s
	}
}

// ownAddresses are all addresses of this host; nil if they cannot be read.
func ownAddresses() map[netip.Addr]bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	own := map[netip.Addr]bool{}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr()] = true
		}
	}
	return own
}
