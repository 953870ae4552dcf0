package keptfile

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
	"shunt/internal/mounttest"
	"shunt/internal/owndir"
)

// keeper keeps changes in a directory.
func keeper(t *testing.T, dir string) *Keeper {
	t.Helper()
	root, err := owndir.Open(dir, 0o700, owndir.Private)
	if err != nil {
		t.Fatal(err)
	}
	k := NewKeeper(slog.New(slog.DiscardHandler))
	k.Use(root, "boot")
	t.Cleanup(k.Close)
	return k
}

// rewrite writes the file anew if that is due.
func rewrite(k *Keeper) {
	if r := k.Rewrite(func() *forwarder.Plan { return &forwarder.Plan{} }); r != nil {
		r.Write()
		r.End()
	}
}

var someChange = []api.Change{{Op: api.OpFlush}}

// TestKeptLinks: what stands in the place of the files that are written, and leads elsewhere, is
// replaced; what it leads to stays.
func TestKeptLinks(t *testing.T) {
	for _, file := range []string{name, newName} {
		for _, link := range []func(old, new string) error{os.Symlink, os.Link} {
			base := t.TempDir()
			victim := filepath.Join(base, "victim")
			if err := errors.Join(os.Mkdir(base+"/state", 0o700), os.WriteFile(victim, []byte("untouched\n"), 0o600), link(victim, base+"/state/"+file)); err != nil {
				t.Fatal(err)
			}
			k := keeper(t, base+"/state")
			if plan, since := k.Recall(""); plan != nil || since != nil {
				t.Errorf("%s: something was taken over from a link", file)
			}
			k.Keep(someChange)
			if k.failed != nil {
				t.Errorf("%s: %v", file, k.failed)
			}
			if text, err := os.ReadFile(victim); string(text) != "untouched\n" {
				t.Errorf("%s: the other file has %q, %v", file, text, err)
			}
			if info, err := os.Lstat(base + "/state/" + name); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s: the file of changes is %v, %v", file, info, err)
			}
		}
	}
}

// TestKeptNoRoom: changes that cannot be written are said to be lost, are not half there for the
// next process, and are all written once there is room.
func TestKeptNoRoom(t *testing.T) {
	mounttest.Tmpfs(t, 1<<18, func(base string) {
		k := keeper(t, base+"/state")
		k.Keep(someChange)
		filler := base + "/filler"
		f, err := os.Create(filler)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		f.Close()
		for range 1000 { // until the last page of the file is full
			k.Keep(someChange)
		}
		if !errors.Is(k.failed, syscall.ENOSPC) || k.changes.Load() != 1001 {
			t.Errorf("%d changes, and the error is %v", k.changes.Load(), k.failed)
		}
		if _, err := os.Lstat(base + "/state/" + name); err == nil {
			t.Error("what the next process finds is not all")
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		rewrite(k)
		if k.failed == nil {
			t.Error("it was tried again at once: without room that would be often")
		}
		k.failedAt = time.Time{}
		rewrite(k)
		if k.failed != nil {
			t.Errorf("with room again: %v", k.failed)
		}
		k.Keep(someChange)
		k.closeFile()
		k.changes.Store(0)
		if plan, since := k.Recall(""); plan == nil || len(since) != 1 || k.changes.Load() != 1002 {
			t.Errorf("read again: plan %v, %d transactions since, %d changes", plan, len(since), k.changes.Load())
		}
		if left, _ := filepath.Glob(base + "/state/*new*"); len(left) > 0 {
			t.Errorf("left: %s", strings.Join(left, " "))
		}
	})
}

// again is what the next process finds in a directory.
func again(t *testing.T, dir, config string) (plan *forwarder.Plan, since, changes int) {
	t.Helper()
	k := keeper(t, dir)
	plan, list := k.Recall(config)
	k.Close()
	return plan, len(list), int(k.Changes())
}

// A long file is written anew, with what came meanwhile; the next process has all of it, if its
// configuration is the same.
func TestKeeperRewrites(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, dir)
	k.Recall("a")
	for range maxLines - 1 {
		k.Keep(someChange)
	}
	served := func() *forwarder.Plan { return &forwarder.Plan{} }
	if k.Rewrite(served) != nil {
		t.Error("it is written anew though it is short")
	}
	if plan, since, changes := again(t, dir, "a"); plan != nil || since != maxLines-1 || changes != maxLines-1 {
		t.Errorf("before: plan %v, %d transactions since, %d changes", plan, since, changes)
	}
	k.Keep(someChange)
	r := k.Rewrite(served)
	if r == nil || k.Rewrite(served) != nil {
		t.Fatal("it is not written anew, or twice at a time")
	}
	r.Write()
	k.Keep(someChange)
	r.End()
	if plan, since, changes := again(t, dir, "a"); plan == nil || since != 1 || changes != maxLines+1 {
		t.Errorf("after: plan %v, %d transactions since, %d changes", plan, since, changes)
	}
	if plan, since, changes := again(t, dir, "b"); plan != nil || since+changes != 0 {
		t.Errorf("of another configuration: plan %v, %d transactions since, %d changes", plan, since, changes)
	}
}

// A configuration that is read while the file is written anew counts alone.
func TestKeeperForgetsMeanwhile(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, dir)
	k.Recall("a")
	for range maxLines {
		k.Keep(someChange)
	}
	r := k.Rewrite(func() *forwarder.Plan { return &forwarder.Plan{} })
	r.Write()
	k.Forget("b")
	k.Keep(someChange)
	r.End()
	if plan, since, changes := again(t, dir, "b"); plan != nil || since != 1 || changes != 1 {
		t.Errorf("plan %v, %d transactions since, %d changes", plan, since, changes)
	}
	if left, _ := filepath.Glob(dir + "/*new*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Without a directory, changes are counted.
func TestKeeperWithoutDirectory(t *testing.T) {
	k := NewKeeper(slog.New(slog.DiscardHandler))
	k.Keep(someChange)
	if k.Changes() != 1 || k.Failed() != nil || k.Rewrite(nil) != nil {
		t.Errorf("%d changes, %v", k.Changes(), k.Failed())
	}
	k.Forget("")
	if k.Changes() != 0 {
		t.Errorf("%d changes", k.Changes())
	}
	k.Close()
}
