package wire

import (
	"strings"
	"testing"

	"shunt/bench/report"
)

func TestParseStat(t *testing.T) {
	const line = "42 (a (bad) name) S 1 42 42 0 -1 4194304 1 0 0 0 150 250 0 0 20 0 1 0 100 0 0"
	if got, err := parseStat(line); err != nil || got != 4 {
		t.Errorf("%g, %v: want 4 seconds", got, err)
	}
	for _, bad := range []string{"", "42 (x) S 1", "42 (x) S 1 42 42 0 -1 4194304 1 0 0 0 a b 0"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestFloodLoss(t *testing.T) {
	f := Flood{Sent: 1000, Got: 900, Known: 60}
	if f.Lost() != 100 || f.Silent() != 40 {
		t.Errorf("lost %d, silently %d", f.Lost(), f.Silent())
	}
}

func TestBusyTime(t *testing.T) {
	// user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice
	if got := busyTime("cpu  100 20 30 999 999 5 45 0 999 999\ncpu0 1 1 1\n"); got != 2 {
		t.Errorf("%g seconds, want 2", got)
	}
}

func TestNATRules(t *testing.T) {
	got := natRules(3)
	for _, want := range []string{"mod 3", "0 : 10.0.1.11, 1 : 10.0.1.12, 2 : 10.0.1.13 }", "ip daddr " + vip} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if a, b := realIP(199), realIP(200); a == b || realHW(199) == realHW(200) {
		t.Errorf("two realservers are %s and %s", a, b)
	}
}

func TestDRGoals(t *testing.T) {
	r := &report.Report{}
	for i, n := range DRRealservers {
		r.Add(drRequest, "us", label(drName, n), float64(100+4*i))
	}
	drGoals(r)
	if g := r.Goals[0]; g.Value != 1.08 || !g.Met() {
		t.Errorf("%+v", g)
	}
}
