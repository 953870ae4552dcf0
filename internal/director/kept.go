package director

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"shunt/api"
	"shunt/forwarder"
	"shunt/internal/keptfile"
	"shunt/internal/owndir"
)

// This file keeps what was changed by the control socket for the next process, beside the connections: a realserver that somebody
// drained for its maintenance must not get clients because the director was upgraded, and the services that ldirectord added
// must be there. The kernel's table stays when ipvsadm ends, too. As for the running director, the changes are those
// to one configuration: one that was read again, or is another at the next start, counts alone.

// keptName is the file in state_dir: lines of JSON. The first is a keptfile.Head, the second what was served when it was written, or
// null for what the configuration says, and each other one the changes of one transaction since.
const keptName, keptNew = "changes", "changes.new"

// keptLines is how many transactions are kept as such. To repeat one takes milliseconds if there are very many services.
const keptLines = 256

// keptRetry is after what time the file is written again that could not be written.
const keptRetry = 10 * time.Second

// kept is the file, and how many changes there are, kept or not. d.mu is held for all but tick's writing.
type kept struct {
	dir      *os.Root // nil if nothing is to be kept
	lock     *os.File // nil if the engine holds the directory's
	boot     string
	file     *os.File // nil until something is changed
	lines    int
	writing  bool      // the file is being written anew, and
	also     [][]byte  // these lines came meanwhile
	dropped  int       // how often what it had was given up
	failed   error     // why the changes are not kept at present; it was told
	failedAt time.Time // when they could not be last
}

// own locks the directory, which the engine does not use, and reports whether nobody else does.
func (k *kept) own() bool {
	lock, err := k.dir.Open(".")
	if err != nil {
		return false
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		_ = lock.Close()
		return false
	}
	k.lock = lock
	return true
}

// close leaves the directory as it is.
func (k *kept) close() {
	k.closeFile()
	if k.lock != nil {
		_ = k.lock.Close()
	}
	if k.dir != nil {
		_ = k.dir.Close()
	}
	k.dir, k.lock = nil, nil
}

func (k *kept) closeFile() {
	if k.file != nil {
		_ = k.file.Close()
	}
	k.file, k.lines = nil, 0
}

// read returns what the file has.
func (k *kept) read() ([]byte, error) {
	f, err := owndir.OpenFile(k.dir, keptName, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// recall reads what was kept: the plan that was served, if it is there, and the transactions since. Of what cannot be used it
// tells why in the log.
func (d *Director) recall() (plan *forwarder.Plan, since [][]api.Change) {
	if d.kept.dir == nil {
		return nil, nil
	}
	path := filepath.Join(d.kept.dir.Name(), keptName)
	text, err := d.kept.read()
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
		d.log.Info("changes made by the previous director's control socket are discarded: the configuration file has changed", "changes", changes)
		d.forget()
		return nil, nil
	case whole == 0:
		d.log.Warn("changes made by the previous director's control socket are lost", "file", path, "error", err)
		d.forget()
		return nil, nil
	case err != nil: // of its last lines
		d.log.Warn("the last changes made by the previous director's control socket are lost", "file", path, "error", err)
	}
	d.changes.Store(changes)
	f, err := owndir.OpenFile(d.kept.dir, keptName, os.O_WRONLY|os.O_APPEND, 0)
	d.kept.file, d.kept.lines = f, len(since)
	if err == nil {
		err = f.Truncate(int64(whole))
	}
	if err != nil {
		d.keepFailed(err)
	}
	return plan, since
}

// possible is a plan that was kept, without what the engine would refuse: another version may have taken it.
func (d *Director) possible(plan *forwarder.Plan) forwarder.Plan {
	for _, err := range plan.Prune(d.cfg.Settings) {
		d.log.Warn("part of the previous director's kept state is invalid and is skipped", "error", err)
	}
	return *plan
}

// repeat makes the changes of the process before, before anything is forwarded.
func (d *Director) repeat(since [][]api.Change) {
	for _, changes := range since {
		t, err := d.translate(changes)
		if err == nil {
			_, err = t.commit()
		}
		if err != nil {
			d.log.Warn("a change made by the previous director's control socket cannot be applied again", "error", err)
		}
	}
	if n := d.changes.Load(); n > 0 {
		d.log.Info("changes made by the previous director's control socket are in force; reload to return to the configuration file", "changes", n)
	}
}

// keep notes changes that were made. d.mu is held.
func (d *Director) keep(changes []api.Change) {
	d.changes.Add(uint64(len(changes)))
	k := &d.kept
	if k.dir == nil || k.failed != nil {
		return // or all is written soon: see compactKept
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
	f, err := owndir.Create(d.kept.dir, keptNew, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(b.Bytes()); err != nil {
		return nil, d.discard(f, err)
	}
	return f, nil
}

// discard removes a file that was to replace the one that is there, and returns why.
func (d *Director) discard(f *os.File, why error) error {
	return errors.Join(why, f.Close(), d.kept.dir.Remove(keptNew))
}

// useKept gives a file that was written its name, and has further changes written to it.
func (d *Director) useKept(f *os.File) error {
	if err := d.kept.dir.Rename(keptNew, keptName); err != nil {
		return d.discard(f, err)
	}
	d.kept.closeFile()
	d.kept.file = f
	return nil
}

// compactKept writes the file anew when it has become long, or could not be written, without keeping anybody waiting while it
// does.
func (d *Director) compactKept() {
	if !d.mu.TryLock() {
		return // another second
	}
	k := &d.kept
	again := k.failed != nil && time.Since(k.failedAt) >= keptRetry
	if k.dir == nil || k.writing || !again && (k.file == nil || k.lines < keptLines) {
		d.mu.Unlock()
		return
	}
	dropped, changes := k.dropped, d.changes.Load()
	if changes == 0 { // since then the configuration was read again
		k.failed = nil
		d.mu.Unlock()
		return
	}
	services, settings := d.engine.Services(), d.engine.Settings()
	k.writing = true
	d.mu.Unlock()

	f, err := d.writeKept(planOf(services, settings), changes)

	d.mu.Lock()
	defer d.mu.Unlock()
	also := k.also
	k.writing, k.also = false, nil
	if err == nil && k.dropped != dropped { // the configuration was read again meanwhile
		_ = d.discard(f, nil)
		return
	}
	for _, line := range also {
		if err == nil {
			if _, err = f.Write(line); err != nil {
				err = d.discard(f, err)
			}
		}
	}
	if err == nil {
		err = d.useKept(f)
	}
	if err != nil {
		d.keepFailed(err)
		return
	}
	k.lines = len(also)
	if again {
		k.failed = nil
		d.log.Info("changes by the control socket are saved again", "changes", d.changes.Load())
	}
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
// All of it is written again later.
func (d *Director) keepFailed(err error) {
	k := &d.kept
	if k.failed == nil {
		d.log.Error("changes by the control socket cannot be saved: a restart loses them until saving works again", "error", err)
	}
	d.dropKept()
	k.failed, k.failedAt = err, time.Now()
}

// forget has the configuration alone count from now on. d.mu is held, or no changes can come yet.
func (d *Director) forget() {
	d.changes.Store(0)
	d.dropKept()
	d.kept.failed = nil
}

// dropKept removes the file.
func (d *Director) dropKept() {
	k := &d.kept
	k.dropped++
	k.closeFile()
	if k.dir == nil {
		return
	}
	if err := k.dir.Remove(keptName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Error("saved changes by the control socket cannot be deleted: the next start may apply them again", "error", err)
	}
}

// digest names the configuration.
func (d *Director) digest() string { return hex.EncodeToString(d.cfg.Digest[:]) }
