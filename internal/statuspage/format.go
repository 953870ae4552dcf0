package statuspage

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"shunt/internal/figures"
)

// count writes a whole number with thin spaces between thousands.
func count(x any) string { return figures.Count(x, "\u202f") }

// The size of a chart in its own units; the style says how large it is shown.
const chartWidth, chartHeight = 120, 30

// spark draws rates, the last at the right, from 0 to the largest. what is said to those who do not
// see it.
func spark(what string, s []float64) template.HTML {
	top := 0.0
	for _, x := range s {
		top = max(top, x)
	}
	label := fmt.Sprintf("%s: no figures yet", what)
	var line strings.Builder
	if n := len(s); n > 0 {
		label = fmt.Sprintf("%s in the last %s: now %s, at most %s", what, figures.Ago(time.Duration(n)*every), figures.Short(s[n-1]), figures.Short(top))
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
