//go:build ldirectord

package wiretest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"shunt/internal/lab"
)

// This test is for .ci/ldirectord, which unpacks Debian's packages of ldirectord and what it needs
// under LDIRECTORD_ROOT.

// A monitor is ldirectord, which takes the running director for the kernel's IPVS.
type monitor struct {
	w    *world
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

// startLdirectord starts it on the director's host. It finds ipvsadm in /usr/sbin, as it insists
// on: in a mount namespace of its own, in which that directory is another.
func (w *world) startLdirectord(root, config string) *monitor {
	w.t.Helper()
	sbin := filepath.Join(w.t.TempDir(), "sbin") // no program need run where the world's files are
	w.must(os.MkdirAll(sbin, 0o755))
	binary, err := os.ReadFile(program)
	w.must(err)
	w.must(os.WriteFile(filepath.Join(sbin, "ipvsadm"), binary, 0o755))
	file := filepath.Join(w.dir, "ldirectord.cf")
	w.must(os.WriteFile(file, []byte(config), 0o600))
	m := &monitor{w: w, done: make(chan error, 1)}
	m.cmd = exec.Command("unshare", "--mount", "sh", "-ec", `
		mount -t tmpfs none /run
		mount --bind "$SBIN" /usr/sbin
		[ -L /sbin ] || mount --bind "$SBIN" /sbin
		exec "$LDIRECTORD_ROOT/usr/sbin/ldirectord" -d "$CONFIG" start`)
	var libs []string
	for _, dir := range []string{"usr/share/perl5", "usr/lib/*/perl5/*", "usr/share/perl/*", "usr/lib/*/perl/*"} {
		found, err := filepath.Glob(filepath.Join(root, dir))
		w.must(err)
		libs = append(libs, found...)
	}
	m.cmd.Env = append(os.Environ(), "SBIN="+sbin, "CONFIG="+file, "SHUNT_SOCKET="+w.socket, "PERL5LIB="+strings.Join(libs, ":"))
	m.cmd.Dir = w.dir
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	w.must(w.Director.Start(m.cmd))
	go func() { m.done <- m.cmd.Wait() }()
	w.t.Cleanup(func() {
		_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL)
		if w.t.Failed() {
			text := m.log.String()
			w.t.Logf("ldirectord says:\n%s", text[max(len(text)-6000, 0):])
		}
	})
	return m
}

// list is ipvsadm -Ln, without the lines above the services.
func (w *world) list() string {
	w.t.Helper()
	cmd := exec.Command(program, "ipvsadm", "-Ln")
	cmd.Env = append(os.Environ(), "SHUNT_SOCKET="+w.socket)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("ipvsadm -Ln: %v\n%s", err, out)
	}
	lines := strings.SplitAfterN(string(out), "\n", 4)
	return lines[len(lines)-1]
}

// awaitList waits until the realservers of the VIPs of both families have these weights; those that
// are left out must not be there.
func (m *monitor) awaitList(weights map[int]int) {
	m.w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		list := m.w.list()
		right := strings.Count(list, ":80 ") == len(families)*(len(weights)+1) // and the service itself
		for _, f := range families {
			right = right && strings.Contains(list, "TCP  "+f.at(f.vip, "80")+" wrr\n")
			for web, weight := range weights {
				right = right && strings.Contains(list, fmt.Sprintf("  -> %-28s %-7s %-6d ", f.at(f.rip(web), "80"), "Route", weight))
			}
		}
		if right {
			return
		}
		select {
		case err := <-m.done:
			m.w.t.Fatalf("ldirectord ended: %v", err)
		default:
		}
		if time.Now().After(end) {
			m.w.t.Fatalf("the weights do not become %v:\n%s", weights, list)
		}
	}
}

// tenPages fetches ten pages of each family and returns who gave any.
func (w *world) tenPages() map[string]int {
	w.t.Helper()
	from := map[string]int{}
	for _, f := range families {
		w.speak(f)
		for who, n := range w.pages(10, 1) {
			from[f.name+" "+who] += n
		}
	}
	return from
}

// An unmodified ldirectord makes a service of each family, takes a realserver out whose HTTP server
// fails, and takes it in again.
func TestLdirectord(t *testing.T) {
	root := os.Getenv("LDIRECTORD_ROOT")
	if root == "" {
		t.Fatal("LDIRECTORD_ROOT is not set: run .ci/ldirectord")
	}
	// A server that fails refuses connections at once. Time-outs are long, since on a busy machine
	// one that works may take its time.
	for _, c := range []struct {
		quiescent string
		failed    map[int]int
	}{
		{"yes", map[int]int{1: 0, 2: 5}},
		{"no", map[int]int{2: 5}},
	} {
		t.Run("quiescent="+c.quiescent, func(t *testing.T) {
			w := buildFor(t, ipv6Family, "one-arm", 2)
			w.start(w.Config("rr", w.socket, "", "tcp/81"))
			m := w.startLdirectord(root, `checktimeout=30
negotiatetimeout=30
checkinterval=1
quiescent=`+c.quiescent+`
logfile="`+filepath.Join(w.dir, "ldirectord.log")+`"
virtual=`+lab.VIP+`:80
	real=`+lab.RIP(1)+`:80 gate 5
	real=`+lab.RIP(2)+`:80 gate 5
	service=http
	request="/"
	receive="web"
	scheduler=wrr
	protocol=tcp
	checktype=negotiate
virtual6=[`+lab.VIP6+`]:80
	real6=[`+lab.RIP6(1)+`]:80 gate 5
	real6=[`+lab.RIP6(2)+`]:80 gate 5
	scheduler=wrr
	protocol=tcp
	checktype=connect
`)
			both := map[int]int{1: 5, 2: 5}
			m.awaitList(both)
			if from := w.tenPages(); len(from) != 4 {
				t.Errorf("pages came from %v", from)
			}
			w.stopServer[0]()
			m.awaitList(c.failed)
			if from := w.tenPages(); from["IPv4 web2"] != 10 || from["IPv6 web2"] != 10 {
				t.Errorf("web1 fails, but pages came from %v", from)
			}
			stop, err := lab.Serve(w.Webs[0], nil)
			w.must(err)
			defer stop()
			m.awaitList(both)
			if from := w.tenPages(); len(from) != 4 {
				t.Errorf("web1 is back, but pages came from %v", from)
			}
			w.must(m.cmd.Process.Signal(syscall.SIGTERM))
			select {
			case <-m.done:
			case <-time.After(patience):
				t.Fatal("ldirectord does not end")
			}
			if list := w.list(); strings.Contains(list, ":80 ") {
				t.Errorf("ldirectord left its service behind:\n%s", list)
			}
		})
	}
}
