package director

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder"
	"shunt/internal/control"
	"shunt/internal/owndir"
)

const (
	// stateWait is how long the process before this one may take to end.
	stateWait = 2 * time.Second
	// resumeWait is how long a director that has taken over connections waits for its realservers:
	// their clients wait too.
	resumeWait = 100 * time.Millisecond
)

// newEngine makes the engine, with the connections of the process before this one if it can have
// them. A state_dir that others can change is an error. Any other reason for which nothing can be
// kept is a warning.
func (d *Director) newEngine(cfg forwarder.Config) (*forwarder.Engine, error) {
	if d.cfg.StateDir == "" {
		return engineInMemory(cfg)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	dir, err := owndir.Open(d.cfg.StateDir, 0o700, owndir.Private)
	if errors.Is(err, owndir.ErrUntrusted) {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	if err != nil {
		return d.unkept(cfg, err)
	}
	d.kept.Use(dir, hex.EncodeToString(boot[:]))
	kept := cfg
	kept.State = &forwarder.State{Dir: dir, Boot: boot, Now: cfg.Epoch}
	e, err := forwarder.New(kept)
	for errors.Is(err, forwarder.ErrStateBusy) && time.Since(began) < stateWait {
		if err := control.Free(d.cfg.Control.Socket); err != nil {
			return nil, err // it is not about to end
		}
		time.Sleep(10 * time.Millisecond)
		e, err = forwarder.New(kept)
	}
	if errors.Is(err, forwarder.ErrState) {
		if !d.kept.Own() {
			d.kept.Close()
		}
		return d.unkept(cfg, err)
	}
	if err != nil {
		return nil, err
	}
	d.tellTaken(e.Taken(), time.Since(began))
	return e, nil
}

// unkept makes an engine whose connections end with the process, and says why.
func (d *Director) unkept(cfg forwarder.Config, why error) (*forwarder.Engine, error) {
	d.log.Warn("connections will be lost when this director stops: see state_dir", "error", why)
	d.unkeptWhy = why.Error()
	return engineInMemory(cfg)
}

func engineInMemory(cfg forwarder.Config) (*forwarder.Engine, error) {
	e, err := forwarder.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w; a smaller value of flows: needs less memory", err)
	}
	return e, nil
}

// tellTaken tells what the engine took over, and what is wrong with where it is.
func (d *Director) tellTaken(t forwarder.Takeover, took time.Duration) {
	var fs unix.Statfs_t
	dir := d.cfg.StateDir
	if err := unix.Statfs(dir, &fs); err == nil && fs.Type != unix.TMPFS_MAGIC && fs.Type != unix.RAMFS_MAGIC {
		d.log.Warn("the connection table is on a disk, and forwarding may block on disk access: set state_dir to a directory on a tmpfs", "state_dir", dir)
	}
	switch {
	case t.Afresh != "":
		d.log.Warn("connections of the previous director are not taken over", "reason", t.Afresh)
	case t.Flows+t.Templates+t.Dropped > 0:
		d.log.Info("connections taken over from the previous director", "connections", t.Flows, "templates", t.Templates,
			"dropped", t.Dropped, "without_template", t.Loosened, "took", took.Round(time.Millisecond))
	}
}

// bootID names this run of the machine: random(4).
func bootID() (id [16]byte, err error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, err
	}
	s := strings.ReplaceAll(strings.TrimSpace(string(text)), "-", "")
	if n, err := hex.Decode(id[:], []byte(s)[:min(len(s), 32)]); err != nil || n != len(id) {
		return id, fmt.Errorf("/proc/sys/kernel/random/boot_id has %q", text)
	}
	return id, nil
}
