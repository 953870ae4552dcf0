package statuspage

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// count writes a whole number with thin spaces between thousands.
func count(x any) string {
	s := fmt.Sprint(x)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// short writes a number in three digits or so: 1.23k.
func short(x float64) string {
	for _, u := range []struct {
		from float64
		unit string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if x >= u.from {
			return digits(x/u.from) + u.unit
		}
	}
	return digits(x)
}

func digits(x float64) string {
	switch {
	case x >= 99.95 || x == math.Trunc(x):
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 9.995:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

// bits writes bytes a second as bits a second.
func bits(bytes float64) string { return unit(8*bytes, "bit/s") }

// size writes bytes.
func size(n uint64) string { return unit(float64(n), "B") }

// unit puts the unit behind, and the letter of thousands with it.
func unit(x float64, u string) string {
	s := short(x)
	if last := s[len(s)-1]; last > '9' {
		return s[:len(s)-1] + "\u00a0" + string(last) + u
	}
	return s + "\u00a0" + u
}

// seconds writes a short time.
func seconds(s float64) string {
	switch {
	case s == 0:
		return "–"
	case s < 1e-3:
		return digits(s*1e6) + "\u00a0µs"
	case s < 1:
		return digits(s*1e3) + "\u00a0ms"
	}
	return digits(s) + "\u00a0s"
}

// ago writes how long something is.
func ago(d time.Duration) string {
	switch d = d.Truncate(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// The size of a chart in its own units; the style says how large it is shown.
const chartWidth, chartHeight = 120, 30

// spark draws rates, the last at the right, from 0 to the largest. what is said to those who do not see it.
func spark(what string, s []float64) template.HTML {
	top := 0.0
	for _, x := range s {
		top = max(top, x)
	}
	label := fmt.Sprintf("%s: no figures yet", what)
	var line strings.Builder
	if n := len(s); n > 0 {
		label = fmt.Sprintf("%s in the last %s: now %s, at most %s", what, ago(time.Duration(n)*every), short(s[n-1]), short(top))
		for i, x := range s {
			y := float64(chartHeight - 1)
			if top > 0 {
				y -= x / top * (chartHeight - 2)
			}
			fmt.Fprintf(&line, "%.1f,%.1f ", float64(chartWidth)-float64(n-1-i)*chartWidth/(points-1), y)
		}
	}
	left := float64(chartWidth) - float64(max(len(s)-1, 0))*chartWidth/(points-1)
	// All that goes in is numbers, but for the label, which is escaped.
	return template.HTML(fmt.Sprintf(`<svg class="spark" role="img" aria-label="%s" viewBox="0 0 %d %d" preserveAspectRatio="none">`+
		`<polygon points="%.1f,%d %s%d,%d"/><polyline points="%s"/></svg>`,
		template.HTMLEscapeString(label), chartWidth, chartHeight, left, chartHeight, line.String(), chartWidth, chartHeight, line.String()))
}

// bar draws a part of a whole, 0 to 1.
func bar(what string, part float64) template.HTML {
	part = min(max(part, 0), 1)
	class := "bar"
	if part > 0.9 {
		class += " high"
	}
	return template.HTML(fmt.Sprintf(`<svg class="%s" role="img" aria-label="%s: %.0f %%" viewBox="0 0 100 6" preserveAspectRatio="none">`+
		`<rect width="100" height="6"/><rect class="part" width="%.1f" height="6"/></svg>`, class, template.HTMLEscapeString(what), 100*part, 100*part))
}
