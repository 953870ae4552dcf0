package forwarder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"

	"shunt/forwarder/flow"
)

// State says where an engine keeps what the next process is to take over: connection tables,
// counters, and whom their numbers mean.
type State struct {
	// Dir is a directory of this engine's own, on a tmpfs, as the workers write to its files with
	// each frame. Nobody else may be able to change names in it. Only one engine may use it at a
	// time. It is the caller's to close, after the engine.
	Dir *os.Root
	// Boot says during which run of the machine Now and the times of frames are meaningful
	// (/proc/sys/kernel/random/boot_id with CLOCK_MONOTONIC).
	Boot [16]byte
	// Now is the time at present, of the clock of the frames.
	Now int64
}

// ErrState is wrapped by errors of New that are about its State: without one, New may succeed.
var ErrState = errors.New("connections cannot be saved for the next start")

// ErrStateBusy is such an error, when another engine uses the directory.
var ErrStateBusy = fmt.Errorf("%w: a running director uses the files", ErrState)

// Takeover is what an engine got from the process before it.
type Takeover struct {
	flow.Resumed
	// Afresh says why nothing was taken over; "" if something was, or if there was nothing.
	Afresh string
}

// Taken tells what the engine took over when it was made.
func (e *Engine) Taken() Takeover { return e.taken }

// state is the open directory.
type state struct {
	dir    *os.Root
	lock   *os.File // the directory itself, locked
	head   namesHead
	file   *os.File // of names
	size   int      // of file
	tables []*os.File
	counts []*os.File
	zeros  *counters
	vips   int   // how many numbers of VIPs the file has
	failed error // why the next process will not have the tables
	lost   bool  // and never will, as they are no longer in their files

	names names     // what was taken over
	tally []carried // by id of destination
}

// carried is what a destination carries of the connections that were taken over.
type carried struct{ active, inactive, templates int32 }

const namesFile, zerosFile = "names", "zeros"

func tableFile(i int) string { return "table." + strconv.Itoa(i) }
func countFile(i int) string { return "counts." + strconv.Itoa(i) }

// openState opens and locks the directory, and reads what is there. Why nothing can be taken over
// is afresh.
func openState(c *Config) (s *state, afresh string, err error) {
	fail := func(err error) (*state, string, error) {
		if s != nil {
			s.spoil() // what is there now would be out of date by the time of the next start
			s.close()
		}
		return nil, "", fmt.Errorf("%w: %w", ErrState, err)
	}
	lock, err := c.State.Dir.Open(".")
	if err != nil {
		return fail(err)
	}
	s = &state{dir: c.State.Dir, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		s.close()
		return nil, "", fmt.Errorf("%w: %s", ErrStateBusy, s.dir.Name())
	} else if err != nil {
		return fail(fmt.Errorf("lock %s: %w", s.dir.Name(), err))
	}
	text, err := s.readNames()
	if err == nil {
		s.names, _, err = parseNames(text)
	}
	h := &s.names.head
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		afresh = fmt.Sprintf("%s: %v", filepath.Join(s.dir.Name(), namesFile), err)
	case h.Boot != c.State.Boot:
		afresh = "the host was rebooted since"
	case h.Workers != uint32(c.Workers):
		afresh = fmt.Sprintf("the number of workers changed from %d to %d", h.Workers, c.Workers)
	case h.Flows != uint64(c.Flows):
		afresh = fmt.Sprintf("the flows of each worker's table changed from %d to %d", h.Flows, c.Flows)
	default:
		s.head = *h
		if err := s.openFiles(c.Workers, os.O_RDWR); err != nil {
			if afresh = err.Error(); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errLink) {
				return fail(err)
			}
			break
		}
		s.tally = make([]carried, len(s.names.dests))
		c.Seed, c.Epoch = h.Seed, h.Epoch
		return s, "", nil
	}
	if err := s.anew(c); err != nil {
		return fail(err)
	}
	return s, afresh, nil
}

// takes reports whether there is something to be taken over.
func (s *state) takes() bool { return s != nil && s.tally != nil }

// anew makes empty files in the place of what is there.
func (s *state) anew(c *Config) error {
	s.closeFiles()
	s.names, s.tally = names{}, nil
	// The names first, without which the rest is nothing.
	if err := s.clear(); err != nil {
		return err
	}
	s.head = namesHead{Version: namesVersion, Workers: uint32(c.Workers), Flows: uint64(c.Flows), Boot: c.State.Boot, Seed: c.Seed, Epoch: c.Epoch}
	copy(s.head.Magic[:], namesMagic)
	return s.openFiles(c.Workers, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// clear removes all files: the names first, without which the rest is nothing.
func (s *state) clear() error {
	for _, name := range append([]string{namesFile, namesFile + ".new", zerosFile}, s.old()...) {
		if err := s.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// spoil makes sure that the next process takes nothing over, and gives the memory of the files
// back.
func (s *state) spoil() {
	if err := s.clear(); err != nil && s.file != nil {
		_ = s.file.Truncate(0)
	}
}

// disown makes sure that the next process takes nothing over, while this one goes on with its
// tables.
func (s *state) disown() {
	if err := s.dir.Remove(namesFile); err != nil && s.file != nil {
		_ = s.file.Truncate(0)
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.size = nil, 0
}

// lose notes that a table is no longer whole in its file: no later process can have it.
func (s *state) lose(err error) {
	if s == nil || s.lost {
		return
	}
	s.failed, s.lost = err, true
	s.disown()
}

// retry writes the names again if they could not be written, as there may be room meanwhile.
func (s *state) retry(c *Control) {
	if s == nil || s.failed == nil || s.lost {
		return
	}
	if s.failed = s.rewrite(c); s.failed != nil {
		s.disown()
	}
}

// old lists the files of workers, however many there were.
func (s *state) old() (out []string) {
	entries, _ := fs.ReadDir(s.dir.FS(), ".")
	for _, e := range entries {
		for _, pattern := range []string{"table.*", "counts.*"} {
			if ok, _ := filepath.Match(pattern, e.Name()); ok {
				out = append(out, e.Name())
			}
		}
	}
	return out
}

func (s *state) openFiles(workers, flags int) error {
	open := func(name string) (*os.File, error) { return openPlain(s.dir, name, flags) }
	for i := range workers {
		for _, x := range []struct {
			to   *[]*os.File
			name string
		}{{&s.tables, tableFile(i)}, {&s.counts, countFile(i)}} {
			f, err := open(x.name)
			if err != nil {
				return err
			}
			*x.to = append(*x.to, f)
		}
	}
	f, err := open(zerosFile)
	if err != nil {
		return err
	}
	if s.zeros, err = newCounters(f, s.head.Seed); err != nil {
		f.Close()
	}
	return err
}

func (s *state) closeFiles() {
	for _, f := range append(append(s.tables, s.counts...), s.file) {
		if f != nil {
			f.Close()
		}
	}
	if s.zeros != nil {
		_ = s.zeros.close()
	}
	s.tables, s.counts, s.file, s.zeros = nil, nil, nil, nil
}

func (s *state) close() {
	s.closeFiles()
	s.lock.Close() // and with it the lock
}

func (s *state) readNames() ([]byte, error) {
	f, err := openPlain(s.dir, namesFile, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// errLink is wrapped by errors about what is no file of our own.
var errLink = errors.New("not a regular file, or a link")

// openPlain opens a file of the directory if it is an ordinary one with one name: through a link we
// would write to another.
func openPlain(dir *os.Root, name string, flags int) (*os.File, error) {
	if info, err := dir.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w (%v)", filepath.Join(dir.Name(), name), errLink, info.Mode())
	}
	f, err := dir.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && st.Nlink > 1 {
		err = fmt.Errorf("%s: %w: %d hard links", f.Name(), errLink, st.Nlink)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// write notes in the file what the numbers stand for that the next snapshot has for the first time.
// It is called before any worker has it. If the file cannot be written, the next process must not
// believe it, and it is spoilt.
func (s *state) write(c *Control, fresh []uint32, anew []uint16) {
	if s == nil || s.failed != nil {
		return
	}
	var b []byte
	if s.file == nil || s.size > compactAt && s.size > 4*len(c.dests)*destRecordSize {
		s.failed = s.rewrite(c)
	} else {
		b = s.appendVIPs(b, c)
		for _, id := range anew {
			if svc := c.byID[id]; svc != nil {
				b = appendService(b, id, svc.spec.Key())
			}
		}
		for _, id := range fresh {
			if d := c.dests[id]; d != nil {
				b = appendDest(b, id, d.key())
			}
		}
		if len(b) > 0 {
			_, s.failed = s.file.Write(b)
			s.size += len(b)
		}
	}
	for _, id := range anew {
		s.zero(id, Counts{})
	}
	for _, id := range fresh {
		s.zeroDest(id, Counts{})
	}
	if s.failed != nil {
		s.disown()
	}
}

const (
	compactAt      = 1 << 20 // bytes: smaller files are not worth the while
	destRecordSize = 60      // about
)

func (d *destState) key() destKey { return destKey{d.service.spec.Key(), d.spec.Addr, d.spec.Port} }

func (s *state) appendVIPs(b []byte, c *Control) []byte {
	if s.vips == len(c.vipAddrs) {
		return b
	}
	groups := map[uint16]ServiceKey{}
	for key, id := range c.groupIDs {
		groups[id] = key
	}
	for ; s.vips < len(c.vipAddrs); s.vips++ {
		b = appendVIP(b, uint16(s.vips), vipName{c.vipAddrs[s.vips], groups[uint16(s.vips)]})
	}
	return b
}

// rewrite makes the file anew, with what is known now, in the place of the old one.
func (s *state) rewrite(c *Control) error {
	s.vips = 0
	b := s.appendVIPs(s.head.append(nil), c)
	for key, k := range c.kept {
		b = appendService(b, k.id, key)
	}
	for _, svc := range c.byID {
		if svc != nil {
			b = appendService(b, svc.id, svc.spec.Key())
		}
	}
	for id, d := range c.dests {
		if d != nil {
			b = appendDest(b, uint32(id), d.key())
		}
	}
	const name = namesFile + ".new"
	if err := s.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := openPlain(s.dir, name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = s.dir.Rename(name, namesFile)
	}
	if err != nil {
		return errors.Join(err, f.Close(), s.dir.Remove(name))
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.size = f, len(b)
	return nil
}

// zero notes from which counts on a service is shown.
func (s *state) zero(id uint16, c Counts) {
	s.note(func() { s.zeros.growServices(nil, int(id)+1)[id] = c })
}

func (s *state) zeroDest(id uint32, c Counts) {
	s.note(func() { s.zeros.growDests(nil, int(id)+1)[id] = c })
}

// note writes into zeros, unless that file was cut meanwhile: see mend.
func (s *state) note(write func()) {
	if s == nil {
		return
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		if at, ok := fault.(interface{ Addr() uintptr }); !ok || !s.zeros.holds(at.Addr()) {
			panic(fault)
		}
		if err := s.zeros.renew(); err != nil {
			panic(err)
		}
		s.lose(ErrCut)
	}()
	write()
}

// StateError tells why the next process will not be able to take over what this one has; nil if it
// will.
func (e *Engine) StateError() error {
	e.Control.mu.Lock()
	defer e.Control.mu.Unlock()
	if e.state == nil || e.state.failed == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrState, e.state.failed)
}
