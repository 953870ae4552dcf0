package director

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"shunt/api"
	"shunt/forwarder"
	"shunt/internal/keptfile"
)

// This file keeps what was changed by the control socket for the next process, beside the connections: a realserver that somebody
// drained for its maintenance must not get clients because the director was upgraded, and the services that ldirectord added
// must be there. The kernel's table stays when ipvsadm ends, too. As for the running director, the changes are those
// to one configuration: one that was read again, or is another at the next start, counts alone.

// keptName is the file in state_dir: lines of JSON. The first is a keptfile.Head, the second what was served when it was written, or
// null for what the configuration says, and each other one the changes of one transaction since.
const keptName = "changes"

// keptLines is how many transactions are kept as such. To repeat one takes milliseconds if there are very many services.
const keptLines = 256

// kept is the file, and how many changes there are, kept or not. d.mu is held for all but tick's writing.
type kept struct {
	dir     string // "" if nothing is to be kept
	boot    string
	file    *os.File // nil until something is changed
	lines   int
	writing bool     // the file is being written anew, and
	also    [][]byte // these lines came meanwhile
	failed  bool     // and it was told
}

// recall reads what was kept: the plan that was served, if it is there, and the transactions since. Of what cannot be used it
// tells why in the log.
func (d *Director) recall() (plan *forwarder.Plan, since [][]api.Change) {
	if d.kept.dir == "" {
		return nil, nil
	}
	path := filepath.Join(d.kept.dir, keptName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var head keptfile.Head
	whole := 0 // bytes of whole lines
	if err == nil {
		head, plan, since, whole, err = keptfile.Parse(text)
	}
	changes := head.Changes
	for _, c := range since {
		changes += uint64(len(c))
	}
	switch {
	case head.Boot != "" && head.Boot != d.kept.boot:
		d.forget()
		return nil, nil
	case head.Config != "" && head.Config != d.digest():
		d.log.Info("what was changed by the control socket of the director before this one is not kept: the configuration is another one now", "changes", changes)
		d.forget()
		return nil, nil
	case whole == 0:
		d.log.Warn("what was changed by the control socket of the director before this one is lost", "file", path, "error", err)
		d.forget()
		return nil, nil
	case err != nil: // of its last lines
		d.log.Warn("the last changes by the control socket of the director before this one are lost", "file", path, "error", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		err = f.Truncate(int64(whole))
	}
	if err != nil {
		d.keepFailed(err)
	}
	d.kept.file, d.kept.lines = f, len(since)
	d.changes.Store(changes)
	return plan, since
}

// repeat makes the changes of the process before, before anything is forwarded.
func (d *Director) repeat(since [][]api.Change) {
	for _, changes := range since {
		t, err := d.translate(changes)
		if err == nil {
			_, err = t.commit()
		}
		if err != nil {
			d.log.Warn("a change by the control socket of the director before this one cannot be made again", "error", err)
		}
	}
	if n := d.changes.Load(); n > 0 {
		d.log.Info("what was changed by the control socket of the director before this one is kept; to go back to the configuration, reload", "changes", n)
	}
}

// keep notes changes that were made. d.mu is held.
func (d *Director) keep(changes []api.Change) {
	d.changes.Add(uint64(len(changes)))
	k := &d.kept
	if k.dir == "" {
		return
	}
	line, err := json.Marshal(changes)
	line = append(line, '\n')
	if err == nil && k.file == nil {
		err = d.keepAnew(nil, 0)
	}
	if err == nil {
		_, err = k.file.Write(line)
	}
	if err != nil {
		d.keepFailed(err)
		return
	}
	k.lines++
	if k.writing {
		k.also = append(k.also, line)
	}
}

// keepAnew writes the file anew: what is served, or null, and no changes since. d.mu is held, or no changes can come yet.
func (d *Director) keepAnew(plan *forwarder.Plan, changes uint64) error {
	f, err := d.writeKept(plan, changes)
	if err != nil {
		return err
	}
	return d.useKept(f)
}

func (d *Director) writeKept(plan *forwarder.Plan, changes uint64) (*os.File, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	err := errors.Join(enc.Encode(keptfile.Head{Format: keptfile.Format, Boot: d.kept.boot, Config: d.digest(), Changes: changes}), enc.Encode(plan))
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(d.kept.dir, keptName+".new"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(b.Bytes()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// useKept gives a file that was written its name, and has further changes written to it.
func (d *Director) useKept(f *os.File) error {
	if err := os.Rename(f.Name(), filepath.Join(d.kept.dir, keptName)); err != nil {
		return errors.Join(err, f.Close())
	}
	d.closeKept()
	d.kept.file, d.kept.lines = f, 0
	return nil
}

// compactKept writes the file anew when it has become long, without keeping anybody waiting while it does.
func (d *Director) compactKept() {
	if !d.mu.TryLock() {
		return // another second
	}
	k := &d.kept
	if k.dir == "" || k.file == nil || k.lines < keptLines || k.writing {
		d.mu.Unlock()
		return
	}
	old, changes := k.file, d.changes.Load()
	services, settings := d.engine.Services(), d.engine.Settings()
	k.writing = true
	d.mu.Unlock()

	f, err := d.writeKept(planOf(services, settings), changes)

	d.mu.Lock()
	defer d.mu.Unlock()
	also := k.also
	k.writing, k.also = false, nil
	if err != nil {
		d.keepFailed(err)
		return
	}
	if k.file != old { // the configuration was read again meanwhile
		_ = errors.Join(f.Close(), os.Remove(f.Name()))
		return
	}
	for _, line := range also {
		if _, err := f.Write(line); err != nil {
			d.keepFailed(errors.Join(err, f.Close()))
			return
		}
	}
	if err := d.useKept(f); err != nil {
		d.keepFailed(err)
		return
	}
	k.lines = len(also)
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

// keepFailed says, once, that changes will not be there after a restart. What the file has is not all, so it must not be used.
func (d *Director) keepFailed(err error) {
	if !d.kept.failed {
		d.log.Error("what is changed by the control socket will be forgotten at a restart", "error", err)
	}
	d.forget()
	d.kept.dir, d.kept.failed = "", true
}

// forget has the configuration alone count from now on. d.mu is held, or no changes can come yet.
func (d *Director) forget() {
	d.changes.Store(0)
	d.closeKept()
	if d.kept.dir == "" {
		return
	}
	if err := os.Remove(filepath.Join(d.kept.dir, keptName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Error("what was changed by the control socket cannot be forgotten: the next start may do it again", "error", err)
	}
}

func (d *Director) closeKept() {
	if d.kept.file != nil {
		_ = d.kept.file.Close()
	}
	d.kept.file, d.kept.lines = nil, 0
}

// digest names the configuration.
func (d *Director) digest() string { return hex.EncodeToString(d.cfg.Digest[:]) }
