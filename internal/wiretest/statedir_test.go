package wiretest

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shunt/api"
	"shunt/internal/mounttest"
)

// A state_dir without room for the table: the director warns, says so in its status, and forwards
// from memory of its own. The changes by the control socket, which need little room, are kept
// nevertheless.
func TestStateDirTooSmall(t *testing.T) {
	mounttest.Tmpfs(t, 1<<20, func(dir string) {
		w := build(t, "one-arm", 2)
		w.dir, w.socket = dir, filepath.Join(dir, "shunt.sock")
		config := w.config("", w.http("rr"))
		for _, changes := range []uint64{0, 1} {
			w.start(config)
			w.pages(4, 1)
			w.logged("connections will be lost when this director stops", "no space left on device")
			if s := w.status(); !strings.Contains(s.Unkept.Connections, "no space left") || s.Unkept.Changes != "" || s.Changes != changes {
				t.Errorf("status: %+v, %d changes, want %d", s.Unkept, s.Changes, changes)
			}
			web := &api.VirtualService{Protocol: "TCP", Address: netip.MustParseAddr(w.family.vip), Port: 80, Scheduler: "rr"}
			drain := api.Change{Op: api.OpEditServer, Service: web, Server: &api.VirtualServer{Address: netip.MustParseAddr(w.family.rip(1)), Port: 80}}
			if changes == 0 {
				w.must(w.director.Apply(w.ctx, []api.Change{drain}))
			}
			if got := w.pages(4, 1); got["web2"] != 4 {
				t.Errorf("pages of the one that is not drained: %v", got)
			}
			w.stop()
		}
	})
}

// A state_dir, a socket or a proc_dir in a directory that others can change is refused, with what
// to do.
func TestDirectoriesOfOthers(t *testing.T) {
	w := build(t, "one-arm", 1)
	open := filepath.Join(w.dir, "open")
	w.must(os.Mkdir(open, 0o700))
	w.must(os.Chmod(open, 0o777))
	for key, more := range map[string]string{
		"state_dir":      "state_dir: " + open,
		"control socket": "control: {socket: " + open + "/s}\nstate_dir: off",
		"proc_dir":       "proc_dir: " + open + "/proc",
	} {
		config := w.config(more, w.http("rr"))
		if key == "control socket" {
			config = strings.Replace(config, "control: {socket: "+w.socket+"}\n", "", 1)
		}
		d, err := w.Start(program, w.dir, config, w.socket, nil)
		if err == nil {
			d.Kill()
		}
		if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "everybody can write to it") || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("%s: %v", key, err)
		}
		if left, _ := os.ReadDir(open); len(left) > 0 {
			t.Errorf("%s: files were made: %v", key, left)
		}
	}
}

// The table's file is cut under a running director: it goes on with a new table, says so, and the
// next one believes nothing of it.
func TestTableCut(t *testing.T) {
	w := build(t, "one-arm", 2)
	w.serveTalks()
	config := w.config("workers: 2", w.http("rr"), on("tcp", 7, w.all()))
	w.start(config)
	w.pages(4, 1)
	for _, name := range []string{"table.0", "table.1", "counts.0", "zeros"} {
		w.must(os.Truncate(filepath.Join(strings.TrimSuffix(w.socket, ".sock")+".state", name), 0))
	}
	w.pages(8, 2)
	w.logged("another process truncated the connection table's file")
	k := w.talk()
	w.must(k.say("after-the-cut"))
	if s := w.status(); !strings.Contains(s.Unkept.Connections, "truncated") || s.Table.Cut < 2 {
		t.Errorf("status: %+v, cut %d times", s.Unkept, s.Table.Cut)
	}
	w.stop()
	w.start(config)
	w.pages(4, 1)
	if s := w.status(); s.Unkept.Connections != "" || s.Table.Cut != 0 {
		t.Errorf("the next one: %+v", s)
	}
}
