package wiretest

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"shunt/api"
	"shunt/internal/config"
)

// shunt runs a command on the director's socket.
func (w *world) shunt(status int, args ...string) string {
	w.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "SHUNT_SOCKET="+w.socket)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		w.t.Fatalf("shunt %s: status %d, want %d: %s", strings.Join(args, " "), got, status, out)
	}
	return string(out)
}

func (w *world) overview() api.Overview {
	w.t.Helper()
	o, err := w.director.Overview(w.ctx)
	w.must(err)
	return o
}

// What was changed at run time is seen: by whom, what, and how it differs from the file; it is
// written as a file that means the same; and a realserver that was drained gets its weight of
// before, over a restart too.
func TestChangesAreSeen(t *testing.T) {
	w := build(t, "one-arm", 3)
	reals := w.all()
	reals[1].weight = 7
	text := w.config("http: {listen: 9405}", w.http("rr", reals...))
	w.start(text)
	rip := w.family.rip(2)
	says := func(what, got string, words ...string) {
		t.Helper()
		for _, word := range words {
			if !strings.Contains(got, word) {
				t.Errorf("%s does not say %q: %s", what, word, got)
			}
		}
	}
	if o := w.overview(); o.Drift.Total != 0 || o.Drift.Differences == nil {
		t.Errorf("at first there is a drift: %+v", o.Drift)
	}
	says("check --diff", w.shunt(0, "check", "--diff"), "a reload would change nothing")

	says("drain", w.shunt(0, "drain", rip), rip+" of ", "weight 7 -> 0")
	says("drain again", w.shunt(0, "drain", rip), "weight is already 0")
	w.shunt(0, "ipvsadm", "-A", "-u", w.family.at(w.family.vip, "53"), "-s", "wrr")
	w.shunt(0, "ipvsadm", "-a", "-u", w.family.at(w.family.vip, "53"), "-r", w.family.rip(3), "-w", "4")
	w.shunt(0, "ipvsadm", "-d", "-t", w.family.at(w.family.vip, "80"), "-r", w.family.rip(1))
	w.shunt(0, "ipvsadm", "--set", "100", "0", "0")
	w.logged("changed by the control socket", "weight 7 -> 0", "uid="+strconv.Itoa(os.Getuid()), "by.pid=", "by.program=")
	w.logged("changed by the control socket", "add-server", w.family.rip(3), "weight 4")
	w.logged("changed by the control socket", "tcp 900 s -> 100 s")
	diff := []string{"realserver " + rip + ": weight 7 -> 0", "realserver " + w.family.rip(1) + " removed", "53 added", "ipvs.timeouts.tcp default -> 1m40s"}
	o := w.overview()
	if o.Drift.Total != 5 || o.Changes != 5 {
		t.Errorf("%d changes, and the drift is %+v", o.Changes, o.Drift)
	}
	says("status", w.shunt(0, "status"), append(diff, "5 differences from the file, by 5 changes")...)
	page := func(words string) { // which is made anew every two seconds
		w.eventually("the page says "+words, func() bool { return strings.Contains(w.look("/"), words) })
	}
	page("5 differences from the file")
	says("the metrics", w.look("/metrics"), "shunt_config_drift 5", "shunt_config_changes 5")
	says("check --diff", w.shunt(0, "check", "--diff"), "weight 0 -> 7", w.family.rip(1)+" added", "53 removed", "ipvs.timeouts.tcp 1m40s -> default")

	// As a file it is right, and means what runs.
	running, err := w.director.Config(w.ctx)
	w.must(err)
	if out := w.shunt(0, "config"); out != running.YAML {
		t.Errorf("shunt config says\n%s\nand the API\n%s", out, running.YAML)
	}
	file := filepath.Join(w.t.TempDir(), "running.yaml")
	w.must(os.WriteFile(file, []byte(running.YAML), 0o600))
	w.shunt(0, "check", "-c", file)
	says("check --diff of what runs", w.shunt(0, "check", "--diff", "-c", file), "a reload would change nothing")
	if _, err := config.Parse("it", []byte(running.YAML)); err != nil {
		t.Error(err)
	}

	// The weight of before outlives the process; what was drained otherwise gets it back too.
	w.stop()
	w.start(text)
	says("enable", w.shunt(0, "enable", rip, "--service", w.family.vip), "weight 0 -> 7")
	w.shunt(0, "ipvsadm", "-e", "-t", w.family.at(w.family.vip, "80"), "-r", rip, "-w", "0")
	says("enable", w.shunt(0, "enable", rip), "weight 0 -> 7")
	says("enable of nobody", w.shunt(1, "enable", "192.0.2.98"), "no service has a realserver")
	says("another service", w.shunt(1, "drain", rip, "--service", "nothing"), `unknown service "nothing"`)

	// A file that is wrong is refused with all that is wrong, and the changes stay.
	w.must(os.WriteFile(w.director.ConfigPath, []byte(strings.Replace(text, "scheduler: rr", "scheduler: none", 1)), 0o644))
	says("reload", w.shunt(1, "reload"), "shunt.yaml:", "none")
	if o := w.overview(); o.Drift.Total == 0 || o.Reload.Error == "" || !o.Reload.Taken.IsZero() || o.Reload.Last.IsZero() {
		t.Errorf("after a refused reload: %+v %+v", o.Reload, o.Drift)
	}
	page("not reloaded, refused")
	w.must(os.WriteFile(w.director.ConfigPath, []byte(text), 0o644))
	says("reload", w.shunt(0, "reload"), "the configuration is in force")
	if o := w.overview(); o.Drift.Total != 0 || o.Changes != 0 || o.Reload.Error != "" || o.Reload.Taken.IsZero() {
		t.Errorf("after a reload: %+v %+v", o.Reload, o.Drift)
	}
	var refused *api.Error
	if _, err := w.director.Drain(w.ctx, api.Servers{Realserver: netip.MustParseAddr("192.0.2.99")}); !errors.As(err, &refused) || refused.Code != api.CodeNoServer {
		t.Errorf("drain of nobody: %v", err)
	}
	w.pages(3, 1)
}

// A table of more than a hundred thousand lines is restored as one, and status answers meanwhile.
func TestLargeTransaction(t *testing.T) {
	w := build(t, "one-arm", 1)
	w.start(w.config("", w.http("rr")))
	const services, servers = 10000, 10
	var b strings.Builder
	for i := range services {
		vip := netip.AddrFrom4([4]byte{192, 168, byte(20 + i>>8), byte(i)}).String() + ":80"
		b.WriteString("-A -t " + vip + " -s rr\n")
		for j := range servers {
			b.WriteString("-a -t " + vip + " -r 10.10.0." + strconv.Itoa(100+j) + " -g -w 1\n")
		}
	}
	cmd := exec.Command(program, "ipvsadm", "-R")
	cmd.Env = append(os.Environ(), "SHUNT_SOCKET="+w.socket)
	cmd.Stdin = strings.NewReader(b.String())
	done := make(chan error, 1)
	go func() {
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = errors.New(err.Error() + ": " + string(out))
		}
		done <- err
	}()
	answers, slowest := 0, time.Duration(0)
	for {
		select {
		case err := <-done:
			w.must(err)
			if n := len(w.overview().Services); n != services+1 {
				t.Errorf("%d services", n)
			}
			if answers == 0 {
				t.Error("status has not answered meanwhile")
			}
			t.Logf("status answered %d times meanwhile, the slowest took %s", answers, slowest)
			w.shunt(0, "ipvsadm", "-C")
			return
		default:
			began := time.Now()
			w.status()
			slowest = max(slowest, time.Since(began))
			answers++
		}
	}
}

// The read-only socket of a running director tells what the other tells, and changes nothing.
func TestReadOnlySocket(t *testing.T) {
	w := build(t, "one-arm", 1)
	dir := filepath.Join(w.dir, "monitor") // another directory than the control socket's
	w.must(os.Mkdir(dir, 0o755))
	other := filepath.Join(dir, "ro.sock")
	text := w.config("", w.http("rr"))
	with := strings.Replace(text, "{socket: "+w.socket+"}", "{socket: "+w.socket+", read_only: {socket: "+other+", mode: \"0644\"}}", 1)
	if with == text {
		t.Fatalf("the configuration has no socket: %s", text)
	}
	w.start(with)
	if info, err := os.Stat(other); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	if got, want := w.shunt(0, "config", "--socket", other), w.shunt(0, "config"); got != want {
		t.Errorf("by the read-only socket the configuration is\n%s\nand by the other\n%s", got, want)
	}
	w.shunt(0, "status", "--socket", other)
	for _, args := range [][]string{{"drain", w.family.rip(1)}, {"enable", w.family.rip(1)}, {"reload"}, {"conns", "kill", "--all"}} {
		if out := w.shunt(1, append(args, "--socket", other)...); !strings.Contains(out, "read-only") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if n := w.overview().Changes; n != 0 {
		t.Errorf("%d changes were made", n)
	}
	w.pages(1, 1)
	w.stop()
	if _, err := os.Stat(other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}
