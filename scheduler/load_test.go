package scheduler

import "testing"

func TestLoadCounts(t *testing.T) {
	var l Load
	l.Open()
	l.Open()
	l.Activate()
	if a, i := l.Conns(); a != 1 || i != 1 {
		t.Fatalf("active %d, inactive %d, want 1 and 1", a, i)
	}
	l.Deactivate()
	l.Close(false)
	if a, i := l.Conns(); a != 0 || i != 1 {
		t.Fatalf("active %d, inactive %d, want 0 and 1", a, i)
	}
	l.Activate()
	l.Close(true)
	if a, i := l.Conns(); a != 0 || i != 0 {
		t.Fatalf("active %d, inactive %d, want 0 and 0", a, i)
	}
}

// The rules of overload: see ip_vs_unbind_dest.
func TestOverload(t *testing.T) {
	for _, c := range []struct {
		upper, lower int32
		freedAt      int32 // connections left when it is usable again
	}{
		{4, 0, 2}, // less than three quarters
		{4, 2, 1}, // less than the lower threshold
		{8, 0, 5},
		{1, 0, 0},
	} {
		var l Load
		l.SetThresholds(c.upper, c.lower)
		for n := int32(1); n <= c.upper; n++ {
			if !l.Available() {
				t.Errorf("%+v: overloaded at %d", c, n-1)
			}
			l.Open()
		}
		if l.Available() || !l.Overloaded() {
			t.Errorf("%+v: not overloaded at %d", c, c.upper)
		}
		for n := c.upper - 1; n >= 0; n-- {
			l.Close(false)
			if got, want := l.Available(), n <= c.freedAt; got != want {
				t.Errorf("%+v: with %d left available is %v, want %v", c, n, got, want)
			}
		}
	}
	var l Load
	l.SetThresholds(1, 0)
	l.Open()
	l.SetThresholds(1, 0)
	if l.Available() {
		t.Error("the same threshold again freed it")
	}
	l.SetThresholds(2, 0)
	if !l.Available() {
		t.Error("a higher threshold did not free it")
	}
}

// TestThresholdsOfConnections: a change of either threshold looks at the connections that there
// are.
func TestThresholdsOfConnections(t *testing.T) {
	for _, c := range []struct {
		conns, upper, lower int32
		was, want           bool
	}{
		{6, 0, 0, true, false},
		{6, 2, 1, false, true},
		{6, 6, 0, false, true},
		{6, 7, 0, true, true}, // 7 - 7/4 = 6 and more leave it as it was
		{6, 7, 0, false, false},
		{5, 7, 0, true, false},
		{6, 8, 7, true, false},
		{6, 8, 6, true, true},
		{6, 8, 6, false, false},
		{6, 8, 1, true, true},
		{6, 20, 0, true, false},
	} {
		var l Load
		for range c.conns {
			l.Open()
		}
		if c.was {
			l.SetThresholds(1, 1)
		}
		l.SetThresholds(c.upper, c.lower)
		if l.Overloaded() != c.want {
			t.Errorf("%+v: overloaded is %v", c, !c.want)
		}
	}
}
