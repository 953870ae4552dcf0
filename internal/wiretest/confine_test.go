package wiretest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"shunt/internal/lab"
)

// A running director has the privileges that it needs on none of its threads more, says so, and
// does all that it is there for with them: reloads, changes of interfaces, its guard, its files,
// and its end.
func TestConfined(t *testing.T) {
	w := build(t, "two-arm", 2)
	w.serveTalks()
	proc := filepath.Join(w.dir, "proc")
	more := "arp: {announce: 0}\nproc_dir: " + proc
	w.start(w.config(more, w.http("rr")))
	c := w.status().Confinement
	if c == nil || strings.Join(c.Capabilities, " ") != "cap_net_admin cap_net_raw" || !c.NoNewPrivs || !c.Seccomp || len(c.Missing) > 0 && c.Landlock > 0 {
		t.Fatalf("the status says %+v", c)
	}
	w.logged("privileges dropped", "cap_net_raw", "seccomp=true")
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", w.director.PID()))
	if err != nil || len(tasks) < 3 {
		t.Fatal(err, tasks)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		for _, want := range []string{"CapPrm:\t0000000000003000", "CapEff:\t0000000000003000", "CapBnd:\t0000000000003000", "CapInh:\t0000000000000000",
			"CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
			if !strings.Contains(string(text), want+"\n") {
				t.Errorf("%s has not %q", task, want)
			}
		}
	}
	w.pages(4, 1)
	w.must(w.director.Reload(w.config(more, w.http("wrr"), on("tcp", 7, w.all()))))
	w.eventually("the new service is there", func() bool { return len(w.services()) == 2 })
	k := w.talk()
	w.must(k.say("after-the-reload"))

	// Its interface is deleted and comes again: sockets, rings and the guard are made anew.
	w.must(w.Director.Delete("eth1"))
	w.logged("interface deleted", "eth1")
	w.cable("eth1", privateMAC, lab.DIP+"/24", lab.DIP6+"/64")
	w.logged("interface present again", "eth1")
	w.pages(4, 1)
	w.eventually("proc_dir is up to date", func() bool {
		text, err := os.ReadFile(proc + "/net/ip_vs")
		return err == nil && strings.Contains(string(text), "wrr")
	})

	if c.Landlock > 0 { // a configuration out of reach
		secret := filepath.Join(t.TempDir(), "elsewhere.yaml")
		w.must(os.WriteFile(secret, []byte(w.config(more, w.http("rr"))), 0o644))
		w.must(os.Remove(w.director.ConfigPath))
		w.must(os.Symlink(secret, w.director.ConfigPath))
		w.must(w.director.Signal(syscall.SIGHUP))
		w.logged("new configuration rejected", "permission denied", "gave up access", "restart the director")
		w.pages(4, 1)
	}
	path := w.director.ConfigPath
	w.stop()
	if left, _ := filepath.Glob(w.socket); len(left) > 0 {
		t.Error("the socket is left")
	}
	// The next one takes over, and a start without giving up anything is possible.
	w.must(os.Remove(path))
	w.start(w.config("confine: off", w.http("rr")))
	if c := w.status().Confinement; c != nil {
		t.Errorf("with confine: off: %+v", c)
	}
}
