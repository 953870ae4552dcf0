package wiretest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"shunt/internal/lab"
)

// The commands that an LVS administrator's hands know, over a director that carries traffic.
func TestIpvsadm(t *testing.T) {
	w := build(t, "one-arm", 2)
	w.start(w.Config("rr", w.socket, "", "tcp/80"))
	link := filepath.Join(t.TempDir(), "ipvsadm")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	run := func(status int, args ...string) string {
		t.Helper()
		cmd := exec.Command(link, args...)
		cmd.Env = append(os.Environ(), "SHUNT_SOCKET="+w.socket)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != status {
			t.Fatalf("ipvsadm %s: status %d, want %d\n%s", strings.Join(args, " "), got, status, out.String())
		}
		return out.String()
	}
	get := func() string {
		t.Helper()
		p, err := lab.Fetch(w.ctx, w.browser, w.url)
		if err != nil {
			t.Fatal(err)
		}
		return p.From
	}
	if a, b := get(), get(); a == b {
		t.Errorf("both pages came from %s", a)
	}
	run(0, "-e", "-t", lab.VIP+":80", "-r", lab.RIP(2), "-w", "0")
	for range 4 {
		if got := get(); got != "web1" {
			t.Errorf("a page came from %s, whose weight is 0", got)
		}
	}
	run(0, "-d", "-t", lab.VIP+":80", "-r", lab.RIP(1)+":80")
	run(0, "-e", "-t", lab.VIP+":80", "-r", lab.RIP(2), "-w", "5")
	for range 4 {
		if got := get(); got != "web2" {
			t.Errorf("a page came from %s, which was removed", got)
		}
	}
	if out := run(255, "-d", "-t", lab.VIP+":80", "-r", lab.RIP(1)+":80"); out != "No such destination\n" {
		t.Errorf("removed twice: %q", out)
	}
	run(0, "-C")
	if out := run(0, "-S", "-n"); out != "" {
		t.Errorf("after -C: %q", out)
	}
	run(0, "-A", "-t", lab.VIP+":80", "-s", "wrr", "-p", "300")
	run(0, "-a", "-t", lab.VIP+":80", "-r", lab.RIP(1), "-w", "3")
	first := get()
	for range 4 {
		if got := get(); got != first {
			t.Errorf("a client of a persistent service was sent to %s and %s", first, got)
		}
	}
	want := "-A -t " + lab.VIP + ":80 -s wrr -p 300\n-a -t " + lab.VIP + ":80 -r " + lab.RIP(1) + ":80 -g -w 3\n"
	if out := run(0, "-S", "-n"); out != want {
		t.Errorf("-S -n: %q, want %q", out, want)
	}
	if out := run(0, "-Lnc"); !strings.Contains(out, "TCP ") || !strings.Contains(out, lab.RIP(1)+":80") {
		t.Errorf("-Lnc: %q", out)
	}
}
