package director

import (
	"fmt"
	"sync"

	"shunt/api"
	"shunt/internal/config"
)

// drift is how what runs differs from the file, as it was last found.
type drift struct {
	mu      sync.Mutex
	read    *config.Config // by which it was found, and
	changes uint64         // after how many changes
	found   api.Drift
}

// Drift tells how the running configuration differs from the one that was read last. It is found
// anew after changes only: there may be very many services.
func (d *Director) Drift() api.Drift {
	read, changes := d.read.Load(), d.kept.Changes() // before the services: a change that comes meanwhile is looked at again
	if changes == 0 {
		return api.Drift{Differences: []api.Difference{}}
	}
	f := &d.drift
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read != read || f.changes != changes {
		all := config.Diff(read, d.running(read))
		f.read, f.changes = read, changes
		f.found = api.Drift{Total: len(all), Differences: append([]api.Difference{}, all[:min(len(all), api.MaxDrift)]...)}
	}
	return f.found
}

// running is the configuration that was read with what is served.
func (d *Director) running(read *config.Config) *config.Config {
	return read.With(*planOf(d.engine.Services(), d.engine.Settings()))
}

// Config is the running configuration as a file.
func (d *Director) Config() (api.RunningConfig, error) {
	read := d.read.Load()
	text, err := d.running(read).YAML()
	if err != nil {
		return api.RunningConfig{}, err
	}
	head := fmt.Sprintf("# What runs: %s, and what was changed since it was read. Written by shunt %s.\n", api.Printable(read.Path), d.opt.Version)
	return api.RunningConfig{File: read.Path, YAML: head + string(text)}, nil
}
