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
)

const (
	// stateWait is how long the process before this one may take to end.
	stateWait = 2 * time.Second
	// resumeWait is how long a director that has taken over connections waits for its realservers: their clients wait too.
	resumeWait = 100 * time.Millisecond
)

// newEngine makes the engine, with the connections of the process before this one if it can have them.
func (d *Director) newEngine(cfg forwarder.Config) (*forwarder.Engine, error) {
	dir := d.cfg.StateDir
	if dir == "" {
		return forwarder.New(cfg)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	began := time.Now()
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
		d.log.Warn("the connections of this director will not outlive it: see state_dir", "error", err)
		return forwarder.New(cfg)
	}
	if err != nil {
		return nil, err
	}
	d.kept.dir, d.kept.boot = dir, hex.EncodeToString(boot[:])
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil && fs.Type != unix.TMPFS_MAGIC && fs.Type != unix.RAMFS_MAGIC {
		d.log.Warn("the connection table is on a disk, for which forwarding may have to wait: let state_dir name a directory on a tmpfs", "state_dir", dir)
	}
	switch t := e.Taken(); {
	case t.Afresh != "":
		d.log.Warn("the connections of the director before this one are not taken over", "reason", t.Afresh)
	case t.Flows+t.Templates+t.Dropped > 0:
		d.log.Info("connections were taken over from the director before this one", "connections", t.Flows, "templates", t.Templates,
			"dropped", t.Dropped, "without_template", t.Loosened, "took", time.Since(began).Round(time.Millisecond))
	}
	return e, nil
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
