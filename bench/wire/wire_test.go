package wire

import "testing"

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
