package forwarder

import (
	"testing"

	"pgregory.net/rapid"
)

// TestRunsAgainstBytes compares the runs of a datagram with a list of its bytes.
func TestRunsAgainstBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 65515
		var g datagram
		seen := make([]int, 60*8+8) // by byte: 0 not seen, else the number of the fragment
		total, end := 0, 0
		for n := 1; n <= 40 && !g.loose; n++ {
			from := 8 * rapid.IntRange(0, 50).Draw(t, "offset")
			length := 8 * rapid.IntRange(0, 8).Draw(t, "length")
			more := rapid.IntRange(0, 9).Draw(t, "more") > 0
			if !more || rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
				length += rapid.IntRange(0, 7).Draw(t, "odd bytes")
			}
			to := from + length
			want := fits
			covered := 0
			for _, s := range seen[from:to] {
				if s != 0 {
					covered++
				}
			}
			switch {
			case length == 0, more && length%8 != 0, more && total != 0 && to > total, !more && (to < end || total != 0 && to != total):
				want = broken
			case covered == length:
				want = again // all of it is one run, for there is no gap in it
			case covered > 0:
				want = broken
			}
			if got := g.add(uint32(from), uint32(to), more, limit); got != want {
				t.Fatalf("bytes %d to %d (more: %v) are found %d, want %d; runs %v", from, to, more, got, want, g.runs[:g.count])
			}
			if want != fits {
				continue
			}
			for i := from; i < to; i++ {
				seen[i] = n
			}
			if end = max(end, to); !more {
				total = to
			}
			got := 0
			for _, s := range seen {
				if s != 0 {
					got++
				}
			}
			if int(g.got) != got || int(g.total) != total || int(g.end) != end {
				t.Fatalf("%d bytes of %d to %d, want %d of %d to %d", g.got, g.total, g.end, got, total, end)
			}
		}
	})
}

// TestManyRuns: a datagram in more runs than are told apart still arrives as a whole, and its end
// is known.
func TestManyRuns(t *testing.T) {
	var g datagram
	const parts = 40
	for _, odd := range []uint32{1, 0} {
		for i := odd; i < parts; i += 2 {
			if found := g.add(i*8, i*8+8, i < parts-1, 65515); found != fits {
				t.Fatalf("part %d is found %d", i, found)
			}
		}
	}
	if !g.loose || g.got != parts*8 || g.total != parts*8 {
		t.Fatalf("%+v", g)
	}
}
