package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func sample() *Report {
	r := &Report{Title: "Sample", Time: time.Unix(0, 0), Rounds: 3, Machine: Machine{CPU: "slow", CPUs: 2, Kernel: "6", Go: "go", Load: "0"},
		Missing: []NamedString{{"peer", "apt-get install peer"}}, Notes: []string{"a remark"}}
	for _, v := range []float64{30, 10, 20} {
		r.Add("cost", "ns", "a", v)
		r.Add("cost", "ns", "b", 2*v)
	}
	r.Add("rate", "1/s", "a", 1234)
	return r
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{nil, 0}, {[]float64{5}, 5}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := Median(c.v); got != c.want {
			t.Errorf("median of %v is %g, want %g", c.v, got, c.want)
		}
	}
}

func TestGoals(t *testing.T) {
	r := sample()
	r.Ratio("cost", "a", "b", 0.5, false)
	r.Ratio("cost", "a", "b", 0.6, true)
	r.Ratio("cost", "a", "nobody", 1, false)
	r.Absolute("cost", "a", 19, false)
	r.Absolute("nothing", "a", 1, false)
	for i, want := range []struct {
		value   float64
		verdict string
	}{{0.5, "met"}, {0.5, "**not met**"}, {0, "not measured"}, {20, "**not met**"}, {0, "not measured"}} {
		if g := r.Goals[i]; g.Value != want.value || g.verdict() != want.verdict {
			t.Errorf("goal %d: %+v is %s; want %+v", i, g, g.verdict(), want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	r := sample()
	r.Ratio("cost", "a", "b", 0.5, false)
	text := r.Markdown()
	for _, want := range []string{
		"# Sample", "2 x slow, Linux 6, go, load 0", "| cost: a / b | 0.50 | at most 0.50 | 3 | met |",
		"| a | 20.0 | 10.0 | 30.0 |", "| b | 40.0 | 20.0 | 60.0 |", "| a | 1234 | 1234 | 1234 |", "`apt-get install peer`", "- a remark",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.01234: "0.012", 0.5: "0.50", 1.155: "1.16", 12.34: "12.3", 99.96: "100.0", 1234.5: "1234"} {
		if got := number(v); got != want {
			t.Errorf("%g is written %s, want %s", v, got, want)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	r := sample()
	if err := r.Write(dir, "wire"); err != nil {
		t.Fatal(err)
	}
	if err := r.Bars(dir, "wire"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wire.md", "wire-cost.png", "wire-cost.svg", "wire-rate.png", "wire-rate.svg"} {
		if s, err := os.Stat(filepath.Join(dir, name)); err != nil || s.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "wire.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if m, ok := back.Median("cost", "b"); !ok || m != 40 {
		t.Errorf("read back: %g, %v", m, ok)
	}
}

func TestSlug(t *testing.T) {
	if got := slug("CPU a frame, at 100,000/s"); got != "cpu-a-frame-at-100-000-s" {
		t.Error(got)
	}
}
