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
	eachFamily(t, 2, ipvsadm, "one-arm")
}

func ipvsadm(t *testing.T, w *world) {
	w.start(w.config("", w.http("rr")))
	vip, one, two := w.family.at(w.family.vip, "80"), w.family.at(w.family.rip(1), "80"), w.family.at(w.family.rip(2), "80")
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
	run(0, "-e", "-t", vip, "-r", two, "-w", "0")
	for range 4 {
		if got := get(); got != "web1" {
			t.Errorf("a page came from %s, whose weight is 0", got)
		}
	}
	run(0, "-d", "-t", vip, "-r", one)
	run(0, "-e", "-t", vip, "-r", two, "-w", "5")
	for range 4 {
		if got := get(); got != "web2" {
			t.Errorf("a page came from %s, which was removed", got)
		}
	}
	if out := run(255, "-d", "-t", vip, "-r", one); out != "No such destination\n" {
		t.Errorf("removed twice: %q", out)
	}
	run(0, "-C")
	if out := run(0, "-S", "-n"); out != "" {
		t.Errorf("after -C: %q", out)
	}
	run(0, "-A", "-t", vip, "-s", "wrr", "-p", "300")
	run(0, "-a", "-t", vip, "-r", one, "-w", "3")
	first := get()
	for range 4 {
		if got := get(); got != first {
			t.Errorf("a client of a persistent service was sent to %s and %s", first, got)
		}
	}
	want := "-A -t " + vip + " -s wrr -p 300\n-a -t " + vip + " -r " + one + " -g -w 3\n"
	if out := run(0, "-S", "-n"); out != want {
		t.Errorf("-S -n: %q, want %q", out, want)
	}
	if out := run(0, "-Lnc"); !strings.Contains(out, "TCP ") || !strings.Contains(out, one) {
		t.Errorf("-Lnc: %q", out)
	}
}

// Connections are chosen, ended and moved, and tables saved and restored whole, over a director
// that carries traffic.
func TestConns(t *testing.T) {
	eachFamily(t, 2, conns, "one-arm")
}

func conns(t *testing.T, w *world) {
	w.start(w.config("", w.http("rr")))
	vip, one, two := w.family.at(w.family.vip, "80"), w.family.at(w.family.rip(1), "80"), w.family.at(w.family.rip(2), "80")
	run := func(status int, stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "SHUNT_SOCKET="+w.socket)
		cmd.Stdin = strings.NewReader(stdin)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != status {
			t.Fatalf("shunt %s: status %d, want %d\n%s", strings.Join(args, " "), got, status, out.String())
		}
		return out.String()
	}
	lines := func(s string) int { return strings.Count(s, "\n") }
	for range 4 {
		if _, err := lab.Fetch(w.ctx, w.browser, w.url); err != nil {
			t.Fatal(err)
		}
	}
	if out := run(0, "", "conns", "--client", w.family.client+w.family.alone); lines(out) != 5 {
		t.Errorf("four connections and a title are to be listed:\n%s", out)
	}
	if out := run(0, "", "conns", "--json", "--realserver", w.family.rip(1)); lines(out) != 2 || !strings.HasPrefix(out, "{") {
		t.Errorf("of web1:\n%s", out)
	}
	if out := run(0, "", "ipvsadm", "-Lnc", "--realserver", one, "--service="+w.family.vip); lines(out) != 4 {
		t.Errorf("-Lnc of web1:\n%s", out)
	}
	if out := run(0, "", "conns", "--state", "ESTABLISHED", "--client", w.family.nowhere); out != "" {
		t.Errorf("of nobody:\n%s", out)
	}
	if out := run(0, "", "conns", "move", "--client", w.family.client, "--to", w.family.rip(2)); out != "2 moved\n" {
		t.Errorf("move: %s", out)
	}
	if out := run(0, "", "conns", "--json", "--realserver", w.family.rip(2)); lines(out) != 4 {
		t.Errorf("of web2:\n%s", out)
	}
	run(1, "", "conns", "move", "--client", w.family.client, "--to", w.family.rip(99-10))
	run(2, "", "conns", "kill")
	if out := run(0, "", "conns", "kill", "--realserver", w.family.rip(2)); out != "4 ended\n" {
		t.Errorf("kill: %s", out)
	}
	if out := run(0, "", "conns"); out != "" {
		t.Errorf("after all were ended:\n%s", out)
	}

	run(0, "", "ipvsadm", "-e", "-t", vip, "-r", one, "-w", "7", "-x", "100", "-y", "50")
	run(0, "", "ipvsadm", "--set", "800", "90", "70")
	saved := run(0, "", "ipvsadm", "-S", "-n", "--full")
	want := "--set 800 90 70\n-A -t " + vip + " -s rr\n-a -t " + vip + " -r " + one + " -g -w 7 -x 100 -y 50\n-a -t " +
		vip + " -r " + two + " -g -w 1\n"
	if saved != want {
		t.Errorf("-S --full:\n%s\nwant\n%s", saved, want)
	}
	run(0, "", "ipvsadm", "-C")
	if out := run(255, saved+"-a -t "+w.family.at(w.family.vip, "81")+" -r "+one+"\n", "ipvsadm", "-R"); out != "Service not defined\nline 5: nothing was restored\n" {
		t.Errorf("-R of a table that is wrong: %q", out)
	}
	run(255, saved+"-a -t "+w.family.at(w.family.vip, "81")+" --frobnicate\n", "ipvsadm", "-R")
	if out := run(0, "", "ipvsadm", "-S", "-n"); out != "" {
		t.Errorf("half a table was restored:\n%s", out)
	}
	run(0, saved, "ipvsadm", "-R")
	run(0, "-C\n"+saved, "ipvsadm", "-R") // in place of what there is
	if out := run(0, "", "ipvsadm", "-S", "-n", "--full"); out != saved {
		t.Errorf("restored:\n%s\nwant\n%s", out, saved)
	}
	if _, err := lab.Fetch(w.ctx, w.browser, w.url); err != nil {
		t.Error(err)
	}
}
