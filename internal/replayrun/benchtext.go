package replayrun

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteJSON writes the report for a script.
func (r *BenchReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteText writes the report for a person.
func (r *BenchReport) WriteText(w io.Writer) error {
	var b strings.Builder
	r.Capture.head(&b)
	fmt.Fprintf(&b, "Measured  %s on one CPU, after one round that was not counted\n\n", count(uint64(r.Rounds), "round"))
	fmt.Fprintf(&b, "%.1f ns a frame (%.1f to %.1f): %s frames/s, %.1f Gbit/s at %.0f bytes a frame\n", r.PerFrame.Median, r.PerFrame.Least,
		r.PerFrame.Most, siNumber(r.Frames), r.Gigabits, r.Mean)
	t := grid{{"First round", "Frames", ""}}
	for _, v := range r.Verdicts {
		t = append(t, []string{v.Name, number(v.Count), v.Meaning})
	}
	t.write(&b, " 1")
	fmt.Fprintf(&b, "\nTable     %s at the end, %d made, %s\n", plural(uint64(r.Flows), "entry", "entries"), r.Created, bytesOf(int64(r.Memory)))
	b.WriteString("This is the cost of the director alone. On a wire the kernel adds one to three microseconds per frame: see docs/performance.md.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// siNumber writes a large number with three figures that count.
func siNumber(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, " billion"}, {1e6, " million"}, {1e3, " thousand"}} {
		if v >= u.size {
			return fmt.Sprintf("%.3g%s", v/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f", v)
}

// A bar shows on a terminal how far something is.
type bar struct {
	w     io.Writer
	what  string
	last  time.Time
	shown bool
}

func newBar(w io.Writer, what string) *bar { return &bar{w: w, what: what} }

const barWidth = 40

// show draws the bar, part of it full, if the last time was not just now.
func (b *bar) show(part float64) {
	now := time.Now()
	if b.w == nil || now.Sub(b.last) < beat {
		return
	}
	b.last, b.shown = now, true
	part = min(max(part, 0), 1)
	full := int(part * barWidth)
	fmt.Fprintf(b.w, "\r\x1b[K%s [%s%s] %3.0f %%", b.what, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), part*100)
}

// clear takes it away again.
func (b *bar) clear() {
	if b.shown {
		fmt.Fprint(b.w, "\r\x1b[K")
		b.shown = false
	}
}
