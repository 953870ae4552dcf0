package keptfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"shunt/api"
	"shunt/forwarder"
	"shunt/internal/owndir"
)

// name is the file in state_dir: lines of JSON. The first is a Head, the second what was served
// when it was written, or null for what the configuration says, and each other one the changes of
// one transaction since.
const name, newName = "changes", "changes.new"

// maxLines is how many transactions are kept as such. To repeat one takes milliseconds if there are
// very many services.
const maxLines = 256

// retryAfter is after what time the file is written again that could not be written.
const retryAfter = 10 * time.Second

// A Keeper keeps what was changed by the control socket for the next process, beside the
// connections: a realserver that somebody drained for its maintenance must not get clients because
// the director was upgraded, and the services that ldirectord added must be there. The kernel's
// table stays when ipvsadm ends, too. As for the running director, the changes are those to one
// configuration: one that was read again, or is another at the next start, counts alone.
//
// A Keeper without a directory counts the changes and keeps none. Its methods are for one goroutine
// at a time, but for Changes and for the Write of a Rewrite.
type Keeper struct {
	log      *slog.Logger
	changes  atomic.Uint64 // since the configuration was read, kept or not
	config   string        // the digest of the configuration
	dir      *os.Root      // nil if nothing is to be kept
	lock     *os.File      // nil if the engine holds the directory's
	boot     string
	file     *os.File // nil until something is changed
	lines    int
	writing  bool      // the file is being written anew, and
	also     [][]byte  // these lines came meanwhile
	dropped  int       // how often what it had was given up
	failed   error     // why the changes are not kept at present; it was told
	failedAt time.Time // when they could not be last
}

// NewKeeper makes a Keeper without a directory.
func NewKeeper(log *slog.Logger) *Keeper { return &Keeper{log: log} }

// Use has a Keeper keep changes in a directory, which Close closes. boot names this run of the
// machine.
func (k *Keeper) Use(dir *os.Root, boot string) { k.dir, k.boot = dir, boot }

// Dir is the directory; nil if there is none.
func (k *Keeper) Dir() *os.Root { return k.dir }

// Changes tells how many changes there are since the configuration was read, kept or not.
func (k *Keeper) Changes() uint64 { return k.changes.Load() }

// Failed tells why the changes are not kept at present; nil if they are, or if there is no
// directory.
func (k *Keeper) Failed() error { return k.failed }

// Own locks the directory, which the engine does not use, and reports whether nobody else does.
func (k *Keeper) Own() bool {
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

// Close leaves the directory as it is.
func (k *Keeper) Close() {
	k.closeFile()
	if k.lock != nil {
		_ = k.lock.Close()
	}
	if k.dir != nil {
		_ = k.dir.Close()
	}
	k.dir, k.lock = nil, nil
}

func (k *Keeper) closeFile() {
	if k.file != nil {
		_ = k.file.Close()
	}
	k.file, k.lines = nil, 0
}

// read returns what the file has.
func (k *Keeper) read() ([]byte, error) {
	f, err := owndir.OpenFile(k.dir, name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Recall reads what was kept: the plan that was served, if it is there, and the transactions since.
// Of what cannot be used it tells why in the log.
func (k *Keeper) Recall(config string) (plan *forwarder.Plan, since [][]api.Change) {
	k.config = config
	if k.dir == nil {
		return nil, nil
	}
	path := filepath.Join(k.dir.Name(), name)
	text, err := k.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var head Head
	whole := 0 // bytes of whole lines
	if err == nil {
		head, plan, since, whole, err = Parse(text)
	}
	changes := head.Changes
	for _, c := range since {
		changes += uint64(len(c))
	}
	switch {
	case head.Boot != "" && head.Boot != k.boot:
		k.Forget(config)
		return nil, nil
	case head.Config != "" && head.Config != k.config:
		k.log.Info("changes made by the previous director's control socket are discarded: the configuration file has changed", "changes", changes)
		k.Forget(config)
		return nil, nil
	case whole == 0:
		k.log.Warn("changes made by the previous director's control socket are lost", "file", path, "error", err)
		k.Forget(config)
		return nil, nil
	case err != nil: // of its last lines
		k.log.Warn("the last changes made by the previous director's control socket are lost", "file", path, "error", err)
	}
	k.changes.Store(changes)
	f, err := owndir.OpenFile(k.dir, name, os.O_WRONLY|os.O_APPEND, 0)
	k.file, k.lines = f, len(since)
	if err == nil {
		err = f.Truncate(int64(whole))
	}
	if err != nil {
		k.fail(err)
	}
	return plan, since
}

// Keep notes changes that were made.
func (k *Keeper) Keep(changes []api.Change) {
	k.changes.Add(uint64(len(changes)))
	if k.dir == nil || k.failed != nil {
		return // or all is written soon: see Rewrite
	}
	line, err := json.Marshal(changes)
	line = append(line, '\n')
	if err == nil && k.file == nil {
		err = k.writeAnew(nil, 0)
	}
	if err == nil {
		_, err = k.file.Write(line)
	}
	if err != nil {
		k.fail(err)
		return
	}
	k.lines++
	if k.writing {
		k.also = append(k.also, line)
	}
}

// writeAnew writes the file anew: what is served, or null, and no changes since.
func (k *Keeper) writeAnew(plan *forwarder.Plan, changes uint64) error {
	f, err := k.write(plan, changes, k.config)
	if err != nil {
		return err
	}
	return k.use(f)
}

func (k *Keeper) write(plan *forwarder.Plan, changes uint64, config string) (*os.File, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	err := errors.Join(enc.Encode(Head{Format: Format, Boot: k.boot, Config: config, Changes: changes}), enc.Encode(plan))
	if err != nil {
		return nil, err
	}
	f, err := owndir.Create(k.dir, newName, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(b.Bytes()); err != nil {
		return nil, k.discard(f, err)
	}
	return f, nil
}

// discard removes a file that was to replace the one that is there, and returns why.
func (k *Keeper) discard(f *os.File, why error) error {
	return errors.Join(why, f.Close(), k.dir.Remove(newName))
}

// use gives a file that was written its name, and has further changes written to it.
func (k *Keeper) use(f *os.File) error {
	if err := k.dir.Rename(newName, name); err != nil {
		return k.discard(f, err)
	}
	k.closeFile()
	k.file = f
	return nil
}

// A Rewrite writes the file anew, without keeping anybody waiting while it does.
type Rewrite struct {
	k       *Keeper
	plan    *forwarder.Plan
	changes uint64
	dropped int
	again   bool
	config  string
	file    *os.File
	err     error
}

// Rewrite begins to write the file anew if it has become long, or could not be written; otherwise
// it returns nil. plan is what is served now. Write follows, and then End; Keep and Forget may be
// called meanwhile.
func (k *Keeper) Rewrite(plan func() *forwarder.Plan) *Rewrite {
	again := k.failed != nil && time.Since(k.failedAt) >= retryAfter
	if k.dir == nil || k.writing || !again && (k.file == nil || k.lines < maxLines) {
		return nil
	}
	changes := k.changes.Load()
	if changes == 0 { // since then the configuration was read again
		k.failed = nil
		return nil
	}
	k.writing = true
	return &Rewrite{k: k, plan: plan(), changes: changes, dropped: k.dropped, again: again, config: k.config}
}

// Write does what takes long. It needs no lock.
func (r *Rewrite) Write() { r.file, r.err = r.k.write(r.plan, r.changes, r.config) }

// End adds what came meanwhile, and has the new file replace the old one.
func (r *Rewrite) End() {
	k := r.k
	also := k.also
	k.writing, k.also = false, nil
	if r.err == nil && k.dropped != r.dropped { // the configuration was read again meanwhile
		_ = k.discard(r.file, nil)
		return
	}
	err := r.err
	for _, line := range also {
		if err == nil {
			if _, err = r.file.Write(line); err != nil {
				err = k.discard(r.file, err)
			}
		}
	}
	if err == nil {
		err = k.use(r.file)
	}
	if err != nil {
		k.fail(err)
		return
	}
	k.lines = len(also)
	if r.again {
		k.failed = nil
		k.log.Info("changes by the control socket are saved again", "changes", k.changes.Load())
	}
}

// fail says, once, that changes will not be there after a restart. What the file has is not all, so
// it must not be used. All of it is written again later.
func (k *Keeper) fail(err error) {
	if k.failed == nil {
		k.log.Error("changes by the control socket cannot be saved: a restart loses them until saving works again", "error", err)
	}
	k.drop()
	k.failed, k.failedAt = err, time.Now()
}

// Forget has the configuration alone count from now on.
func (k *Keeper) Forget(config string) {
	k.config = config
	k.changes.Store(0)
	k.drop()
	k.failed = nil
}

// drop removes the file.
func (k *Keeper) drop() {
	k.dropped++
	k.closeFile()
	if k.dir == nil {
		return
	}
	if err := k.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.log.Error("saved changes by the control socket cannot be deleted: the next start may apply them again", "error", err)
	}
}
