package report

import (
	"fmt"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// Bars writes one bar chart for each measure: a bar for each competitor's median, with its runs as
// dots. The files are called after name and the measure, and are PNG and SVG.
func (r *Report) Bars(dir, name string) error {
	for _, m := range r.measures() {
		p := plot.New()
		p.Title.Text = m.Measure
		p.Y.Label.Text = m.Unit
		p.Y.Min = 0
		var names []string
		var medians plotter.Values
		var dots plotter.XYs
		for _, s := range r.Series {
			if s.Measure == m.Measure {
				for _, v := range s.Runs {
					dots = append(dots, plotter.XY{X: float64(len(names)), Y: v})
				}
				names, medians = append(names, s.Name), append(medians, Median(s.Runs))
			}
		}
		bars, err := plotter.NewBarChart(medians, vg.Points(30))
		if err != nil {
			return fmt.Errorf("%s: %w", m.Measure, err)
		}
		bars.Color = plotutil.Color(2)
		scatter, err := plotter.NewScatter(dots)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Measure, err)
		}
		p.Add(plotter.NewGrid(), bars, scatter)
		p.NominalX(names...)
		if err := Save(p, dir, name+"-"+slug(m.Measure)); err != nil {
			return err
		}
	}
	return nil
}

// A Line is one line of a chart over a number.
type Line struct {
	Name string
	XY   plotter.XYs
}

// Lines writes a chart of lines, PNG and SVG.
func Lines(dir, name, title, x, y string, lines []Line) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for i, l := range lines {
		line, points, err := plotter.NewLinePoints(l.XY)
		if err != nil {
			return fmt.Errorf("%s: %w", title, err)
		}
		line.Color, points.Color = plotutil.Color(i), plotutil.Color(i)
		points.Shape = plotutil.Shape(i)
		p.Add(line, points)
		p.Legend.Add(l.Name, line, points)
	}
	return Save(p, dir, name)
}

// Save writes a plot as PNG and as SVG.
func Save(p *plot.Plot, dir, name string) error {
	for _, ext := range []string{".png", ".svg"} {
		if err := p.Save(16*vg.Centimeter, 10*vg.Centimeter, filepath.Join(dir, name+ext)); err != nil {
			return fmt.Errorf("%s: %w", name+ext, err)
		}
	}
	return nil
}

// slug makes a file's name of a text.
func slug(s string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(s) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}
