package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"shunt/internal/netlab"
)

var binary string

func TestMain(m *testing.M) {
	if err := Prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := netlab.Privileged(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(withBinary(m))
}

// withBinary builds shunt, unless there is one to be tested.
func withBinary(m *testing.M) int {
	binary = os.Getenv("SHUNT_BINARY")
	if binary == "" {
		dir, err := os.MkdirTemp("", "shunt-lab-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "shunt")
		if out, err := exec.Command("go", "build", "-o", binary, "shunt/cmd/shunt").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// buffer is an output that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestTopologies(t *testing.T) {
	for _, topology := range Topologies {
		t.Run(topology+", both families", func(t *testing.T) {
			var out buffer
			captures := t.TempDir()
			report := filepath.Join(t.TempDir(), "report.html")
			err := Run(t.Context(), Options{Topology: topology, Family: "both", Captures: captures, Fetches: 4, Out: &out, Binary: binary, Report: report})
			if err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			if !strings.Contains(out.String(), "VERDICT: direct routing works: 8 pages") || strings.Contains(out.String(), "FAILED") {
				t.Errorf("unexpected output:\n%s", out.String())
			}
			checkReport(t, topology, report)
			files, err := filepath.Glob(filepath.Join(captures, "*.pcap"))
			if err != nil || len(files) < 4 {
				t.Fatalf("captures %v, %v", files, err)
			}
			for _, path := range files {
				f, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				r, err := pcapgo.NewReader(f)
				if err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				if _, _, err := r.ReadPacketData(); err != nil {
					t.Errorf("%s has no frame: %v", path, err)
				}
				f.Close()
			}
			if left, _ := filepath.Glob(filepath.Join(os.Getenv(runRoot), fmt.Sprintf("%d-*", os.Getpid()))); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// checkReport looks whether the page has the drawing, every step of both trails, the proof and the
// tables, and needs nothing from elsewhere.
func checkReport(t *testing.T, topology, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	steps := map[string]int{"one-arm": 6, "two-arm": 8}[topology]
	for what, want := range map[string]int{
		`<span class="n">`: 2 * steps, "<circle ": steps, "<svg ": 1, "<rect ": map[string]int{"one-arm": 4 + 1, "two-arm": 5 + 2}[topology],
		"it works: 8 checks passed": 1, `<li>`: 8 + 2*4, "as sent by the director": 2, "<td>TCP</td>": 8, "<td>web1</td>": 2,
	} {
		if got := strings.Count(page, what); got != want {
			t.Errorf("the report has %q %d times, want %d", what, got, want)
		}
	}
	for _, foreign := range []string{"src=", "href=", "@import", "url(", "<script"} {
		if strings.Contains(page, foreign) {
			t.Errorf("the report is not self-contained: it has %q", foreign)
		}
	}
}

// The proof must be able to fail: frames that change, replies by the director and wrong turns are
// found.
func TestProofFails(t *testing.T) {
	n, err := Build("one-arm", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var out buffer
	s := &session{Options: Options{Topology: "one-arm", Fetches: 2, Out: &out}, net: n, pages: []Page{{From: "web1", Port: 1}, {From: "web1", Port: 2}}}
	s.check(captured{})
	for _, want := range []string{"[FAILED] the realservers were used in turn", "no frame was captured", "[FAILED] only the director answers requests for the VIP"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the proof does not say %q:\n%s", want, out.String())
		}
	}
}

func TestUnknownTopology(t *testing.T) {
	if _, err := Build("three-arm", 1); err == nil || !strings.Contains(err.Error(), "one-arm") {
		t.Errorf("got %v, want the known topologies", err)
	}
}

func TestKeepAndExec(t *testing.T) {
	if _, err := Exec("", "web1", []string{"true"}); err == nil || !strings.Contains(err.Error(), "--keep") {
		t.Errorf("without a laboratory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out buffer
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{Topology: "one-arm", Keep: true, Captures: t.TempDir(), Fetches: 2, Out: &out, Binary: binary})
	}()
	deadline := time.After(time.Minute)
	for !strings.Contains(out.String(), "runs until Ctrl-C") {
		select {
		case err := <-done:
			t.Fatalf("it ended: %v\n%s", err, out.String())
		case <-deadline:
			t.Fatalf("it does not stand:\n%s", out.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	// The page through the director, from the client's side of it.
	get := exec.Command(binary, "lab", "exec", "client", binary, "lab", "get", "http://"+VIP+"/")
	if b, err := get.CombinedOutput(); err != nil || !strings.HasPrefix(string(b), "web") {
		t.Errorf("lab get: %q, %v", b, err)
	}
	for _, c := range []struct {
		host   string
		args   []string
		status int
		fails  bool
	}{
		{"web1", []string{"sh", "-c", "test -n \"$SHUNT_LAB_HOST\""}, 0, false},
		{"web1", []string{"sh", "-c", "exit 7"}, 7, false},
		{"web1", []string{"sh", "-c", "kill -TERM $$"}, 143, false},
		{"web9", []string{"true"}, 1, true},
		{"web1", []string{"/no/such/command"}, 1, true},
	} {
		status, err := Exec("", c.host, c.args)
		if status != c.status || (err != nil) != c.fails {
			t.Errorf("%s %v: status %d, %v; want %d", c.host, c.args, status, err, c.status)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// Two laboratories of one topology may stand at once: each has a name, by which a command chooses
// one, and captures of its own.
func TestSeveralLaboratories(t *testing.T) {
	t.Chdir(t.TempDir())
	for range 2 {
		standing := stand(t, Options{Topology: "one-arm"})
		if !strings.Contains(standing.String(), "--lab one-arm") {
			t.Errorf("it does not say its name:\n%s", standing.String())
		}
	}
	all, err := Standing()
	if err != nil || len(all) != 2 || all[0].Name != "one-arm" || all[1].Name != "one-arm-2" || len(all[1].Hosts) != 4 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, c := range []struct {
		name  string
		wrong string // "" : it works
	}{
		{"one-arm", ""}, {"one-arm-2", ""},
		{"", "several labs are running: one-arm, one-arm-2; name one by --lab"},
		{"two-arm", `unknown lab "two-arm": the labs are one-arm, one-arm-2`},
	} {
		status, err := Exec(c.name, "web1", []string{"sh", "-c", `test "$SHUNT_LAB" = ` + c.name})
		if c.wrong == "" && (err != nil || status != 0) || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%q: status %d, %v", c.name, status, err)
		}
		if _, err := os.Stat(filepath.Join("lab-captures", c.name, "director.log")); c.wrong == "" && err != nil {
			t.Error(err)
		}
	}
	get := exec.Command(binary, "lab", "get", "--lab", "one-arm-2", "http://"+VIP+"/")
	if b, err := get.CombinedOutput(); err != nil || !strings.HasPrefix(string(b), "web") {
		t.Errorf("lab get: %q, %v", b, err)
	}
	for _, c := range []struct{ words, want string }{
		{"exec --lab ", "one-arm\none-arm-2\n"}, {"exec --lab one-arm-2 ", "client\ndirector\nweb1\nweb2\n"}, {"--topology ", "one-arm\ntwo-arm\n"},
	} {
		args := append([]string{"__complete", "lab"}, strings.Split(c.words, " ")...)
		if b, err := exec.Command(binary, args...).Output(); err != nil || !strings.HasPrefix(string(b), c.want+":4") {
			t.Errorf("completion of %q: %q, %v", c.words, b, err)
		}
	}
}

// With systemd's watchdog the director says that its workers live, for as long as they do.
func TestWatchdog(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "150000")
	n, err := Build("one-arm", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	dir, err := os.MkdirTemp("", "wd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	d, err := n.Start(binary, dir, n.Config("rr", socket, "", "tcp/80"), socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := d.await("WATCHDOG=1", startPatience); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
}
