package director

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"shunt/api"
	"shunt/forwarder"
	"shunt/internal/config"
	"shunt/internal/mounttest"
	"shunt/internal/owndir"
)

// keeper is as much of a director as keeping changes needs.
func keeper(t *testing.T, dir string) *Director {
	t.Helper()
	root, err := owndir.Open(dir, 0o700, owndir.Private)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := forwarder.New(forwarder.Config{Legs: []forwarder.Leg{{Name: "a"}}, Flows: 1024, Settings: forwarder.DefaultSettings()})
	if err != nil {
		t.Fatal(err)
	}
	d := &Director{log: slog.New(slog.DiscardHandler), cfg: &config.Config{}, engine: engine}
	d.kept.dir, d.kept.boot = root, "boot"
	t.Cleanup(func() {
		d.kept.close()
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

var someChange = []api.Change{{Op: api.OpFlush}}

// TestKeptLinks: what stands in the place of the files that are written, and leads elsewhere, is replaced; what it leads to stays.
func TestKeptLinks(t *testing.T) {
	for _, name := range []string{keptName, keptNew} {
		for _, link := range []func(old, new string) error{os.Symlink, os.Link} {
			base := t.TempDir()
			victim := filepath.Join(base, "victim")
			if err := errors.Join(os.Mkdir(base+"/state", 0o700), os.WriteFile(victim, []byte("untouched\n"), 0o600), link(victim, base+"/state/"+name)); err != nil {
				t.Fatal(err)
			}
			d := keeper(t, base+"/state")
			if plan, since := d.recall(); plan != nil || since != nil {
				t.Errorf("%s: something was taken over from a link", name)
			}
			d.keep(someChange)
			if d.kept.failed != nil {
				t.Errorf("%s: %v", name, d.kept.failed)
			}
			if text, err := os.ReadFile(victim); string(text) != "untouched\n" {
				t.Errorf("%s: the other file has %q, %v", name, text, err)
			}
			if info, err := os.Lstat(base + "/state/" + keptName); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s: the file of changes is %v, %v", name, info, err)
			}
		}
	}
}

// TestKeptNoRoom: changes that cannot be written are said to be lost, are not half there for the next process, and are all written
// once there is room.
func TestKeptNoRoom(t *testing.T) {
	mounttest.Tmpfs(t, 1<<18, func(base string) {
		d := keeper(t, base+"/state")
		d.keep(someChange)
		filler := base + "/filler"
		f, err := os.Create(filler)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		f.Close()
		for range 1000 { // until the last page of the file is full
			d.keep(someChange)
		}
		if !errors.Is(d.kept.failed, syscall.ENOSPC) || d.changes.Load() != 1001 {
			t.Errorf("%d changes, and the error is %v", d.changes.Load(), d.kept.failed)
		}
		if _, err := os.Lstat(base + "/state/" + keptName); err == nil {
			t.Error("what the next process finds is not all")
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		d.compactKept()
		if d.kept.failed == nil {
			t.Error("it was tried again at once: without room that would be often")
		}
		d.kept.failedAt = time.Time{}
		d.compactKept()
		if d.kept.failed != nil {
			t.Errorf("with room again: %v", d.kept.failed)
		}
		d.keep(someChange)
		d.kept.closeFile()
		d.changes.Store(0)
		if plan, since := d.recall(); plan == nil || len(since) != 1 || d.changes.Load() != 1002 {
			t.Errorf("read again: plan %v, %d transactions since, %d changes", plan, len(since), d.changes.Load())
		}
		if left, _ := filepath.Glob(base + "/state/*new*"); len(left) > 0 {
			t.Errorf("left: %s", strings.Join(left, " "))
		}
	})
}
