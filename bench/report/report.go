// Package report holds what the benchmarks found, and writes it as a table of Markdown, as JSON and
// as plots.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Report is one run of a benchmark.
type Report struct {
	Title    string        `json:"title"`
	Time     time.Time     `json:"time"`
	Machine  Machine       `json:"machine"`
	Rounds   int           `json:"rounds"`
	Versions []NamedString `json:"versions"`
	Missing  []NamedString `json:"missing,omitempty"` // peers that are not installed, and how to install them
	Goals    []Goal        `json:"goals"`
	Series   []Series      `json:"series"`
	Notes    []string      `json:"notes,omitempty"` // what a reader must know: runs that were thrown away, and why
}

// A NamedString is a name and a text about it.
type NamedString struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// A Series is what one competitor reached in one discipline, run by run.
type Series struct {
	Measure string    `json:"measure"`
	Unit    string    `json:"unit"`
	Name    string    `json:"name"`
	Runs    []float64 `json:"runs"`
}

// A Goal compares what shunt reached with a bound.
type Goal struct {
	What    string  `json:"what"`
	Value   float64 `json:"value"`
	Bound   float64 `json:"bound"`
	AtLeast bool    `json:"at_least"`
	Unknown bool    `json:"unknown,omitempty"` // nobody to compare with
	Runs    int     `json:"runs"`
}

// Met tells whether the goal is reached.
func (g Goal) Met() bool {
	if g.AtLeast {
		return g.Value >= g.Bound
	}
	return g.Value <= g.Bound
}

func (g Goal) verdict() string {
	switch {
	case g.Unknown:
		return "not measured"
	case g.Met():
		return "met"
	}
	return "**not met**"
}

// Median of values; 0 if there is none. It does not change their order.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// Add notes one run of a competitor.
func (r *Report) Add(measure, unit, name string, v float64) {
	s := r.find(measure, name)
	if s == nil {
		r.Series = append(r.Series, Series{Measure: measure, Unit: unit, Name: name})
		s = &r.Series[len(r.Series)-1]
	}
	s.Runs = append(s.Runs, v)
}

func (r *Report) find(measure, name string) *Series {
	for i := range r.Series {
		if s := &r.Series[i]; s.Measure == measure && s.Name == name {
			return s
		}
	}
	return nil
}

// Median is that of a competitor's runs; false if it has none.
func (r *Report) Median(measure, name string) (float64, bool) {
	s := r.find(measure, name)
	if s == nil {
		return 0, false
	}
	return Median(s.Runs), true
}

// Ratio sets a goal for the median of one competitor over the median of another, in one measure.
func (r *Report) Ratio(measure, of, over string, bound float64, atLeast bool) {
	a, ok := r.Median(measure, of)
	b, ok2 := r.Median(measure, over)
	g := Goal{What: fmt.Sprintf("%s: %s / %s", measure, of, over), Bound: bound, AtLeast: atLeast}
	if !ok || !ok2 || b == 0 {
		g.Unknown = true
	} else {
		g.Value = a / b
		g.Runs = min(len(r.find(measure, of).Runs), len(r.find(measure, over).Runs))
	}
	r.Goals = append(r.Goals, g)
}

// Absolute sets a goal for a median itself.
func (r *Report) Absolute(measure, of string, bound float64, atLeast bool) {
	v, ok := r.Median(measure, of)
	g := Goal{What: fmt.Sprintf("%s: %s", measure, of), Value: v, Bound: bound, AtLeast: atLeast, Unknown: !ok}
	if ok {
		g.Runs = len(r.find(measure, of).Runs)
	}
	r.Goals = append(r.Goals, g)
}

// Markdown is the report for a reader.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s. %s. Medians of %d rounds, in which all took turns.\n\n", r.Title, r.Time.UTC().Format("2006-01-02 15:04 UTC"), r.Machine, r.Rounds)
	if len(r.Goals) > 0 {
		b.WriteString("| goal | measured | bound | runs | |\n|---|---|---|---|---|\n")
		for _, g := range r.Goals {
			bound := "at most "
			if g.AtLeast {
				bound = "at least "
			}
			value := "-"
			if !g.Unknown {
				value = number(g.Value)
			}
			fmt.Fprintf(&b, "| %s | %s | %s%s | %d | %s |\n", g.What, value, bound, number(g.Bound), g.Runs, g.verdict())
		}
		b.WriteString("\n")
	}
	for _, m := range r.measures() {
		fmt.Fprintf(&b, "| %s (%s) | median | least | most |\n|---|---|---|---|\n", m.Measure, m.Unit)
		for _, s := range r.Series {
			if s.Measure == m.Measure {
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s.Name, number(Median(s.Runs)), number(slices.Min(s.Runs)), number(slices.Max(s.Runs)))
			}
		}
		b.WriteString("\n")
	}
	for _, v := range r.Versions {
		fmt.Fprintf(&b, "- %s: %s\n", v.Name, v.Text)
	}
	for _, v := range r.Missing {
		fmt.Fprintf(&b, "- %s is not installed here: `%s`\n", v.Name, v.Text)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	return b.String()
}

// measures are the disciplines, each once, in the order in which they came.
func (r *Report) measures() []Series {
	var out []Series
	for _, s := range r.Series {
		if !slices.ContainsFunc(out, func(o Series) bool { return o.Measure == s.Measure }) {
			out = append(out, s)
		}
	}
	return out
}

// number has three figures that count, and no more digits than that where there is a point.
func number(v float64) string {
	switch a := max(v, -v); {
	case a == 0:
		return "0"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// Write writes name.md, name.json and the plots into dir.
func (r *Report) Write(dir, name string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var js bytes.Buffer
	enc := json.NewEncoder(&js)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), js.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".md"), []byte(r.Markdown()), 0o644)
}
