package probe

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, c := range []struct {
		v    []int
		p    float64
		want int
	}{
		{[]int{7}, 50, 7}, {[]int{7}, 99, 7}, {[]int{1, 2}, 50, 1}, {[]int{1, 2}, 51, 2}, {[]int{1, 2, 3}, 50, 2},
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 99.5, 100}, {hundred, 100, 100}, {hundred, 0.1, 1},
	} {
		if got := Percentile(c.v, c.p); got != c.want {
			t.Errorf("percentile %g of %d values is %d, want %d", c.p, len(c.v), got, c.want)
		}
	}
}

// By its definition: p percent of the values do not exceed it, and one step less would be too few.
func TestPercentileModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "n")
		p := rapid.IntRange(1, 100).Draw(t, "p")
		v := make([]int, n)
		for i := range v {
			v[i] = i
		}
		got := Percentile(v, float64(p))
		if (got+1)*100 < p*n || got*100 >= p*n {
			t.Fatalf("percentile %d of %d values is number %d", p, n, got)
		}
	})
}

// Probes that come back are told from those that do not.
func TestRun(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		tx, rx := fds[0], fds[1]
		if lossy { // what is sent comes to nobody who counts it
			other, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(other[0])
			defer unix.Close(other[1])
			rx = other[1]
		}
		r, err := Run(tx, rx, make([]byte, 60), 42, 3, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		lost := 0
		if lossy {
			lost = 3
		}
		if r.Sent != 3 || r.Lost != lost || (r.P50 > 0) == lossy {
			t.Errorf("lossy %v: %+v", lossy, r)
		}
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
	}
}
