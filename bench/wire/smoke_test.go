package wire

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"shunt/internal/netlab"
)

func TestMain(m *testing.M) {
	if err := netlab.Privileged(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// The whole bench for a moment, with what needs nothing to be installed. What it measured is not
// looked at: other processes may run beside a test. That it measured is.
func TestSmoke(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Log("one processor: the sender and the forwarder cannot have one each")
		return
	}
	dir := t.TempDir()
	for name, pkg := range map[string]string{"shunt": "shunt/cmd/shunt", "shuntbench": "shunt/bench/shuntbench"} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", pkg, err, out)
		}
	}
	r, err := Run(t.Context(), Options{
		Shunt: filepath.Join(dir, "shunt"), Self: filepath.Join(dir, "shuntbench"), Rounds: 1, Window: 300 * time.Millisecond,
		Only: []string{shuntName, bareName, bareGSO}, Log: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ measure, name string }{
		{lostFull, shuntName}, {lostFull, bareName}, {idleShare, shuntName}, {uploadRate, shuntName}, {connectRate, shuntName},
		{uploadRate, bareGSO}, {connectRate, bareGSO},
	} {
		if _, ok := r.Median(c.measure, c.name); !ok {
			t.Errorf("%s of %s was not measured", c.measure, c.name)
		}
	}
	if n, _ := r.Median(uploadRate, shuntName); n <= 0 {
		t.Errorf("an upload of %g Gbit/s", n)
	}
	if n, _ := r.Median(connectRate, shuntName); n <= 0 {
		t.Errorf("%g connections a second", n)
	}
}

// TestAttackSmoke: two attacks of a moment each on a small table, and the real clients beside them
// survive.
func TestAttackSmoke(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "shunt"), "shunt/cmd/shunt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	r, err := RunAttack(t.Context(), AttackOptions{
		Shunt: filepath.Join(dir, "shunt"), Flows: 5000, Rate: 5000, Window: time.Second, Only: []string{"SYN and bare ACK", "UDP, one packet"}, Log: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 4 {
		t.Fatalf("%d rows, want 4", len(r.Rows))
	}
	for _, row := range r.Rows {
		for kind, n := range map[string][2]int{"keep-alives": row.Keep, "silent connections": row.Idle, "half-closed downloads": row.Half} {
			if n[0] != n[1] || n[1] == 0 {
				t.Errorf("%s, full %v: %d of %d %s survived: %s", row.Attack, row.Full, n[0], n[1], kind, row.First)
			}
		}
		if row.Fresh[0] == 0 || row.Rate < 100 {
			t.Errorf("%s, full %v: %d new connections, %.0f frames a second", row.Attack, row.Full, row.Fresh[0], row.Rate)
		}
	}
}
